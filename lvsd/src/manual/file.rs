//! The manual of the configuration file, from the table of its keys and the list of settings.

use super::{Block, Chapter, Manual};
use crate::config::KEYS;
use lvs_director::Setting;

const DESCRIPTION: [&str; 4] = [
    "`lvsd run` _FILE_ starts with what this file says: where packets come and go, which services there \
     are and which servers behind them. There is no file that it reads by itself; systemd's unit names \
     `/etc/lvsd.toml`. `lvsd check` _FILE_ says all that is wrong in a file, each with its line and \
     what would be right, and changes nothing.",
    "The file is TOML, a list of `key = value` under headings. A key that is not known, a value out of \
     range, a rule that the director would refuse is an error, never ignored. Times are seconds or \
     words: `90`, `\"90s\"`, `\"15m\"`, `\"1h30m\"`, `\"2d\"`. Amounts of memory are bytes or \
     `\"512KiB\"`, `\"8MiB\"`.",
    "What the file says is the state at start. `lvsadm`(8) changes the running rules afterwards; that \
     is not written back.",
    "On SIGHUP the file is read again. Services, marks, settings and timeouts become those of the file by \
     the fewest changes, all at once: what stays the same keeps its connections and counters, and a \
     file with an error changes nothing. `log`, `[control]`, `[dataplane]` and `[connections]` take \
     effect at the next start.",
];

/// What stands above the keys of a table.
const TABLES: [(&str, &str); 7] = [
    ("", "Keys at the top of the file, before the first table:"),
    (
        "[control]",
        "The control socket. A group whose members may use `lvsadm`: `group = \"lvs\"` and \
         `mode = \"0660\"`.",
    ),
    ("[dataplane]", "How packets come and go."),
    ("[connections]", "The connection table."),
    ("[timeouts]", "When silent connections end."),
    (
        "[[service]]",
        "A service; the table is repeated for each. Its destinations follow it.",
    ),
    ("[[service.destination]]", "A server of the service above."),
];

const MARKS: &str = "A rule that gives packets a firewall mark, for services `fwmark://N`; repeated for \
    each. A key takes one word or a list; `!` before a word makes an exception; what is left out takes \
    everything. Of several rules that take a packet the last one decides.";

const SETTINGS: &str = "The settings that the kernel has under `net.ipv4.vs`, with its names and \
    defaults. `lvsadm --sysctl` lists them, and sets them until the file is read again.";

const EXAMPLES: &str = "\
[control]
group = \"lvs\"
mode = \"0660\"

[dataplane]
interfaces = [\"eth0\", \"eth1\"]

[sysctl]
expire_nodest_conn = 1

[[service]]
listen = \"tcp://192.0.2.10:80\"
scheduler = \"wrr\"

[[service.destination]]
address = \"10.0.0.2:8080\"
method = \"nat\"
weight = 2

[[service.destination]]
address = \"10.0.0.3:8080\"
method = \"nat\"";

/// The manual of `lvsd.toml`.
#[must_use]
pub fn lvsd_toml() -> Manual {
    let mut keys = Vec::new();
    for (table, about) in TABLES.into_iter().chain([("[[mark]]", MARKS)]) {
        if !table.is_empty() {
            keys.push(Block::Title(format!("`{table}`")));
        }
        keys.push(Block::Text(about.to_owned()));
        keys.extend(KEYS.iter().filter(|key| key.table == table).map(|key| {
            let default = match key.default {
                "required" => "It has to be there.".to_owned(),
                default => format!("Unless told otherwise {default}."),
            };
            let text = format!("{}. Values: {}. {default}", upper(key.meaning), key.values);
            Block::term(format!("`{}`", key.name), text)
        }));
    }
    keys.push(Block::Title("`[sysctl]`".to_owned()));
    keys.push(Block::Text(SETTINGS.to_owned()));
    keys.extend(Setting::ALL.iter().map(|setting| {
        let text = format!(
            "{} Values: 0 to {}. Unless told otherwise {}.",
            without_references(setting.description()),
            setting.range().end(),
            setting.default_value()
        );
        Block::term(format!("`{}`", setting.name()), text)
    }));
    let paragraphs = DESCRIPTION.map(|text| Block::Text(text.to_owned()));
    Manual {
        name: "lvsd.toml",
        section: 5,
        summary: "the configuration of lvsd".to_owned(),
        chapters: vec![
            Chapter::new("SYNOPSIS", [Block::Text("`/etc/lvsd.toml`".to_owned())]),
            Chapter::new("DESCRIPTION", paragraphs),
            Chapter::new("KEYS", keys),
            Chapter::new("EXAMPLES", [Block::Example(EXAMPLES.to_owned())]),
            Chapter::new(
                "SEE ALSO",
                [Block::Text("`lvsd`(8), `lvsadm`(8)".to_owned())],
            ),
        ],
    }
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Without the places in a specification that comments name.
fn without_references(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split(" (IPVS ").enumerate() {
        let after = part.split_once(')').map(|(_, after)| after);
        out.push_str(if i == 0 {
            part
        } else {
            after.unwrap_or_default()
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_there_and_the_example_is_right() {
        let text = lvsd_toml().to_string();
        for key in KEYS {
            assert!(text.contains(&format!("  {} ", key.name)), "{}", key.name);
        }
        assert!(!text.contains("IPVS "), "a reference to the specification");
        let config = EXAMPLES.replace("group = \"lvs\"\n", "");
        assert_eq!(Config::parse("example", &config).unwrap().services.len(), 1);
    }
}
