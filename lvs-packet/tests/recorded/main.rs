//! The rewriters and the parser, held against recorded conversations of the kernel's IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may stop where something is not as it says"
)]

mod oracle;
mod replay;
mod support;
