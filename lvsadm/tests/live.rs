//! The recorded session with traffic, `live` of `golden/cli.jsonl`: its packets go through a director in
//! memory, and after them every listing is the one that ipvsadm gave: connections, counters, rates.
//!
//! Time is the test's own. The recording tells when the kernel took its samples for the rates, which it
//! does every two seconds: the first one saw the handshakes and the data, the second one nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Daemon, Seen, traffic};
use lvs_core::Tick;
use lvs_director::{Director, DirectorConfig, Worker};
use lvs_packet::TcpFlags;
use lvsd::control::Rules;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const CLI: &str = include_str!("golden/cli.jsonl");

/// A step of the test's clock.
const STEP: u64 = 5;
/// When the first sample for the rates is taken; the others follow every two seconds.
const FIRST_SAMPLE: u64 = 500;
/// From one listing of rates to the next: a little more than the recorder's two seconds.
const BETWEEN_RATES: u64 = 2080;
/// How long the steady load lasted: 14 s with a packet each step.
const STEADY: u64 = 14_000;
/// What was sent as fast as it went, and how long that took, as the rates after it tell.
const MANY: u64 = 75_000;
const MANY_TOOK: u64 = 3450;

#[derive(Deserialize)]
struct Record {
    session: String,
    argv: Option<Vec<String>>,
    note: Option<String>,
    #[serde(default)]
    rc: u8,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

/// A director with a clock that stands still between the steps.
struct Live {
    director: Arc<Director>,
    worker: Worker,
    /// Milliseconds since the first packet.
    elapsed: u64,
    clock: Arc<AtomicU64>,
}

/// What the clock shows at the first packet, in milliseconds.
const START: u64 = 1_000_000;

impl Live {
    fn start() -> (Self, Daemon) {
        let director = Director::new(&DirectorConfig {
            connections: 1024,
            workers: 1,
        })
        .unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let shown = Arc::clone(&clock);
        let rules = Rules::new(Arc::clone(&director), || {})
            .with_clock(move || Tick::from_millis(shown.load(Relaxed)));
        let live = Self {
            worker: director.worker().unwrap(),
            director,
            elapsed: 0,
            clock,
        };
        (live, Daemon::start(Arc::new(rules)))
    }

    fn now(&self) -> Tick {
        Tick::from_millis(START + self.elapsed)
    }

    /// Lets time pass to `until`, with what a daemon does meanwhile; `each` is called after every step.
    fn pass(&mut self, until: u64, mut each: impl FnMut(&mut Self)) {
        while self.elapsed < until {
            self.elapsed += STEP;
            self.clock.store(START + self.elapsed, Relaxed);
            if self.elapsed.is_multiple_of(1000) {
                self.director.collect(self.now(), usize::MAX);
                self.director.tick(self.now());
            }
            if self.elapsed % 2000 == FIRST_SAMPLE {
                self.director.estimate();
            }
            each(self);
        }
    }

    fn wait(&mut self, millis: u64) {
        self.pass(self.elapsed + millis, |_| {});
    }

    /// Gives the director a frame, which it has to forward.
    fn send(&mut self, frame: &[u8]) {
        let now = self.now();
        traffic::send(&mut self.worker, now, frame);
    }

    fn tcp(&mut self, from: &str, to: &str, flags: TcpFlags, payload: &[u8]) {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        self.send(&traffic::tcp(from, to, flags, payload));
    }

    fn handshakes(&mut self) {
        let answer = TcpFlags::SYN | TcpFlags::ACK;
        for number in 1..=4 {
            let client = format!("10.1.0.{number}:4000");
            let server = if number % 2 == 1 {
                "10.2.0.2:8080"
            } else {
                "10.2.0.1:80"
            };
            self.tcp(server, &client, answer, b"");
            self.tcp(&client, "10.0.0.1:80", TcpFlags::ACK, b"");
        }
        let data = TcpFlags::PSH | TcpFlags::ACK;
        self.tcp("10.1.0.1:4000", "10.0.0.1:80", data, &[b'x'; 1000]);
        self.tcp("10.2.0.2:8080", "10.1.0.1:4000", data, &[b'y'; 500]);
    }

    fn ends(&mut self) {
        let end = TcpFlags::FIN | TcpFlags::ACK;
        self.tcp("10.1.0.2:4000", "10.0.0.1:80", end, b"");
        self.tcp("10.1.0.3:4000", "10.0.0.1:80", TcpFlags::RST, b"");
        self.tcp("10.2.0.1:80", "10.1.0.4:4000", end, b"");
        for number in 1..=3 {
            self.send(&udp(&format!("10.1.0.{number}:5000"), b"ping"));
        }
        for number in 1..=2 {
            let client = format!("[fd01::{number}]:5000");
            self.tcp(&client, "[fd00::1]:80", TcpFlags::SYN, b"");
        }
    }

