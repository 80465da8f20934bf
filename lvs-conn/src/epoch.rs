//! When may an entry that was taken out of the table be used again? When every worker that could
//! have found it has finished its batch.
//!
//! A global epoch counts up. A worker that begins a batch announces the epoch that it sees; one
//! between batches announces nothing. The epoch moves on only when every announced epoch is the
//! present one, so an entry that was retired in epoch `e` cannot be held by anybody in epoch
//! `e + 2`. A worker that is stopped in the middle of a batch delays the reuse of memory, and
//! nothing else.

use crate::sync::{
    AtomicBool, AtomicU64,
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
}

/// One thread's announcement.
#[derive(Debug)]
struct Seat {
    taken: AtomicBool,
    announced: AtomicU64,
}

impl Epoch {
    pub(crate) fn new(seats: usize) -> Self {
        let seat = || Seat {
            taken: AtomicBool::new(false),
            announced: AtomicU64::new(QUIET),
        };
        Self {
            global: CachePadded::new(AtomicU64::new(FIRST)),
            seats: (0..seats).map(|_| CachePadded::new(seat())).collect(),
        }
    }

    /// A seat for a thread; `None` if all are taken.
    pub(crate) fn sit(&self) -> Option<usize> {
        self.seats.iter().position(|seat| {
            seat.taken
                .compare_exchange(false, true, AcqRel, Relaxed)
                .is_ok()
        })
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
            fence(SeqCst);
        }
    }

    #[inline]
    pub(crate) fn exit(&self, seat: usize) {
        if let Some(seat) = self.seats.get(seat) {
            // Release: all reads of entries come before.
            seat.announced.store(QUIET, Release);
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.global.load(Relaxed)
    }

    /// Moves the epoch on if nobody is behind; answers the epoch after that. One caller at a time.
    pub(crate) fn advance(&self) -> u64 {
        let now = self.global.load(Relaxed);
        fence(SeqCst);
        let behind = self.seats.iter().any(|seat| {
            // Acquire: pairs with the release in `exit`.
            let announced = seat.announced.load(Acquire);
            announced != QUIET && announced != now
        });
        if behind {
            return now;
        }
        self.global.store(now + 1, Release);
        now + 1
    }
}
