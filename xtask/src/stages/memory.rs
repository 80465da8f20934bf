//! Soundness, as far as tools can see it: the address sanitizer, and Miri and the thread sanitizer where
//! their toolchain is installed.

use crate::process::{ask, cargo_of};
use crate::stage::{Answer, Desk, Stage};
use crate::tools;
use crate::workspace;
use std::process::Command;

/// The crates whose `unsafe` runs without a network.
const PACKAGES: &[&str] = &["lvs-conn"];

/// Tests under the address sanitizer.
pub(crate) const ADDRESS: Stage = Stage {
    name: "asan",
    question: "Does the unsafe code keep to its memory?",
    run: address,
};

/// Tests under Miri.
pub(crate) const MIRI: Stage = Stage {
    name: "miri",
    question: "Is the unsafe code free of undefined behaviour?",
    run: miri,
};

/// Tests under the thread sanitizer.
pub(crate) const THREADS: Stage = Stage {
    name: "tsan",
    question: "Do threads share nothing but what they may?",
    run: threads,
};

fn address(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let root = desk.context.root.clone();
    if !tools::has_nightly(&root) {
        return Ok(Answer::Skipped("no nightly toolchain here".to_owned()));
    }
    let mut command = cargo_of("nightly", &root);
    // A target named aloud keeps the sanitizer out of build scripts and procedural macros.
    command
        .args(["test", "--lib", "--tests", "--target", &tools::host(&root)?])
        .env("RUSTFLAGS", "-Zsanitizer=address -Copt-level=1")
        .env("PROPTEST_CASES", "32")
        .env("LVS_STRESS", "60000")
        .env("CARGO_TARGET_DIR", desk.context.folder("asan")?);
    name_packages(&mut command, desk)?;
    // It counts the pages that a worker touches, and the sanitizer's own are among them.
    command.args(["--", "--skip", "a_worker_waits_for_no_page"]);
    desk.expect(command, 8, &PACKAGES.join(", "))
}

fn threads(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let root = desk.context.root.clone();
    if !tools::has_nightly(&root) {
        return Ok(Answer::Skipped("no nightly toolchain here".to_owned()));
    }
    // The standard library has to be built with it, too.
    if !tools::has_nightly_source(&root) {
        let why = "no source of the standard library (rustup +nightly component add rust-src)";
        return Ok(Answer::Skipped(why.to_owned()));
    }
    let mut command = cargo_of("nightly", &root);
    command
        .args(["test", "--test", "stress", "--test", "table"])
        .args(["-Zbuild-std", "--target", &tools::host(&root)?])
        .env("RUSTFLAGS", "-Zsanitizer=thread -Copt-level=1")
        .env("PROPTEST_CASES", "32")
        .env("LVS_STRESS", "20000")
        .env("CARGO_TARGET_DIR", desk.context.folder("tsan")?);
    name_packages(&mut command, desk)?;
    desk.expect(command, 10, &PACKAGES.join(", "))
}

fn miri(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let root = desk.context.root.clone();
    if ask(cargo_of("nightly", &root).args(["miri", "--version"])).is_none() {
        let why = "Miri is not installed (rustup +nightly component add miri rust-src)";
        return Ok(Answer::Skipped(why.to_owned()));
    }
    let mut command = cargo_of("nightly", &root);
    command
        .args(["miri", "test", "--lib"])
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("PROPTEST_CASES", "4")
        .env("CARGO_TARGET_DIR", desk.context.folder("miri")?);
    name_packages(&mut command, desk)?;
    desk.expect(command, 10, &PACKAGES.join(", "))
}

fn name_packages(command: &mut Command, desk: &Desk<'_>) -> Result<(), String> {
    let known = workspace::packages(desk.context)?;
    for package in PACKAGES {
        if !known.iter().any(|p| p.name == *package) {
            return Err(format!("no package {package} in this workspace"));
        }
        command.args(["-p", package]);
    }
    Ok(())
}
