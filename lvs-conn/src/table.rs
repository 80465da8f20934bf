//! The table: entries, the index, and who may use them when.

use crate::collector::Collector;
use crate::conn::{Conn, Direction, Hit, NewConnection};
use crate::entry::{Entry, INACTIVE, Identity, LIVE, NIL, NO_OUTPUT, UNLINKED};
use crate::epoch::Epoch;
use crate::hash::{FlowHasher, SipHash13};
use crate::index::{Index, Key, Place};
use crate::pool::Pool;
use crate::raw::{prefetch, zeroed};
use crate::sync::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crossbeam_utils::CachePadded;
use lvs_core::{Flow, Protocol, Tick};
use parking_lot::Mutex;
use std::sync::Arc;
use thiserror::Error;

/// The most threads that can hold a [`Handle`] at once.
pub const MAX_HANDLES: usize = 128;
/// The most connections of a table.
pub const MAX_CONNECTIONS: usize = 1 << 27;
/// The timeout of a connection whose first packet has not moved its state yet (IPVS 2.4).
const FIRST_TIMEOUT: u32 = 3 * Tick::PER_SECOND;
/// Keys that are looked up together.
const STAGE: usize = 64;

/// What a table is made with.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// The most connections at once, 1 to [`MAX_CONNECTIONS`]. Memory is taken as it is used.
    pub capacity: usize,
    /// The key of the hash of flows; by default drawn from the system's randomness.
    pub hasher: SipHash13,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            hasher: SipHash13::default(),
        }
    }
}

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The capacity is 0 or too large.
    #[error("a connection table holds 1 to {MAX_CONNECTIONS} connections, not {0}")]
    Capacity(usize),
}

/// The table has no room for another connection; those that it has go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection table is full")]
pub struct TableFull;

