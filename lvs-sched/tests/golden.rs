//! The kernel's own choices, replayed: every recorded case that concerns a scheduler alone.
//!
//! In come recordings of Linux 6.1.192 (`tests/golden/*.jsonl`, one case a line); each connection
//! must go to the server that the kernel sent it to, and each listing must show the same servers in
//! the same order with the same counts. What the kernel's connection table does to the counts is
//! replayed by the small one below. Cases that need more than that are listed by name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test: what is missing is a failure"
)]

use lvs_core::{Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Pool, Request};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

/// Persistence, several services, what is no first packet, connections that end before their time,
/// other ports: who is asked, and when, is the director's. Nothing else is left out.
const NEED_THE_DIRECTOR: &[&str] = &[
    "misc/conn-reuse-0",
    "misc/conn-reuse-1",
    "misc/conn-reuse-2",
    "misc/dest-gone-nodest0",
    "misc/dest-gone-nodest1",
    "misc/first-chunk-sloppy0",
    "misc/first-chunk-sloppy1",
    "misc/first-packet",
    "misc/first-packet-sloppy",
    "misc/localhost-rs",
    "misc/no-service-port",
    "misc/port-mapping",
    "misc/service-lookup",
    "persist/fwmark",
    "persist/netmask24",
    "persist/port0",
    "persist/quiescent",
    "persist/rr-tcp",
    "persist/rst-mid",
    "persist/sh-tcp",
    "persist/sip-pe-many-clients",
    "persist/sip-pe-one-client",
    "persist/tcp6-netmask64",
    "persist/template-held",
    "persist/udp-threshold",
    "persist/wlc-tcp",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Udp,
    Sctp,
    Established,
    SynRecv,
    SynSent,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
}

use State::{Close, CloseWait, Established, FinWait, SynRecv, SynSent, TimeWait};

impl State {
    fn is_active(self) -> bool {
        matches!(self, Established | SynRecv | SynSent)
    }

    fn seconds(self) -> u32 {
        match self {
            Self::Udp => 300,
            Self::Sctp => 4,
            Established => 900,
            SynRecv | CloseWait => 60,
            SynSent | FinWait | TimeWait => 120,
            Close => 10,
        }
    }

    /// IPVS 2.8. `out`: from the server; `half`: replies do not pass the director.
    fn after(self, what: &str, out: bool, half: bool) -> Self {
        let event = ['R', 'S', 'F', 'A']
            .into_iter()
            .find(|&flag| what.contains(flag));
        match (self, event) {
            (Self::Udp | Self::Sctp, _) => self,
            (_, None) => Close,
            (Established | SynRecv, Some('S')) => self,
            (SynSent, Some('S')) => {
                if half {
                    Established
                } else {
                    SynSent
                }
            }
            (_, Some('S')) => {
                if out {
                    SynSent
                } else {
                    SynRecv
                }
            }
            (SynRecv, Some('R')) => {
                if out {
                    Close
                } else {
                    SynRecv
                }
            }
            (SynSent, Some('R')) => {
                if out {
                    SynSent
                } else {
                    Close
                }
            }
            (TimeWait, Some('R')) => {
                if out {
                    TimeWait
                } else {
                    Close
                }
            }
            (_, Some('R')) => Close,
            (Established, Some('F')) => {
                if out || half {
                    FinWait
                } else {
                    CloseWait
                }
            }
            (SynRecv, Some('F')) => TimeWait,
            (FinWait, Some('F')) => {
                if out || half {
                    FinWait
                } else {
                    TimeWait
                }
            }
            (CloseWait, Some('F')) => {
                if out {
                    TimeWait
                } else {
                    CloseWait
                }
            }
            (SynRecv, Some(_)) => Established,
            (state, Some(_)) => state,
        }
    }
}

struct Conn {
    backend: Arc<Backend>,
    state: State,
    /// Replies do not pass, or none has been seen.
    half: bool,
    ends: u32,
}

