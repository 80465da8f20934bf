//! Manual pages, completions and tables of keys: made of the parsers' own definitions.

use crate::context::Context;
use crate::process::{ask, cargo};
use crate::stage::{Answer, Desk, Stage};
use std::fs;
use std::process::Command;

/// The gate.
pub(crate) const STAGE: Stage = Stage {
    name: "man",
    question: "Do manuals and completions say what the parsers know?",
    run,
};

const FOLDER: &str = "docs/man";

/// `cargo xtask man`: writes them.
pub(crate) fn command(arguments: &[String]) -> Result<bool, String> {
    if !arguments.is_empty() {
        return Err("`cargo xtask man` takes no arguments".to_owned());
    }
    let context = Context::here()?;
    let mut desk = Desk::new(&context, "man")?;
    let writer = writer(&desk);
    Ok(desk.run(writer, 15)?.success)
}

fn writer(desk: &Desk<'_>) -> Command {
    let root = &desk.context.root;
    let mut command = cargo(root);
    command.args(["run", "--quiet", "-p", "lvsd", "--example", "manual", "--"]);
    command.arg(root);
    command
}

fn run(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let mut check = writer(desk);
    check.arg("--check");
    if !desk.run(check, 15)?.success {
        return Ok(Answer::No("`cargo xtask man` writes them anew".to_owned()));
    }
    let folder = desk.context.root.join(FOLDER);
    let entries = fs::read_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let pages: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    if ask(Command::new("which").arg("mandoc")).is_none() {
        return Ok(Answer::Yes(format!(
            "{} pages, not seen by mandoc",
            pages.len()
        )));
    }
    let mut lint = Command::new("mandoc");
    lint.args(["-Tlint", "-Wstyle"]).args(&pages);
    desk.expect(lint, 1, &format!("{} pages", pages.len()))
}
