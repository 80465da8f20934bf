//! What lvs costs: the benches stand in `benches/`, this library holds what they share.
//!
//! It also compiles and runs the code in the repository's documents, so that they stay true.
#![forbid(unsafe_code)]

pub mod connections;
pub mod director;

#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../CONTRIBUTING.md")]
    struct Contributing;
}
