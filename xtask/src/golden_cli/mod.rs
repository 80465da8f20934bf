//! `cargo xtask golden-cli`: what ipvsadm was recorded to do, done again with `lvsadm`.
//!
//! Recordings in; `ok` or the first difference for each command, and the line `N passed, M failed`,
//! out. Each session has a private `lvsd run --io none`; `lvsadm` is called by the name `ipvsadm`.
//! Nothing outside a temporary folder is touched. What needs packets is left out aloud.

mod compare;
mod daemon;
mod recording;

use crate::context::Context;
use crate::process::{ask, cargo};
use crate::stage::Desk;
use daemon::{Daemon, Programs};
use recording::{Record, Session};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Runs all recordings; whether everything came out the same.
pub(crate) fn command(files: &[String]) -> Result<bool, String> {
    if files.is_empty() {
        return Err("name at least one recording, such as lvsadm/tests/golden/cli.jsonl".into());
    }
    let mut sessions = Vec::new();
    for file in files {
        sessions.extend(recording::read(Path::new(file))?);
    }
    let context = Context::here()?;
    let programs = build(&context)?;
    let (mut passed, mut failed) = (0, 0);
    for session in &sessions {
        let (good, bad) = replay(&programs, session)?;
        passed += good;
        failed += bad;
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Replays one session on a daemon of its own; how many commands came out the same, and how many did
/// not.
fn replay(programs: &Programs, session: &Session) -> Result<(u64, u64), String> {
    let daemon = Daemon::start(programs)?;
    let (mut passed, mut failed) = (0, 0);
    for record in &session.records {
        let seen = daemon.run(record)?;
        let name = format!("{}: ipvsadm {}", session.name, line(record));
        match compare::difference(record, &seen) {
            None => {
                passed += 1;
                println!("ok {name}");
            }
            Some(difference) => {
                failed += 1;
                println!("FAILED {name}: {difference}");
            }
        }
    }
    if session.left_out > 0 {
        println!(
            "left out {}: {} commands after a remark about packets, which lvsadm/tests/live.rs sends",
            session.name, session.left_out
        );
    }
    Ok((passed, failed))
}

/// A command as one would type it.
fn line(record: &Record) -> String {
    let plain = |word: &String| {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.,:=/[]@%+".contains(c);
        if !word.is_empty() && word.chars().all(fine) {
            word.clone()
        } else {
            format!("{word:?}")
        }
    };
    let words: Vec<String> = record.argv.iter().map(plain).collect();
    words.join(" ")
}

/// Builds both programs and tells where they are.
fn build(context: &Context) -> Result<Programs, String> {
    let mut desk = Desk::new(context, "golden-cli")?;
    let programs = ["-p", "lvsd", "-p", "lvsadm", "--bins"];
    let mut command = cargo(&context.root);
    command
        .args(["build", "--quiet", "--locked"])
        .args(programs);
    if !desk.run(command, 20)?.success {
        return Err("lvsd and lvsadm cannot be built".to_owned());
    }
    let mut command = cargo(&context.root);
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let text = ask(&mut command).ok_or("`cargo metadata` failed")?;
    let json: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let folder = json.get("target_directory").and_then(Value::as_str);
    let folder = PathBuf::from(folder.ok_or("cargo names no target directory")?).join("debug");
    Ok(Programs {
        lvsd: folder.join("lvsd"),
        lvsadm: folder.join("lvsadm"),
    })
}
