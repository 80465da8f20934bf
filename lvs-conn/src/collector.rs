//! Ending connections: looks at those that are due, in slices, and frees what nobody can hold.
//!
//! Touching a connection only stores when; its place in the wheel stays. When the wheel comes to
//! it and it has been touched since, it goes back to where it is due now. An entry that ends is
//! first taken out of the index, waits until all workers have finished the batches that could have
//! found it, is reported, and then free.
//!
//! ```text
//!   threads' lists ─▶ queue ─▶ wheel ─▶ due? ─no─▶ wheel
//!                                        └yes─▶ out of the index ─▶ two epochs ─▶ reported, free
//! ```
//!
//! An entry may be on the queue at the same time as it is anywhere else on this way, because a
//! worker whose batch began before it ended shortened its timeout. It is not freed before it has
//! come off the queue.

use crate::ahead::Ahead;
use crate::conn::Conn;
use crate::entry::{
    CHAIN, CLOSED, Entry, NIL, ONE_PACKET, QUEUED, RETIRED, SILENT, STATE, TEMPLATE, UNLINKED,
    VERSION, WIDE_REPLY, WIDE_REQUEST,
};
use crate::pool::BUNDLE;
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    fence,
};
use crate::table::{Keys, Table};
use crate::wheel::Wheel;
use lvs_core::Tick;

/// Epochs whose entries wait at the same time.
const EPOCHS: usize = 3;
/// Entries whose cache misses overlap.
const GROUP: usize = 16;
/// What a connection gets that is over but controls others (IPVS 2.4, rule 4).
const WITH_CHILDREN: u32 = 60 * Tick::PER_SECOND;
/// The state of a template whose clients have proved that they exist (IPVS 2.5).
const ASSURED: u16 = 1;

#[derive(Debug)]
pub(crate) struct Collector {
    wheel: Wheel,
    /// What was taken from the queue and not looked at yet.
    queue: u32,
    /// Lists of ended entries, by the epoch in which they ended.
    ended: [(u64, u32); EPOCHS],
    ahead: Ahead,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            wheel: Wheel::default(),
            queue: NIL,
            ended: [(0, NIL); EPOCHS],
            ahead: Ahead::default(),
        }
    }
}

