//! Every key of the file in a table, for the manual and the documents.
//!
//! Data only. The reader asks for no key that is not here, and a test asks the reader for each key
//! that is; the settings of `[sysctl]` are the director's own list.

use lvs_director::Setting;

/// A key of the configuration file. Texts have a little markup: `` `literal` ``.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The table that it stands in, as the file writes it: `[dataplane]`, `[[service]]`; empty for the
    /// top of the file.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub values: &'static str,
    /// What it is unless told otherwise; `required` if it has to be told.
    pub default: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn key(
    table: &'static str,
    name: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        table,
        name,
        values,
        default,
        meaning,
    }
}

/// All of them, in the order of the manual.
///
/// ```
/// use lvsd::config::KEYS;
/// let weight = KEYS.iter().find(|key| key.name == "weight").ok_or("none")?;
/// assert_eq!((weight.table, weight.default), ("[[service.destination]]", "1"));
/// # Ok::<(), &str>(())
/// ```
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("", "socket", "absolute path", "`/run/lvsd.sock`", "the control socket, short for `control.socket`"),
    key("", "log", "`error` `warn` `info` `debug` `trace`", "`info`", "what is logged, to standard error"),
    key("[control]", "socket", "absolute path", "`/run/lvsd.sock`", "the control socket: who may open it may edit the rules"),
    key("[control]", "owner", "a user, by name or number", "who runs `lvsd`", "whose it is"),
    key("[control]", "group", "a group, by name or number", "that of who runs `lvsd`", "whose group it is"),
    key("[control]", "mode", "in octal, such as `\"0660\"`", "`\"0600\"`", "who may open it: `\"0660\"` owner and group"),
    key("[dataplane]", "interfaces", "list of names", "all but the loopback and ports of bridges and bonds", "where clients and servers are"),
    key("[dataplane]", "workers", "1 to 256", "one a processor", "threads that handle packets"),
    key("[dataplane]", "ring_version", "`\"v2\"`, `\"v3\"`", "`\"v2\"`", "TPACKET version of the receive ring: V2 hands every frame over at once, V3 blocks of them when full or after a millisecond"),
    key("[dataplane]", "receive_ring", "64 KiB to 1 GiB", "`\"8MiB\"`", "receive ring of one worker on one interface"),
    key("[dataplane]", "transmit_ring", "64 KiB to 1 GiB", "`\"2MiB\"`", "transmit ring of one worker on one interface"),
    key("[dataplane]", "claim", "true, false", "true", "keep the host's stack from handling the same packets"),
    key("[connections]", "capacity", "1,024 to 134,217,728", "1,048,576", "most connections at a time, templates included"),
    key("[connections]", "file", "absolute path", "none", "the file that has them, and keeps them when `lvsd` ends"),
    key("[timeouts]", "tcp", "1 s to 31 days", "`\"15m\"`", "after how long without a packet an established TCP connection ends; as `--set`"),
    key("[timeouts]", "tcp_fin", "1 s to 31 days", "`\"2m\"`", "the same after a FIN"),
    key("[timeouts]", "udp", "1 s to 31 days", "`\"5m\"`", "the same of UDP"),
    key("[[service]]", "listen", "`tcp://A:P` `udp://A:P` `sctp://A:P` `fwmark://N` `fwmark6://N`", "required", "what clients ask for; IPv6 as `tcp://[A]:P`"),
    key("[[service]]", "scheduler", "a name", "`wlc`", "who gets the next connection"),
    key("[[service]]", "flags", "list", "none", "`sh-fallback` `sh-port` `mh-fallback` `mh-port`"),
    key("[[service]]", "persistence", "time, `{ timeout, netmask }`", "none", "a client stays with its destination"),
    key("[[service]]", "persistence_engine", "`sip`", "none", "what it goes by instead of the client: the Call-ID"),
    key("[[service]]", "one_packet", "true, false", "false", "every packet is scheduled by itself (UDP)"),
    key("[[service]]", "local", "list of addresses, at most 8", "none", "what servers by `fullnat` see instead of clients"),
    key("[[service]]", "toa", "true, false", "false", "whether they are told their clients"),
    key("[[service]]", "on_removal", "`\"drain\"` `\"drain 5m\"` `\"reset\"` `\"reschedule\"`", "`\"drain\"`", "what becomes of the connections of a destination that is removed or has weight 0"),
    key("[[service.destination]]", "address", "address, or address and port", "required", "the server; without a port the service's"),
    key("[[service.destination]]", "method", "`nat` `dr` `tun` `fullnat`", "required", "how packets reach it"),
    key("[[service.destination]]", "weight", "0 to 2,147,483,647", "1", "share of new connections; 0: none"),
    key("[[service.destination]]", "upper_threshold", "number", "0: off", "at this many connections it gets no new ones"),
    key("[[service.destination]]", "lower_threshold", "number", "0: three quarters", "below this many it does again"),
    key("[[service.destination]]", "tunnel", "`\"ipip\"`, `{ type = \"gre\", checksum = \"full\" }`, `{ type = \"gue\", port = 6080 }`", "`\"ipip\"`", "what goes between the headers, with `tun`"),
    key("[[service.destination]]", "local", "list of addresses", "the service's", "what this server sees, with `fullnat`"),
    key("[[service.destination]]", "on_removal", "as the service's", "the service's", "what becomes of its connections"),
    key("[[mark]]", "mark", "0 to 4,294,967,295", "required", "the mark that a packet gets; 0 takes away what earlier rules gave"),
    key("[[mark]]", "family", "`ipv4`, `ipv6`", "both", "the packet's family"),
    key("[[mark]]", "interface", "`eth0`, or `eth*` for all that begin so", "all", "where it came in"),
    key("[[mark]]", "protocol", "`tcp`, `udp`, `sctp`", "all", "its protocol"),
    key("[[mark]]", "source", "addresses, prefixes, ranges `A-B`", "all", "where it comes from"),
    key("[[mark]]", "destination", "addresses, prefixes, ranges `A-B`", "all", "where it goes"),
    key("[[mark]]", "source_port", "ports, ranges `1024-65535`", "all", "the port that it comes from"),
    key("[[mark]]", "destination_port", "ports, ranges `1024-65535`", "all", "the port that it goes to"),
    key("[[mark]]", "local", "true, false", "false", "true: only packets to addresses of the host"),
];

