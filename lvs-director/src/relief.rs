//! Room in a table that is nearly full: half-open connections make place for those that come.
//!
//! In: how full the table is, each time that the collector runs. Out: half-open connections that end
//! in the same run, as many as are missing, counted. Never: the end of one that is established, or a
//! search longer than the collector's slice. The kernel, whose table has no limit, has nothing like
//! it; what it does when memory is short is in `defence.rs`.

use crate::director::Director;
use lvs_core::{DropReason, Tick};

/// How much of the table is kept free for those that come: one in so many.
const RESERVE: usize = 16;
/// After a search through all of the table that has found nothing.
const REST: u32 = Tick::PER_SECOND;

/// Where the search for half-open connections stands.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    at: usize,
    /// Since the start of the table.
    found: usize,
    /// Nothing to be found before.
    rest_until: Option<Tick>,
}

impl Director {
    /// Ends half-open connections if the table is nearly full. By the collector.
    pub(crate) fn make_room(&self, now: Tick, budget: usize) {
        let table = &self.table;
        let room = table.capacity().saturating_sub(table.len());
        let missing = (table.capacity() / RESERVE).saturating_sub(room);
        if missing == 0 {
            return;
        }
        let mut relief = self.relief.lock();
        if relief.rest_until.is_some_and(|until| until.is_after(now)) {
            return;
        }
        relief.rest_until = None;
        let mut handle = table.register();
        let found = table.relieve(&mut handle, relief.at, now, missing.min(budget), budget);
        relief.found += found.expired;
        match found.next {
            Some(next) => relief.at = next,
            None => {
                relief.rest_until = (relief.found == 0).then(|| now + REST);
                (relief.at, relief.found) = (0, 0);
            }
        }
        if let Some(drops) = self.drops.get(self.workers) {
            drops.count_many(DropReason::HalfOpenEnded, found.expired as u64);
        }
    }
}
