//! The atomics of this crate: `core`'s, or loom's when the interleavings are being explored.
//!
//! Everything that threads share here goes through this module, so that the models in
//! `tests/loom.rs` see it. It must never hand out anything but plain atomics.

#[cfg(not(lvs_loom))]
pub(crate) use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
#[cfg(lvs_loom)]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A word that threads write all the time, two cache lines away from what they only read; by room on
/// both sides, since aligned memory is dear where ten thousand pools are edited at once.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Apart<T> {
    _before: [u64; 14],
    word: T,
    _after: [u64; 14],
}

impl<T> Apart<T> {
    pub(crate) const fn new(word: T) -> Self {
        Self {
            _before: [0; 14],
            word,
            _after: [0; 14],
        }
    }

    #[inline]
    pub(crate) const fn get(&self) -> &T {
        &self.word
    }
}
