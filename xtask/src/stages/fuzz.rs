//! Fuzzing: a bounded run of every target as a gate, and a longer run of one target for people.
//!
//! The committed corpora in `fuzz/corpus/` are read first, so that a run also replays them; what a
//! gate finds new stays under `target/`, what a person's run finds is added to the corpus.

use crate::context::Context;
use crate::process::{cargo, cargo_of};
use crate::stage::{Answer, Desk, Stage, why};
use crate::tools;
use crate::workspace;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Every target for a bounded time.
pub(crate) const STAGE: Stage = Stage {
    name: "fuzz",
    question: "Can bytes break it?",
    run,
};

/// Every committed input, once, on the toolchain of the product.
pub(crate) const CORPUS: Stage = Stage {
    name: "corpus",
    question: "Does it still stand what fuzzing has found?",
    run: |desk| {
        let mut command = cargo(&desk.context.root);
        command.args(["test", "-p", PACKAGE, "--test", "corpus"]);
        desk.expect(command, 8, "")
    },
};

const PACKAGE: &str = "lvs-fuzz";
/// Seconds for each target in the gate.
const SECONDS: u32 = 15;

/// How targets are built: with the address sanitizer where a nightly is, without it where not.
struct Build {
    folder: PathBuf,
    note: &'static str,
}

fn targets(context: &Context) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = workspace::packages(context)?
        .into_iter()
        .filter(|package| package.name == PACKAGE)
        .flat_map(|package| package.targets)
        .filter(|target| target.kind == "bin")
        .map(|target| target.name)
        .collect();
    names.sort();
    Ok(names)
}

fn build(desk: &mut Desk<'_>) -> Result<Result<Build, Answer>, String> {
    let root = desk.context.root.clone();
    if !tools::cargo_tool(desk, "fuzz", "cargo-fuzz")? {
        return Ok(Err(Answer::No("cargo-fuzz cannot be installed".to_owned())));
    }
    let host = tools::host(&root)?;
    let target_dir = desk.context.folder("fuzz")?;
    let (mut command, note) = if tools::has_nightly(&root) {
        let mut command = cargo_of("nightly", &root);
        command.args(["fuzz", "build"]);
        (command, "with the address sanitizer")
    } else {
        desk.say("no nightly toolchain here: fuzzing WITHOUT the address sanitizer")?;
        let mut command = cargo(&root);
        command.args(["fuzz", "build", "--sanitizer", "none"]);
        (command, "WITHOUT the address sanitizer: no nightly here")
    };
    command
        .args(["--fuzz-dir", "fuzz", "--target-dir"])
        .arg(&target_dir)
        // Optimised for building quickly; the release profile of the product is not the question.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    let report = desk.run(command, 10)?;
    if !report.success {
        return Ok(Err(Answer::No(why(&report, 10))));
    }
    let folder = target_dir.join(host).join("release");
    Ok(Ok(Build { folder, note }))
}

fn run(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let targets = targets(desk.context)?;
    if targets.is_empty() {
        return Ok(Answer::Skipped("there is no fuzz target".to_owned()));
    }
    let build = match build(desk)? {
        Ok(build) => build,
        Err(answer) => return Ok(answer),
    };
    let mut waiting: VecDeque<&String> = targets.iter().collect();
    let mut running: VecDeque<(&String, Child)> = VecDeque::new();
    let slots = thread::available_parallelism().map_or(1, usize::from);
    let mut broken = Vec::new();
    loop {
        while running.len() < slots {
            let Some(name) = waiting.pop_front() else {
                break;
            };
            running.push_back((name, start(desk, &build, name)?));
        }
        let Some((name, mut child)) = running.pop_front() else {
            break;
        };
        let ended = child.wait().map_err(|e| format!("{name}: {e}"))?;
        report(desk, name, ended.success())?;
        if !ended.success() {
            broken.push(name.clone());
        }
    }
    Ok(if broken.is_empty() {
        let n = targets.len();
        Answer::Yes(format!("{n} x {SECONDS} s {}", build.note))
    } else {
        Answer::No(format!("broken: {}", broken.join(", ")))
    })
}

fn log_path(desk: &Desk<'_>, name: &str) -> Result<PathBuf, String> {
    let folder = desk.context.folder("xtask/log")?;
    Ok(folder.join(format!("fuzz-{name}.log")))
}

fn start(desk: &Desk<'_>, build: &Build, name: &str) -> Result<Child, String> {
    let log = File::create(log_path(desk, name)?).map_err(|e| format!("{name}: {e}"))?;
    let second = log.try_clone().map_err(|e| format!("{name}: {e}"))?;
    let artifacts = desk
        .context
        .folder(&format!("xtask/fuzz/artifacts/{name}"))?;
    // The first folder takes what is new, the others are only read.
    let mut command = Command::new(build.folder.join(name));
    command
        .arg(desk.context.folder(&format!("xtask/fuzz/corpus/{name}"))?)
        .arg(corpus(desk.context, name)?)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={SECONDS}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(second));
    command.spawn().map_err(|e| format!("{name}: {e}"))
}

fn corpus(context: &Context, name: &str) -> Result<PathBuf, String> {
    let folder = context.root.join("fuzz/corpus").join(name);
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// One line about a target that held, the end of the log of one that did not.
fn report(desk: &mut Desk<'_>, name: &str, held: bool) -> Result<(), String> {
    let text = fs::read(log_path(desk, name)?).map_err(|e| format!("{name}: {e}"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if held {
        let done = text.lines().find(|line| line.starts_with("Done "));
        return desk.say(&format!("{name}: {}", done.unwrap_or("done")));
    }
    desk.say(&format!("{name}: BROKEN"))?;
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(60)) {
        desk.say(line)?;
    }
    Ok(())
}

/// `cargo xtask fuzz`.
pub(crate) fn command(arguments: &[String]) -> Result<bool, String> {
    let context = Context::here()?;
    let targets = targets(&context)?;
    let name = match arguments.first() {
        Some(name) if targets.contains(name) => name,
        _ => return Err(format!("name a target: {}", targets.join(", "))),
    };
    let seconds: u32 = match arguments.get(1) {
        Some(text) => text.parse().map_err(|_| format!("no number: {text}"))?,
        None => 60,
    };
    let mut desk = Desk::new(&context, &format!("fuzz-{name}"))?;
    let build = match build(&mut desk)? {
        Ok(build) => build,
        Err(_) => return Ok(false),
    };
    let artifacts = context.root.join("fuzz/artifacts").join(name);
    fs::create_dir_all(&artifacts).map_err(|e| format!("{}: {e}", artifacts.display()))?;
    let mut command = Command::new(build.folder.join(name));
    command
        .arg(corpus(&context, name)?)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"));
    Ok(desk.run(command, u64::from(seconds) / 60 + 5)?.success)
}
