//! Running other programs: output to the terminal and a log at once, tests counted, time limited.
//!
//! In: a command. Out: whether it succeeded, and what its test harness counted. A program that
//! exceeds its limit is killed with everything it started; nothing here reads standard input.

use crate::count::{Count, says_skipped};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write, pipe};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Report {
    /// It ended by itself and with status 0.
    pub(crate) success: bool,
    /// It was killed at its limit.
    pub(crate) timed_out: bool,
    /// What its test harness counted.
    pub(crate) count: Count,
    /// The line that says most about it: its first error, or the last line of all.
    pub(crate) gist: String,
}

/// A `cargo` of the repository's own toolchain, free of what `cargo run` left in the environment.
pub(crate) fn cargo(root: &Path) -> Command {
    clean("cargo", root)
}

/// A `cargo` of another toolchain, as `cargo +nightly`.
pub(crate) fn cargo_of(toolchain: &str, root: &Path) -> Command {
    let mut command = clean("cargo", root);
    command.arg(format!("+{toolchain}"));
    command
}

fn clean(program: &str, root: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        let inherited = name_text.starts_with("CARGO_PKG_")
            || name_text.starts_with("CARGO_MANIFEST")
            || matches!(
                name_text.as_ref(),
                "CARGO" | "RUSTUP_TOOLCHAIN" | "RUST_RECURSION_COUNT" | "LD_LIBRARY_PATH"
            );
        if inherited {
            command.env_remove(name);
        }
    }
    command.env("PATH", path_with_tools(root));
    command
}

/// Where tools that xtask installs for itself stand: with the build results, not in anyone's home.
pub(crate) const TOOLS_FOLDER: &str = "target/tools";

/// The search path, with the tools of this repository at its end.
fn path_with_tools(root: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = root.join(TOOLS_FOLDER).join("bin");
    let folders = std::env::split_paths(&path).chain([tools]);
    std::env::join_paths(folders).unwrap_or(path)
}

/// Runs `command` to its end, or kills its process group after `limit`.
pub(crate) fn run(
    mut command: Command,
    log: &mut File,
    limit: Option<Duration>,
) -> Result<Report, String> {
    let shown = show(&command);
    tell(log, &format!("$ {shown}"))?;
    // One pipe for both streams, so that their lines keep their order.
    let (reader, writer) = pipe().map_err(|e| format!("pipe: {e}"))?;
    let second = writer.try_clone().map_err(|e| format!("pipe: {e}"))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::from(writer))
        .stderr(Stdio::from(second));
    if limit.is_some() {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|e| format!("{shown}: {e}"))?;
    // Drops this process's ends of the pipe: reading ends when the last writer is gone.
    drop(command);

    let group = limit.map(|limit| (child.id(), limit));
    let (finished, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let Some((group, limit)) = group else {
            return false;
        };
        let timed_out =
            watch.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if timed_out {
            kill_group(group);
        }
        timed_out
    });

    let read = copy_lines(BufReader::new(reader), log);
    let status = wait(&mut child);
    drop(finished);
    let timed_out = watchdog.join().unwrap_or(false);
    let (count, gist) = read?;
    if timed_out {
        tell(log, "xtask: killed at its time limit")?;
    }
    Ok(Report {
        success: status? && !timed_out,
        timed_out,
        count,
        gist,
    })
}

fn wait(child: &mut Child) -> Result<bool, String> {
    child
        .wait()
        .map(|status| status.success())
        .map_err(|e| format!("wait: {e}"))
}

fn kill_group(group: u32) {
    // The group ends with the child at latest; an error here means that it is gone already.
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{group}")])
        .stderr(Stdio::null())
        .status();
}

fn copy_lines(mut from: impl BufRead, log: &mut File) -> Result<(Count, String), String> {
    let mut count = Count::default();
    let mut last = String::new();
    let mut error = None;
    let mut successes = Successes::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = from
            .read_until(b'\n', &mut line)
            .map_err(|e| format!("reading output: {e}"))?;
        if n == 0 {
            return Ok((count, error.unwrap_or(last)));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        count.read(text);
        if error.is_none() && text.starts_with("error") {
            error = Some(text.to_owned());
        } else if !text.is_empty() {
            text.clone_into(&mut last);
        }
        if successes.hides(text) {
            writeln!(log, "{text}").map_err(|e| format!("log: {e}"))?;
        } else {
            tell(log, text)?;
        }
    }
}

/// The part of the test harness's output that `--show-output` adds: what passing tests printed.
/// It belongs in the log; on the terminal it would bury everything else.
#[derive(Debug, Default)]
struct Successes {
    inside: bool,
}

impl Successes {
    fn hides(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.inside = true,
            "failures:" => self.inside = false,
            _ if line.starts_with("test result:") => self.inside = false,
            _ => {}
        }
        self.inside && !says_skipped(line)
    }
}

/// One line to the terminal and the log.
pub(crate) fn tell(log: &mut File, line: &str) -> Result<(), String> {
    // A test of this program shows nothing: its lines would be counted as those of a harness.
    if !cfg!(test) {
        println!("{line}");
    }
    writeln!(log, "{line}").map_err(|e| format!("log: {e}"))
}

/// The output of a short command, or `None` if it cannot be run or fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter(|(name, _)| *name != "PATH")
        .filter_map(|(name, value)| {
            let value = value?.to_string_lossy().into_owned();
            Some(format!("{}={}", name.to_string_lossy(), quote(&value)))
        })
        .collect();
    words.push(quote(&command.get_program().to_string_lossy()));
    words.extend(command.get_args().map(|a| quote(&a.to_string_lossy())));
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Time since `start`, as a table shows it.
pub(crate) fn since(start: Instant) -> String {
    let tenths = start.elapsed().as_millis() / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{Successes, quote, run};
    use std::process::Command;
    use std::time::Duration;

    fn log() -> std::fs::File {
        std::fs::File::create("/dev/null").unwrap()
    }

    #[test]
    fn both_streams_are_read_in_order_and_counted() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo one; echo two >&2; echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; exit 1",
        ]);
        let report = run(command, &mut log(), None).unwrap();
        assert!(!report.success && !report.timed_out);
        assert_eq!(report.count.passed, 3);
        assert!(report.gist.starts_with("test result"));
    }

    #[test]
    fn the_gist_is_the_first_error() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo warning: x; echo 'error[E1]: y'; echo; echo error: aborting",
        ]);
        let report = run(command, &mut log(), None).unwrap();
        assert!(report.success);
        assert_eq!(report.gist, "error[E1]: y");
    }

    #[test]
    fn a_program_beyond_its_limit_is_killed_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & sleep 600"]);
        let report = run(command, &mut log(), Some(Duration::from_millis(50))).unwrap();
        assert!(report.timed_out && !report.success);
    }

    #[test]
    fn what_passing_tests_printed_is_hidden_but_for_what_was_skipped() {
        let mut successes = Successes::default();
        let shown: Vec<&str> = [
            "test a ... ok",
            "successes:",
            "---- a stdout ----",
            "noise",
            "SKIPPED: no namespaces",
            "successes:",
            "    a",
            "failures:",
            "test result: FAILED",
        ]
        .into_iter()
        .filter(|line| !successes.hides(line))
        .collect();
        assert_eq!(
            shown,
            [
                "test a ... ok",
                "SKIPPED: no namespaces",
                "failures:",
                "test result: FAILED"
            ]
        );
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote("--cfg=lvs_loom"), "--cfg=lvs_loom");
        assert_eq!(quote("--cfg lvs_loom"), "'--cfg lvs_loom'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
