//! Which entries are free.
//!
//! A stack of entries that were used before, and behind it those that never were. Popping and
//! pushing are one compare-and-exchange; a count beside the top keeps an old top from being taken
//! for a new one.

use crate::entry::{Entry, NIL};
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use crossbeam_utils::CachePadded;

#[derive(Debug)]
pub(crate) struct Pool {
    /// Count in the upper half, top in the lower.
    top: CachePadded<AtomicU64>,
    /// The first entry that was never used.
    fresh: CachePadded<AtomicU32>,
    capacity: u32,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half, on purpose"
)]
const fn index(top: u64) -> u32 {
    top as u32
}

const fn next_top(top: u64, index: u32) -> u64 {
    ((top >> 32).wrapping_add(1) << 32) | index as u64
}

impl Pool {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            top: CachePadded::new(AtomicU64::new(u64::from(NIL))),
            fresh: CachePadded::new(AtomicU32::new(0)),
            capacity,
        }
    }

    /// An entry that nobody else has; `None` if all are in use.
    pub(crate) fn pop(&self, entries: &[Entry]) -> Option<u32> {
        // Acquire: pairs with the release in `push`; the entry's link is there.
        let mut top = self.top.load(Acquire);
        while let Some(entry) = entries.get(index(top) as usize) {
            let next = entry.queue_next.load(Relaxed);
            match self
                .top
                .compare_exchange_weak(top, next_top(top, next), AcqRel, Acquire)
            {
                Ok(_) => return Some(index(top)),
                Err(now) => top = now,
            }
        }
        let claim = |fresh: u32| (fresh < self.capacity).then_some(fresh + 1);
        self.fresh.fetch_update(Relaxed, Relaxed, claim).ok()
    }

    /// Gives an entry back that nobody can hold any more.
    pub(crate) fn push(&self, entries: &[Entry], free: u32) {
        let Some(entry) = entries.get(free as usize) else {
            return;
        };
        let mut top = self.top.load(Relaxed);
        loop {
            entry.queue_next.store(index(top), Relaxed);
            match self
                .top
                .compare_exchange_weak(top, next_top(top, free), AcqRel, Relaxed)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Entries from this number on were never used.
    pub(crate) fn used(&self) -> u32 {
        self.fresh.load(Acquire)
    }
}
