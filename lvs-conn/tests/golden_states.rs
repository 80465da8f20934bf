//! Replays the recorded conversations of `golden/` and compares every state, every timer and
//! every way out with what the kernel's IPVS did.
//!
//! The first line of a file is its set-up. Every other one is a conversation that starts without
//! a connection: `seq` names the packets (`c:` from the client, `s:` from the server; TCP flags
//! or an SCTP chunk), `states` the listed state and the seconds left after each packet, `out`
//! where it went: to the server, to the client (`!` and the flags if that was a reset), nowhere.
//!
//! The state machines decide nothing about which packet opens a connection; [`Director`] adds
//! only that (IPVS 2.12, 4.2) and the memory of whether a reply was seen (2.8).

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use lvs_conn::protocol::{Event, Side, next_state};
use lvs_conn::sctp_state::chunk;
use lvs_conn::timeouts::Timeouts;
use lvs_core::{ForwardMethod, Protocol, Tick, state};
use serde_json::Value;

/// One connection's director: everything of it that these recordings can show.
struct Director {
    protocol: Protocol,
    method: ForwardMethod,
    sloppy_tcp: bool,
    timeouts: Timeouts,
    connection: Option<Connection>,
}

struct Connection {
    state: u8,
    /// Replies take another way, as far as was seen.
    no_output: bool,
    timeout: u32,
}

/// A packet as a recording names it.
#[derive(Clone, Copy)]
struct Packet<'a> {
    from_client: bool,
    what: &'a str,
    event: Event,
}

impl<'a> Packet<'a> {
    fn parse(protocol: Protocol, text: &'a str) -> Self {
        let (from, what) = text.split_once(':').expect("SIDE:WHAT");
        Self {
            from_client: match from {
                "c" => true,
                "s" => false,
                _ => panic!("no side {from}"),
            },
            what,
            event: match protocol {
                Protocol::Tcp => Event::tcp(what.chars().map(flag).sum()),
                Protocol::Udp => Event::Udp,
                Protocol::Sctp => Event::Sctp(chunk_type(what)),
                _ => panic!("no conversations of {protocol}"),
            },
        }
    }

    fn has(self, letter: char) -> bool {
        matches!(self.event, Event::Tcp(_)) && self.what.contains(letter)
    }

    /// Whether a finished connection makes way for it (2.12): any SYN, or an INIT.
    fn asks_anew(self) -> bool {
        self.has('S') || self.event == Event::Sctp(chunk::INIT)
    }

    /// Whether it is scheduled when it belongs to no connection (4.2).
    fn opens(self, sloppy_tcp: bool) -> bool {
        match self.event {
            Event::Tcp(_) => !self.has('R') && (sloppy_tcp || self.has('S')),
            Event::Udp => true,
            Event::Sctp(first) => first == chunk::INIT,
            Event::Other => false,
        }
    }

    /// How a recording shows it when it reaches the client.
    fn at_client(self, how: &str) -> String {
        if self.has('R') {
            format!("{how}!{}", self.what)
        } else {
            how.to_owned()
        }
    }
}

fn flag(letter: char) -> u8 {
    match letter {
        'F' => 0x01,
        'S' => 0x02,
        'R' => 0x04,
        'P' => 0x08,
        'A' => 0x10,
        'U' => 0x20,
        _ => panic!("no flag {letter}"),
    }
}

fn chunk_type(name: &str) -> u8 {
    match name {
        "DATA" => chunk::DATA,
        "INIT" => chunk::INIT,
        "INIT_ACK" => chunk::INIT_ACK,
        "ABORT" => chunk::ABORT,
        "SHUTDOWN" => chunk::SHUTDOWN,
        "SHUTDOWN_ACK" => chunk::SHUTDOWN_ACK,
        "ERROR" => chunk::ERROR,
        "COOKIE_ECHO" => chunk::COOKIE_ECHO,
        "COOKIE_ACK" => chunk::COOKIE_ACK,
        "SHUTDOWN_COMPLETE" => chunk::SHUTDOWN_COMPLETE,
        _ => panic!("no chunk {name}"),
    }
}

impl Director {
    fn new(setup: &Value) -> Self {
        let sysctl = |name: &str| {
            setup["sysctl"]
                .get(name)
                .and_then(Value::as_u64)
                .unwrap_or(0)
        };
        let timeouts = Timeouts::default();
        timeouts.set_secure_tcp(match sysctl("secure_tcp") {
            0 => false,
            3 => true,
            other => panic!("secure_tcp {other} depends on memory"),
        });
        if let Some(set) = setup["set"].as_str() {
            let seconds: Vec<u32> = set.split(' ').map(|word| word.parse().unwrap()).collect();
            timeouts.set_seconds(seconds[0], seconds[1], seconds[2]);
        }
        Self {
            protocol: match setup["proto"].as_str() {
                Some("tcp") => Protocol::Tcp,
                Some("udp") => Protocol::Udp,
                Some("sctp") => Protocol::Sctp,
                other => panic!("no protocol {other:?}"),
            },
            method: match setup["mode"].as_str() {
                Some("-m") => ForwardMethod::Masquerade,
                Some("-g") => ForwardMethod::DirectRoute,
                Some("-i") => ForwardMethod::Tunnel,
                other => panic!("no method {other:?}"),
            },
            sloppy_tcp: sysctl("sloppy_tcp") != 0,
            timeouts,
            connection: None,
        }
    }

