//! The `no_std` promise: the crates that make it are built for a target that has no `std`.

use crate::process::{ask, cargo};
use crate::stage::{Answer, Desk, Stage};
use std::process::Command;

/// The gate.
pub(crate) const STAGE: Stage = Stage {
    name: "no_std",
    question: "Do the no_std crates need no std?",
    run,
};

/// Who promises it.
const PACKAGES: &[&str] = &["lvs-core", "lvs-packet", "lvs-sched"];
const TARGET: &str = "x86_64-unknown-none";

fn run(desk: &mut Desk<'_>) -> Result<Answer, String> {
    if !installed(desk) {
        let mut add = Command::new("rustup");
        add.args(["target", "add", TARGET])
            .current_dir(&desk.context.root);
        // Whether it worked is asked below: rustup may also be absent.
        let _ = desk.run(add, 2);
        if !installed(desk) {
            return Ok(Answer::Skipped(format!("no target {TARGET} here")));
        }
    }
    let mut command = cargo(&desk.context.root);
    command.args(["check", "--target", TARGET]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    desk.expect(command, 5, &PACKAGES.join(", "))
}

fn installed(desk: &Desk<'_>) -> bool {
    let mut list = Command::new("rustup");
    list.args(["target", "list", "--installed"])
        .current_dir(&desk.context.root);
    ask(&mut list).is_some_and(|list| list.lines().any(|line| line == TARGET))
}
