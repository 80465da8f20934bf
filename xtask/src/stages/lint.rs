//! The gates that one command answers.

use crate::process::cargo;
use crate::stage::{Answer, Desk, Stage};
use crate::tools;
use std::process::Command;

/// `cargo fmt`.
pub(crate) const FORMAT: Stage = Stage {
    name: "fmt",
    question: "Is it formatted?",
    run: |desk| {
        let words = ["fmt", "--all", "--check", "--", "--color", "never"];
        let command = command(desk, &words);
        Ok(match desk.expect(command, 2, "")? {
            Answer::No(_) => Answer::No("`cargo fmt --all` would change it".to_owned()),
            answer => answer,
        })
    },
};

/// `cargo clippy`, everything, warnings denied.
pub(crate) const CLIPPY: Stage = Stage {
    name: "clippy",
    question: "Does it keep to the lints?",
    run: |desk| {
        let words = ["clippy", "--workspace", "--all-targets", "--locked"];
        let mut command = command(desk, &words);
        command.args(["--", "-D", "warnings"]);
        desk.expect(command, 15, "")
    },
};

/// `cargo doc`, warnings denied.
pub(crate) const DOCUMENTS: Stage = Stage {
    name: "doc",
    question: "Can its documents be built?",
    run: |desk| {
        let words = ["doc", "--workspace", "--no-deps", "--exclude", "lvs-fuzz"];
        let mut command = command(desk, &words);
        command.env("RUSTDOCFLAGS", "-D warnings");
        desk.expect(command, 10, "")
    },
};

/// `cargo deny`, what needs nothing from outside.
pub(crate) const DENY: Stage = Stage {
    name: "deny",
    question: "Are all dependencies wanted, licensed and from crates.io?",
    run: |desk| {
        if !tools::cargo_tool(desk, "deny", "cargo-deny")? {
            return Ok(Answer::No("cargo-deny cannot be installed".to_owned()));
        }
        let words = ["deny", "--locked", "check", "bans", "licenses", "sources"];
        let command = command(desk, &words);
        desk.expect(command, 5, "")
    },
};

/// `cargo deny`, what needs the advisory database.
pub(crate) const ADVISORIES: Stage = Stage {
    name: "advisories",
    question: "Is no dependency known to be vulnerable?",
    run: |desk| {
        if !tools::cargo_tool(desk, "deny", "cargo-deny")? {
            return Ok(Answer::No("cargo-deny cannot be installed".to_owned()));
        }
        let fetch = command(desk, &["deny", "--locked", "fetch", "db"]);
        if !desk.run(fetch, 1)?.success {
            let why = "the advisory database cannot be fetched from here";
            return Ok(Answer::Skipped(why.to_owned()));
        }
        let words = ["deny", "--locked", "check", "advisories"];
        let check = command(desk, &words);
        desk.expect(check, 2, "")
    },
};

/// What is shipped, built as it is shipped.
pub(crate) const RELEASE: Stage = Stage {
    name: "release",
    question: "Does what is shipped build?",
    run: |desk| {
        let words = ["build", "--release", "--locked", "--bins"];
        let mut command = command(desk, &words);
        command.args(["-p", "lvsd", "-p", "lvsadm"]);
        let answer = desk.expect(command, 15, "")?;
        if matches!(answer, Answer::No(_)) {
            return Ok(answer);
        }
        let folder = desk.context.root.join("target/release");
        let size = |name: &str| {
            let bytes = std::fs::metadata(folder.join(name)).map_or(0, |file| file.len());
            format!("{name} {} KiB", bytes / 1024)
        };
        Ok(Answer::Yes(format!("{}, {}", size("lvsd"), size("lvsadm"))))
    },
};

fn command(desk: &Desk<'_>, words: &[&str]) -> Command {
    let mut command = cargo(&desk.context.root);
    command.args(words);
    command
}
