//! `sed`: the shortest expected delay. The usable backend of the smallest `(active + 1) / weight`;
//! in a tie the one that stands first, the newest.
//!
//! Source: IPVS 1.1, 1.4. No state. Inactive connections do not count, so connections that are
//! never active (UDP's) all go to one backend.

use super::ranked::Least;
use super::wlc::Share;
use crate::index::Contest;
use crate::scheduler::{List, Scheduler};
use crate::{Backend, Options};
use alloc::sync::Arc;

/// The comparison of `sed`.
#[derive(Debug)]
pub(crate) struct Sed;

impl Contest for Sed {
    type Key = Share;

    #[inline]
    fn key(backend: &Backend) -> Option<Share> {
        let weight = backend.usable_weight();
        (weight != 0).then(|| Share {
            load: u64::from(backend.active()) + 1,
            weight,
        })
    }

    #[inline]
    fn beats(challenger: Share, holder: Share) -> bool {
        challenger.is_below(holder)
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Least::<Sed>::new(list))
}
