//! Writes what is made of the definitions: manual pages, completions of shells, tables in documents.
//!
//! The root of the repository in; `docs/man`, `docs/completions` and the tables of keys in
//! `docs/OPERATIONS.md` out. With `--check` it writes nothing, and says what is not as it should be.
//! `cargo xtask man` runs it.

mod completions;
mod page;
mod tables;

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(
        arguments
            .next()
            .ok_or("expected the root of the repository")?,
    );
    let check = arguments.next().as_deref() == Some("--check");
    let mut files = Vec::new();
    for manual in [
        lvsadm::manual::lvsadm(),
        lvsd::manual::lvsd(),
        lvsd::manual::lvsd_toml(),
    ] {
        let name = format!("docs/man/{}.{}", manual.name, manual.section);
        files.push((name, page::render(&manual)));
    }
    files.extend(completions::all());
    let document = "docs/OPERATIONS.md";
    let text = fs::read_to_string(root.join(document))?;
    files.push((document.to_owned(), tables::filled(&text)?));
    let mut stale = 0;
    for (name, text) in files {
        let path = root.join(&name);
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            continue;
        }
        stale += 1;
        if check {
            writeln!(
                std::io::stdout(),
                "{name} is stale: `cargo xtask man` writes it"
            )?;
        } else {
            write(&path, &text)?;
            writeln!(std::io::stdout(), "wrote {name}")?;
        }
    }
    Ok(if check && stale > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}
