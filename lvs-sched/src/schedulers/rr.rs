//! `rr`: one after the other. From the last one chosen on through the list and around; the first
//! usable one is it. Weights matter only as zero or not.
//!
//! Source: IPVS 1.2. The cursor outlives edits: a removed cursor falls back to its predecessor.
//!
//! The cursor is a count of turns, taken one by one; turn t is that of the place t modulo the number
//! of backends. Each turn belongs to one choice, or to nobody if its backend was not usable. So
//! while all are usable, turns t to t + n - 1 are those of n different backends, whatever threads
//! take them and in whatever order they go on.

use crate::scheduler::{After, Edit, List, Scheduler};
use crate::sync::{Apart, AtomicU64, Ordering};
use crate::{Backend, Options, Request};
use alloc::sync::Arc;
use lvs_core::SchedFlags;

#[derive(Debug)]
struct RoundRobin {
    /// The next turn.
    turn: Apart<AtomicU64>,
    /// 2^64 / the number of backends, rounded down: a remainder by two products.
    inverse: u64,
}

impl RoundRobin {
    fn new(turn: u64, count: usize) -> Self {
        Self {
            turn: Apart::new(AtomicU64::new(turn)),
            inverse: u64::MAX / (count as u64).max(1),
        }
    }

    /// Whose turn it is.
    #[inline]
    fn place(&self, turn: u64, count: usize) -> usize {
        let count = count as u64;
        let quotient = ((u128::from(turn) * u128::from(self.inverse)) >> 64) as u64;
        // The quotient is at most 1 too small.
        let rest = turn.wrapping_sub(quotient.wrapping_mul(count));
        let rest = if rest >= count { rest - count } else { rest };
        #[expect(clippy::cast_possible_truncation, reason = "less than the count")]
        let place = rest as usize;
        place
    }

    /// The choice of who took a turn that is that of an unusable backend.
    #[cold]
    fn skip(&self, list: &List, mut turn: u64) -> Option<usize> {
        loop {
            let at = self.place(turn, list.len());
            let usable = |backend: &Arc<_>| Backend::is_usable(backend);
            let (before, after) = list.split_at_checked(at)?;
            let ahead = match after.iter().position(usable) {
                Some(ahead) => ahead,
                None => match before.iter().position(usable) {
                    Some(ahead) => after.len() + ahead,
                    None => {
                        // Nobody: the cursor stays where it was.
                        let _ = self.set(turn + 1, turn);
                        return None;
                    }
                },
            };
            if ahead == 0 || self.set(turn + 1, turn + ahead as u64 + 1).is_ok() {
                return Some(self.place(turn + ahead as u64, list.len()));
            }
            // Others have taken turns meanwhile: so does this one.
            turn = self.turn.get().fetch_add(1, Ordering::Relaxed);
        }
    }

    fn set(&self, from: u64, to: u64) -> Result<u64, u64> {
        self.turn
            .get()
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(RoundRobin::new(0, list.len()))
}

impl Scheduler for RoundRobin {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        if list.is_empty() {
            return None;
        }
        // Relaxed: the count publishes nothing but itself.
        let turn = self.turn.get().fetch_add(1, Ordering::Relaxed);
        let at = self.place(turn, list.len());
        if list.get(at)?.is_usable() {
            return Some(at);
        }
        self.skip(list, turn)
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        after
            .members
            .then(|| Arc::new(Self::new(after.turn, list.len())) as Arc<dyn Scheduler>)
    }

    fn turn(&self) -> u64 {
        self.turn.get().load(Ordering::Relaxed)
    }

    fn step(&self, turn: u64, list: &List, edit: Edit) -> u64 {
        let count = list.len() as u64;
        match edit {
            Edit::Updated => turn,
            Edit::Added { count: added } => {
                // At the head it stays there; else all places have moved.
                match turn.checked_rem(count - added as u64) {
                    None | Some(0) => 0,
                    Some(place) => place + added as u64,
                }
            }
            Edit::Removed { at } => {
                let place = turn % (count + 1);
                if place > at as u64 { place - 1 } else { place }
            }
        }
    }
}
