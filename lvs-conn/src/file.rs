//! A table in a file: what it begins with, and how a later process takes it over.
//!
//! ```text
//!   0          4096              4096 + buckets * 64
//!   | header   | index           | entries                    |
//! ```
//!
//! In: a file. Out: a table that has the connections of the process that had it last. Never: a
//! pointer in the file, or trust in what is in it.
//!
//! What survives the end of a process, `kill -9` included, are the entries. An entry is filled
//! before its word says that it is live, and its word is cleared before it is filled again, so a
//! live one is whole, and a half-written one is not live. All else is made anew on attaching: the
//! index, with a new key; which entries are free; the collector's wheel. That takes about a
//! tenth of a second for a million connections.

use crate::entry::{
    CLOSED, Entry, INVALID, LIVE, NIL, ONE_PACKET, QUEUED, RETIRED, SILENT, TEMPLATE, UNLINKED,
    VERSION,
};
use crate::hash::FlowHash;
use crate::index::BUCKET_BYTES;
use crate::mapping::{Mapping, Slab, Zero};
use crate::new_connection::ConnKind;
use crate::pool::BUNDLE;
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release};
use crate::table::{MAX_CONNECTIONS, Table, TableConfig, TableError};
use lvs_core::Tick;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// `lvs-conn`, as the bytes of a little-endian word: one of the other order reads as something else.
const MAGIC: u64 = u64::from_le_bytes(*b"lvs-conn");
/// The layout of header and entries. A change of either counts it up.
const VERSION_OF_LAYOUT: u32 = 1;
/// Bytes before the index.
const HEADER: usize = 4096;

/// What the memory of a table begins with.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Head {
    magic: AtomicU64,
    version: AtomicU32,
    entry: AtomicU32,
    capacity: AtomicU64,
    buckets: AtomicU64,
    /// Of the fields above.
    check: AtomicU64,
    /// The clock when the collector last ran.
    pub(crate) now: AtomicU32,
    /// The first entry that was never used.
    pub(crate) fresh: AtomicU32,
}

#[allow(unsafe_code, reason = "says that zeroed memory is a header")]
// SAFETY: made of atomic integers only.
unsafe impl Zero for Head {
    fn zero() -> Self {
        Self {
            magic: AtomicU64::default(),
            version: AtomicU32::default(),
            entry: AtomicU32::default(),
            capacity: AtomicU64::default(),
            buckets: AtomicU64::default(),
            check: AtomicU64::default(),
            now: AtomicU32::default(),
            fresh: AtomicU32::default(),
        }
    }
}

/// Why a file cannot be a table's memory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system says no.
    #[error("the file of the connection table cannot be used: {0}")]
    Io(#[from] io::Error),
    /// Another process has it.
    #[error("the connection table in this file is in use by another process")]
    InUse,
    /// It does not begin as a table does: another file, or one whose making was interrupted.
    #[error("this file holds no connection table of this kind of machine")]
    NotATable,
    /// Another version of this crate made it.
    #[error(
        "the connection table in this file has layout {found}, and this program reads {VERSION_OF_LAYOUT}"
    )]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// The header is not what was written, or the file is shorter than it says.
    #[error("the connection table in this file is damaged: {0}")]
    Damaged(&'static str),
    /// There is no such table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// What became of the connections in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attached {
    /// Connections that go on, templates included.
    pub kept: usize,
    /// Entries that were half-written, or not possible, or on the way out.
    pub dropped: usize,
}

/// Where things lie in a table's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) capacity: usize,
    pub(crate) buckets: usize,
}

impl Plan {
    pub(crate) const fn index(self) -> usize {
        HEADER
    }

    pub(crate) const fn entries(self) -> usize {
        // Entries begin at a multiple of their size.
        (HEADER + self.buckets * BUCKET_BYTES).next_multiple_of(align_of::<Entry>())
    }

    pub(crate) const fn len(self) -> usize {
        self.entries() + self.capacity * size_of::<Entry>()
    }
}