/// Whether the table of that name has that key: one of these, a table within, or a setting.
pub(super) fn has(table: &str, name: &str) -> bool {
    let bare = |table: &str| table.trim_matches(['[', ']']).to_owned();
    let listed = KEYS
        .iter()
        .any(|key| key.table == table && key.name == name);
    let within = KEYS.iter().any(|key| {
        let inner = bare(key.table);
        match inner.rsplit_once('.') {
            Some((outer, inner)) => outer == bare(table) && inner == name,
            None => table.is_empty() && inner == name,
        }
    });
    let setting = || name.parse::<Setting>().is_ok();
    listed || within || table == "[sysctl]" && setting() || table.is_empty() && name == "sysctl"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A value that no key takes is refused as a value of that key, not as a key that is unknown.
    #[test]
    fn the_reader_knows_every_key() {
        for key in KEYS {
            let mut file = format!("{}\n{} = 1979-05-27", key.table, key.name);
            if key.table == "[[service.destination]]" {
                file = format!("[[service]]\nlisten = 'tcp://192.0.2.1:80'\n{file}");
            }
            if key.table == "[[mark]]" && key.name != "mark" {
                file = file.replacen("\n", "\nmark = 1\n", 1);
            }
            let error = Config::parse("lvsd.toml", &file).unwrap_err().to_string();
            assert!(!error.contains("unknown key"), "{file}\n{error}");
            assert!(error.contains(key.name), "{file}\n{error}");
            let required = error.contains(&format!("`{}` is missing", key.name));
            assert!(!required, "{file}\n{error}");
        }
    }

    /// What the table says about defaults is what the reader does.
    #[test]
    fn required_keys_are_missed() {
        let file = "[[mark]]\n[[service]]\n[[service.destination]]\n";
        let error = Config::parse("lvsd.toml", file).unwrap_err().to_string();
        for key in KEYS {
            let missed = error.contains(&format!("`{}` is missing in {}", key.name, key.table));
            assert_eq!(missed, key.default == "required", "{key:?}\n{error}");
        }
    }
}
