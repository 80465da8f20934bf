//! What can go wrong while a network is built: one type that says what was being done.

use std::io;

use crate::Missing;

/// The result of building something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network, or a part of it, could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine or our rights lack something; the text is one sentence for the user.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with names.
        doing: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a route netlink request.
    #[error("{doing}: {source}")]
    Netlink {
        /// What was being done, with names.
        doing: String,
        /// What the kernel said.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// An interface that should be there is not.
    #[error("no interface {name} in {namespace}")]
    NoInterface {
        /// Its name.
        name: String,
        /// The namespace that was asked.
        namespace: String,
    },
    /// A thread of ours ended by a panic.
    #[error("a thread in namespace {0} ended by a panic")]
    Panicked(String),
    /// A peer answered what it should not have.
    #[error("{doing}: {got}")]
    Unexpected {
        /// What was being done.
        doing: String,
        /// What came.
        got: String,
    },
    /// Something did not happen in time.
    #[error("{0} did not happen in time")]
    Timeout(String),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn errno(doing: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let doing = doing.into();
        move |errno| Self::Io {
            doing,
            source: errno.into(),
        }
    }

    pub(crate) fn netlink(doing: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Netlink {
            doing,
            source: Box::new(source),
        }
    }
}
