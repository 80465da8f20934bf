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
use crate::scheduler::{Edit, List, Scheduler, first_usable};
use crate::{Options, Request};
use alloc::sync::Arc;
use lvs_core::SchedFlags;

const TRIES: u32 = 24;

#[derive(Debug)]
struct Twos {
    alias: Alias,
    random: Arc<Random>,
}

impl Twos {
    #[inline]
    fn draw(&self, list: &List, draws: &mut Draws) -> Option<(usize, Share)> {
        let with_share = |at: usize| Some((at, Wlc::key(list.get(at)?)?));
        for _ in 0..TRIES {
            let (drawn, rest) = draws.below(self.alias.total().saturating_add(1));
            let at = match drawn.checked_sub(1) {
                Some(coin) => self.alias.place(coin, rest)?,
                None => first_usable(list)?,
            };
            if let Some(choice) = with_share(at) {
                return Some(choice);
            }
        }
        with_share(walk(list, draws)?)
    }
}

/// The rule as it is written.
fn walk(list: &List, draws: &mut Draws) -> Option<usize> {
    let weight = |at: usize| list.get(at).map_or(0, |b| u64::from(b.usable_weight()));
    let total: u64 = (0..list.len()).map(weight).sum();
    let (mut rest, _) = draws.below(total + 1);
    for at in 0..list.len() {
        let weight = weight(at);
        if weight != 0 && rest <= weight {
            return Some(at);
        }
        rest = rest.saturating_sub(weight);
    }
    None
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Twos {
        alias: Alias::new(list),
        random: Arc::new(Random::new(options.seed)),
    })
}

impl Scheduler for Twos {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        let mut draws = self.random.draws();
        let (first, one) = self.draw(list, &mut draws)?;
        let (second, other) = self.draw(list, &mut draws)?;
        Some(if other.is_below(one) { second } else { first })
    }

    fn edited(&self, list: &List, _: Edit) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self {
            alias: Alias::new(list),
            random: Arc::clone(&self.random),
        }))
    }
}
