//! Benches: a smoke run as a gate, and the measured run for people.

use crate::context::Context;
use crate::process::cargo;
use crate::stage::{Answer, Desk, Stage, why};
use crate::workspace::{self, Target};
use std::fs;

/// Every bench, once, unoptimised: do they still run?
pub(crate) const SMOKE: Stage = Stage {
    name: "benches",
    question: "Do the benches still run?",
    run: smoke,
};

const PACKAGE: &str = "lvs-benches";
const MINUTES: u64 = 5;

fn targets(context: &Context) -> Result<Vec<Target>, String> {
    let mut targets: Vec<Target> = workspace::packages(context)?
        .into_iter()
        .filter(|package| package.name == PACKAGE)
        .flat_map(|package| package.targets)
        .filter(|target| target.kind == "bench")
        .collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

/// Criterion's benches take `--test`, our own harnesses `--smoke`.
fn smoke_word(bench: &Target) -> Result<&'static str, String> {
    let source = fs::read_to_string(&bench.source)
        .map_err(|e| format!("{}: {e}", bench.source.display()))?;
    let criterion = source.contains("criterion_main!");
    Ok(if criterion { "--test" } else { "--smoke" })
}

fn smoke(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let targets = targets(desk.context)?;
    if targets.is_empty() {
        return Ok(Answer::Skipped("there is no bench".to_owned()));
    }
    let mut failed = Vec::new();
    for bench in &targets {
        // `cargo test` and not `cargo bench`, and the workspace instead of the package: what the
        // tests have built is used again, with the same profile and the same features.
        let mut command = cargo(&desk.context.root);
        command
            .args(["test", "--workspace", "--exclude", "lvs-fuzz"])
            .args(["--bench", &bench.name])
            .args(["--", smoke_word(bench)?]);
        let report = desk.run(command, MINUTES)?;
        if !report.success {
            failed.push(format!("{}: {}", bench.name, why(&report, MINUTES)));
        }
    }
    Ok(if failed.is_empty() {
        Answer::Yes(format!("{} benches", targets.len()))
    } else {
        Answer::No(failed.join("; "))
    })
}

/// `cargo xtask bench`.
pub(crate) fn command(arguments: &[String]) -> Result<bool, String> {
    let context = Context::here()?;
    let all = targets(&context)?;
    for name in arguments {
        if !all.iter().any(|bench| bench.name == *name) {
            let names: Vec<&str> = all.iter().map(|bench| bench.name.as_str()).collect();
            return Err(format!("no bench `{name}` among: {}", names.join(", ")));
        }
    }
    let mut failed = Vec::new();
    for bench in &all {
        if !arguments.is_empty() && !arguments.contains(&bench.name) {
            continue;
        }
        println!("\n=== {}", bench.name);
        let mut log = context.log("bench", &bench.name)?;
        let mut command = cargo(&context.root);
        command.args(["bench", "-p", PACKAGE, "--bench", &bench.name]);
        let report = crate::process::run(command, &mut log, None)?;
        if !report.success {
            failed.push(bench.name.clone());
        }
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}