type Tuple = (String, String, u64, String, u64);

#[derive(Default)]
struct Replay {
    pool: Option<Pool>,
    known: HashMap<Endpoint, Arc<Backend>>,
    direct: HashMap<Endpoint, bool>,
    conns: HashMap<Tuple, Conn>,
    by_id: HashMap<u64, Tuple>,
    seconds: u32,
    one_packet: bool,
}

fn flags(words: &[&str]) -> SchedFlags {
    let given = after(words, "-b").unwrap_or("");
    SchedFlags {
        flag1: given.contains("fallback"),
        flag2: given.contains("port"),
        flag3: false,
    }
}

fn after<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|&word| word == option)?;
    words.get(at + 1).copied()
}

/// A server; with a firewall mark it has no port of its own.
fn server(text: &str) -> Endpoint {
    text.parse()
        .unwrap_or_else(|_| Endpoint::new(text.trim_matches(['[', ']']).parse().unwrap(), 0))
}

impl Replay {
    fn now(&self) -> Tick {
        Tick(Tick::seconds(self.seconds))
    }

    fn pool(&self) -> &Pool {
        self.pool.as_ref().unwrap()
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number =
            |option, default| after(&words, option).map_or(default, |n| n.parse().unwrap());
        let thresholds = Thresholds {
            upper: number("-x", 0),
            lower: number("-y", 0),
        };
        let endpoint = after(&words, "-r").map(server);
        match words[0] {
            "-A" => {
                self.pool = Some(Pool::new(after(&words, "-s").unwrap(), flags(&words)).unwrap());
                self.one_packet = words.contains(&"-o");
            }
            "-E" => {
                let name = after(&words, "-s").unwrap_or("wlc");
                let pool = self.pool.as_mut().unwrap();
                pool.set_scheduler(name, flags(&words)).unwrap();
            }
            "-a" => {
                let endpoint = endpoint.unwrap();
                let weight = number("-w", 1);
                let backend = Arc::clone(
                    self.known
                        .entry(endpoint)
                        .or_insert_with(|| Backend::new(0, endpoint, weight, thresholds)),
                );
                backend.reset_weight(weight);
                backend.set_thresholds(thresholds);
                self.direct.insert(endpoint, !words.contains(&"-m"));
                self.pool.as_mut().unwrap().add(backend).unwrap();
            }
            "-e" => {
                let backend = &self.known[&endpoint.unwrap()];
                backend.set_weight(number("-w", 1));
                backend.set_thresholds(thresholds);
                assert!(self.pool.as_mut().unwrap().updated(backend));
            }
            "-d" => {
                let backend = &self.known[&endpoint.unwrap()];
                assert!(self.pool.as_mut().unwrap().remove(backend));
            }
            other => panic!("{other} in {line}"),
        }
    }

    fn expire(&mut self) {
        let now = self.seconds;
        self.conns.retain(|_, conn| {
            let over = conn.ends <= now;
            if over {
                conn.backend.closed(conn.state.is_active());
            }
            !over
        });
    }

    fn connect(&mut self, event: &Value) -> Option<String> {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let port = |key: &str| event[key].as_u64().unwrap();
        let tuple = (
            text("proto"),
            text("src"),
            port("sport"),
            text("dst"),
            port("dport"),
        );
        let asked = port("dport");
        let named = move |backend: &Backend| {
            let mut endpoint = backend.endpoint();
            if endpoint.port == 0 {
                endpoint.port = u16::try_from(asked).unwrap();
            }
            Some(endpoint.to_string())
        };
        self.by_id
            .insert(event["id"].as_u64().unwrap(), tuple.clone());
        if let Some(conn) = self.conns.get(&tuple) {
            return named(&conn.backend);
        }
        let request = Request {
            src: tuple.1.parse().unwrap(),
            src_port: u16::try_from(tuple.2).unwrap(),
            dst: tuple.3.parse().unwrap(),
            now: self.now(),
        };
        let backend = Arc::clone(self.pool().pick(&request)?);
        let state = match tuple.0.as_str() {
            "tcp" => SynRecv,
            "sctp" => State::Sctp,
            _ => State::Udp,
        };
        backend.opened(state.is_active());
        if self.one_packet {
            backend.closed(state.is_active());
            return named(&backend);
        }
        let conn = Conn {
            half: self.direct[&backend.endpoint()],
            state,
            ends: self.seconds + state.seconds(),
            backend: Arc::clone(&backend),
        };
        self.conns.insert(tuple, conn);
        named(&backend)
    }