impl Head {
    fn sum(&self) -> u64 {
        let words = [
            self.magic.load(Relaxed),
            u64::from(self.version.load(Relaxed)),
            u64::from(self.entry.load(Relaxed)),
            self.capacity.load(Relaxed),
            self.buckets.load(Relaxed),
        ];
        words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
            (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
        })
    }

    fn write(&self, plan: Plan) {
        self.version.store(VERSION_OF_LAYOUT, Relaxed);
        self.entry.store(ENTRY_BYTES, Relaxed);
        self.capacity.store(plan.capacity as u64, Relaxed);
        self.buckets.store(plan.buckets as u64, Relaxed);
        self.magic.store(MAGIC, Relaxed);
        // Release: last, so that who finds it right finds the rest written.
        self.check.store(self.sum(), Release);
    }

    /// What the header says, if it is one.
    fn read(&self) -> Result<Plan, FileError> {
        if self.magic.load(Relaxed) != MAGIC {
            return Err(FileError::NotATable);
        }
        let found = self.version.load(Relaxed);
        if found != VERSION_OF_LAYOUT {
            return Err(FileError::Version { found });
        }
        if self.check.load(Relaxed) != self.sum() || self.entry.load(Relaxed) != ENTRY_BYTES {
            return Err(FileError::Damaged("its header is not what was written"));
        }
        let size = |word: &AtomicU64| usize::try_from(word.load(Relaxed)).unwrap_or(usize::MAX);
        let (capacity, buckets) = (size(&self.capacity), size(&self.buckets));
        if !(1..=MAX_CONNECTIONS).contains(&capacity) || !(2..=MAX_CONNECTIONS).contains(&buckets) {
            return Err(FileError::Damaged("its sizes are impossible"));
        }
        Ok(Plan { capacity, buckets })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "128")]
const ENTRY_BYTES: u32 = size_of::<Entry>() as u32;

impl Table {
    /// An empty table in a new file, which a later process can [attach](Self::attach). The file
    /// grows as connections come; lay it in memory (`/run`, `/dev/shm`) for speed. It is the
    /// table's alone while the table lives.
    ///
    /// # Errors
    /// If the file exists or cannot be made, or the configuration is impossible.
    pub fn create(path: impl AsRef<Path>, config: &TableConfig) -> Result<Self, FileError> {
        let plan = config.plan()?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        lock(&file)?;
        file.set_len(plan.len() as u64)?;
        let mapping = Arc::new(Mapping::of_file(file, plan.len())?);
        let table = Self::in_memory(&mapping, plan, config.hash);
        table.head().write(plan);
        Ok(table)
    }

    /// The table that a process left in a file, however it ended. What is whole goes on; a clock
    /// that has started anew since is set against the old one, as if no time had passed. Connections
    /// that have ended meanwhile are reported by the collector's next runs. Their
    /// [destinations](crate::Conn::dest) are those of the old process, until
    /// [`Conn::set_dest`](crate::Conn::set_dest) says otherwise.
    ///
    /// # Errors
    /// If the file cannot be read, is used by another process, holds no table, or one that is
    /// damaged or of another version. The file is as it was.
    pub fn attach(
        path: impl AsRef<Path>,
        hash: FlowHash,
        now: Tick,
    ) -> Result<(Self, Attached), FileError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock(&file)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if len < HEADER {
            return Err(FileError::NotATable);
        }
        let plan = {
            let header = Arc::new(Mapping::of_file(file.try_clone()?, HEADER)?);
            let head: Slab<Head> = Slab::of(&header, 0, 1);
            head.first().ok_or(FileError::NotATable)?.read()?
        };
        if len < plan.len() {
            return Err(FileError::Damaged("it is shorter than it says"));
        }
        let mapping = Arc::new(Mapping::of_file(file, plan.len())?);
        let table = Self::in_memory(&mapping, plan, hash);
        let attached = table.recover(now);
        Ok((table, attached))
    }

    /// [Attaches](Self::attach) a file if there is one, and [creates](Self::create) it otherwise. The
    /// capacity is that of the file.
    ///
    /// # Errors
    /// As those.
    pub fn open(
        path: impl AsRef<Path>,
        config: &TableConfig,
        now: Tick,
    ) -> Result<(Self, Attached), FileError> {
        let path = path.as_ref();
        match Self::create(path, config) {
            Ok(table) => Ok((table, Attached::default())),
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::attach(path, config.hash, now)
            }
            Err(other) => Err(other),
        }
    }

    /// Makes a table of entries again, with nobody else about.
    fn recover(&self, now: Tick) -> Attached {
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
        entry.cold.store(0, Relaxed);
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

fn lock(file: &File) -> Result<(), FileError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(FileError::InUse),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

const _: () = assert!(CLOSED != 0 && size_of::<Head>() <= HEADER);