/// What became of an insertion.
#[derive(Clone, Copy, Debug)]
pub enum Inserted<'g> {
    /// The connection is new.
    New(Conn<'g>),
    /// The client's flow has a connection already: another worker was first.
    Existing(Conn<'g>),
}

/// A table of connections that any number of threads use at once.
///
/// Made of entries of 128 bytes and an index of about 11 bytes a connection.
#[derive(Debug)]
pub struct Table {
    pub(crate) entries: Box<[Entry]>,
    index: Index,
    pub(crate) pool: Pool,
    pub(crate) epoch: Epoch,
    hasher: SipHash13,
    /// Entries that the collector shall look at: new ones, and those that end earlier than it knows.
    queue: CachePadded<AtomicU32>,
    /// How many there are.
    pub(crate) len: CachePadded<AtomicUsize>,
    full: CachePadded<AtomicU64>,
    collector: Mutex<Collector>,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// [`TableError::Capacity`].
    pub fn new(config: &TableConfig) -> Result<Self, TableError> {
        if config.capacity == 0 || config.capacity > MAX_CONNECTIONS {
            return Err(TableError::Capacity(config.capacity));
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CONNECTIONS")]
        let capacity = config.capacity as u32;
        Ok(Self {
            entries: zeroed(config.capacity),
            index: Index::new(config.capacity * 2, capacity),
            pool: Pool::new(capacity),
            epoch: Epoch::new(MAX_HANDLES),
            hasher: config.hasher,
            queue: CachePadded::new(AtomicU32::new(NIL)),
            len: CachePadded::new(AtomicUsize::new(0)),
            full: CachePadded::new(AtomicU64::new(0)),
            collector: Mutex::new(Collector::default()),
        })
    }

    /// A handle for one thread.
    ///
    /// # Panics
    /// If [`MAX_HANDLES`] are in use.
    #[must_use]
    #[expect(clippy::expect_used, reason = "at start-up, and documented")]
    pub fn register(self: &Arc<Self>) -> Handle {
        let seat = self
            .epoch
            .sit()
            .expect("fewer than MAX_HANDLES threads use the table");
        Handle {
            table: Arc::clone(self),
            seat,
        }
    }

    /// Connections at the moment, those that wait for their end included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most connections at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// How often a connection found no room.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.full.load(Relaxed)
    }

    /// Bytes of address space that the table has; those of entries never used are not touched.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of_val(&*self.entries) + self.index.memory()
    }

    /// Ends connections whose time is over, looking at no more than `budget` entries; calls `ended`
    /// once for each, when no worker can hold it any more. Answers how many ended.
    ///
    /// One thread at a time collects; a second caller answers 0 at once.
    pub fn collect(&self, now: Tick, budget: usize, ended: &mut dyn FnMut(&Conn<'_>)) -> usize {
        match self.collector.try_lock() {
            Some(mut collector) => collector.run(self, now, budget, ended),
            None => 0,
        }
    }

    /// Calls `each` with every connection of the moment. Those that come or go meanwhile may be
    /// missing or be there; no worker waits.
    pub fn scan(&self, handle: &mut Handle, mut each: impl FnMut(&Conn<'_>)) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.scan_from(handle, at, &mut each);
        }
    }

    /// A step of [`Table::scan`]: a few hundred entries from `from` on (0 is the start). Answers
    /// where to go on; `None` at the end.
    pub fn scan_from(
        &self,
        handle: &mut Handle,
        from: usize,
        mut each: impl FnMut(&Conn<'_>),
    ) -> Option<usize> {
        /// Entries for which one epoch is held.
        const STEP: usize = 256;
        let used = (self.pool.used() as usize).min(self.entries.len());
        let end = from.saturating_add(STEP).min(used);
        let entries = self.entries.get(from..end)?;
        let _guard = handle.pin();
        for (index, entry) in (from..).zip(entries) {
            let Ok(index) = u32::try_from(index) else {
                break;
            };
            let conn = Conn {
                table: self,
                entry,
                index,
            };
            if conn.is_published() && conn.is_live() {
                each(&conn);
            }
        }
        (end < used).then_some(end)
    }

    fn place(&self, flow: &Flow) -> Place {
        self.index.place(self.hasher.hash(flow))
    }

    /// The connection at an index, if a packet of this flow belongs to it.
    #[inline]
    fn recognise(&self, index: u32, flow: &Flow) -> Option<Hit<'_>> {
        let entry = self.entries.get(index as usize)?;
        let direction = if entry.is_request(flow) {
            Direction::FromClient
        } else if entry.is_reply(flow) {
            Direction::FromServer
        } else {
            return None;
        };
        Some(Hit {
            conn: Conn {
                table: self,
                entry,
                index,
            },
            direction,
        })
    }

    #[inline]
    fn find(&self, place: Place, flow: &Flow) -> Option<Hit<'_>> {
        self.index.find(place, |index| self.recognise(index, flow))
    }

    fn insert(&self, new: &NewConnection) -> Result<Inserted<'_>, TableFull> {
        let index = self
            .pool
            .pop(&self.entries)
            .ok_or_else(|| self.count_full())?;
        let entry = self.entries.get(index as usize).ok_or(TableFull)?;
        let identity = Identity {
            protocol: new.protocol,
            method: new.method,
            client: new.client,
            virtual_: new.virtual_endpoint,
            server: new.destination,
            local: new.local,
        };
        entry.fill(&identity);
        entry.dest_index.store(new.dest.index, Relaxed);
        entry.dest_generation.store(new.dest.generation, Relaxed);
        entry.last_seen.store(new.now.0, Relaxed);
        entry.timeout.store(FIRST_TIMEOUT, Relaxed);
        // The wheel does not have it yet; the queue below tells it.
        entry.due.store((new.now + FIRST_TIMEOUT).0, Relaxed);
        entry.in_packets.store(0, Relaxed);
        entry.mark.store(new.mark, Relaxed);
        entry.control.store(NIL, Relaxed);
        let no_output = if new.method.rewrites_replies() {
            0
        } else {
            NO_OUTPUT
        };
        // Release: a scan that sees it live sees all of it.
        entry
            .word
            .store(LIVE | INACTIVE | no_output | crate::entry::QUEUED, Release);

        let request = identity.request();
        let mut existing = None;
        let place = self.place(&request);
        let taken = self.index.insert(Key::Request, place, index, |other| {
            let hit = self.recognise(other, &request);
            let hit =
                hit.filter(|hit| hit.direction == Direction::FromClient && hit.conn.is_live());
            existing = hit.map(|hit| hit.conn);
            existing.is_some()
        });
        if let (Ok(Some(_)), Some(conn)) = (&taken, existing) {
            self.give_back(index, entry);
            return Ok(Inserted::Existing(conn));
        }
        if taken.is_err() {
            self.give_back(index, entry);
            return Err(self.count_full());
        }
        let reply = identity.reply();
        if self
            .index
            .insert(Key::Reply, self.place(&reply), index, |_| false)
            .is_err()
        {
            // It was in the table for a moment; the collector takes it out in order.
            let conn = Conn {
                table: self,
                entry,
                index,
            };
            self.queue(index);
            self.len.fetch_add(1, Relaxed);
            conn.unlink(new.now);
            return Err(self.count_full());
        }
        self.len.fetch_add(1, Relaxed);
        self.queue(index);
        Ok(Inserted::New(Conn {
            table: self,
            entry,
            index,
        }))
    }

    /// Frees an entry that no index names and nobody else has seen, but for a scan.
    fn give_back(&self, index: u32, entry: &Entry) {
        entry.word.store(0, Relaxed);
        self.pool.push(&self.entries, index);
    }

    fn count_full(&self) -> TableFull {
        self.full.fetch_add(1, Relaxed);
        TableFull
    }

    /// Removes both keys of an entry; by whoever set [`UNLINKED`].
    pub(crate) fn remove_keys(&self, index: u32, entry: &Entry) {
        debug_assert!(
            entry.word.load(Relaxed) & UNLINKED != 0,
            "only who unlinks removes"
        );
        let identity = entry.identity();
        self.index
            .remove(Key::Request, self.place(&identity.request()), index);
        self.index
            .remove(Key::Reply, self.place(&identity.reply()), index);
    }

    /// Puts an entry whose `QUEUED` bit the caller has set on the collector's list.
    pub(crate) fn queue(&self, index: u32) {
        let Some(entry) = self.entries.get(index as usize) else {
            return;
        };
        let mut first = self.queue.load(Relaxed);
        loop {
            entry.queue_next.store(first, Relaxed);
            // Release: pairs with the acquire in `take_queue`.
            match self
                .queue
                .compare_exchange_weak(first, index, AcqRel, Relaxed)
            {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Takes the whole list.
    pub(crate) fn take_queue(&self) -> u32 {
        self.queue.swap(NIL, Acquire)
    }
}

/// One thread's way into the table.
#[derive(Debug)]
pub struct Handle {
    table: Arc<Table>,
    seat: usize,
}

impl Handle {
    /// Begins a batch. What is found under the guard stays what it is until the guard is dropped,
    /// and memory of ended connections is not used again before: hold it for a batch, never while
    /// waiting.
    #[inline]
    pub fn pin(&mut self) -> Guard<'_> {
        self.table.epoch.enter(self.seat);
        Guard {
            table: &self.table,
            seat: self.seat,
        }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.table.epoch.leave(self.seat);
    }
}

/// A batch in progress.
#[derive(Debug)]
pub struct Guard<'a> {
    table: &'a Table,
    seat: usize,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.table.epoch.exit(self.seat);
    }
}

