//! `cargo xtask`: the habits of this repository, in one place for people and machines.
//!
//! In: a command line. Out: what the tools print, a log of every stage under `target/xtask/`, a
//! table of what was asked and what was answered, and the plain line `N passed, M failed`.
//! It must never call something passed that did not run: what a machine cannot do is skipped
//! aloud, with the reason.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a command-line tool: its output is what it is for"
)]

mod context;
mod count;
mod golden_cli;
mod process;
mod stage;
mod stages;
mod tools;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
The habits of this repository.

    cargo xtask test [<arguments for cargo test>...]
        Every test: units, documents, properties, and the end-to-end tests when this machine can.
    cargo xtask ci [<stage>...] [--except <stage>]...
        All gates, or those named, and a table of answers. `--list` names them.
    cargo xtask bench [<bench>...]
        The benches, measured; output is kept under target/xtask/bench/.
    cargo xtask fuzz <target> [<seconds>]
        One fuzz target, with new inputs kept in fuzz/corpus/<target>; 60 seconds unless told.
    cargo xtask man
        Manual pages and completions of shells, anew from the definitions of the parsers.
    cargo xtask golden-cli <recording>...
        What ipvsadm was recorded to do, done again with lvsadm and a private lvsd a session.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "test" => stages::test::command(&rest),
        "ci" => stage::command(&rest),
        "bench" => stages::benches::command(&rest),
        "fuzz" => stages::fuzz::command(&rest),
        "man" => stages::man::command(&rest),
        "golden-cli" => golden_cli::command(&rest),
        "" | "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => Err(format!("no command `{other}`\n\n{USAGE}")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}
