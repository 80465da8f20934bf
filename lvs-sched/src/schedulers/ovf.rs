//! `ovf`: overflow. The usable backend of the highest weight that has no more active connections
//! than its weight; in a tie the one that stands first, the newest. Each fills up to weight + 1.
//!
//! Source: IPVS 1.4. No state.

use super::ranked::Ranked;
use crate::index::Contest;
use crate::scheduler::{List, Scheduler};
use crate::{Backend, Options};
use alloc::sync::Arc;

/// The comparison of `ovf`.
#[derive(Debug)]
struct Ovf;

impl Contest for Ovf {
    type Key = u32;

    #[inline]
    fn key(backend: &Backend) -> Option<u32> {
        let weight = backend.usable_weight();
        (weight != 0 && backend.active() <= weight).then_some(weight)
    }

    #[inline]
    fn beats(challenger: u32, holder: u32) -> bool {
        challenger > holder
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Ranked::<Ovf>::new(list))
}
