//! All tests: units, documents, properties, corpora, and end to end where the machine can.

use crate::context::Context;
use crate::process::cargo;
use crate::stage::{Answer, Desk, Stage, finish, why};
use crate::tools;

/// The gate.
pub(crate) const STAGE: Stage = Stage {
    name: "test",
    question: "Does it do what it says?",
    run,
};

const MINUTES: u64 = 18;

/// `cargo xtask test`.
pub(crate) fn command(arguments: &[String]) -> Result<bool, String> {
    let context = Context::here()?;
    let mut desk = Desk::new(&context, "test")?;
    let answer = test(&mut desk, arguments)?;
    let ok = !matches!(answer, Answer::No(_));
    finish(&desk.count, u64::from(!ok && desk.count.failed == 0));
    Ok(ok)
}

fn run(desk: &mut Desk<'_>) -> Result<Answer, String> {
    test(desk, &[])
}

fn test(desk: &mut Desk<'_>, arguments: &[String]) -> Result<Answer, String> {
    tools::install_missing(desk)?;
    let lacking = tools::no_end_to_end();
    let mut command = cargo(&desk.context.root);
    command
        .args(["test", "--workspace", "--exclude", "lvs-fuzz"])
        .arg("--no-fail-fast")
        .args(arguments)
        // What a passing test printed goes to the log, and may say that it did nothing.
        .args(["--", "--show-output"])
        .env("INSTA_UPDATE", "no");
    match &lacking {
        // A test that cannot have its network fails.
        None => {
            command.env("LVS_E2E", "require");
        }
        // Each test tries, and says so if it cannot.
        Some(reason) => desk.say(&format!(
            "the end-to-end tests run as far as they can and are not required: {reason}"
        ))?,
    }
    let report = desk.run(command, MINUTES)?;
    let counted = format!("{} tests", desk.count.passed);
    let left_out = desk.count.skipped.len();
    Ok(if !report.success {
        Answer::No(why(&report, MINUTES))
    } else if left_out == 0 {
        Answer::Yes(counted)
    } else {
        Answer::Yes(format!("{counted}, {left_out} LEFT OUT, see below"))
    })
}