    /// The traffic that the recorder's remark tells of.
    fn follow(&mut self, note: &str) {
        if note.starts_with("4 SYNs") {
            for number in 1..=4 {
                let client = format!("10.1.0.{number}:4000");
                self.tcp(&client, "10.0.0.1:80", TcpFlags::SYN, b"");
            }
            self.wait(100);
        } else if note.starts_with("(--stats and --rate") {
            self.handshakes();
            self.wait(2500);
        } else if note.starts_with("FIN by the client") {
            self.ends();
            self.wait(100);
        } else if note.starts_with("2.5 s later") {
            self.wait(2500);
        } else if note.starts_with("--rate again") {
            // The recorder's listings took their time: 0.24 s to the next sample.
            self.pass(6260, |_| {});
        } else if note.starts_with("many bytes") {
            self.steady(6260 + STEADY);
            let frame = udp("10.1.0.1:5000", &[b'z'; 1472]);
            let (begin, mut sent) = (self.elapsed, 0);
            self.pass(begin + MANY_TOOK, |live| {
                while sent < MANY * (live.elapsed - begin) / MANY_TOOK {
                    live.send(&frame);
                    sent += 1;
                }
            });
            assert_eq!(sent, MANY);
            self.wait(2500);
        } else {
            assert!(note.starts_with("SYN/ACK and ACK"), "{note}");
        }
    }

    /// 200 packets of 100 bytes a second.
    fn steady(&mut self, until: u64) {
        let frame = udp("10.1.0.1:5000", &[b'z'; 72]);
        self.pass(until, |live| live.send(&frame));
    }
}

fn udp(from: &str, payload: &[u8]) -> Vec<u8> {
    let to = "10.0.0.1:53".parse().unwrap();
    traffic::udp(from.parse().unwrap(), to, payload)
}

#[test]
fn listings_of_live_traffic_come_out_the_same() {
    let records = CLI.lines().map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<Record> = records.filter(|r: &Record| r.session == "live").collect();
    let (mut live, daemon) = Live::start();
    let (mut compared, mut left_out, mut rates, mut failures) = (0, 0, None, Vec::new());
    for (place, record) in records.iter().enumerate() {
        let Some(argv) = &record.argv else {
            let note = record.note.as_deref().unwrap();
            live.follow(note);
            rates = note.starts_with("--rate again").then_some(live.elapsed);
            continue;
        };
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        if let Some(at) = rates {
            live.steady(at);
            rates = Some(at + BETWEEN_RATES);
        }
        let seen = daemon.run(&argv, "");
        let after = records.get(place + 1..).unwrap();
        let Some(expected) = fresh(record, after) else {
            println!("left out, the kernel had not counted yet: {argv:?}");
            left_out += 1;
            continue;
        };
        let expected = Seen {
            status: record.rc,
            stdout: expected.to_owned(),
            stderr: record.stderr.clone(),
        };
        compared += 1;
        if !same(&argv, &seen, &expected) {
            failures.push(format!("{place}: {argv:?}\n{expected:#?}\n{seen:#?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((compared, left_out), (38, 1));
}

/// What a record shows of the moment. The kernel's counters are up to two seconds old, ours are not: what it
/// listed at once it listed right 2.5 s later, if no packet came meanwhile.
fn fresh<'r>(record: &'r Record, after: &'r [Record]) -> Option<&'r str> {
    let argv = record.argv.as_ref()?;
    if !argv.iter().any(|word| word == "--stats") {
        return Some(&record.stdout);
    }
    let mut waited = false;
    for later in after {
        match (&later.note, &later.argv) {
            (Some(note), _) if note.starts_with("2.5 s later") => waited = true,
            // The packets of this remark come before it.
            (Some(note), _) if note.starts_with("(--stats") => return None,
            (Some(_), _) => break,
            (None, Some(words)) if waited && words == argv => return Some(&later.stdout),
            _ => {}
        }
    }
    Some(&record.stdout)
}

/// Connections come in any order, as the kernel's hash gives them. Rates may differ by a tenth, and by
/// one where they are small: nobody knows to the millisecond when the kernel took its samples.
fn same(argv: &[&str], seen: &Seen, expected: &Seen) -> bool {
    let plain = seen.status == expected.status && seen.stderr == expected.stderr;
    let stdout = if argv.contains(&"-Lnc") {
        sorted(&seen.stdout) == sorted(&expected.stdout)
    } else if argv.contains(&"--rate") {
        let both = seen.stdout.lines().zip(expected.stdout.lines());
        seen.stdout.lines().count() == expected.stdout.lines().count()
            && both
                .into_iter()
                .all(|(seen, expected)| close(seen, expected))
    } else {
        seen.stdout == expected.stdout
    };
    plain && stdout
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn close(seen: &str, expected: &str) -> bool {
    let (seen_words, expected_words) = (seen.split_whitespace(), expected.split_whitespace());
    let words = seen_words.zip(expected_words).all(|(seen, expected)| {
        match (seen.parse::<u64>(), expected.parse::<u64>()) {
            (Ok(seen), Ok(expected)) => seen.abs_diff(expected) <= (expected / 10).max(1),
            _ => seen == expected,
        }
    });
    // The columns stand where they stand.
    words && seen.len() == expected.len()
}
