//! The table: entries, the index, and who may use them when.

use crate::collector::Collector;
use crate::conn::Conn;
use crate::entry::{Entry, Identity, NIL, TEMPLATE, WIDE_REPLY, WIDE_REQUEST};
use crate::epoch::Epoch;
use crate::file::{Head, Plan};
use crate::handle::Handle;
use crate::hash::FlowHash;
use crate::index::{Index, Key, Named, Place};
use crate::mapping::{Mapping, Slab};
use crate::pool::Pool;
use crate::raw::prefetch;
use crate::sides::Sides;
use crate::sync::{
    AtomicU32, AtomicU64, AtomicUsize, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};
use crossbeam_utils::CachePadded;
use lvs_core::{Endpoint, Flow, Protocol, Tick};
use std::sync::Arc;
use thiserror::Error;

/// The most threads that can hold a [`Handle`] at once.
#[cfg(not(lvs_loom))]
pub const MAX_HANDLES: usize = 128;
/// The most threads that can hold a [`Handle`] at once.
#[cfg(lvs_loom)]
pub const MAX_HANDLES: usize = if cfg!(lvs_shuttle) { 4 } else { 2 };
/// The most connections of a table.
pub const MAX_CONNECTIONS: usize = 1 << 27;

/// What a table is made with.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// The most connections at once, 1 to [`MAX_CONNECTIONS`]. Memory is taken as it is used. The
    /// index has 1.4 slots for each: enough for all of them by NAT, direct routing and tunnels; of those
    /// by FULLNAT alone, which need two, it takes two thirds.
    pub capacity: usize,
    /// The hash and its key; by default drawn from the system's randomness.
    pub hash: FlowHash,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            hash: FlowHash::default(),
        }
    }
}

impl TableConfig {
    /// Where things lie in the memory of such a table.
    pub(crate) fn plan(&self) -> Result<Plan, TableError> {
        if self.capacity == 0 || self.capacity > MAX_CONNECTIONS {
            return Err(TableError::Capacity(self.capacity));
        }
        Ok(Plan {
            capacity: self.capacity,
            // Five sevenths of the slots are used.
            buckets: Index::buckets(self.capacity * 7 / 5),
        })
    }

    /// For `capacity` connections at most.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            ..Self::default()
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

/// Where a connection is found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keys {
    pub(crate) request: Place,
    /// Not if it has none, or the same.
    pub(crate) reply: Option<Place>,
}

/// A table of connections that any number of threads use at once.
///
/// Made of entries of 128 bytes and an index of 6 bytes for each: a connection has one slot of the
/// index, found by its client's address and port whatever the direction. One with FULLNAT, whose
/// replies do not name the client, has a second; so have those of a client's endpoint that has two
/// dozen already.
#[derive(Debug)]
pub struct Table {
    /// Bytes of the mapping.
    memory: usize,
    pub(crate) entries: Slab<Entry>,
    pub(crate) index: Index,
    pub(crate) pool: Pool,
    pub(crate) epoch: Epoch,
    pub(crate) hash: FlowHash,
    pub(crate) sides: Sides,
    /// Connections with a key made of their whole flow.
    pub(crate) wide_count: CachePadded<AtomicUsize>,
    /// Entries that the collector shall look at: new ones, and those that end earlier than it knows.
    queue: CachePadded<AtomicU32>,
    /// Entries that were connections once.
    ended: CachePadded<AtomicUsize>,
    full: CachePadded<AtomicU64>,
    collector: Mutex<Collector>,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// [`TableError::Capacity`].
    pub fn new(config: &TableConfig) -> Result<Self, TableError> {
        let plan = config.plan()?;
        let mapping = Arc::new(Mapping::anonymous(plan.len()));
        Ok(Self::in_memory(&mapping, plan, config.hash))
    }

