//! A thread's way into the table: its handle, and the guard of a batch.

use crate::entry::{Entry, NIL};
use crate::insert::Prepared;
use crate::new_connection::NewConnection;
use crate::pool::Stock;
use crate::sync::Ordering::Relaxed;
use crate::table::{Inserted, Table, TableFull};
use core::cell::Cell;
use std::sync::Arc;

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
    #[inline]
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
    #[inline]
    pub(crate) const fn table(&self) -> &Table {
        self.table
    }

    /// Adds a connection, unless its client's flow has one.
    ///
    /// # Errors
    /// [`TableFull`]; the table is as it was.
    #[inline(always)]
    pub fn insert(&self, new: &NewConnection) -> Result<Inserted<'_>, TableFull> {
        let keys = self.table.prepare_keys(new);
        self.table.insert(self.local, new, &keys)
    }

    /// Begins to fetch what an insertion will need. Whoever makes several connections in a batch
    /// prepares them all before the first is inserted, and their cache misses overlap.
    #[must_use]
    pub fn prepare<'n>(&self, new: &'n NewConnection) -> Prepared<'n> {
        self.table.prepare(new)
    }

    /// Begins to fetch what an insertion will compare with, if anything. For who has prepared all
    /// connections of a batch, and is about to insert the first: in a table of millions a part of
    /// the hash is in a slot of the index, and one in twenty-five looks like another.
    pub fn prepare_further(&self, new: &Prepared<'_>) {
        self.table.prepare_further(new);
    }

    /// Adds a prepared connection; otherwise like [`insert`](Self::insert).
    ///
    /// # Errors
    /// [`TableFull`]; the table is as it was.
    pub fn insert_prepared(&self, new: &Prepared<'_>) -> Result<Inserted<'_>, TableFull> {
        self.table.insert(self.local, new.new, &new.keys)
    }
}
