//! The manual of lvsadm: what is written by hand, and the words of the grammar.

use super::{Block, Chapter, Manual};
use crate::vocabulary::{self, Argument, WORDS, Word};

const SYNOPSIS: [&str; 14] = [
    "`lvsadm` `-A`|`-E` _SERVICE_ [`-s` _NAME_] [`-p` [_SECONDS_]] [`-M` _MASK_] [`-o`] \
     [`-b` _FLAGS_] [`--pe` _ENGINE_]",
    "`lvsadm` `-D` _SERVICE_",
    "`lvsadm` `-a`|`-e` _SERVICE_ `-r` _SERVER_ [`-g`|`-i`|`-m`|`--fullnat`] [`-w` _N_] [`-x` _N_] \
     [`-y` _N_] [`--tun-type` _TYPE_] [`--tun-port` _PORT_] \
     [`--tun-nocsum`|`--tun-csum`|`--tun-remcsum`]",
    "`lvsadm` `-d` _SERVICE_ `-r` _SERVER_",
    "`lvsadm` `-C`",
    "`lvsadm` `-L` [_SERVICE_] [`-n`] [`-c` | `--timeout` | `--daemon` | `--drops`] [`--stats` | \
     `--rate` | `--thresholds` | `--persistent-conn` | `--tun-info`] [`-X`] [`--nosort`] [`--json`]",
    "`lvsadm` `-S` [`-n`]",
    "`lvsadm` `-R` [`--atomic`] < _RULES_",
    "`lvsadm` `-Z` [_SERVICE_]",
    "`lvsadm` `--set` _TCP_ _TCPFIN_ _UDP_",
    "`lvsadm` `--sysctl` [_NAME_[=_VALUE_]] [`--json`]",
    "`lvsadm` `--start-daemon` _ROLE_ [`--mcast-interface` _INTERFACE_] [`--syncid` _ID_] ...",
    "`lvsadm` `--stop-daemon` _ROLE_",
    "`lvsadm` `-h` | `--help` | `-v`",
];

const DESCRIPTION: [&str; 3] = [
    "`lvsadm` changes and lists the rules of a running `lvsd`. Its command lines, messages, \
     listings and exit statuses are those of `ipvsadm` 1.31, so that scripts written for the \
     kernel's IPVS work unchanged; under the name `ipvsadm` it is a drop-in replacement. The command \
     comes first, its options after it. Without any argument it lists the rules.",
    "_SERVICE_ is `-t`, `-u` or `--sctp-service` with an address and a port, or `-f` with a firewall \
     mark. An IPv6 address stands in brackets: `-t [2001:db8::10]:80`. Names of hosts and services \
     are accepted everywhere, and shown unless `-n` is given.",
    "Short options cluster (`-Lnc`); a value may be attached (`-w2`, `--weight=2`) or follow.",
];

/// The chapters of options: those of the vocabulary, in its order, and what they begin with.
const OPTIONS: [(vocabulary::Chapter, &str, &str); 7] = [
    (vocabulary::Chapter::Commands, "COMMANDS", ""),
    (vocabulary::Chapter::Service, "NAMING A SERVICE", ""),
    (
        vocabulary::Chapter::Services,
        "OPTIONS OF SERVICES",
        "With `-A` and `-E`.",
    ),
    (
        vocabulary::Chapter::Servers,
        "OPTIONS OF SERVERS",
        "With `-a` and `-e`; `-r` also with `-d`.",
    ),
    (
        vocabulary::Chapter::Listings,
        "OPTIONS OF LISTINGS",
        "With `-L`; `-n` also with `-S`.",
    ),
    (
        vocabulary::Chapter::Synchronisation,
        "OPTIONS OF SYNCHRONISATION",
        "With `--start-daemon`. The daemon of this version does not synchronise yet: with packets it \
         refuses, with `lvsd run --io none` it takes the commands and lists them.",
    ),
    (
        vocabulary::Chapter::Own,
        "ONLY IN LVSADM",
        "`ipvsadm` does not have these.",
    ),
];

const STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    (
        "1",
        "A listing failed: there is no such service or setting, or the output cannot be written.",
    ),
    (
        "2",
        "An option or a value is wrong; `lvsd` does not run, may not be used or does not answer.",
    ),
    (
        "255",
        "`lvsd` refused the operation, for one of IPVS's reasons; there is no such option.",
    ),
];

const EXAMPLES: &str = "\
# A service of two servers, by address translation
lvsadm -A -t 192.0.2.10:80 -s wrr
lvsadm -a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 2
lvsadm -a -t 192.0.2.10:80 -r 10.0.0.3:8080 -m
# What it does
lvsadm -Ln --stats
lvsadm -Lnc
lvsadm -L --drops
# Take a server out softly: it keeps its connections and gets no new ones
lvsadm -e -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 0
# Servers that need no route back, and are told their clients
lvsadm -A -t 192.0.2.10:443 --local 10.0.0.250 --toa
lvsadm -a -t 192.0.2.10:443 -r 10.0.0.2:443 --fullnat
# Keep the rules and bring them back, all or none
lvsadm -S -n > rules
lvsadm -C; lvsadm -R --atomic < rules
# A setting
lvsadm --sysctl expire_nodest_conn=1";

