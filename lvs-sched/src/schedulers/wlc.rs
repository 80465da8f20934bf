//! `wlc`: the least connections for their weight. The usable backend of the smallest
//! `(active * 256 + inactive) / weight`; in a tie the one that stands first, the newest.
//!
//! Source: IPVS 1.1, 1.4. No state. The fractions are compared exactly, whatever the figures (the
//! kernel's 64-bit products overflow beyond 2^24 connections times 2^31).

use super::ranked::Least;
use crate::index::Contest;
use crate::scheduler::{List, Scheduler};
use crate::{Backend, Options};
use alloc::sync::Arc;

/// A load and the weight that it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) load: u64,
    pub(crate) weight: u32,
}

impl Share {
    /// Whether this is less, for its weight, than `other` is.
    #[inline]
    pub(crate) const fn is_below(self, other: Self) -> bool {
        let one = self.load as u128 * other.weight as u128;
        let another = other.load as u128 * self.weight as u128;
        one < another
    }
}

/// The comparison of `wlc`.
#[derive(Debug)]
pub(crate) struct Wlc;

impl Contest for Wlc {
    type Key = Share;

    #[inline]
    fn key(backend: &Backend) -> Option<Share> {
        let weight = backend.usable_weight();
        (weight != 0).then(|| Share {
            load: backend.overhead(),
            weight,
        })
    }

    #[inline]
    fn beats(challenger: Share, holder: Share) -> bool {
        challenger.is_below(holder)
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Least::<Wlc>::new(list))
}
