//! fuzz
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a target says that a promise is broken"
)]

mod conn;

pub use conn::conn;
