//! The ports of one local address of FULLNAT: who has which, for all workers at once.
//!
//! ```text
//!   words    a bit for each port: taken
//!   full     a bit for each word: nothing to be had there; a hint that is never wrong for long
//! ```
//!
//! A worker comes with the port where it would like to begin, and gets the first free one from there
//! on. It looks at 16 words that say which words are full and at one that is not, so that taking the
//! last of 64 thousand costs as much as taking the first. Of two that want the same port the one whose
//! bit it was gets it; nobody waits. Nothing here allocates after [`LocalPorts::new`].
//!
//! ```
//! use lvs_conn::LocalPorts;
//! let ports = LocalPorts::new(1024);
//! assert_eq!(ports.take(4000), Some(4000));
//! assert_eq!(ports.take(4000), Some(4001));
//! ports.give_back(4000);
//! assert_eq!(ports.take(4000), Some(4000));
//! ```

use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// Ports of a word; few in a model, so that words fill.
#[cfg(not(lvs_loom))]
const BITS: usize = 64;
#[cfg(lvs_loom)]
const BITS: usize = 2;
/// Words, and words that tell which are full.
#[cfg(not(lvs_loom))]
const WORDS: usize = 65_536 / BITS;
#[cfg(lvs_loom)]
const WORDS: usize = 2;
const HINTS: usize = WORDS.div_ceil(64);
/// All ports of a word.
const FULL: u64 = u64::MAX >> (64 - BITS);

/// Which ports of a local address are taken.
#[derive(Debug)]
pub struct LocalPorts {
    words: Box<[AtomicU64]>,
    full: [AtomicU64; HINTS],
    taken: AtomicU32,
    /// Lower ones are nobody's.
    first: u16,
}

impl LocalPorts {
    /// All ports from `first` on are free; those below are nobody's.
    #[must_use]
    pub fn new(first: u16) -> Self {
        let below = usize::from(first);
        let ports = Self {
            words: (0..WORDS)
                .map(|word| AtomicU64::new(reserved(word, below)))
                .collect(),
            full: core::array::from_fn(|_| AtomicU64::new(0)),
            taken: AtomicU32::new(0),
            first,
        };
        for word in 0..below / BITS {
            ports.close(word);
        }
        ports
    }

    /// Takes the first free port from `start` on, and from the lowest on behind the highest.
    #[must_use]
    pub fn take(&self, start: u16) -> Option<u16> {
        let (home, bit) = (usize::from(start) / BITS % WORDS, usize::from(start) % BITS);
        let behind = FULL & (u64::MAX << bit);
        let port = self
            .take_in(home, behind)
            .or_else(|| self.take_between(home + 1, WORDS))
            .or_else(|| self.take_between(0, home + 1))?;
        self.taken.fetch_add(1, Relaxed);
        Some(port)
    }

    /// Takes this port and no other: for a connection that a process had which ended. False if it is
    /// taken, or nobody's.
    pub fn claim(&self, port: u16) -> bool {
        let (place, bit) = (usize::from(port) / BITS, usize::from(port) % BITS);
        let claimed = port >= self.first && self.take_in(place, 1 << bit).is_some();
        if claimed {
            self.taken.fetch_add(1, Relaxed);
        }
        claimed
    }

    /// How many are taken, about: others may be at it.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    /// Gives a port back that [`take`](Self::take) gave, or [`claim`](Self::claim). One that nobody has
    /// stays as it is.
    pub fn give_back(&self, port: u16) {
        let (place, bit) = (usize::from(port) / BITS, usize::from(port) % BITS);
        let Some(word) = self.words.get(place).filter(|_| port >= self.first) else {
            return;
        };
        // Release: who takes the port finds done what its last owner did with it. SeqCst beyond that:
        // in `close` somebody marks the word and then looks at it again, here it is changed and then
        // the mark looked at; one of the two sees what the other did, so no free port stays hidden.
        if word.fetch_and(!(1 << bit), SeqCst) & (1 << bit) == 0 {
            return;
        }
        self.taken.fetch_sub(1, Relaxed);
        if let Some(full) = self.full.get(place / 64)
            && full.load(SeqCst) & hint(place) != 0
        {
            full.fetch_and(!hint(place), SeqCst);
        }
    }

    /// The first free port of the words `from..to`.
    fn take_between(&self, from: usize, to: usize) -> Option<u16> {
        let mut from = from;
        while from < to {
            // Acquire: pairs with nothing; a stale hint costs a look at a full word, or a port that
            // came free in this moment.
            let full = self.full.get(from / 64)?.load(Acquire);
            let open = !full & (u64::MAX << (from % 64));
            if open == 0 {
                from = (from / 64 + 1) * 64;
                continue;
            }
            let place = from / 64 * 64 + open.trailing_zeros() as usize;
            if place >= to {
                return None;
            }
            if let Some(port) = self.take_in(place, FULL) {
                return Some(port);
            }
            from = place + 1;
        }
        None
    }

    /// The first free port of a word, among those in `mask`.
    fn take_in(&self, place: usize, mask: u64) -> Option<u16> {
        let word = self.words.get(place)?;
        let mut now = word.load(Relaxed);
        loop {
            let free = !now & mask;
            if free == 0 {
                return None;
            }
            let bit = free & free.wrapping_neg();
            // Acquire: pairs with the release in `give_back`.
            let before = word.fetch_or(bit, AcqRel);
            if before & bit == 0 {
                if before | bit == FULL {
                    self.close(place);
                }
                let port = place * BITS + bit.trailing_zeros() as usize;
                return u16::try_from(port).ok();
            }
            now = before;
        }
    }

