//! Which entries are free.
//!
//! Free entries lie in bundles: a bundle's first entry holds the numbers of the others in its own
//! idle body, and the bundles are a stack. So a thread takes a dozen entries with one compare and
//! exchange, and knows all their addresses at once, instead of following a list through memory that
//! nobody has touched for minutes. A count beside the stack's top keeps an old top from being taken
//! for a new one. Behind the stack are the entries that never were in use.

use crate::entry::{Entry, NIL};
use crate::file::Head;
use crate::mapping::Slab;
use crate::raw::prefetch;
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use core::cell::Cell;
use crossbeam_utils::CachePadded;

/// Most entries of a bundle.
#[cfg(not(lvs_loom))]
pub(crate) const BUNDLE: usize = 16;
#[cfg(lvs_loom)]
pub(crate) const BUNDLE: usize = 2;

#[derive(Debug)]
pub(crate) struct Pool {
    /// Count in the upper half, first entry of the top bundle in the lower.
    top: CachePadded<AtomicU64>,
    /// Knows the first entry that was never used.
    head: Slab<Head>,
    capacity: u32,
    /// Entries of a bundle: few in a small table, so that no thread keeps them from the others.
    bundle: usize,
}

/// Free entries in one thread's hands.
#[derive(Debug)]
pub(crate) struct Stock {
    entries: [Cell<u32>; BUNDLE],
    len: Cell<usize>,
}

impl Default for Stock {
    fn default() -> Self {
        Self {
            entries: core::array::from_fn(|_| Cell::new(NIL)),
            len: Cell::new(0),
        }
    }
}

impl Stock {
    /// The entry that is next in turn, which stays here.
    fn last(&self) -> Option<u32> {
        let last = self.len.get().checked_sub(1)?;
        self.entries.get(last).map(Cell::get)
    }

    fn put(&self, entries: &[Entry], index: u32) {
        if let Some(entry) = entries.get(index as usize) {
            // It will be filled soon.
            prefetch(entry);
            prefetch(&entry.timeout);
        }
        if let Some(place) = self.entries.get(self.len.get()) {
            place.set(index);
            self.len.set(self.len.get() + 1);
        }
    }

    /// Takes the entry that [`Pool::next`] named.
    pub(crate) fn take(&self) -> Option<u32> {
        let last = self.last()?;
        self.len.set(self.len.get() - 1);
        Some(last)
    }
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
    pub(crate) fn new(head: Slab<Head>, capacity: u32) -> Self {
        Self {
            top: CachePadded::new(AtomicU64::new(u64::from(NIL))),
            head,
            capacity,
            bundle: (capacity as usize / 1024).clamp(1, BUNDLE),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "made with one value")]
    pub(crate) fn head(&self) -> &Head {
        &self.head[0]
    }

    /// The free entry that the stock will give next, fetched from here if it has none; `None` if
    /// all are in use.
    #[inline]
    pub(crate) fn next(&self, entries: &[Entry], stock: &Stock) -> Option<u32> {
        if stock.len.get() == 0 && !self.pop(entries, stock) {
            self.claim(entries, stock);
        }
        stock.last()
    }

    /// Moves the top bundle into the stock.
    #[cold]
    fn pop(&self, entries: &[Entry], stock: &Stock) -> bool {
        // Acquire: pairs with the release in `push`; the bundle's content is there.
        let mut top = self.top.load(Acquire);
        while let Some(first) = entries.get(index(top) as usize) {
            // If another thread has taken it meanwhile this is nonsense, and the exchange fails.
            let next = first.queue_next.load(Relaxed);
            match self
                .top
                .compare_exchange_weak(top, next_top(top, next), AcqRel, Acquire)
            {
                Ok(_) => {
                    first.bundle(|other| stock.put(entries, other));
                    stock.put(entries, index(top));
                    return true;
                }
                Err(now) => top = now,
            }
        }
        false
    }

    /// Moves entries that were never used into the stock.
    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "at most a bundle")]
    fn claim(&self, entries: &[Entry], stock: &Stock) {
        let bundle = self.bundle as u32;
        let claim =
            |fresh: u32| (fresh < self.capacity).then(|| (fresh + bundle).min(self.capacity));
        if let Ok(from) = self.head().fresh.fetch_update(Relaxed, Relaxed, claim) {
            let to = (from + bundle).min(self.capacity);
            for index in (from..to).rev() {
                stock.put(entries, index);
            }
        }
    }

    /// Gives back all that a thread has.
    pub(crate) fn put_back(&self, entries: &[Entry], stock: &Stock) {
        while let Some(free) = stock.take() {
            self.push(entries, &[free]);
        }
    }

    /// Gives entries back, at most [`BUNDLE`], that nobody can hold any more.
    pub(crate) fn push(&self, entries: &[Entry], free: &[u32]) {
        let Some((&leader, others)) = free.split_first() else {
            return;
        };
        let Some(first) = entries.get(leader as usize) else {
            return;
        };
        first.set_bundle(others);
        let mut top = self.top.load(Relaxed);
        loop {
            first.queue_next.store(index(top), Relaxed);
            // Release: pairs with the acquire in `pop`.
            match self
                .top
                .compare_exchange_weak(top, next_top(top, leader), AcqRel, Relaxed)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Entries of a full bundle.
    pub(crate) const fn bundle(&self) -> usize {
        self.bundle
    }

    /// Entries from this number on were never used.
    pub(crate) fn used(&self) -> u32 {
        self.head().fresh.load(Relaxed)
    }
}
