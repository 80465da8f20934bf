//! Model checking: loom runs every interleaving of the small models in `tests/loom.rs`, or, where they
//! look inside of a crate, in `src/models.rs`. shuttle runs random ones of whole tables
//! (`src/schedules.rs`).
//!
//! The project's own cfgs `lvs_loom` and `lvs_shuttle` switch them on, so that no dependency reacts.

use crate::process::cargo;
use crate::stage::{Answer, Desk, Stage, why};
use crate::workspace;

/// The gate.
pub(crate) const STAGE: Stage = Stage {
    name: "loom",
    question: "Are the orderings right in every interleaving of the models?",
    run,
};

/// The gate of what is too large for it.
pub(crate) const SHUTTLE: Stage = Stage {
    name: "shuttle",
    question: "Does the whole keep its promises under random schedules?",
    run: shuttle,
};

const MINUTES: u64 = 8;

fn run(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let mut packages: Vec<String> = Vec::new();
    for package in workspace::packages(desk.context)? {
        let models: &[&str] = if package.folder.join("tests/loom.rs").exists() {
            &["--test", "loom"]
        } else if package.folder.join("src/models.rs").exists() {
            &["--lib", "models"]
        } else {
            continue;
        };
        let package = package.name;
        let mut command = cargo(&desk.context.root);
        command
            .args(["test", "-p", &package])
            .args(models)
            .env("RUSTFLAGS", "--cfg lvs_loom")
            // What a model spends its time in is optimised; what is only compiled is not.
            .args(optimised("loom"))
            .args(optimised("generator"))
            .args(optimised(&package))
            .env("CARGO_PROFILE_TEST_OPT_LEVEL", "2")
            .env("LOOM_MAX_PREEMPTIONS", "2")
            .env("CARGO_TARGET_DIR", desk.context.folder("loom")?);
        let report = desk.run(command, MINUTES)?;
        if !report.success {
            return Ok(Answer::No(format!("{package}: {}", why(&report, MINUTES))));
        }
        packages.push(package);
    }
    if packages.is_empty() {
        return Ok(Answer::Skipped("no crate has models".to_owned()));
    }
    let models = desk.count.passed;
    if models == 0 {
        return Ok(Answer::No("no model ran".to_owned()));
    }
    Ok(Answer::Yes(format!(
        "{models} models: {}",
        packages.join(", ")
    )))
}

fn shuttle(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let packages = workspace::packages(desk.context)?.into_iter();
    let mut names = Vec::new();
    for package in packages.filter(|found| found.folder.join("src/schedules.rs").exists()) {
        let package = package.name;
        let mut command = cargo(&desk.context.root);
        command
            .args(["test", "-p", &package, "--lib", "schedules"])
            .env("RUSTFLAGS", "--cfg lvs_loom --cfg lvs_shuttle")
            .env("CARGO_PROFILE_TEST_OPT_LEVEL", "2")
            .env("CARGO_TARGET_DIR", desk.context.folder("shuttle")?);
        let report = desk.run(command, MINUTES)?;
        if !report.success {
            return Ok(Answer::No(format!("{package}: {}", why(&report, MINUTES))));
        }
        names.push(package);
    }
    if desk.count.passed == 0 {
        return Ok(Answer::No("nothing ran".to_owned()));
    }
    Ok(Answer::Yes(names.join(", ")))
}

/// Has one package compiled with optimisation.
fn optimised(package: &str) -> [String; 2] {
    let setting = format!("profile.test.package.{package}.opt-level=2");
    ["--config".to_owned(), setting]
}
