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
    let left_out = tools::no_end_to_end();
    if let Some(reason) = &left_out {
        desk.say(&format!("LEFT OUT: the end-to-end tests; {reason}"))?;
    }
    let mut command = cargo(&desk.context.root);
    command
        .args(["test", "--workspace", "--exclude", "lvs-fuzz"])
        .arg("--no-fail-fast")
        .args(arguments)
        // What a passing test printed goes to the log, and may say that it did nothing.
        .args(["--", "--show-output"])
        .env("INSTA_UPDATE", "no")
        // `require`: a test that cannot have its network fails. `off`: it says so and returns.
        .env(
            "LVS_E2E",
            if left_out.is_some() { "off" } else { "require" },
        );
    let report = desk.run(command, MINUTES)?;
    let counted = format!("{} tests", desk.count.passed);
    Ok(match (report.success, left_out) {
        (false, _) => Answer::No(why(&report, MINUTES)),
        (true, None) => Answer::Yes(counted),
        (true, Some(reason)) => {
            // Said again where it is read: after thousands of lines.
            let note = format!("{counted}; LEFT OUT: the end-to-end tests; {reason}");
            desk.say(&note)?;
            Answer::Yes(note)
        }
    })
}