impl Collector {
    pub(crate) fn run(
        &mut self,
        table: &Table,
        now: Tick,
        budget: usize,
        ended: &mut dyn FnMut(&Conn<'_>),
    ) -> usize {
        let used = table.pool.used() as usize;
        self.ahead.take(&table.index, &table.entries, used);
        let now = self.wheel.clock(now);
        self.look_at_queue(table, budget);
        let mut to_free = budget;
        table.epoch.advance();
        let mut count = self.free(table, &mut to_free, ended);
        let mut to_look_at = budget;
        while self.look_at_due(table, now, &mut to_look_at) {}
        // With no worker in a batch, what has just ended is free in the same run.
        for _ in 0..EPOCHS {
            if to_free == 0 || self.ended.iter().all(|(_, list)| *list == NIL) {
                break;
            }
            table.epoch.advance();
            self.look_at_queue(table, budget);
            count += self.free(table, &mut to_free, ended);
        }
        count
    }

    /// New entries, and those that are due earlier than the wheel knows.
    fn look_at_queue(&mut self, table: &Table, budget: usize) {
        for _ in 0..budget {
            if self.queue == NIL {
                self.queue = table.take_queue();
            }
            let Some(entry) = table.entries.get(self.queue as usize) else {
                return;
            };
            // The link is read before the bit is cleared: then a worker may queue it again.
            let index = core::mem::replace(&mut self.queue, entry.queue_next.load(Relaxed));
            table.prefetch(self.queue);
            // Acquire: what the worker did before it set the bit is seen, even if the bit was set
            // already and this is not its turn on the queue.
            let word = entry.word.fetch_and(!QUEUED, AcqRel);
            if word & RETIRED != 0 {
                continue; // ended already; a worker touched it in its last batch
            }
            if Wheel::has(entry) {
                self.wheel.remove(&table.entries, index);
            }
            self.keep(table, index, entry);
        }
    }

    /// Puts an entry into the wheel.
    fn keep(&mut self, table: &Table, index: u32, entry: &Entry) {
        if entry.word.load(Relaxed) & UNLINKED != 0 {
            // Its end is not a matter of time.
            self.wheel.add_now(&table.entries, index);
            return;
        }
        loop {
            let due = entry.deadline();
            self.wheel.add(&table.entries, index, due);
            // Pairs with the fence in `Conn::rearm`: either the worker sees when it is due and
            // queues it, or the shorter timeout is seen here.
            fence(SeqCst);
            if !due.is_after(entry.deadline()) {
                return;
            }
            self.wheel.remove(&table.entries, index);
        }
    }

    /// Looks at some of the entries that the wheel has reached; false if there are none.
    fn look_at_due(&mut self, table: &Table, now: Tick, budget: &mut usize) -> bool {
        let mut group = [(NIL, Keys::default()); GROUP];
        let mut len = 0_usize;
        while len < GROUP
            && let Some(index) = self.wheel.due(&table.entries, now, budget, len == 0)
        {
            if let Some(place) = group.get_mut(len) {
                place.0 = index;
            }
            table.prefetch(index);
            len += 1;
        }
        let last = len == 0 && *budget > 0 && self.wheel.holds();
        if last {
            let held = self.wheel.held(&table.entries);
            let (Some(index), Some(place)) = (held, group.first_mut()) else {
                return true; // the wheel moves on
            };
            place.0 = index;
            *budget -= 1;
            len = 1;
        }
        for (index, keys) in group.iter_mut().take(len) {
            let Some(entry) = table.entries.get(*index as usize) else {
                continue;
            };
            if self.goes_on(table, *index, entry, now, last) {
                *index = NIL;
            } else {
                *keys = table.keys(entry);
                table.prefetch_keys(keys);
            }
        }
        for (index, keys) in group.iter().take(len) {
            if let Some(entry) = table.entries.get(*index as usize) {
                self.retire(table, *index, entry, keys, self.wheel.moment());
            }
        }
        len > 0
    }

    /// Whether an entry lives on, and if so where. `last`: all else that is due at this moment has ended.
    fn goes_on(&mut self, table: &Table, index: u32, entry: &Entry, now: Tick, last: bool) -> bool {
        // By the wheel, not by the clock: a collector that comes late ends what it finds in the order of
        // time.
        let over = !entry.deadline().is_after(self.wheel.moment());
        if !over && entry.word.load(Relaxed) & UNLINKED == 0 {
            self.keep(table, index, entry);
            return true;
        }
        // Of the last child's birth and the parent's end one comes first.
        let closed = entry.children.compare_exchange(0, CLOSED, AcqRel, Relaxed);
        if closed.is_ok() {
            return false;
        }
        if !last {
            // Of a connection and its template that are due at the same moment the connection ends
            // first, as in the kernel, whose timers of one moment fire in the reverse order of their
            // arming: then the template has nothing left to wait for.
            self.wheel.hold(&table.entries, index);
            return true;
        }
        // From the clock's moment: a timer of the kernel starts anew when it has fired, which is late.
        entry.word.fetch_and(!VERSION, AcqRel);
        entry.timeout.store(WITH_CHILDREN, Relaxed);
        entry.last_seen.store(now.0, Relaxed);
        self.wheel.add(&table.entries, index, now + WITH_CHILDREN);
        true
    }

    /// Takes an entry out of the table.
    fn retire(&mut self, table: &Table, index: u32, entry: &Entry, keys: &Keys, now: Tick) {
        let word = entry.word.fetch_or(UNLINKED | RETIRED, AcqRel);
        // Also if a worker has unlinked it: it may not have removed the keys yet, and the next
        // epoch must not begin before they are gone.
        let cold = entry.cold.load(Relaxed);
        if cold & ONE_PACKET == 0 {
            table.remove_keys(index, keys);
        }
        if cold & (WIDE_REQUEST | WIDE_REPLY) != 0 {
            // Release: who sees it uncounted sees its keys gone.
            table.wide_count.fetch_sub(1, AcqRel);
        }
        let parent = entry.control.load(Relaxed);
        if let Some(above) = table.entries.get(parent as usize) {
            let last = above.children.fetch_sub(1, AcqRel) == 1;
            let state = above.word.load(Relaxed);
            let assured = state & TEMPLATE != 0 && state & STATE == ASSURED;
            if word & CHAIN != 0 && last && !assured {
                above.word.fetch_or(CHAIN, Relaxed);
                above.word.fetch_and(!VERSION, Relaxed);
                above.timeout.store(0, Relaxed);
                above.last_seen.store(now.0, Relaxed);
                if Wheel::has(above) {
                    self.wheel.remove(&table.entries, parent);
                    self.keep(table, parent, above);
                }
            }
        }
        let epoch = table.epoch.now();
        self.wait(epoch, index, entry);
    }

    fn wait(&mut self, epoch: u64, index: u32, entry: &Entry) {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of 3")]
        let bin = (epoch % EPOCHS as u64) as usize;
        if let Some((of, list)) = self.ended.get_mut(bin) {
            *of = epoch;
            entry.next.store(*list, Relaxed);
            *list = index;
        }
    }

    /// Reports and frees what ended two epochs ago; answers how many were reported.
    fn free(
        &mut self,
        table: &Table,
        budget: &mut usize,
        ended: &mut dyn FnMut(&Conn<'_>),
    ) -> usize {
        let mut count = 0;
        let epoch = table.epoch.now();
        let mut bundle = [NIL; BUNDLE];
        let mut len = 0;
        for bin in 0..EPOCHS {
            while *budget > 0
                && let Some((of, list)) = self.ended.get_mut(bin)
                && *of + 2 <= epoch
                && let Some(entry) = table.entries.get(*list as usize)
            {
                let index = core::mem::replace(list, entry.next.load(Relaxed));
                table.prefetch(*list);
                // Acquire: pairs with `Conn::queue`.
                let word = entry.word.load(Acquire);
                if word & QUEUED != 0 {
                    self.wait(epoch, index, entry);
                    continue;
                }
                *budget -= 1;
                if entry.cold.load(Relaxed) & SILENT == 0 {
                    count += 1;
                    ended(&Conn {
                        table,
                        entry,
                        index,
                    });
                }
                entry.word.store(0, Relaxed);
                if let Some(place) = bundle.get_mut(len) {
                    *place = index;
                }
                len += 1;
                if len == table.pool.bundle() {
                    table.take_back(bundle.get(..len));
                    len = 0;
                }
            }
        }
        table.take_back(bundle.get(..len));
        count
    }
}
