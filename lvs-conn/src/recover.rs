//! What is left of a table when its process has ended, made a table again.
//!
//! In: entries of which only those that are live mean anything. Out: the index, the free entries and
//! the collector's list that belong to them. Never: trust in what an entry holds.

use crate::entry::{
    Entry, HELPED, INVALID, LIVE, NIL, ONE_PACKET, QUEUED, RETIRED, SILENT, TELL, TEMPLATE,
    UNLINKED, VERSION,
};
use crate::file::Attached;
use crate::new_connection::ConnKind;
use crate::pool::BUNDLE;
use crate::sync::Ordering::Relaxed;
use crate::table::Table;
use lvs_core::Tick;

impl Table {
    /// Makes a table of entries again, with nobody else about.
    pub(crate) fn recover(&self, now: Tick) -> Attached {
        self.index.clear();
        let shift = {
            let before = Tick(self.head().now.load(Relaxed));
            // A clock that is behind has started anew.
            if before.is_after(now) {
                now.0.wrapping_sub(before.0)
            } else {
                0
            }
        };
        let capacity = self.capacity();
        let used = (self.pool.used() as usize).min(capacity);
        let entries = self.entries.get(..used).unwrap_or_default();
        for entry in entries {
            if !entry.is_possible() {
                entry.word.store(0, Relaxed);
            }
            entry.children.store(0, Relaxed);
        }
        let mut attached = Attached::default();
        let mut free = [NIL; BUNDLE];
        let (mut count, mut queue) = (0, NIL);
        for (index, entry) in (0..).zip(entries) {
            if self.take_over(index, entry, shift, now) {
                entry.queue_next.store(queue, Relaxed);
                queue = index;
                attached.kept += 1;
                continue;
            }
            // What was free, or never filled, was no connection.
            attached.dropped += usize::from(entry.word.load(Relaxed) != 0);
            entry.word.store(0, Relaxed);
            if let Some(place) = free.get_mut(count) {
                *place = index;
            }
            count += 1;
            if count == self.pool.bundle() {
                self.pool
                    .push(&self.entries, free.get(..count).unwrap_or_default());
                count = 0;
            }
        }
        self.pool
            .push(&self.entries, free.get(..count).unwrap_or_default());
        for entry in entries.iter().filter(|entry| is_live(entry)) {
            match parent(entries, entry) {
                Some(above) if has_end(entries, above) => {
                    above.children.fetch_add(1, Relaxed);
                }
                _ => entry.control.store(NIL, Relaxed),
            }
        }
        self.begin_with(attached.kept, queue);
        attached
    }

    /// Makes an entry a connection of this table, if it is one.
    fn take_over(&self, index: u32, entry: &Entry, shift: u32, now: Tick) -> bool {
        let word = entry.word.load(Relaxed);
        let cold = entry.cold.load(Relaxed);
        if word & (LIVE | UNLINKED | RETIRED) != LIVE || cold & (ONE_PACKET | SILENT) != 0 {
            return false;
        }
        let seen = Tick(entry.last_seen.load(Relaxed).wrapping_add(shift));
        // No packet can be ahead of the clock, and none be older than a tick can tell.
        let seen = if seen.is_after(now) { now } else { seen };
        entry.last_seen.store(seen.0, Relaxed);
        // Longer ones lie in the past as ticks go.
        entry
            .timeout
            .fetch_min(i32::MAX.cast_unsigned() / 2, Relaxed);
        entry.due.store(entry.deadline().0, Relaxed);
        entry.previous.store(NIL, Relaxed);
        // What is said of its keys was said of the last index.
        entry.cold.store(cold & (TELL | HELPED), Relaxed);
        entry.word.store((word & !VERSION) | QUEUED, Relaxed);
        if word & INVALID != 0 {
            return true; // nobody looks for it
        }
        let kind = if word & TEMPLATE == 0 {
            ConnKind::Normal
        } else {
            ConnKind::Template
        };
        self.put_back(index, entry, kind)
    }
}

fn is_live(entry: &Entry) -> bool {
    entry.word.load(Relaxed) & LIVE != 0
}

/// The live entry that controls this one.
fn parent<'a>(entries: &'a [Entry], entry: &Entry) -> Option<&'a Entry> {
    let above = entries.get(entry.control.load(Relaxed) as usize)?;
    is_live(above).then_some(above)
}

/// Whether the chain of what controls an entry ends, as those that are not damage do.
fn has_end(entries: &[Entry], entry: &Entry) -> bool {
    /// Data connection, control connection, template.
    const LONGEST: usize = 4;
    core::iter::successors(Some(entry), |entry| parent(entries, entry))
        .nth(LONGEST)
        .is_none()
}
