//! Memory for connections to come, taken before a worker needs it.
//!
//! The first touch of a page is a pause of whoever touches it: milliseconds for a huge one. So the
//! collector touches, in each of its runs, a part of the index until it has all of it, and the
//! entries that come next. In: how many entries were used so far. Out: nothing; what is touched
//! keeps its value. Never: more than a few megabytes of entries that no connection needs yet.

use crate::entry::Entry;
use crate::index::{BUCKET_BYTES, Index};
use crate::sync::Ordering::Relaxed;

/// The smallest page.
const PAGE: usize = 4096;
/// What is touched at once: a huge page.
const SLICE: usize = 2 << 20;
/// Entries that are ready.
const READY: usize = 2 * SLICE / size_of::<Entry>();

/// How far the pages have been touched.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    buckets: usize,
    entries: usize,
}

impl Ahead {
    /// Touches what comes next, at most a slice of the index and two of the entries.
    pub(crate) fn take(&mut self, index: &Index, entries: &[Entry], used: usize) {
        // A model has no pages, and each access costs it.
        if cfg!(lvs_loom) {
            return;
        }
        let to = self.buckets + SLICE / BUCKET_BYTES;
        while self.buckets < to && index.touch(self.buckets) {
            self.buckets += PAGE / BUCKET_BYTES;
        }
        let from = self.entries.max(used);
        let to = (used + READY).min(entries.len());
        for entry in (from..to).step_by(PAGE / size_of::<Entry>()) {
            if let Some(entry) = entries.get(entry) {
                // Writes what is there, whether it is the same or not; Relaxed: says nothing.
                let _ = entry.word.compare_exchange(0, 0, Relaxed, Relaxed);
            }
        }
        self.entries = from.max(to);
    }
}
