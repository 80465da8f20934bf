//! Refusals, in the kernel's terms.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why an operation was refused: the errno that the kernel gives for it (IPVS 0.1).
///
/// In JSON it is its name in C: `"EEXIST"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Errno {
    /// The service or destination exists, the daemon runs.
    #[serde(rename = "EEXIST")]
    Exists,
    /// No such destination, scheduler or persistence engine.
    #[serde(rename = "ENOENT")]
    NotFound,
    /// No such service; no such daemon runs.
    #[serde(rename = "ESRCH")]
    NoService,
    /// An argument that cannot be: a destination that is not unicast, a mixed family, ...
    #[serde(rename = "EINVAL")]
    Invalid,
    /// A number out of its range: a weight, or a lower threshold above the upper one.
    #[serde(rename = "ERANGE")]
    Range,
    /// The caller may not.
    #[serde(rename = "EPERM")]
    Permission,
    /// No room left.
    #[serde(rename = "ENOMEM")]
    Memory,
    /// No such network interface.
    #[serde(rename = "ENODEV")]
    NoDevice,
    /// Something that this daemon cannot do.
    #[serde(rename = "ENOPROTOOPT")]
    NotAvailable,
    /// Something that does not exist for this address family.
    #[serde(rename = "EAFNOSUPPORT")]
    Family,
    /// An address that cannot be FULLNAT's, or one of FULLNAT that cannot be another's. The kernel has no
    /// FULLNAT.
    #[serde(rename = "EADDRNOTAVAIL")]
    Address,
    /// A failure of the daemon itself.
    #[serde(rename = "EIO")]
    Failed,
}

/// An operation that was refused; nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind, for programs.
    pub errno: Errno,
    /// One sentence, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal of its two parts.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self {
            errno,
            message: message.into(),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exists => "EEXIST",
            Self::NotFound => "ENOENT",
            Self::NoService => "ESRCH",
            Self::Invalid => "EINVAL",
            Self::Range => "ERANGE",
            Self::Permission => "EPERM",
            Self::Memory => "ENOMEM",
            Self::NoDevice => "ENODEV",
            Self::NotAvailable => "ENOPROTOOPT",
            Self::Family => "EAFNOSUPPORT",
            Self::Address => "EADDRNOTAVAIL",
            Self::Failed => "EIO",
        })
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody {
    /// What was refused and why.
    pub error: Refusal,
    /// The position of the operation in its transaction, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<usize>,
}
