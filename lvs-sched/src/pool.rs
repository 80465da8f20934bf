//! The backends of one service and the rule that chooses among them.
//!
//! In come edits from the control thread and requests from the workers; out come backends. A pool
//! is a value: an edit is made on a clone, which is then published; the clone carries on where the
//! original stands. A choice never waits, allocates or panics.

use crate::scheduler::Scheduler;
use crate::schedulers::{self, Entry};
use crate::{Backend, Draft, Request};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use lvs_core::{SchedFlags, Tick};

/// There is no scheduler of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownScheduler;

impl fmt::Display for UnknownScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no scheduler of that name")
    }
}

impl core::error::Error for UnknownScheduler {}

/// Why an edit was refused; the pool is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// There is no scheduler of that name.
    UnknownScheduler,
    /// More backends than the scheduler has room for (`mh`: than slots).
    TooManyBackends,
    /// The pool has this backend already.
    AlreadyThere,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownScheduler => "no scheduler of that name",
            Self::TooManyBackends => "more backends than the scheduler has room for",
            Self::AlreadyThere => "the pool has this backend already",
        })
    }
}

impl core::error::Error for EditError {}

impl From<UnknownScheduler> for EditError {
    fn from(_: UnknownScheduler) -> Self {
        Self::UnknownScheduler
    }
}

/// What the kernel fixes when it is built, or leaves to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `sh`: the table has 2 to this power buckets; 4 to 20, the kernel's default 8.
    pub sh_bits: u8,
    /// `mh`, `mhbl`: which prime the table's size is (IPVS 1.7): 8 is 251, 12 (the default) 4093,
    /// 16 65,521, 17 131,071.
    pub mh_index: u8,
    /// `mhbl`: how far above its share a backend may be, in percent; 25 by default.
    pub mhbl_slack: u8,
    /// `lblc`, `lblcr`: seconds after which a destination address is forgotten; 86,400.
    pub cache_expiration: u32,
    /// `twos`, `p2c`: where the sequence of random numbers starts.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sh_bits: 8,
            mh_index: 12,
            mhbl_slack: 25,
            cache_expiration: 86_400,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

/// The backends of one service, newest first, and its scheduler.
///
/// Cloning is cheap (three counts). A clone shares the scheduler's state (cursor, cache) with the
/// original until one of them is edited; the edited one goes on from the state of that moment, as
/// the kernel's list does. `lblc`'s and `lblcr`'s caches stay shared.
///
/// ```
/// use lvs_core::{SchedFlags, Thresholds, Tick};
/// use lvs_sched::{Backend, Pool, Request};
///
/// let mut pool = Pool::new("rr", SchedFlags::default())?;
/// for (id, text) in [(1, "10.0.0.1:80"), (2, "10.0.0.2:80")] {
///     pool.add(Backend::new(id, text.parse()?, 1, Thresholds::default()))?;
/// }
/// let request = Request::new("198.51.100.1:4000".parse()?, "192.0.2.1:80".parse()?, Tick(0));
/// let chosen: Vec<_> = (0..3).filter_map(|_| pool.pick(&request)).map(|b| b.id()).collect();
/// assert_eq!(chosen, [2, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) list: Arc<[Arc<Backend>]>,
    pub(crate) scheduler: Arc<dyn Scheduler>,
    entry: &'static Entry,
    flags: SchedFlags,
    options: Options,
}

impl Pool {
    /// An empty pool.
    ///
    /// # Errors
    /// [`UnknownScheduler`] if the name is not one of [`NAMES`](crate::NAMES).
    pub fn new(scheduler: &str, flags: SchedFlags) -> Result<Self, UnknownScheduler> {
        Self::with_options(scheduler, flags, Options::default())
    }

    /// An empty pool whose tables are not of the kernel's default sizes.
    ///
    /// # Errors
    /// [`UnknownScheduler`] if the name is not one of [`NAMES`](crate::NAMES).
    pub fn with_options(
        scheduler: &str,
        flags: SchedFlags,
        options: Options,
    ) -> Result<Self, UnknownScheduler> {
        let entry = schedulers::find(scheduler).ok_or(UnknownScheduler)?;
        Ok(Self {
            list: Arc::from(Vec::new()),
            scheduler: (entry.build)(&[], &options),
            entry,
            flags,
            options,
        })
    }

