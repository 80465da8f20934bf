//! Programs that we did not write, and where they are.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{Error, Result};

/// Where `name` is: in `PATH`, or in the directories for administrators that users' paths leave out.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// A command for `name`.
///
/// # Errors
///
/// [`Error::Unexpected`] that says it is not installed.
pub fn command(name: &str) -> Result<Command> {
    find(name)
        .map(Command::new)
        .ok_or_else(|| Error::Unexpected {
            doing: format!("look for the program {name}"),
            got: "it is not installed".into(),
        })
}
