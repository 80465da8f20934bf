//! `lc`: the least connections. The usable backend of the smallest `active * 256 + inactive`; in a
//! tie the one that stands first, the newest. Weights matter only as zero or not.
//!
//! Source: IPVS 1.4. No state.

use super::ranked::Least;
use crate::index::Contest;
use crate::scheduler::{List, Scheduler};
use crate::{Backend, Options};
use alloc::sync::Arc;

/// The comparison of `lc`.
#[derive(Debug)]
pub(crate) struct Lc;

impl Contest for Lc {
    type Key = u64;

    #[inline]
    fn key(backend: &Backend) -> Option<u64> {
        backend.is_usable().then(|| backend.overhead())
    }

    #[inline]
    fn beats(challenger: u64, holder: u64) -> bool {
        challenger < holder
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Least::<Lc>::new(list))
}