/// The manual.
#[must_use]
pub fn lvsadm() -> Manual {
    let texts = |all: &[&str]| -> Vec<Block> {
        let texts = all.iter();
        texts.map(|&text| Block::Text(text.to_owned())).collect()
    };
    let mut chapters = vec![
        Chapter::new(
            "SYNOPSIS",
            SYNOPSIS.map(|line| Block::Usage(line.to_owned())),
        ),
        Chapter::new("DESCRIPTION", texts(&DESCRIPTION)),
    ];
    for (chapter, title, begin) in OPTIONS {
        let begin = Some(begin).filter(|begin| !begin.is_empty());
        let words = WORDS.iter().filter(|word| word.chapter == chapter);
        let terms = words.filter(|word| !word.help.is_empty()).map(term);
        let begin = begin.map(|text| Block::Text(text.to_owned()));
        chapters.push(Chapter::new(title, begin.into_iter().chain(terms)));
    }
    let status = STATUS.map(|(status, text)| Block::term(format!("`{status}`"), text));
    chapters.push(Chapter::new("EXIT STATUS", status));
    chapters.push(Chapter::new(
        "ENVIRONMENT",
        [Block::term(
            format!("`{}`", lvs_api::SOCKET_VARIABLE),
            "The control socket, where `--socket` names none.",
        )],
    ));
    chapters.push(Chapter::new(
        "FILES",
        [Block::term(
            format!("`{}`", lvs_api::DEFAULT_SOCKET),
            "The control socket of `lvsd`. Who may open it may use `lvsadm`.",
        )],
    ));
    chapters.push(Chapter::new(
        "EXAMPLES",
        [Block::Example(EXAMPLES.to_owned())],
    ));
    chapters.push(Chapter::new(
        "SEE ALSO",
        [Block::Text(
            "`lvsd`(8), `lvsd.toml`(5), `ipvsadm`(8)".to_owned(),
        )],
    ));
    Manual {
        name: "lvsadm",
        section: 8,
        summary: "administer the Linux Virtual Server of lvsd".to_owned(),
        chapters,
    }
}

/// `-s, --scheduler NAME`.
fn term(word: &Word) -> Block {
    let mut term = String::new();
    for entry in WORDS.iter().filter(|other| other.long == word.long) {
        if entry.short != '\0' {
            term.push_str(&format!("`-{}`, ", entry.short));
        }
    }
    term.push_str(&format!("`--{}`", word.long));
    if !word.value.is_empty() {
        let words: Vec<String> = word
            .value
            .split(' ')
            .map(|value| format!("_{value}_"))
            .collect();
        let value = words.join(" ");
        if word.argument == Argument::Optional {
            term.push_str(&format!(" [{value}]"));
        } else {
            term.push_str(&format!(" {value}"));
        }
    }
    Block::term(term, word.help)
}

/// A word of the command line, for those who make completions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `--scheduler` without its dashes.
    pub long: &'static str,
    /// Its letters.
    pub short: Vec<char>,
    /// What it takes, as the manual names it; `None`: nothing.
    pub value: Option<&'static str>,
    /// Whether that may be left out.
    pub optional: bool,
    /// What it is for, without markup.
    pub help: String,
}

/// Every word of the command line, in the order of the manual.
///
/// ```
/// let all = lvsadm::manual::entries();
/// let list = all.iter().find(|entry| entry.long == "list").ok_or("none")?;
/// assert_eq!(list.short, ['L', 'l']);
/// # Ok::<(), &str>(())
/// ```
#[must_use]
pub fn entries() -> Vec<Entry> {
    let words = WORDS.iter().filter(|word| !word.help.is_empty());
    let entry = |word: &Word| {
        let letters = WORDS.iter().filter(|other| other.long == word.long);
        let letters = letters
            .map(|word| word.short)
            .filter(|short| *short != '\0');
        Entry {
            long: word.long,
            short: letters.collect(),
            value: Some(word.value).filter(|_| word.argument != Argument::None),
            optional: word.argument == Argument::Optional,
            help: super::plain(word.help),
        }
    };
    words.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written by hand names no option that does not exist, and every chapter has its words.
    #[test]
    fn options_that_are_named_exist() {
        let manual = lvsadm();
        let text = manual.to_string();
        for word in text.split(|c: char| c.is_whitespace() || "[]|(),;:.".contains(c)) {
            let word = word.split('=').next().unwrap_or_default();
            if let Some(long) = word.strip_prefix("--") {
                let known = ["io"].contains(&long) || WORDS.iter().any(|word| word.long == long);
                assert!(known, "{word}");
            } else if let Some(letters) = word.strip_prefix('-') {
                for letter in letters.chars().take_while(char::is_ascii_alphabetic) {
                    assert!(WORDS.iter().any(|word| word.short == letter), "{word}");
                }
            }
        }
        let terms: usize = manual
            .chapters
            .iter()
            .filter(|chapter| OPTIONS.iter().any(|row| row.1 == chapter.title))
            .map(|chapter| {
                let terms = chapter.blocks.iter();
                terms
                    .filter(|block| matches!(block, Block::Term { .. }))
                    .count()
            })
            .sum();
        assert_eq!(terms, entries().len());
    }
}
