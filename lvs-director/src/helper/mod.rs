//! Helpers: what a protocol says in one connection about another one (IPVS 2.7).
//!
//! In: the payload of a packet that passes, of a connection to a service port that has a [`Helper`].
//! Out: a connection that the director expects from then on, and other text in the place of the
//! servers' addresses; the numbers of the stream follow. [`Ftp`] is the one that is there; another
//! protocol is another implementation, given to [`Director::set_helpers`](crate::Director).
//! Nothing here allocates, and a helper may not.
//!
//! ```
//! use lvs_director::{Expected, Helper, Opener, Text};
//!
//! /// A server that says `DATA 1234.` and then waits at port 1234.
//! #[derive(Debug)]
//! struct Simple;
//!
//! impl Helper for Simple {
//!     fn server_said(&self, payload: &[u8]) -> Option<Expected> {
//!         let digits = payload.strip_prefix(b"DATA ")?.split(|byte| *byte == b'.').next()?;
//!         let port = core::str::from_utf8(digits).ok()?.parse().ok()?;
//!         Some(Expected { opener: Opener::Client, port, replace: None })
//!     }
//! }
//! assert_eq!(Simple.server_said(b"DATA 1234.\r\n").unwrap().port, 1234);
//! ```

mod control;
mod ftp;

pub(crate) use control::{Helpers, Ports};
pub use ftp::Ftp;

use core::fmt;
use core::ops::Range;
use lvs_core::Endpoint;

/// Reads what one side says. Called by all workers at once, for each packet with payload of an
/// established connection; must not allocate, wait or panic.
pub trait Helper: fmt::Debug + Send + Sync {
    /// What the client announces, if anything.
    fn client_said(&self, payload: &[u8]) -> Option<Expected> {
        let _ = payload;
        None
    }

    /// What the server announces, if anything.
    fn server_said(&self, payload: &[u8]) -> Option<Expected> {
        let _ = payload;
        None
    }

    /// Writes what the client shall read in the place of the server's endpoint, where
    /// [`Expected::replace`] names one.
    fn write(&self, endpoint: Endpoint, text: &mut Text) {
        let _ = (endpoint, text);
    }
}

/// A connection that will come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Who opens it.
    pub opener: Opener,
    /// The port at which the other side waits.
    pub port: u16,
    /// The bytes of the payload that name the server's endpoint, if the client is to read another.
    /// At most 127 bytes longer or shorter than what [`Helper::write`] writes.
    pub replace: Option<Range<usize>>,
}

/// Who opens an expected connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The client, from a port that nobody knows yet.
    Client,
    /// The server, from the port before its own (FTP's rule).
    Server,
}

/// A short text, written without allocation; what does not fit is cut off.
#[derive(Debug)]
pub struct Text {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl Text {
    /// The most bytes.
    pub const MOST: usize = 64;

    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; Self::MOST],
            length: 0,
        }
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.get_mut(self.length..).unwrap_or_default();
        let taken = text.len().min(free.len());
        for (to, from) in free.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        self.length += taken;
        if taken == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}
