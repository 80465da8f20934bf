//! The director: one object, shared by the control plane, the workers and the collector.

use crate::adoption::Adoption;
use crate::calls::Calls;
use crate::defence::Defence;
use crate::destination::Ledger;
use crate::limit::{ErrorLimit, Limits};
use crate::locals::Locals;
use crate::pages::Pages;
use crate::relief::Relief;
use crate::rules::Rules;
use crate::settings::Settings;
use crate::stats::{Drops, Estimator, Slabs};
use crate::trash::Trash;
use crate::worker::Worker;
use arc_swap::ArcSwap;
use lvs_conn::{Table, TableConfig, TableError, Timeouts};
use lvs_core::{Counters, DropReason};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// What a director is made with.
#[derive(Clone, Debug)]
pub struct DirectorConfig {
    /// The most connections that it keeps at once.
    pub connections: usize,
    /// The most workers that it serves.
    pub workers: usize,
}

impl Default for DirectorConfig {
    fn default() -> Self {
        Self {
            connections: 1 << 20,
            workers: 1,
        }
    }
}

/// Rules, connections and counters of one director.
///
/// Workers take packets ([`Director::worker`]), the control plane edits rules
/// ([`Director::add_service`] and its siblings), some thread calls [`Director::collect`] often and
/// [`Director::tick`] about once a second. No worker ever waits for any of the others.
#[derive(Debug)]
pub struct Director {
    pub(crate) table: Arc<Table>,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) settings: Settings,
    pub(crate) defence: Defence,
    pub(crate) calls: Calls,
    pub(crate) locals: Locals,
    pub(crate) error_limits: Arc<Limits>,
    pub(crate) adoption: Adoption,
    /// The collector's clock, for edits, which have none.
    pub(crate) clock: AtomicU32,
    /// Connections that helpers expect and whose client's port is not known.
    pub(crate) waiting: AtomicU32,
    pub(crate) rules: Arc<ArcSwap<Rules>>,
    pub(crate) control: Mutex<Control>,
    /// Those of each worker, and behind them those of the collector.
    pub(crate) drops: Box<[Drops]>,
    pub(crate) relief: Mutex<Relief>,
    pub(crate) workers: usize,
    next_worker: AtomicUsize,
    /// Whether a deletion asks for the end of all connections without a destination
    /// (`expire_nodest_conn`).
    pub(crate) sweep_asked: AtomicBool,
    /// The collector's: where in the table that search goes on; [`NO_SWEEP`]: there is none.
    pub(crate) sweep: AtomicUsize,
}

/// From so many changes on, some things are done for all of them together, and freeing what they
/// replaced takes a millisecond.
pub(crate) const MANY: usize = 1000;

/// No search is under way.
pub(crate) const NO_SWEEP: usize = usize::MAX;

/// What only the control plane touches.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The next generation of a destination's number.
    pub(crate) generation: u32,
    /// The lowest index that was never used.
    pub(crate) next_index: u32,
    /// Indexes that nobody holds.
    pub(crate) free: Vec<u32>,
    pub(crate) trash: Trash,
    pub(crate) slabs: Slabs,
    pub(crate) ledgers: Pages<Ledger>,
    /// Snapshots that were replaced: no worker shall be the last to hold one, and free it.
    retired: Vec<Arc<Rules>>,
    /// As well, by a snapshot that differs much: freeing it takes long, and no edit waits for that.
    heavy: Vec<Arc<Rules>>,
    /// What services that are gone had counted, less the last zeroing.
    pub(crate) departed: Counters,
    /// Of the totals.
    pub(crate) estimator: Estimator,
}

impl Control {
    /// Frees the replaced snapshots that no worker holds any more, but for what takes long.
    fn free_retired(&mut self) {
        self.retired.retain(|rules| Arc::strong_count(rules) > 1);
    }

    /// Frees all of them.
    pub(crate) fn free_all_retired(&mut self) {
        self.free_retired();
        self.heavy.retain(|rules| Arc::strong_count(rules) > 1);
    }
}

impl Director {
    /// A director without rules.
    ///
    /// # Errors
    /// If the connection table cannot have its memory.
    pub fn new(config: &DirectorConfig) -> Result<Arc<Self>, TableError> {
        let table = Table::new(&TableConfig {
            capacity: config.connections,
            ..TableConfig::default()
        })?;
        Ok(Self::with_table(table, config.workers))
    }

    /// A director without rules, for at most so many workers, with a table that is there already. Its
    /// connections, if it has any, belong to no destination before [`Director::adopt`].
    #[must_use]
    pub fn with_table(table: Table, workers: usize) -> Arc<Self> {
        let workers = workers.max(1);
        let director = Arc::new(Self {
            table: Arc::new(table),
            timeouts: Arc::new(Timeouts::default()),
            settings: Settings::default(),
            defence: Defence::default(),
            calls: Calls::default(),
            locals: Locals::default(),
            error_limits: Arc::default(),
            adoption: Adoption::default(),
            clock: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            sweep_asked: AtomicBool::new(false),
            sweep: AtomicUsize::new(NO_SWEEP),
            rules: Arc::new(ArcSwap::from_pointee(Rules::new())),
            control: Mutex::new(Control::default()),
            drops: (0..=workers).map(|_| Drops::default()).collect(),
            relief: Mutex::default(),
            workers,
            next_worker: AtomicUsize::new(0),
        });
        director.take_over();
        director
    }

    /// The next worker; `None` once all of [`DirectorConfig::workers`] are taken.
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> Option<Worker> {
        let number = self.next_worker.fetch_add(1, Relaxed);
        (number < self.workers).then(|| Worker::new(self, number))
    }

    /// The connection table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The timeouts of the protocols' states, settable at any time.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The kernel's settings of what becomes of connections, settable at any time.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many ICMP errors the director sends, from the next one on.
    ///
    /// ```
    /// use lvs_director::{Director, DirectorConfig, ErrorLimit};
    ///
    /// let director = Director::new(&DirectorConfig::default())?;
    /// director.set_error_limit(ErrorLimit::LINUX);
    /// # Ok::<(), lvs_conn::TableError>(())
    /// ```
    pub fn set_error_limit(&self, limit: ErrorLimit) {
        self.error_limits.set(limit);
    }

    /// How many packets were dropped, by reason; reasons that never occurred included.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|reason| {
            (
                *reason,
                self.drops.iter().map(|worker| worker.read(*reason)).sum(),
            )
        })
    }

    /// Makes `rules`, after so many changes, what the workers see from their next batch on.
    pub(crate) fn publish(&self, control: &mut Control, mut rules: Rules, changes: usize) {
        rules.settle();
        let old = self.rules.swap(Arc::new(rules));
        control.free_retired();
        match changes {
            0..MANY => control.retired.push(old),
            _ => control.heavy.push(old),
        }
    }
}
