//! A thread's way into the table: its handle, and the guard of a batch.

use crate::conn::{Conn, Hit, NewConnection};
use crate::entry::{Entry, NIL};
use crate::index::First;
use crate::insert::Prepared;
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

    /// The connections of many flows, found in stages so that their cache misses overlap. A flow of
    /// [`Flow::NONE`] finds nothing.
    pub fn lookup_batch<'g>(&'g self, flows: &[Flow], hits: &mut [Option<Hit<'g>>]) {
        for (flows, hits) in flows.chunks(STAGE).zip(hits.chunks_mut(STAGE)) {
            self.lookup_stages(flows, hits);
        }
    }

    fn lookup_stages<'g>(&'g self, flows: &[Flow], hits: &mut [Option<Hit<'g>>]) {
        let table = self.table;
        let mut hashes = [0; STAGE];
        table.hash_all(flows, &mut hashes);
        for hash in hashes.iter().take(flows.len()) {
            table.index.prefetch(table.index.place(*hash));
        }
        let mut others = [0; STAGE];
        let two = table.hash_replies(flows, &mut others);
        if two {
            for hash in others.iter().take(flows.len()) {
                table.index.prefetch(table.index.place(*hash));
            }
        }
        let mut firsts = [First::Absent; STAGE];
        for ((hash, other), first) in hashes
            .iter_mut()
            .zip(&mut others)
            .zip(&mut firsts)
            .take(flows.len())
        {
            *first = table.index.first(table.index.place(*hash));
            if two && !matches!(first, First::Likely(_)) {
                let second = table.index.first(table.index.place(*other));
                if matches!(first, First::Absent) || matches!(second, First::Likely(_)) {
                    core::mem::swap(hash, other);
                    *first = second;
                }
            }
            if let First::Likely(named) = first {
                table.prefetch(named.entry);
            }
        }
        let sought = flows.iter().zip(&hashes).zip(&others).zip(&firsts);
        for ((((flow, hash), other), first), hit) in sought.zip(hits) {
            let named = match first {
                First::Absent => {
                    *hit = None;
                    continue;
                }
                First::Likely(named) => Some(*named),
                First::Beyond => None,
            };
            *hit = named
                .and_then(|named| table.recognise(named, flow))
                .or_else(|| self.look_further(flow, *hash, two.then_some(*other)));
        }
    }

    /// What the first slot with its tag was not.
    #[cold]
    fn look_further(&self, flow: &Flow, hash: u64, other: Option<u64>) -> Option<Hit<'_>> {
        let table = self.table;
        if *flow == Flow::NONE {
            return None;
        }
        table
            .find(table.index.place(hash), flow)
            .or_else(|| table.find(table.index.place(other?), flow))
    }

    /// Adds a connection, unless its client's flow has one.
    ///
    /// # Errors
    /// [`TableFull`]; the table is as it was.
    pub fn insert(&self, new: &NewConnection) -> Result<Inserted<'_>, TableFull> {
        self.table.insert(self.local, &self.table.prepare(new))
    }

    /// Begins to fetch what an insertion will need. Whoever makes several connections in a batch
    /// prepares them all before the first is inserted, and their cache misses overlap.
    #[must_use]
    pub fn prepare(&self, new: &NewConnection) -> Prepared {
        self.table.prepare(new)
    }

    /// Adds a prepared connection; otherwise like [`insert`](Self::insert).
    ///
    /// # Errors
    /// [`TableFull`]; the table is as it was.
    pub fn insert_prepared(&self, new: &Prepared) -> Result<Inserted<'_>, TableFull> {
        self.table.insert(self.local, new)
    }
}
