//! The first command of the README, as a newcomer runs it.

use crate::process::cargo;
use crate::stage::{Answer, Desk, Stage};
use crate::tools;

/// The gate.
pub(crate) const STAGE: Stage = Stage {
    name: "demo",
    question: "Does the README's first command work?",
    run: |desk: &mut Desk<'_>| {
        if let Some(reason) = tools::no_end_to_end() {
            return Ok(Answer::Skipped(reason));
        }
        let mut command = cargo(&desk.context.root);
        command.args(["run", "--release", "--bin", "lvsd", "--", "demo"]);
        desk.expect(command, 15, "")
    },
};
