//! Are the documents true? Links lead somewhere, tables match the code, commands exist.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use lvs_core::DropReason;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Every Markdown file of the root, `docs/` and the crates' own folders.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()) {
        let hidden = folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with('.');
        if folder.is_dir() && !hidden && !folder.ends_with("target") {
            let entries = fs::read_dir(folder).unwrap();
            found.extend(entries.map(|e| e.unwrap().path()));
        } else {
            found.push(folder);
        }
    }
    found.retain(|path| path.extension().is_some_and(|e| e == "md"));
    assert!(found.len() >= 6, "{found:?}");
    found
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        for part in line.split("](").skip(1) {
            let link = part.split(')').next().unwrap();
            if !link.contains("://") {
                links.push(link.to_owned());
            }
        }
    }
    links
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !there {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn the_table_of_drop_reasons_is_the_code_s() {
    let text = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let rows: Vec<[&str; 2]> = text
        .lines()
        .skip_while(|line| !line.starts_with("| reason |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            [cells.next().unwrap(), cells.next().unwrap()]
        })
        .collect();
    let expected: Vec<[String; 2]> = DropReason::ALL
        .iter()
        .map(|reason| {
            [
                format!("`{}`", reason.name()),
                reason.description().to_owned(),
            ]
        })
        .collect();
    let lines: Vec<String> = expected
        .iter()
        .map(|[name, meaning]| format!("| {name} | {meaning} |"))
        .collect();
    assert!(
        rows == expected,
        "the table should begin its rows with:\n{}",
        lines.join("\n")
    );
}

#[test]
fn commands_that_documents_name_exist() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["ci", "--list"])
        .output()
        .unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let stages: BTreeSet<&str> = list
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let workflow = root().join(".github/workflows/ci.yml");
    for document in documents().into_iter().chain([workflow]) {
        let text = fs::read_to_string(&document).unwrap();
        for command in text.split("cargo xtask ").skip(1) {
            let end = command.find(['`', '#', '\n', '|', '$']);
            let end = end.unwrap_or(command.len());
            let mut words = command[..end].split_whitespace();
            let shown = document.display();
            match words.next() {
                Some("ci") => {
                    for word in words.filter(|word| !word.starts_with(['-', '<'])) {
                        assert!(stages.contains(word), "{shown}: no stage {word}");
                    }
                }
                Some(word) => assert!(
                    ["test", "bench", "fuzz", "golden-cli", "man"].contains(&word),
                    "{shown}: no command {word}"
                ),
                None => {}
            }
        }
    }
}
