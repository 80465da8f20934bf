//! `mhbl`: Maglev hashing with bounded load. The slot is chosen as by `mh` (flag 2: with the port);
//! a backend that already has more than its share of all connections, and a slack, passes the
//! connection on to the next slot's. Clients stay with their backend while it is not the busiest,
//! and no backend is driven far above its share.
//!
//! Ours, not IPVS's; after Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded
//! loads", 2016. A backend of weight w takes a connection while its connections are fewer than
//! (1 + slack) * w / (sum of weights) * (all connections + 1).
//!
//! "All connections" is a running sum: a choice looks anew at one backend in turn and at those
//! that it considers, a tick looks at all. It is exact for loads that rest, and else as old as one
//! round of choices or the last tick.
//! After [`PROBES`] slots the least loaded usable one of those seen is taken, so that a choice
//! takes constant time. No state but the sum; the table is that of `mh`.

use super::maglev::Table;
use super::mh::value;
use super::wlc::Share;
use crate::scheduler::{After, List, Scheduler, first_usable};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::{Options, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use lvs_core::{SchedFlags, Tick};

const PROBES: u32 = 64;

#[derive(Debug)]
struct Bounded {
    table: Table,
    /// The sum of the weights.
    weights: u64,
    /// 100 and the slack, in percent.
    percent: u8,
    /// The connections of each backend as they were last seen.
    seen: Box<[AtomicU32]>,
    /// The sum of `seen`.
    sum: AtomicU64,
    /// Whose turn it is to be seen again.
    round: AtomicU32,
}

impl Bounded {
    fn new(list: &List, table: Table, slack: u8) -> Self {
        let this = Self {
            table,
            weights: list.iter().map(|b| u64::from(b.weight())).sum(),
            percent: slack,
            seen: list.iter().map(|_| AtomicU32::new(0)).collect(),
            sum: AtomicU64::new(0),
            round: AtomicU32::new(0),
        };
        for at in 0..list.len() {
            this.look(list, at);
        }
        this
    }

    /// The connections of a backend, which the sum now knows.
    #[inline]
    fn look(&self, list: &List, at: usize) -> u64 {
        let (Some(backend), Some(seen)) = (list.get(at), self.seen.get(at)) else {
            return 0;
        };
        let now = u32::try_from(backend.connections()).unwrap_or(u32::MAX);
        if seen.load(Ordering::Relaxed) != now {
            // Each difference is added once, whoever swaps, so the sum stays that of `seen`.
            let before = seen.swap(now, Ordering::Relaxed);
            let difference = u64::from(now).wrapping_sub(u64::from(before));
            self.sum.fetch_add(difference, Ordering::Relaxed);
        }
        u64::from(now)
    }
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    let table = Table::new(list, options.mh_index);
    Arc::new(Bounded::new(list, table, options.mhbl_slack))
}

impl Scheduler for Bounded {
    #[inline]
    fn pick(&self, list: &List, flags: SchedFlags, request: &Request) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let round = self.round.fetch_add(1, Ordering::Relaxed) as usize;
        self.look(list, round.checked_rem(list.len())?);
        let size = self.table.size();
        let mut slot = self.table.slot(value(request, flags));
        let mut least: Option<(usize, Share)> = None;
        for _ in 0..PROBES {
            let at = self.table.owner(slot)?;
            let weight = list.get(at)?.usable_weight();
            if weight != 0 {
                let load = self.look(list, at);
                let all = u128::from(self.sum.load(Ordering::Relaxed)) + 1;
                let room = (100 + u128::from(self.percent)) * all * u128::from(weight);
                if u128::from(load) * u128::from(self.weights) * 100 < room {
                    return Some(at);
                }
                let share = Share { load, weight };
                if least.is_none_or(|(_, holder)| share.is_below(holder)) {
                    least = Some((at, share));
                }
            }
            slot = if slot + 1 == size { 0 } else { slot + 1 };
        }
        least.map(|(at, _)| at).or_else(|| first_usable(list))
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        let table = self.table.edited(list, after);
        let table = table.unwrap_or_else(|| self.table.clone());
        Some(Arc::new(Self::new(list, table, self.percent)))
    }

    fn tick(&self, list: &List, _: Tick) {
        for at in 0..list.len() {
            self.look(list, at);
        }
    }

    fn capacity(&self) -> usize {
        self.table.capacity()
    }
}
