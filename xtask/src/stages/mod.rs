//! The stages, one file a subject.

pub(crate) mod benches;
pub(crate) mod demo;
pub(crate) mod examples;
pub(crate) mod fuzz;
pub(crate) mod lint;
pub(crate) mod loom;
pub(crate) mod man;
pub(crate) mod memory;
pub(crate) mod no_std;
pub(crate) mod shape;
pub(crate) mod test;
