//! The atomics of this crate: `core`'s, or loom's when the interleavings are being explored.
//!
//! Everything that threads share here goes through this module, so that the models in
//! `tests/loom.rs` see it. It must never hand out anything but plain atomics.

#[cfg(not(lvs_loom))]
pub(crate) use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
#[cfg(lvs_loom)]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A word that threads write all the time, away from what they only read.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);