    fn packet(&mut self, event: &Value) {
        let tuple = &self.by_id[&event["id"].as_u64().unwrap()];
        let out = event["from"] == "server";
        let Some(conn) = self.conns.get_mut(tuple) else {
            return;
        };
        if !conn.backend.is_available() && !out {
            return;
        }
        conn.half &= !out;
        let next = conn
            .state
            .after(event["what"].as_str().unwrap(), out, conn.half);
        match (conn.state.is_active(), next.is_active()) {
            (true, false) => conn.backend.deactivated(),
            (false, true) => conn.backend.activated(),
            _ => {}
        }
        conn.state = next;
        conn.ends = self.seconds + next.seconds();
    }

    fn listing(&self) -> Vec<(String, u64, u64, u64)> {
        let row = |b: &Arc<Backend>| {
            let (act, inact) = (b.active().into(), b.inactive().into());
            (b.endpoint().to_string(), b.weight().into(), act, inact)
        };
        self.pool().backends().iter().map(row).collect()
    }
}

fn listed(service: &Value) -> Vec<(String, u64, u64, u64)> {
    let row = |dest: &Value| {
        let number = |key: &str| dest[key].as_u64().unwrap();
        let name = dest["rs"].as_str().unwrap().to_owned();
        (name, number("w"), number("act"), number("inact"))
    };
    service["dests"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect()
}

/// Replays a case; what differs first.
fn replay(case: &Value) -> Result<usize, String> {
    let mut replay = Replay::default();
    for line in case["config"].as_array().unwrap() {
        replay.command(line.as_str().unwrap());
    }
    let mut choices = 0;
    for (at, event) in case["events"].as_array().unwrap().iter().enumerate() {
        match event["op"].as_str().unwrap() {
            "connect" => {
                let ours = replay.connect(event);
                let kernels = event["chosen"].as_str().map(str::to_owned);
                if ours != kernels {
                    return Err(format!("event {at}: {event}: ours {ours:?}"));
                }
                choices += 1;
            }
            "packet" => replay.packet(event),
            "edit" if event["rc"] == 0 => replay.command(event["cmd"].as_str().unwrap()),
            "wait" => {
                replay.seconds += u32::try_from(event["seconds"].as_u64().unwrap()).unwrap();
                replay.expire();
                let now = replay.now();
                replay.pool().tick(now);
            }
            "check" => {
                for service in event["table"].as_array().unwrap() {
                    if listed(service) != replay.listing() {
                        let ours = replay.listing();
                        return Err(format!("event {at}: {service}: ours {ours:?}"));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(choices)
}

#[test]
fn every_choice_is_the_kernels() {
    let (mut cases, mut choices) = (0, 0);
    let (mut left_out, mut wrong) = (Vec::new(), Vec::new());
    let mut files: Vec<_> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let name = case["case"].as_str().unwrap().to_owned();
            if NEED_THE_DIRECTOR.contains(&name.as_str()) {
                left_out.push(name);
                continue;
            }
            match replay(&case) {
                Ok(count) => {
                    cases += 1;
                    choices += count;
                }
                Err(difference) => wrong.push(format!("{name}: {difference}")),
            }
        }
    }
    println!("{cases} cases, {choices} choices; left to the director: {left_out:?}");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    left_out.sort();
    assert_eq!(left_out, NEED_THE_DIRECTOR);
    assert_eq!((cases, choices), (331, 16_676));
}
