//! `p2c`: two choices with decayed load. Two backends are drawn by weight, unlike each other if
//! chance allows; of the two the one of the smaller load for its weight gets the connection.
//!
//! The load is that of `wlc` and, for every choice of the recent past, as much again as an active
//! connection, halved every 256 ms. So a backend that was just chosen looks loaded before its
//! connections are reported, a restarted one is not stormed, and connections that are always
//! inactive (UDP's) or very short still spread.
//!
//! Ours, not IPVS's; after Mitzenmacher, "The power of two choices", 2001. Constant time.

use super::random::{Alias, Draws, Random};
use super::wlc::Share;
use crate::backend::Backend;
use crate::scheduler::{After, List, Scheduler, first_usable};
use crate::sync::{AtomicU32, Ordering};
use crate::{Options, Request};
use alloc::sync::Arc;
use lvs_core::{SchedFlags, Tick};

const TRIES: u32 = 24;
/// A half-life is 2 to this power ticks.
const HALF_LIFE: u32 = 6;
/// What one choice adds; the counter holds 4095 choices and then saturates.
const CHOICE: u32 = 16;

#[derive(Debug)]
struct TwoChoices {
    alias: Alias,
    random: Arc<Random>,
}

/// The counter's word: the half-life in which it was written above, the decayed choices below.
fn decayed(word: u32, now: Tick) -> u32 {
    let age = ((now.0 >> HALF_LIFE) & 0xffff).wrapping_sub(word >> 16) & 0xffff;
    // A word from the future, which a batch's older clock may bring, has not decayed.
    let age = if age >= 0x8000 { 0 } else { age };
    (word & 0xffff).checked_shr(age).unwrap_or(0)
}

fn remember(recent: &AtomicU32, now: Tick) {
    let word = recent.load(Ordering::Relaxed);
    let value = (decayed(word, now) + CHOICE).min(0xffff);
    // A choice that another thread counted at the same moment may be lost: a hint, not a count.
    recent.store(((now.0 >> HALF_LIFE) << 16) | value, Ordering::Relaxed);
}

fn share(backend: &Backend, now: Tick) -> Option<Share> {
    let weight = backend.usable_weight();
    let recent = decayed(backend.recent().load(Ordering::Relaxed), now);
    (weight != 0).then(|| Share {
        load: backend.overhead() + u64::from(recent) * u64::from(256 / CHOICE),
        weight,
    })
}

impl TwoChoices {
    #[inline]
    fn draw(&self, list: &List, draws: &mut Draws, other_than: Option<usize>) -> Option<usize> {
        let mut found = None;
        for _ in 0..TRIES {
            let at = self.alias.place(draws.pair().0)?;
            if list.get(at)?.is_usable() {
                found = Some(at);
                if found != other_than {
                    break;
                }
            }
        }
        found
    }
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(TwoChoices {
        alias: Alias::new(list.iter().map(|backend| backend.weight())),
        random: Arc::new(Random::new(options.seed)),
    })
}

impl Scheduler for TwoChoices {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, request: &Request) -> Option<usize> {
        let mut draws = self.random.draws(request);
        let first = match self.draw(list, &mut draws, None) {
            Some(first) => first,
            None => first_usable(list)?,
        };
        let second = self.draw(list, &mut draws, Some(first)).unwrap_or(first);
        let of = |at: usize| share(list.get(at)?, request.now);
        let at = match (of(first), of(second)) {
            (Some(one), Some(other)) if other.is_below(one) => second,
            (Some(_), _) => first,
            (None, Some(_)) => second,
            (None, None) => return None,
        };
        remember(list.get(at)?.recent(), request.now);
        Some(at)
    }

    fn edited(&self, list: &List, _: After) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self {
            alias: Alias::new(list.iter().map(|backend| backend.weight())),
            random: Arc::clone(&self.random),
        }))
    }
}
