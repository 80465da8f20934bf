//! When may an entry that was taken out of the table be used again? When every worker that could
//! have found it has finished its batch.
//!
//! A global epoch counts up. A worker that begins a batch announces the epoch that it sees; one
//! between batches announces nothing. The epoch moves on only when every announced epoch is the
//! present one. What was out of the index before the epoch moved from `e` to `e + 1` was found, if
//! at all, by workers that announced `e` or less; none of them is left when the epoch moves on to
//! `e + 2`. A worker that is stopped in the middle of a batch delays the reuse of memory, and nothing
//! else.

use crate::sync::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};
use crossbeam_utils::CachePadded;

/// Nothing announced.
const QUIET: u64 = 0;
/// The first epoch.
const FIRST: u64 = 1;

#[derive(Debug)]
pub(crate) struct Epoch {
    global: CachePadded<AtomicU64>,
    seats: Box<[CachePadded<Seat>]>,
    /// Seats from this number on were never taken.
    used: AtomicUsize,
}

/// One thread's announcement, and what only it writes.
#[derive(Debug)]
struct Seat {
    taken: AtomicBool,
    announced: AtomicU64,
    /// Connections made from this seat.
    made: AtomicUsize,
}

impl Epoch {
    pub(crate) fn new(seats: usize) -> Self {
        let seat = || Seat {
            taken: AtomicBool::new(false),
            announced: AtomicU64::new(QUIET),
            made: AtomicUsize::new(0),
        };
        Self {
            global: CachePadded::new(AtomicU64::new(FIRST)),
            seats: (0..seats).map(|_| CachePadded::new(seat())).collect(),
            used: AtomicUsize::new(0),
        }
    }

    /// A seat for a thread; `None` if all are taken.
    pub(crate) fn sit(&self) -> Option<usize> {
        let seat = self.seats.iter().position(|seat| {
            // Acquire: pairs with the release in `leave`; the count of the last one is there.
            seat.taken
                .compare_exchange(false, true, AcqRel, Relaxed)
                .is_ok()
        })?;
        // Before the first announcement, whose fence makes `advance` see either both or neither.
        self.used.fetch_max(seat + 1, Relaxed);
        Some(seat)
    }

    pub(crate) fn leave(&self, seat: usize) {
        if let Some(seat) = self.seats.get(seat) {
            seat.announced.store(QUIET, Release);
            seat.taken.store(false, Release);
        }
    }

    /// Announces the present epoch. What is found from now on stays until [`Epoch::exit`].
    #[inline]
    pub(crate) fn enter(&self, seat: usize) {
        if let Some(seat) = self.seats.get(seat) {
            seat.announced.store(self.global.load(Relaxed), Relaxed);
            // Sequentially consistent: pairs with the fence in `advance`. Either the collector
            // sees the announcement, or this thread sees the table without the retired entries.
            // It is an acquire fence too: pairs with the release of the epoch that was announced.
            fence(SeqCst);
        }
    }

    #[inline]
    pub(crate) fn exit(&self, seat: usize) {
        if let Some(seat) = self.seats.get(seat) {
            // Release: all uses of entries come before.
            seat.announced.store(QUIET, Release);
        }
    }

    /// The present epoch; for who moves it.
    pub(crate) fn now(&self) -> u64 {
        self.global.load(Relaxed)
    }

    /// Moves the epoch on if nobody is behind; answers the epoch after that. One caller at a time.
    pub(crate) fn advance(&self) -> u64 {
        let now = self.global.load(Relaxed);
        fence(SeqCst);
        let used = self.used.load(Relaxed);
        let behind = self.seats.iter().take(used).any(|seat| {
            // Acquire: pairs with the release in `exit`.
            let announced = seat.announced.load(Acquire);
            announced != QUIET && announced != now
        });
        if behind {
            return now;
        }
        // Release: pairs with the fence in `enter`; what was taken out is out for who sees it.
        self.global.store(now + 1, Release);
        now + 1
    }

    /// Counts a connection made from a seat, by its owner.
    #[inline]
    pub(crate) fn count(&self, seat: usize) {
        if let Some(seat) = self.seats.get(seat) {
            let made = seat.made.load(Relaxed);
            seat.made.store(made.wrapping_add(1), Relaxed);
        }
    }

    /// Connections made from all seats; wraps.
    pub(crate) fn made(&self) -> usize {
        let used = self.used.load(Relaxed);
        let made = |sum: usize, seat: &CachePadded<Seat>| sum.wrapping_add(seat.made.load(Relaxed));
        self.seats.iter().take(used).fold(0, made)
    }
}
