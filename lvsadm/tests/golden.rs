//! Every recorded session of ipvsadm 1.31 on a 6.1 kernel, replayed: exit status, both streams.
//!
//! `golden/cli.jsonl` has one command a line: `session`, `argv`, `stdin`, `rc`, `stdout`,
//! `stderr`. A session starts with an empty table; its commands follow each other. `golden/hunt.jsonl`
//! has some thousands more that were looked for where ipvsadm's own reading of words, numbers,
//! addresses and lines is peculiar, `golden/corners.jsonl` those of order, abbreviation, repetition, names, ranges,
//! help, broadcast addresses and input of `-R`, `golden/random.jsonl` sessions of random command lines, right
//! and wrong ones. `cargo xtask golden-cli` does the same with the programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what was left out is to be seen")]

mod common;

use common::{Daemon, Seen};
use lvs_director::{Director, DirectorConfig};
use lvsd::control::{Backend, Memory, Rules};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sessions that a director without a NIC cannot have, and where they are.
const NEEDS_PACKETS: &[(&str, &str)] = &[("live", "tests/live.rs has its packets")];

const CLI: &str = include_str!("golden/cli.jsonl");
const HUNT: &str = include_str!("golden/hunt.jsonl");
const CORNERS: &str = include_str!("golden/corners.jsonl");
const RANDOM: &str = include_str!("golden/random.jsonl");

#[derive(Deserialize)]
struct Record {
    session: String,
    /// Missing in a remark about what the recorder did.
    argv: Option<Vec<String>>,
    #[serde(default)]
    stdin: String,
    #[serde(default)]
    rc: u8,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

#[test]
fn recorded_sessions_come_out_the_same() {
    let passed = replay(CLI, || {
        Arc::new(Memory::new().with_interfaces(&["lo", "d0", "d1"]))
    });
    assert!(passed > 250, "{passed}");
}

#[test]
fn the_director_of_packets_gives_the_same() {
    let director = || -> Arc<dyn Backend> {
        let config = DirectorConfig {
            connections: 1024,
            workers: 1,
        };
        // The networks of the recorder's director.
        let broadcasts = || vec!["10.9.0.255".parse().unwrap(), "10.2.0.255".parse().unwrap()];
        let rules = Rules::new(Director::new(&config).unwrap(), || {}).with_broadcasts(broadcasts);
        Arc::new(rules.practising(&["lo", "d0", "d1"]))
    };
    let all = [CLI, HUNT, CORNERS, RANDOM];
    let passed: usize = all
        .map(|recording| replay(recording, director))
        .iter()
        .sum();
    assert!(passed > 8000, "{passed}");
}

/// Replays all sessions but those left out, each with a director of its own; how many commands came
/// out the same. All have to.
fn replay(recording: &str, director: impl Fn() -> Arc<dyn Backend>) -> usize {
    let mut sessions: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for line in recording.lines() {
        let record: Record = serde_json::from_str(line).unwrap();
        let session = sessions.entry(record.session.clone());
        session.or_default().push(record);
    }
    let (mut passed, mut failures) = (0, Vec::new());
    for (name, records) in sessions {
        if let Some((_, why)) = NEEDS_PACKETS.iter().find(|(left_out, _)| *left_out == name) {
            println!("{name}: {} records left out: {why}", records.len());
            continue;
        }
        let daemon = Daemon::start(director());
        for record in records {
            let Some(argv) = &record.argv else { continue };
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            let seen = daemon.run(&argv, &record.stdin);
            let expected = Seen {
                status: record.rc,
                stdout: record.stdout,
                stderr: record.stderr,
            };
            if same(&argv, &seen, &expected) {
                passed += 1;
            } else {
                let line = argv.join(" ");
                failures.push(format!("{name}: {line}\n{expected:#?}\n{seen:#?}"));
            }
        }
    }
    println!("{passed} passed, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    passed
}

/// The order of services without sorting is that of the kernel's hash, whose key differs from boot
/// to boot: there the services may come in any order, each with its destinations in theirs.
fn same(argv: &[&str], seen: &Seen, expected: &Seen) -> bool {
    if !argv.contains(&"--nosort") {
        return seen == expected;
    }
    let blocks = |text: &str| {
        let mut blocks: Vec<String> = Vec::new();
        for line in text.lines() {
            match blocks.last_mut() {
                Some(block) if line.starts_with("  ->") => {
                    block.push('\n');
                    block.push_str(line);
                }
                _ => blocks.push(line.to_owned()),
            }
        }
        blocks.sort();
        blocks
    };
    seen.status == expected.status
        && seen.stderr == expected.stderr
        && blocks(&seen.stdout) == blocks(&expected.stdout)
}