impl Guard<'_> {
    /// The connection of a packet's flow.
    #[inline]
    #[must_use]
    pub fn lookup(&self, flow: &Flow) -> Option<Hit<'_>> {
        if flow.protocol == Protocol::Ip {
            return None;
        }
        self.table.find(self.table.place(flow), flow)
    }

    /// The connections of many flows, found in stages so that their cache misses overlap. A flow of
    /// [`Flow::NONE`] finds nothing.
    pub fn lookup_batch<'g>(&'g self, flows: &[Flow], hits: &mut [Option<Hit<'g>>]) {
        let table = self.table;
        for (flows, hits) in flows.chunks(STAGE).zip(hits.chunks_mut(STAGE)) {
            let mut places = [Place::default(); STAGE];
            for (flow, place) in flows.iter().zip(&mut places) {
                if flow.protocol != Protocol::Ip {
                    *place = table.place(flow);
                    table.index.prefetch(*place);
                }
            }
            for (flow, place) in flows.iter().zip(&places) {
                if flow.protocol != Protocol::Ip
                    && let Some(index) = table.index.first(*place)
                    && let Some(entry) = table.entries.get(index as usize)
                {
                    prefetch(entry);
                    prefetch(&entry.last_seen);
                }
            }
            for ((flow, place), hit) in flows.iter().zip(&places).zip(hits) {
                *hit = if flow.protocol == Protocol::Ip {
                    None
                } else {
                    table.find(*place, flow)
                };
            }
        }
    }

    /// Adds a connection, unless its client's flow has one.
    ///
    /// # Errors
    /// [`TableFull`]; the table is as it was.
    pub fn insert(&self, new: &NewConnection) -> Result<Inserted<'_>, TableFull> {
        self.table.insert(new)
    }
}
