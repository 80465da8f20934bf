//! `twos`: the power of two choices. Two backends are drawn by weight; of the two the one of the
//! smaller `(active * 256 + inactive) / weight` gets the connection, in a tie the first drawn.
//!
//! Source: IPVS 1.10. The kernel draws from 0 to the sum of the usable weights, both included, so
//! that the first usable one is drawn once too often; so is it here. A draw of an unusable one is
//! repeated, which leaves the others their shares; after [`TRIES`] in vain the list is walked.
//!
//! Which of many random sequences is drawn is no part of the rule; [`Options::seed`] sets it.

use super::random::{Alias, Draws, Random};
use super::wlc::{Share, Wlc};
use crate::index::Contest;
use crate::scheduler::{After, List, Scheduler, first_usable};
use crate::{Options, Request};
use alloc::sync::Arc;
use core::hint::select_unpredictable;
use lvs_core::SchedFlags;

const TRIES: u32 = 24;

#[derive(Debug)]
struct Twos {
    /// The places of the list, and after them one of weight 1 that stands for the first usable.
    alias: Alias,
    random: Arc<Random>,
}

impl Twos {
    #[inline]
    fn draw(&self, list: &List, number: u32, draws: &mut Draws) -> Option<(usize, Share)> {
        match self.drawn(list, number) {
            Some(choice) => Some(choice),
            None => self.again(list, draws),
        }
    }

    #[inline]
    fn drawn(&self, list: &List, number: u32) -> Option<(usize, Share)> {
        let at = self.alias.place(number)?;
        match list.get(at) {
            Some(backend) => Some((at, Wlc::key(backend)?)),
            None => with_share(list, first_usable(list)?),
        }
    }

    #[cold]
    fn again(&self, list: &List, draws: &mut Draws) -> Option<(usize, Share)> {
        (1..TRIES)
            .find_map(|_| self.drawn(list, draws.pair().0))
            .or_else(|| with_share(list, walk(list, draws)?))
    }
}

fn with_share(list: &List, at: usize) -> Option<(usize, Share)> {
    Some((at, Wlc::key(list.get(at)?)?))
}

/// The rule as it is written.
fn walk(list: &List, draws: &mut Draws) -> Option<usize> {
    let weight = |at: usize| list.get(at).map_or(0, |b| u64::from(b.usable_weight()));
    let total: u64 = (0..list.len()).map(weight).sum();
    let mut rest = draws.up_to(total);
    for at in 0..list.len() {
        let weight = weight(at);
        if weight != 0 && rest <= weight {
            return Some(at);
        }
        rest = rest.saturating_sub(weight);
    }
    None
}

fn alias(list: &List) -> Alias {
    Alias::new(list.iter().map(|backend| backend.weight()).chain([1]))
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Twos {
        alias: alias(list),
        random: Arc::new(Random::new(options.seed)),
    })
}

impl Scheduler for Twos {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, request: &Request) -> Option<usize> {
        let mut draws = self.random.draws(request);
        let (number, another) = draws.pair();
        let (first, one) = self.draw(list, number, &mut draws)?;
        let (second, other) = self.draw(list, another, &mut draws)?;
        Some(select_unpredictable(other.is_below(one), second, first))
    }

    fn edited(&self, list: &List, _: After) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self {
            alias: alias(list),
            random: Arc::clone(&self.random),
        }))
    }
}
