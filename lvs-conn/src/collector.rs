//! Ending connections: looks at those that are due, in slices, and frees what nobody can hold.
//!
//! Touching a connection only stores when; its place in the wheel stays. When the wheel comes to
//! it and it has been touched since, it goes back to where it is due now. An entry that ends is
//! first taken out of the index, waits until all workers have finished the batches that could have
//! found it, is reported, and then free.

use crate::conn::Conn;
use crate::entry::{LINKED, LIVE, NIL, QUEUED, UNLINKED};
use crate::sync::Ordering::{AcqRel, Relaxed};
use crate::table::Table;
use crate::wheel::Wheel;
use lvs_core::Tick;

/// Epochs whose entries wait at the same time.
const EPOCHS: usize = 3;

#[derive(Debug)]
pub(crate) struct Collector {
    wheel: Wheel,
    /// Lists of ended entries, by the epoch in which they ended.
    ended: [(u64, u32); EPOCHS],
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            wheel: Wheel::default(),
            ended: [(0, NIL); EPOCHS],
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
        let mut left = budget;
        let mut count = 0;
        // The order matters: an entry that was retired long ago enough may still be in the queue,
        // put there by a worker's last touch; it has to leave the queue before it is free.
        let epoch = table.epoch.advance();
        self.look_at_queue(table);
        count += self.free(table, epoch, ended);
        while left > 0 {
            let Some(index) = self.wheel.due(&table.entries, now) else {
                break;
            };
            left -= 1;
            self.look_at(table, index, now);
        }
        // With no worker in a batch, what has just ended is free in the same run.
        for _ in 0..EPOCHS {
            if self.ended.iter().all(|(_, list)| *list == NIL) {
                break;
            }
            let epoch = table.epoch.advance();
            self.look_at_queue(table);
            count += self.free(table, epoch, ended);
        }
        count
    }

    /// New entries, and those that are due earlier than the wheel knows.
    fn look_at_queue(&mut self, table: &Table) {
        let mut first = table.take_queue();
        while let Some(entry) = table.entries.get(first as usize) {
            // The link is read before the bit is cleared: then a worker may queue it again.
            let index = core::mem::replace(&mut first, entry.queue_next.load(Relaxed));
            let word = entry.word.fetch_and(!QUEUED, AcqRel);
            if word & LIVE == 0 {
                continue; // ended already; a worker touched it in its last batch
            }
            if word & LINKED != 0 {
                self.wheel.remove(&table.entries, index);
            }
            entry.word.fetch_or(LINKED, Relaxed);
            self.wheel.add(&table.entries, index, entry.deadline());
        }
    }

    /// An entry that the wheel has reached and unlinked.
    fn look_at(&mut self, table: &Table, index: u32, now: Tick) {
        let Some(entry) = table.entries.get(index as usize) else {
            return;
        };
        let deadline = entry.deadline();
        if deadline.is_after(now) {
            self.wheel.add(&table.entries, index, deadline);
            return;
        }
        if entry.word.fetch_or(UNLINKED, AcqRel) & UNLINKED == 0 {
            table.remove_keys(index, entry);
        }
        entry.word.fetch_and(!(LIVE | LINKED), AcqRel);
        let epoch = table.epoch.now();
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of 3")]
        let bin = (epoch % EPOCHS as u64) as usize;
        if let Some((of, list)) = self.ended.get_mut(bin) {
            *of = epoch;
            entry.next.store(*list, Relaxed);
            *list = index;
        }
    }

    /// Reports and frees what ended two epochs ago.
    fn free(&mut self, table: &Table, epoch: u64, ended: &mut dyn FnMut(&Conn<'_>)) -> usize {
        let mut count = 0;
        for (of, list) in &mut self.ended {
            if *of + 2 > epoch {
                continue;
            }
            while let Some(entry) = table.entries.get(*list as usize) {
                let index = core::mem::replace(list, entry.next.load(Relaxed));
                ended(&Conn {
                    table,
                    entry,
                    index,
                });
                entry.word.store(0, Relaxed);
                table.len.fetch_sub(1, Relaxed);
                table.pool.push(&table.entries, index);
                count += 1;
            }
        }
        count
    }
}
