//! A small HTTP/1.1 server and client: threads and blocking sockets, keep-alive, GET only.
//!
//! `/` answers with the server's name and a line end, `/bytes/N` with `N` octets that follow a
//! [pattern]. Every answer carries the server's name in its `Server` header.

mod client;
mod server;

pub use client::{HttpClient, Response};
pub use server::{HttpServer, ServedCounts};

/// The largest body that `/bytes/N` gives.
pub const MAX_BYTES: u64 = 1 << 40;

/// The octet at `offset` of every `/bytes/N` body: a period of 251, so that no power-of-two shift
/// goes unnoticed.
///
/// ```
/// use lvs_testbed::http::pattern;
/// assert_ne!(pattern(0), pattern(1500));
/// assert_ne!(pattern(0), pattern(65536));
/// ```
#[must_use]
pub fn pattern(offset: u64) -> u8 {
    u8::try_from(offset % 251).unwrap_or(0)
}
