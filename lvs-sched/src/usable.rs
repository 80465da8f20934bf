//! Who may be chosen, as a bit a backend, for rules that jump about in a long list.
//!
//! In comes a place of a list, out comes whether its backend may be chosen, in most cases without a
//! look at the backend: 16,384 bits fit into the nearest cache, 16,384 backends into the farthest.
//! The bits are right as long as no backend of the process has changed that way since they were
//! read ([`clock::reshapes`]); when one has, backends are asked themselves, and after as many
//! questions as there are backends the bits are read anew. So a question costs constant time
//! however often backends change.

use crate::Backend;
use crate::clock;
use crate::scheduler::List;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use alloc::boxed::Box;

/// Nobody reads the bits anew at the moment.
const IDLE: u32 = 0;
const BUSY: u32 = 1;

/// The bits of one version of a list.
#[derive(Debug)]
pub(crate) struct Usable {
    words: Box<[AtomicU64]>,
    /// [`clock::reshapes`] when the bits were read.
    stamp: AtomicU64,
    /// Questions that the bits could not answer.
    asked: AtomicU32,
    reader: AtomicU32,
}

impl Usable {
    /// For this list and no other.
    pub(crate) fn new(list: &List) -> Self {
        let this = Self {
            words: (0..list.len().div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            stamp: AtomicU64::new(0),
            asked: AtomicU32::new(0),
            reader: AtomicU32::new(IDLE),
        };
        this.read(list);
        this
    }

    /// Whether the backend at a place may be chosen.
    #[inline]
    pub(crate) fn at(&self, list: &List, at: usize) -> bool {
        // Acquire: bits that are read after the stamp are at least as new.
        if self.stamp.load(Ordering::Acquire) == clock::reshapes()
            && let Some(word) = self.words.get(at / 64)
        {
            word.load(Ordering::Relaxed) >> (at % 64) & 1 != 0
        } else {
            self.ask(list, at)
        }
    }

    #[cold]
    fn ask(&self, list: &List, at: usize) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        // A lost count delays the next reading by one question.
        self.asked.store(asked.wrapping_add(1), Ordering::Relaxed);
        if asked as usize >= list.len()
            && self
                .reader
                .compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            self.asked.store(0, Ordering::Relaxed);
            self.read(list);
            // Pairs with the Acquire of the next reader.
            self.reader.store(IDLE, Ordering::Release);
        }
        list.get(at).is_some_and(|backend| backend.is_usable())
    }

    /// Reads the bits anew; one thread at a time.
    fn read(&self, list: &List) {
        // The stamp first: what is read after it is at least as new.
        let stamp = clock::reshapes();
        for (word, backends) in self.words.iter().zip(list.chunks(64)) {
            let bit = |(at, backend): (usize, &_)| u64::from(Backend::is_usable(backend)) << at;
            let bits = backends
                .iter()
                .map(|backend| &**backend)
                .enumerate()
                .map(bit)
                .sum();
            word.store(bits, Ordering::Relaxed);
        }
        self.stamp.store(stamp, Ordering::Release);
    }
}
