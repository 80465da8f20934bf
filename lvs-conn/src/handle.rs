//! A thread's way into the table: its handle, and the guard of a batch.

use crate::conn::{Conn, Hit, NewConnection};
use crate::entry::{Entry, NIL};
use crate::index::{First, Place};
use crate::pool::Stock;
use crate::sync::Ordering::Relaxed;
use crate::table::{Inserted, Table, TableFull};
use core::cell::Cell;
use lvs_core::Flow;
use std::sync::Arc;

/// Keys that are looked up together.
const STAGE: usize = 64;

/// One thread's way into the table.
#[derive(Debug)]
pub struct Handle {
    table: Arc<Table>,
    local: Local,
}

/// What one thread has of the table.
#[derive(Debug)]
pub(crate) struct Local {
    seat: usize,
    /// Free entries.
    pub(crate) stock: Stock,
    /// The list of entries that it made in this batch, for the collector: the latest, the first.
    latest: Cell<u32>,
    first: Cell<u32>,
}

impl Local {
    /// Puts an entry, whose `QUEUED` bit is set, on the list.
    pub(crate) fn made(&self, table: &Table, entry: &Entry, index: u32) {
        table.epoch.count(self.seat);
        entry.queue_next.store(self.latest.get(), Relaxed);
        self.latest.set(index);
        if self.first.get() == NIL {
            self.first.set(index);
        }
    }

    /// Hands the list over.
    #[inline]
    fn flush(&self, table: &Table) {
        if self.latest.get() != NIL {
            table.queue(self.latest.replace(NIL), self.first.replace(NIL));
        }
    }
}

impl Handle {
    pub(crate) fn new(table: Arc<Table>, seat: usize) -> Self {
        let local = Local {
            seat,
            stock: Stock::default(),
            latest: Cell::new(NIL),
            first: Cell::new(NIL),
        };
        Self { table, local }
    }

    /// Begins a batch. What is found under the guard stays what it is until the guard is dropped,
    /// and memory of ended connections is not used again before: hold it for a batch, never while
    /// waiting. The collector hears of the connections that are made under it when it is dropped.
    #[inline]
    pub fn pin(&mut self) -> Guard<'_> {
        self.table.epoch.enter(self.local.seat);
        Guard {
            table: &self.table,
            local: &self.local,
        }
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A guard that was forgotten may have left something.
        self.local.flush(&self.table);
        self.table
            .pool
            .put_back(&self.table.entries, &self.local.stock);
        self.table.epoch.leave(self.local.seat);
    }
}

/// A batch in progress.
#[derive(Debug)]
pub struct Guard<'a> {
    table: &'a Table,
    local: &'a Local,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.local.flush(self.table);
        self.table.epoch.exit(self.local.seat);
    }
}

/// What is known of a flow between the stages of a batch.
#[derive(Clone, Copy)]
struct Sought {
    place: Place,
    first: First,
}

impl Guard<'_> {
    /// The connection of a packet's flow.
    #[inline]
    #[must_use]
    pub fn lookup(&self, flow: &Flow) -> Option<Hit<'_>> {
        if *flow == Flow::NONE {
            return None;
        }
        let table = self.table;
        let other = table.reply_place(flow);
        if let Some(other) = other {
            table.index.prefetch(other);
        }
        table
            .find(table.place(flow), flow)
            .or_else(|| table.find(other?, flow))
    }

    /// The template whose client has this flow (IPVS 2.5).
    #[must_use]
    pub fn lookup_template(&self, flow: &Flow) -> Option<Conn<'_>> {
        let table = self.table;
        table.index.find(table.place(flow), |named| {
            table.recognise_request(named, flow, true)
        })
    }

    /// The connections of many flows, found in stages so that their cache misses overlap: one hit
    /// a flow, in order, as far as `hits` reaches. A flow of [`Flow::NONE`] finds nothing.
    #[inline]
    pub fn lookup_batch<'g, 'f, F>(&'g self, flows: F, hits: &mut [Option<Hit<'g>>])
    where
        F: IntoIterator<Item = &'f Flow>,
        F::IntoIter: Clone,
    {
        let mut flows = flows.into_iter();
        for hits in hits.chunks_mut(STAGE) {
            self.lookup_stages(flows.clone().take(hits.len()), hits);
            for _ in 0..hits.len() {
                flows.next();
            }
        }
    }

    fn lookup_stages<'g, 'f>(
        &'g self,
        flows: impl Iterator<Item = &'f Flow> + Clone,
        hits: &mut [Option<Hit<'g>>],
    ) {
        let table = self.table;
        let nothing = Sought {
            place: Place::default(),
            first: First::Absent,
        };
        let mut sought = [nothing; STAGE];
        let mut others = [None; STAGE];
        for ((flow, sought), other) in flows.clone().zip(&mut sought).zip(&mut others) {
            if *flow == Flow::NONE {
                continue;
            }
            sought.place = table.place(flow);
            sought.first = First::Beyond;
            table.index.prefetch(sought.place);
            *other = table.reply_place(flow);
            if let Some(other) = other {
                table.index.prefetch(*other);
            }
        }
        for (sought, other) in sought.iter_mut().zip(&mut others).take(hits.len()) {
            if matches!(sought.first, First::Absent) {
                continue;
            }
            sought.first = table.index.first(sought.place);
            if let (First::Absent, Some(other)) = (sought.first, other.take()) {
                *sought = Sought {
                    place: other,
                    first: table.index.first(other),
                };
            }
            if let First::Likely(named) = sought.first {
                table.prefetch(named.entry);
            }
        }
        for (((flow, sought), other), hit) in flows.zip(&sought).zip(&others).zip(hits) {
            let search = || self.search(sought.place, *other, flow);
            *hit = match sought.first {
                First::Absent => None,
                First::Likely(named) => table.recognise(named, flow).or_else(search),
                First::Beyond => search(),
            };
        }
    }

    /// Looks at all slots that may have the flow's key.
    #[cold]
    fn search<'g>(&'g self, place: Place, other: Option<Place>, flow: &Flow) -> Option<Hit<'g>> {
        let table = self.table;
        table.find(place, flow).or_else(|| table.find(other?, flow))
    }

    /// Adds a connection, unless its client's flow has one.
    ///
    /// # Errors
    /// [`TableFull`]; the table is as it was.
    pub fn insert(&self, new: &NewConnection) -> Result<Inserted<'_>, TableFull> {
        self.table.insert(self.local, new)
    }
}