    /// Puts a backend at the head of the list and makes it available.
    ///
    /// # Errors
    /// [`EditError`]; the pool is as it was.
    pub fn add(&mut self, backend: Arc<Backend>) -> Result<(), EditError> {
        self.extend(core::iter::once(backend))
    }

    /// Adds one backend after the other, building tables once. The result is the same as that of
    /// as many [`Pool::add`].
    ///
    /// # Errors
    /// [`EditError`]; the pool is as it was.
    pub fn extend(
        &mut self,
        backends: impl IntoIterator<Item = Arc<Backend>>,
    ) -> Result<(), EditError> {
        let mut draft = Draft::new(self.clone());
        backends.into_iter().for_each(|backend| draft.add(backend));
        *self = draft.finish()?;
        Ok(())
    }

    /// Takes a backend out and makes it unavailable; whether it was there.
    ///
    /// Its counts go on: the same object may be added again later (IPVS 0.4).
    pub fn remove(&mut self, backend: &Backend) -> bool {
        self.edit(|draft| draft.remove(backend))
    }

    /// Takes note that a backend's weight or thresholds were set; whether it is there.
    ///
    /// To be called after every edit, even one that changed nothing: `wrr` starts a new cycle.
    pub fn updated(&mut self, backend: &Backend) -> bool {
        self.edit(|draft| draft.updated(backend))
    }

    /// An edit that needs no more room; whether it did something.
    fn edit(&mut self, edit: impl FnOnce(&mut Draft) -> bool) -> bool {
        let mut draft = Draft::new(self.clone());
        let done = edit(&mut draft);
        if done && let Ok(next) = draft.finish() {
            *self = next;
        }
        done
    }

    /// Edits the service: another scheduler starts anew, the same one carries on.
    ///
    /// # Errors
    /// [`EditError`]; the pool is as it was.
    pub fn set_scheduler(&mut self, scheduler: &str, flags: SchedFlags) -> Result<(), EditError> {
        let entry = schedulers::find(scheduler).ok_or(EditError::UnknownScheduler)?;
        if entry.name != self.entry.name {
            let next = (entry.build)(&self.list, &self.options);
            if self.list.len() > next.capacity() {
                return Err(EditError::TooManyBackends);
            }
            self.scheduler = next;
            self.entry = entry;
        }
        self.flags = flags;
        Ok(())
    }

    /// How many backends the scheduler has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.scheduler.capacity()
    }

    /// The scheduler's name.
    #[must_use]
    pub const fn scheduler_name(&self) -> &'static str {
        self.entry.name
    }

    /// The scheduler's flags.
    #[must_use]
    pub const fn flags(&self) -> SchedFlags {
        self.flags
    }

    /// The backends in list order, newest first.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.list
    }

    /// Where a backend stands in the list; it is known by its identity, not by its endpoint.
    #[must_use]
    pub fn position(&self, backend: &Backend) -> Option<usize> {
        self.list
            .iter()
            .position(|member| core::ptr::eq(&raw const **member, backend))
    }

    /// The backend for a new connection, or `None` if none may be given one.
    ///
    /// The caller then reports [`Backend::opened`].
    #[inline]
    #[must_use]
    pub fn pick(&self, request: &Request) -> Option<&Arc<Backend>> {
        let at = self.scheduler.pick(&self.list, self.flags, request)?;
        self.list.get(at)
    }

    /// `lblc`, `lblcr`: has addresses be forgotten after so many idle seconds from now on, instead of
    /// [`Options::cache_expiration`]; 90 days at the most. Nothing to do for the others.
    pub fn expire_after(&self, seconds: u32) {
        self.scheduler.expire_after(seconds);
    }

    /// Housekeeping of `lblc` and `lblcr`: to be called about once a second by one thread, on the
    /// published pool. Nothing to do for the others.
    pub fn tick(&self, now: Tick) {
        self.scheduler.tick(&self.list, now);
    }
}

/// How many backends a scheduler of this name, with the default [`Options`], has room for; `None` if
/// there is none of that name.
///
/// ```
/// assert_eq!(lvs_sched::capacity("mh"), Some(4093));
/// assert_eq!(lvs_sched::capacity("wlc"), Some(usize::MAX));
/// ```
#[must_use]
pub fn capacity(scheduler: &str) -> Option<usize> {
    let entry = schedulers::find(scheduler)?;
    Some((entry.build)(&[], &Options::default()).capacity())
}
