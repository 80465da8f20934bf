//! A command line as the change that it asks for, for those who have a director of their own.
//!
//! Words in, as ipvsadm takes them; an operation of `lvs-api`, or what ipvsadm would say and its
//! exit status, out. Nothing is done and nobody is asked.

use crate::grammar;
use crate::names::Names;
use crate::request::Request;
use lvs_api::Operation;
use std::error::Error;
use std::fmt;

/// A command line that is no change of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The exit status with which ipvsadm ends.
    pub status: u8,
    /// What it says.
    pub message: String,
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for NotUnderstood {}

/// The change that a command line asks for; `args` without the name of the program.
///
/// ```
/// use lvs_api::Operation;
/// let args = ["-d", "-t", "192.0.2.10:80", "-r", "10.0.0.2"].map(str::to_owned);
/// let operation = lvsadm::understand(&args, &lvsadm::System)?;
/// assert!(matches!(operation, Operation::DeleteDestination { .. }));
/// # Ok::<(), lvsadm::NotUnderstood>(())
/// ```
///
/// # Errors
/// What ipvsadm refuses; and listings and the like, which change nothing.
pub fn understand(args: &[String], names: &dyn Names) -> Result<Operation, NotUnderstood> {
    match grammar::parse("ipvsadm", args, names).map(|parsed| parsed.request) {
        Ok(Request::Change(operation)) => Ok(*operation),
        Ok(_) => Err(NotUnderstood {
            status: 2,
            message: "a command that changes no rule".to_owned(),
        }),
        Err(failure) => Err(NotUnderstood {
            status: failure.status,
            message: failure.message,
        }),
    }
}
