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
//! fifth of a second for a million connections (`recover.rs`).

use crate::entry::{Entry, LIVE, NIL, UNLINKED};
use crate::hash::FlowHash;
use crate::index::BUCKET_BYTES;
use crate::mapping::{Mapping, Slab, Zero};
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release};
use crate::table::{MAX_CONNECTIONS, Table, TableConfig, TableError};
use lvs_core::Tick;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
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
    /// The file system has less room than the table may need once it is full.
    #[error(
        "the connection table may need {needed} bytes, and the file system has room for {room}"
    )]
    NoRoom {
        /// Bytes that may yet be needed.
        needed: u64,
        /// Bytes that are free.
        room: u64,
    },
    /// It has more connections than the table shall have at most.
    #[error("the table in this file has {connections} connections, more than the new capacity")]
    TooSmall {
        /// How many it has.
        connections: usize,
    },
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
        let path = path.as_ref();
        let file = Fresh::create(path, plan)?.publish(path)?;
        let (table, _) = file.attach(config.hash, Tick(0))?;
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
        Existing::open(path.as_ref())?.attach(hash, now)
    }

    /// [Attaches](Self::attach) a file if there is one, and [creates](Self::create) it otherwise. One
    /// of another capacity is replaced by one of this, which has the same connections.
    ///
    /// # Errors
    /// As those, and if the file has more connections than the capacity.
    pub fn open(
        path: impl AsRef<Path>,
        config: &TableConfig,
        now: Tick,
    ) -> Result<(Self, Attached), FileError> {
        let path = path.as_ref();
        let plan = config.plan()?;
        match Existing::open(path) {
            Ok(old) if old.plan.capacity == plan.capacity => old.attach(config.hash, now),
            Ok(old) => {
                let new = Fresh::create(path, plan)?;
                copy_live(&old.map()?, &new.map()?)?;
                new.replace(path)?.attach(config.hash, now)
            }
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok((Self::create(path, config)?, Attached::default()))
            }
            Err(other) => Err(other),
        }
    }
}

/// A file that holds a table, locked.
struct Existing {
    file: File,
    plan: Plan,
}

impl Existing {
    fn open(path: &Path) -> Result<Self, FileError> {
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
        Ok(Self { file, plan })
    }

    fn map(&self) -> Result<Parts, FileError> {
        Parts::of(self.file.try_clone()?, self.plan)
    }

    fn attach(self, hash: FlowHash, now: Tick) -> Result<(Table, Attached), FileError> {
        room::check(&self.file)?;
        let mapping = Arc::new(Mapping::of_file(self.file, self.plan.len())?);
        let table = Table::in_memory(&mapping, self.plan, hash);
        let attached = table.recover(now);
        Ok((table, attached))
    }
}

/// A file in the making, locked, beside the path that it will have: nobody finds half of one there.
struct Fresh {
    path: PathBuf,
    file: File,
    plan: Plan,
}

impl Fresh {
    fn create(beside: &Path, plan: Plan) -> Result<Self, FileError> {
        let mut path = beside.as_os_str().to_owned();
        path.push(".new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        // Who is client of whom is nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        lock(&file)?;
        let new = Self {
            path: path.into(),
            file,
            plan,
        };
        // One that was left when its making was interrupted begins anew.
        new.file.set_len(0)?;
        new.file.set_len(plan.len() as u64)?;
        room::check(&new.file)?;
        let head = new.map()?.head;
        head.first().ok_or(FileError::NotATable)?.write(plan);
        Ok(new)
    }

    fn map(&self) -> Result<Parts, FileError> {
        Parts::of(self.file.try_clone()?, self.plan)
    }

    /// Gives it a path that nobody has.
    fn publish(self, path: &Path) -> Result<Existing, FileError> {
        room::rename_new(&self.path, path)?;
        self.published()
    }

    /// Gives it the path of another one.
    fn replace(self, path: &Path) -> Result<Existing, FileError> {
        std::fs::rename(&self.path, path)?;
        self.published()
    }

    fn published(self) -> Result<Existing, FileError> {
        let file = self.file.try_clone()?;
        Ok(Existing {
            file,
            plan: self.plan,
        })
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Once it is published nothing is there any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The memory of a file that is no table yet.
struct Parts {
    head: Slab<Head>,
    entries: Slab<Entry>,
}

impl Parts {
    fn of(file: File, plan: Plan) -> Result<Self, FileError> {
        let mapping = Arc::new(Mapping::of_file(file, plan.len())?);
        Ok(Self {
            head: Slab::of(&mapping, 0, 1),
            entries: Slab::of(&mapping, plan.entries(), plan.capacity),
        })
    }
}

/// Copies what is live, without gaps.
fn copy_live(from: &Parts, to: &Parts) -> Result<(), FileError> {
    let (Some(old), Some(new)) = (from.head.first(), to.head.first()) else {
        return Err(FileError::NotATable);
    };
    let used = (old.fresh.load(Relaxed) as usize).min(from.entries.len());
    let entries = from.entries.get(..used).unwrap_or_default();
    let live = |entry: &Entry| entry.word.load(Relaxed) & (LIVE | UNLINKED) == LIVE;
    let mut places = vec![NIL; used];
    let mut count = 0;
    for (entry, place) in entries
        .iter()
        .zip(&mut places)
        .filter(|(entry, _)| live(entry))
    {
        if let Some(copy) = to.entries.get(count as usize) {
            copy.copy(entry);
        }
        *place = count;
        count += 1;
    }
    if count as usize > to.entries.len() {
        return Err(FileError::TooSmall {
            connections: count as usize,
        });
    }
    for copy in to.entries.iter().take(count as usize) {
        let parent = places.get(copy.control.load(Relaxed) as usize);
        copy.control.store(parent.copied().unwrap_or(NIL), Relaxed);
    }
    new.now.store(old.now.load(Relaxed), Relaxed);
    new.fresh.store(count, Relaxed);
    Ok(())
}

fn lock(file: &File) -> Result<(), FileError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(FileError::InUse),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

const _: () = assert!(size_of::<Head>() <= HEADER);

#[cfg(target_os = "linux")]
mod room {
    use super::{File, FileError, Path, io};
    use rustix::fs::{CWD, RenameFlags, fstatvfs, renameat_with};
    use rustix::io::Errno;
    use std::os::unix::fs::MetadataExt;

    /// Whether the file system has what the file may yet need. A page that it cannot give ends the
    /// process that touches it, so it is better to know before.
    pub(super) fn check(file: &File) -> Result<(), FileError> {
        /// Of a file's size on the medium (`stat(2)`).
        const BLOCK: u64 = 512;
        let metadata = file.metadata()?;
        let needed = metadata.len().saturating_sub(metadata.blocks() * BLOCK);
        let system = fstatvfs(file).map_err(io::Error::from)?;
        let room = system.f_bavail.saturating_mul(system.f_frsize);
        // One without a limit says 0 of everything.
        if system.f_blocks != 0 && room < needed {
            return Err(FileError::NoRoom { needed, room });
        }
        Ok(())
    }

    pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems cannot.
            Err(Errno::INVAL | Errno::NOSYS) if !to.try_exists()? => std::fs::rename(from, to),
            other => Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod room {
    use super::{File, FileError, Path, io};

    pub(super) const fn check(_: &File) -> Result<(), FileError> {
        Ok(())
    }

    pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}