    /// A table in memory that is zero, or is about to be made one.
    pub(crate) fn in_memory(mapping: &Arc<Mapping>, plan: Plan, hash: FlowHash) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CONNECTIONS")]
        let capacity = plan.capacity as u32;
        Self {
            memory: plan.len(),
            entries: Slab::of(mapping, plan.entries(), plan.capacity),
            index: Index::new(Slab::of(mapping, plan.index(), plan.buckets), capacity),
            pool: Pool::new(Slab::of(mapping, 0, 1), capacity),
            epoch: Epoch::new(MAX_HANDLES),
            hash,
            sides: Sides::new(),
            wide_count: CachePadded::new(AtomicUsize::new(0)),
            queue: CachePadded::new(AtomicU32::new(NIL)),
            ended: CachePadded::new(AtomicUsize::new(0)),
            full: CachePadded::new(AtomicU64::new(0)),
            collector: Mutex::new(Collector::default()),
        }
    }

    /// What the memory begins with.
    pub(crate) fn head(&self) -> &Head {
        self.pool.head()
    }

    /// Connections that are there already, as a list for the collector.
    pub(crate) fn begin_with(&self, connections: usize, queue: u32) {
        self.ended.store(0_usize.wrapping_sub(connections), Relaxed);
        // Release: as `queue` does.
        self.queue.store(queue, Release);
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
        Handle::new(Arc::clone(self), seat)
    }

    /// Connections at the moment, those that wait for their end included.
    #[must_use]
    pub fn len(&self) -> usize {
        // In this order, so that a connection that ends between the two is not taken away twice.
        let ended = self.ended.load(Acquire);
        self.epoch.made().wrapping_sub(ended)
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
        self.memory
    }

    /// Ends connections whose time is over and calls `ended` once for each, when no worker can hold
    /// it any more. Looks at no more than `budget` entries of each sort (new ones, those that are
    /// due, those that can be freed); the next call goes on where this one stops. Answers how many
    /// were reported. `now` may not be ahead of the workers' clock; if it goes backwards, nothing
    /// ends early.
    ///
    /// It also has memory ready for connections to come, so that no worker waits for a page: 2 MiB of
    /// the index at a call until it has all of it, and 4 MiB of entries. That may take it milliseconds,
    /// so let no thread that handles packets collect.
    ///
    /// One thread at a time collects; a second caller answers 0 at once.
    pub fn collect(&self, now: Tick, budget: usize, ended: &mut dyn FnMut(&Conn<'_>)) -> usize {
        match self.collector.try_lock() {
            Some(mut collector) => {
                self.head().now.store(now.0, Relaxed);
                collector.run(self, now, budget, ended)
            }
            None => 0,
        }
    }

    /// Calls `each` with every connection of the moment. Those that come or go meanwhile may be
    /// missing or be there; no worker waits. May expire or unlink what it is shown: that is how all
    /// connections of a destination or a service are ended.
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
            if conn.is_live() {
                each(&conn);
            }
        }
        (end < used).then_some(end)
    }

    /// Expires all connections that `which` chooses (see [`Conn::expire`]); answers how many.
    pub fn expire_where(
        &self,
        handle: &mut Handle,
        now: Tick,
        mut which: impl FnMut(&Conn<'_>) -> bool,
    ) -> usize {
        let mut count = 0;
        self.scan(handle, |conn| {
            if which(conn) {
                conn.expire(now);
                count += 1;
            }
        });
        count
    }

    /// What a lookup costs at least: reads a word of both lines of each entry with 32 fetches in
    /// flight. For benches.
    #[doc(hidden)]
    #[must_use]
    pub fn read_entries(&self, indexes: &[u32]) -> u64 {
        const AHEAD: usize = 32;
        for index in indexes.iter().take(AHEAD) {
            self.prefetch(*index);
        }
        let ahead = indexes.iter().skip(AHEAD).map(|index| Some(*index));
        let ahead = ahead.chain(core::iter::repeat(None));
        indexes.iter().zip(ahead).fold(0, |sum, (index, ahead)| {
            if let Some(ahead) = ahead {
                self.prefetch(ahead);
            }
            let Some(entry) = self.entries.get(*index as usize) else {
                return sum;
            };
            let (word, timeout) = (entry.word.load(Relaxed), entry.timeout.load(Relaxed));
            sum.wrapping_add(u64::from(word) + u64::from(timeout))
        })
    }

    /// The bucket where a client's connections are at home, and how many buckets somebody looks through
    /// who looks for one that is not there. For benches and tests.
    #[doc(hidden)]
    #[must_use]
    pub fn longest_probe(&self, protocol: Protocol, client: Endpoint) -> (usize, usize) {
        let place = self.narrow(protocol, client);
        (place.home(), self.index.depth(place))
    }

    /// Where what an endpoint is the client of is found.
    #[inline(always)]
    pub(crate) fn narrow(&self, protocol: Protocol, endpoint: Endpoint) -> Place {
        self.index.place(self.hash.endpoint(protocol, &endpoint))
    }

    /// Where a template is found, and connections of crowds.
    pub(crate) fn wide(&self, flow: &Flow) -> Place {
        self.index.place(self.hash.flow(flow))
    }

    /// Where an entry's keys are.
    pub(crate) fn keys(&self, entry: &Entry) -> Keys {
        let identity = entry.identity();
        if entry.word.load(Relaxed) & TEMPLATE != 0 {
            return Keys {
                request: self.wide(&identity.request()),
                reply: None,
            };
        }
        let cold = entry.cold.load(Relaxed);
        if cold & (WIDE_REQUEST | WIDE_REPLY) == 0 {
            let Identity { protocol, .. } = identity;
            return self.keys_of(protocol, identity.client, identity.local);
        }
        self.wide_keys(&identity, cold & WIDE_REQUEST != 0)
    }

    /// The keys of a connection that is in no crowd; `local` of one with FULLNAT.
    #[inline(always)]
    pub(crate) fn keys_of(
        &self,
        protocol: Protocol,
        client: Endpoint,
        local: Option<Endpoint>,
    ) -> Keys {
        Keys {
            request: self.narrow(protocol, client),
            reply: local.map(|local| self.narrow(protocol, local)),
        }
    }

    /// The keys of one whose reply is found by its whole flow, and maybe its request.
    #[cold]
    pub(crate) fn wide_keys(&self, identity: &Identity, request: bool) -> Keys {
        Keys {
            request: if request {
                self.wide(&identity.request())
            } else {
                self.narrow(identity.protocol, identity.client)
            },
            reply: Some(self.wide(&identity.reply())),
        }
    }

    #[inline]
    pub(crate) fn prefetch_keys(&self, keys: &Keys) {
        self.index.prefetch(keys.request);
        if let Some(reply) = keys.reply {
            self.index.prefetch(reply);
        }
    }

    /// Brings both lines of an entry, if it is one, into the cache.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        if let Some(entry) = self.entries.get(index as usize) {
            prefetch(entry);
            prefetch(&entry.timeout);
        }
    }

    /// Removes an entry's keys from the index, those that are still there.
    pub(crate) fn remove_keys(&self, entry: u32, keys: &Keys) {
        let named = |key| Named { key, entry };
        self.index.remove(keys.request, named(Key::Request));
        if let Some(reply) = keys.reply {
            self.index.remove(reply, named(Key::Reply));
        }
    }

    /// Puts a list of entries whose `QUEUED` bits the caller has set on the collector's.
    pub(crate) fn queue(&self, first: u32, last: u32) {
        let Some(entry) = self.entries.get(last as usize) else {
            return;
        };
        let mut now = self.queue.load(Relaxed);
        loop {
            entry.queue_next.store(now, Relaxed);
            // Release: pairs with the acquire in `take_queue`.
            match self
                .queue
                .compare_exchange_weak(now, first, Release, Relaxed)
            {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    /// Takes the whole list.
    pub(crate) fn take_queue(&self) -> u32 {
        if self.queue.load(Relaxed) == NIL {
            return NIL;
        }
        self.queue.swap(NIL, Acquire)
    }

    /// Frees entries that have ended.
    pub(crate) fn take_back(&self, bundle: Option<&[u32]>) {
        let bundle = bundle.unwrap_or_default();
        // Counted first: who takes the entries anew counts them after.
        let ended = self.ended.load(Relaxed);
        self.ended.store(ended.wrapping_add(bundle.len()), Release);
        self.pool.push(&self.entries, bundle);
    }

    pub(crate) fn count_full(&self) -> TableFull {
        self.full.fetch_add(1, Relaxed);
        TableFull
    }
}
