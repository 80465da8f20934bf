//! The configurations that documents show: `lvsd check` reads each of them.

use crate::process::cargo;
use crate::stage::{Answer, Desk, Stage};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The gate.
pub(crate) const STAGE: Stage = Stage {
    name: "examples",
    question: "Is every configuration in the documents right?",
    run,
};

/// Documents with blocks of TOML that stand for a whole file.
const DOCUMENTS: &[&str] = &["README.md", "docs/OPERATIONS.md"];
/// Whole files.
const FILES: &[&str] = &["lvsd/lvsd.toml.example"];

fn run(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let root = desk.context.root.clone();
    // As the tests build it, so that it is there already.
    let mut build = cargo(&root);
    build.args([
        "build",
        "--workspace",
        "--exclude",
        "lvs-fuzz",
        "--bin",
        "lvsd",
    ]);
    if !desk.run(build, 10)?.success {
        return Ok(Answer::No("lvsd does not build".to_owned()));
    }
    let files = collect(desk)?;
    let mut wrong = Vec::new();
    for file in &files {
        let mut check = Command::new(root.join("target/debug/lvsd"));
        check.arg("check").arg(file);
        if !desk.run(check, 1)?.success {
            wrong.push(file.display().to_string());
        }
    }
    Ok(if wrong.is_empty() {
        Answer::Yes(format!("{} files", files.len()))
    } else {
        Answer::No(format!("wrong: {}", wrong.join(", ")))
    })
}

fn collect(desk: &Desk<'_>) -> Result<Vec<PathBuf>, String> {
    let root = &desk.context.root;
    let folder = desk.context.folder("xtask/examples")?;
    let files = FILES.iter().map(|file| root.join(file));
    let mut all: Vec<PathBuf> = files.filter(|file| file.exists()).collect();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).map_err(|e| e.to_string())?;
        for (number, block) in blocks(&text).into_iter().enumerate() {
            let name = document.replace(['/', '.'], "-");
            let path = folder.join(format!("{name}-{number}.toml"));
            fs::write(&path, block).map_err(|e| format!("{}: {e}", path.display()))?;
            all.push(path);
        }
    }
    Ok(all)
}

/// The contents of the blocks marked `toml`.
fn blocks(text: &str) -> Vec<&str> {
    text.split("\n```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn only_toml_is_taken() {
        let text = "a\n```sh\nls\n```\n\n```toml\nx = 1\ny = 2\n```\n\n```toml\nz = 3\n```\n";
        assert_eq!(blocks(text), ["x = 1\ny = 2", "z = 3"]);
    }
}
