//! Every recorded session of ipvsadm 1.31 on a 6.1 kernel, replayed: exit status, both streams.
//!
//! `golden/cli.jsonl` has one command a line: `session`, `argv`, `stdin`, `rc`, `stdout`,
//! `stderr`. A session starts with an empty table; its commands follow each other.

mod common;

use common::{Daemon, Seen};
use lvsd::control::Memory;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sessions that need packets; a director without a NIC cannot have them.
const NEEDS_PACKETS: [&str; 1] = ["live"];

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
    let mut sessions: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for line in include_str!("golden/cli.jsonl").lines() {
        let record: Record = serde_json::from_str(line).unwrap();
        sessions
            .entry(record.session.clone())
            .or_default()
            .push(record);
    }
    let (mut passed, mut left_out, mut failures) = (0, 0, Vec::new());
    for (name, records) in sessions {
        if NEEDS_PACKETS.contains(&name.as_str()) {
            left_out += records.len();
            continue;
        }
        let director = Memory::new().with_interfaces(&["lo", "d0", "d1"]);
        let daemon = Daemon::start(Arc::new(director));
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
    println!(
        "{passed} passed, {} failed, {left_out} left out",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 250, "{passed}");
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