    /// Handles a packet and says where it goes.
    fn handle(&mut self, packet: Packet<'_>) -> String {
        if packet.from_client {
            self.handle_request(packet)
        } else {
            self.handle_reply(packet)
        }
    }

    fn handle_request(&mut self, packet: Packet<'_>) -> String {
        let finished = match self.protocol {
            Protocol::Tcp => &[state::tcp::TIME_WAIT, state::tcp::CLOSE][..],
            Protocol::Sctp => &[state::sctp::CLOSED],
            _ => &[],
        };
        if packet.asks_anew()
            && self
                .connection
                .as_ref()
                .is_some_and(|c| finished.contains(&c.state))
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            if !packet.opens(self.sloppy_tcp) {
                return "-".to_owned();
            }
            self.connection = Some(Connection {
                state: 0,
                no_output: !self.method.rewrites_replies(),
                timeout: 0,
            });
        }
        let no_output = self.connection.as_ref().is_some_and(|c| c.no_output);
        self.advance(
            if no_output {
                Side::InputOnly
            } else {
                Side::Input
            },
            packet.event,
        );
        match self.method {
            // The recorder looked for bare packets.
            ForwardMethod::Tunnel => "-".to_owned(),
            _ => "s".to_owned(),
        }
    }

    fn handle_reply(&mut self, packet: Packet<'_>) -> String {
        let Some(connection) = &mut self.connection else {
            return packet.at_client("c(untranslated)");
        };
        connection.no_output = false;
        self.advance(Side::Output, packet.event);
        packet.at_client("c")
    }

    fn advance(&mut self, side: Side, event: Event) {
        let connection = self.connection.as_mut().expect("looked up or made");
        let secure_tcp = self.timeouts.secure_tcp();
        connection.state = next_state(self.protocol, connection.state, side, event, secure_tcp);
        connection.timeout = self.timeouts.get(self.protocol, connection.state);
    }

    /// The state and the seconds left, cut to whole ones: right after the timer started.
    fn listing(&self) -> String {
        self.connection.as_ref().map_or_else(
            || "-".to_owned(),
            |connection| {
                let name = state::name(self.protocol, connection.state);
                let left = (connection.timeout - 1) / Tick::PER_SECOND;
                format!("{name} {left}")
            },
        )
    }
}

/// Replays one conversation and returns its `states` and `out`.
fn replay(setup: &Value, seq: &str) -> (String, String) {
    let mut director = Director::new(setup);
    let (states, out): (Vec<_>, Vec<_>) = seq
        .split(' ')
        .map(|text| {
            let out = director.handle(Packet::parse(director.protocol, text));
            (director.listing(), out)
        })
        .unzip();
    (states.join("|"), out.join(" "))
}

/// Replays a whole recording and returns how many conversations it has.
fn replay_file(text: &str) -> usize {
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let setup = lines.next().expect("a set-up");
    let mut count = 0;
    for line in lines {
        let [seq, states, out] = ["seq", "states", "out"].map(|key| line[key].as_str().unwrap());
        assert_eq!(
            replay(&setup, seq),
            (states.to_owned(), out.to_owned()),
            "{}: {seq}",
            setup["file"]
        );
        count += 1;
    }
    count
}

macro_rules! recordings {
    ($($test:ident $file:literal $count:literal)+) => {
        $(
            #[test]
            fn $test() {
                assert_eq!(replay_file(include_str!(concat!("golden/", $file))), $count);
            }
        )+

        /// Nothing lies in the folder that no test reads.
        #[test]
        fn every_recording_is_replayed() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
            let mut found: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, [$($file),+]);
            assert_eq!([$($count),+].iter().sum::<usize>(), 3668);
        }
    };
}

recordings! {
    sctp_dr "sctp-dr.jsonl" 1000
    sctp_nat_established "sctp-nat-established.jsonl" 400
    sctp_nat "sctp-nat.jsonl" 400
    tcp_dr_secure "tcp-dr-secure.jsonl" 125
    tcp_dr_sloppy "tcp-dr-sloppy.jsonl" 25
    tcp_dr "tcp-dr.jsonl" 625
    tcp_nat_combined_flags "tcp-nat-combined-flags.jsonl" 48
    tcp_nat_established "tcp-nat-established.jsonl" 81
    tcp_nat_secure "tcp-nat-secure.jsonl" 81
    tcp_nat_set "tcp-nat-set.jsonl" 81
    tcp_nat_sloppy "tcp-nat-sloppy.jsonl" 45
    tcp_nat "tcp-nat.jsonl" 729
    tcp_tun "tcp-tun.jsonl" 25
    udp_dr "udp-dr.jsonl" 1
    udp_nat_set "udp-nat-set.jsonl" 1
    udp_nat "udp-nat.jsonl" 1
}
