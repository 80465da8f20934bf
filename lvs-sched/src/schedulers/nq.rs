//! `nq`: never queue. The first usable backend without an active connection; if all have one, the
//! choice of `sed`.
//!
//! Source: IPVS 1.4. No state.

use super::ranked::Least;
use super::wlc::Share;
use crate::index::Contest;
use crate::scheduler::{List, Scheduler};
use crate::schedulers::sed::Sed;
use crate::{Backend, Options};
use alloc::sync::Arc;

/// The comparison of `nq`: an idle one beats a busy one and is beaten by none.
#[derive(Debug)]
struct Nq;

impl Contest for Nq {
    type Key = Share;

    #[inline]
    fn key(backend: &Backend) -> Option<Share> {
        Sed::key(backend)
    }

    #[inline]
    fn beats(challenger: Share, holder: Share) -> bool {
        // The load is active + 1.
        holder.load > 1 && (challenger.load == 1 || Sed::beats(challenger, holder))
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Least::<Nq>::new(list))
}
