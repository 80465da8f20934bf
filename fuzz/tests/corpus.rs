//! Replays every corpus through its target, on any toolchain.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::fs;
use std::path::Path;

fn names_in(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_program_and_every_corpus_has_a_target() {
    let mut targets: Vec<&str> = lvs_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(names_in("fuzz_targets"), targets);
    for corpus in names_in("corpus") {
        assert!(
            targets.contains(&corpus.as_str()),
            "corpus/{corpus} is an orphan"
        );
    }
}

#[test]
fn every_corpus_passes() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in lvs_fuzz::TARGETS {
        // No input at all, and one that no corpus needs to hold.
        target(&[]);
        target(&[0xff; 64]);
        let Ok(entries) = fs::read_dir(corpora.join(name)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            // The harness shows what a failed test printed: the input is the last one named.
            println!("{}", path.display());
            target(&bytes);
        }
    }
}
