//! What tests with networks share: they run, or they say aloud why not.
//!
//! With `LVS_E2E=require` in the environment nothing may be left out, and what would be fails.

use std::env;

use crate::{Error, check, program, with_networks};

/// Says that a part of a test is left out, and why.
///
/// # Panics
///
/// When the environment has `LVS_E2E=require`.
#[expect(
    clippy::panic,
    reason = "a test that may not be left out fails by panicking"
)]
pub fn left_out(what: &str, because: &dyn std::fmt::Display) {
    if env::var_os("LVS_E2E").is_some_and(|value| value == "require") {
        panic!("{what} may not be left out (LVS_E2E=require), but: {because}");
    }
    eprintln!("left out: {what}, because {because}");
}

/// Runs the body of a test that makes networks and needs `programs`; in a user namespace when that
/// is the way to the rights it needs.
///
/// # Panics
///
/// When the body failed in a user namespace, or something is missing and may not be.
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn networked(programs: &[&str], body: impl FnOnce()) {
    let here = std::thread::current();
    let test = here.name().unwrap_or("a test");
    if let Some(missing) = programs.iter().find(|name| program::find(name).is_none()) {
        return left_out(test, &format!("{missing} is not installed"));
    }
    let checked = || match check(true) {
        Ok(()) => body(),
        Err(error) => left_out(test, &error),
    };
    match with_networks(checked) {
        Ok(()) => {}
        Err(Error::Missing(missing)) => left_out(test, &missing),
        Err(error) => panic!("{error}"),
    }
}
