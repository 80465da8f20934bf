//! What the schedulers without a state of their own have in common.
//!
//! [`Least`] chooses by an [`Index`] alone (lc, wlc, sed, nq). [`Ranked`] first looks at the few
//! backends that a fixed order puts first (fo, ovf) and asks the index when none of them will do.

use crate::index::{Contest, Index};
use crate::scheduler::{After, List, Scheduler};
use crate::{Backend, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use lvs_core::SchedFlags;

/// The winner of a contest.
#[derive(Debug)]
pub(crate) struct Least<C>(Index<C>);

impl<C: Contest> Least<C> {
    pub(crate) fn new(list: &List) -> Self {
        Self(Index::new(list))
    }
}

impl<C: Contest> Scheduler for Least<C> {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        self.0.best(list)
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        // Of weights the backends themselves have told the index.
        after
            .members
            .then(|| Arc::new(Self::new(list)) as Arc<dyn Scheduler>)
    }
}

/// How many backends are looked at before the index is asked.
const FRONT: usize = 4;

/// The heaviest backend that takes part; in a tie the one that stands first.
#[derive(Debug)]
pub(crate) struct Ranked<C> {
    /// The places of the heaviest, in order.
    front: Box<[u32]>,
    index: Index<C>,
}

impl<C: Contest<Key = u32>> Ranked<C> {
    pub(crate) fn new(list: &List) -> Self {
        let mut order: Vec<(Reverse<u32>, u32)> = (0u32..)
            .zip(list)
            .map(|(at, backend)| (Reverse(backend.weight()), at))
            .collect();
        if let Some(last) = order.len().checked_sub(1) {
            order.select_nth_unstable(FRONT.min(last));
        }
        order.truncate(FRONT);
        order.sort_unstable();
        Self {
            front: order.into_iter().map(|(_, at)| at).collect(),
            index: Index::new(list),
        }
    }
}

impl<C: Contest<Key = u32>> Scheduler for Ranked<C> {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        let will_do = |backend: &Backend| C::key(backend).is_some();
        for &at in &self.front {
            let at = at as usize;
            if list.get(at).is_some_and(|backend| will_do(backend)) {
                return Some(at);
            }
        }
        self.index.best(list)
    }

    fn edited(&self, list: &List, _: After) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self::new(list)))
    }
}
