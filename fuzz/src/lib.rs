//! What bytes can do to lvs: one function for each fuzz target.
//!
//! In: any bytes. Out: nothing, or a panic when a promise is broken. The fuzzer's programs in
//! `fuzz_targets/` only call these functions, so that an ordinary test (`tests/corpus.rs`) replays
//! every corpus on a stable toolchain, and a debugger needs no fuzzer.
//!
//! A target checks more than the absence of a panic: it says what must hold for every input.
//!
//! ```
//! for (name, target) in lvs_fuzz::TARGETS {
//!     target(name.as_bytes());
//! }
//! ```
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is how a target says that a promise is broken"
)]

mod command_line;
mod conn;
mod director;
mod endpoint;
mod parse;
mod rewrite;
mod sched;

pub use command_line::command_line;
pub use conn::conn;
pub use director::director;
pub use endpoint::endpoint;
pub use parse::parse;
pub use rewrite::rewrite;
pub use sched::sched;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target under the name of its program and its corpus.
#[rustfmt::skip] // a line a target
pub const TARGETS: &[(&str, Target)] = &[
    ("command_line", command_line),
    ("conn", conn),
    ("director", director),
    ("endpoint", endpoint),
    ("parse", parse),
    ("rewrite", rewrite),
    ("sched", sched),
];