    /// Marks a word full, unless it is not any more.
    fn close(&self, place: usize) {
        let (Some(word), Some(full)) = (self.words.get(place), self.full.get(place / 64)) else {
            return;
        };
        // SeqCst: see `give_back`.
        full.fetch_or(hint(place), SeqCst);
        if word.load(SeqCst) != FULL {
            full.fetch_and(!hint(place), Release);
        }
    }
}

/// The ports of a word that are below the first, as taken.
const fn reserved(word: usize, first: usize) -> u64 {
    let below = first.saturating_sub(word * BITS);
    match below {
        0 => 0,
        below if below >= BITS => FULL,
        below => FULL & !(u64::MAX << below),
    }
}

const fn hint(place: usize) -> u64 {
    1 << (place % 64)
}

#[cfg(all(test, not(lvs_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn every_port_once_then_none() {
        let ports = LocalPorts::new(1024);
        let taken: HashSet<u16> = (0..65_536 - 1024)
            .map(|n: u32| ports.take(u16::try_from(n).unwrap()).unwrap())
            .collect();
        assert_eq!(taken.len(), 65_536 - 1024);
        assert!(taken.iter().all(|port| *port >= 1024));
        assert_eq!(ports.take(5000), None);
        assert_eq!(ports.taken(), 64_512);
        ports.give_back(33_333);
        assert_eq!(ports.take(5000), Some(33_333));
        assert_eq!(ports.take(5000), None);
    }

    #[test]
    fn one_port_can_be_claimed_once() {
        let ports = LocalPorts::new(1024);
        assert!(ports.claim(4000) && !ports.claim(4000) && !ports.claim(1023));
        assert_eq!((ports.take(4000), ports.taken()), (Some(4001), 2));
        ports.give_back(4000);
        // Nobody's, and nobody's any more.
        ports.give_back(1023);
        ports.give_back(4000);
        assert_eq!(ports.taken(), 1);
        assert!(!ports.claim(1023) && ports.claim(4000));
    }

    #[test]
    fn two_threads_never_hold_the_same_port() {
        let ports = LocalPorts::new(u16::MAX - 511);
        let held: Vec<_> = (0..512)
            .map(|_| std::sync::atomic::AtomicBool::new(false))
            .collect();
        std::thread::scope(|scope| {
            for worker in 0..4_u16 {
                let (ports, held) = (&ports, &held);
                scope.spawn(move || {
                    let place = |port: u16| usize::from(port) - (65_536 - 512);
                    let let_go = |port: u16| {
                        held[place(port)].store(false, SeqCst);
                        ports.give_back(port);
                    };
                    let mut mine = Vec::new();
                    for round in 0..20_000_u16 {
                        if let Some(port) = ports.take(worker.wrapping_mul(131) ^ round) {
                            let other = held[place(port)].swap(true, SeqCst);
                            assert!(!other, "{port} is another's");
                            mine.push(port);
                        }
                        if round % 3 != 0 && !mine.is_empty() {
                            let_go(mine.swap_remove(usize::from(round) % mine.len()));
                        }
                    }
                    mine.drain(..).for_each(let_go);
                });
            }
        });
        assert_eq!((0..512).filter_map(|_| ports.take(0)).count(), 512);
    }

    proptest! {
        /// Against a plain set: the first free port from the start on, going round.
        #[test]
        fn it_takes_the_next_free_one(steps in proptest::collection::vec(any::<(bool, u16)>(), 1..300)) {
            let first = 65_000;
            let ports = LocalPorts::new(first);
            let mut free: std::collections::BTreeSet<u16> = (first..=u16::MAX).collect();
            let mut taken = Vec::new();
            for (give, number) in steps {
                if give && !taken.is_empty() {
                    let port = taken.swap_remove(usize::from(number) % taken.len());
                    ports.give_back(port);
                    free.insert(port);
                    continue;
                }
                let start = first + number % (u16::MAX - first);
                let expected = free.range(start..).next().or_else(|| free.first()).copied();
                let got = ports.take(start);
                prop_assert_eq!(got, expected);
                if let Some(port) = got {
                    free.remove(&port);
                    taken.push(port);
                }
            }
        }
    }
}

#[cfg(all(test, lvs_loom, not(lvs_shuttle)))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two take while a third gives one back: nobody gets what another has, and in the end no port is
    /// hidden behind a mark.
    #[test]
    fn taking_against_giving_back() {
        loom::model(|| {
            let ports = Arc::new(LocalPorts::new(0));
            let first: Vec<u16> = (0..3).filter_map(|_| ports.take(0)).collect();
            assert_eq!(first, [0, 1, 2]);
            let giver = {
                let ports = Arc::clone(&ports);
                thread::spawn(move || ports.give_back(1))
            };
            let taker = {
                let ports = Arc::clone(&ports);
                thread::spawn(move || ports.take(2))
            };
            let other = ports.take(3);
            giver.join().unwrap();
            let one = taker.join().unwrap();
            assert!(one.is_none() || one != other);
            let left = [ports.take(0), ports.take(0)].into_iter().flatten().count();
            assert_eq!(one.iter().count() + other.iter().count() + left, 2);
        });
    }
}
