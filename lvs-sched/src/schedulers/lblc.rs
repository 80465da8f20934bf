//! `lblc`: locality-based least connections. A destination address goes where it went before, as
//! long as that backend is available, has a weight and is not full while another is half idle;
//! else where `wlc` says, which is remembered. For caches behind a transparent proxy.
//!
//! Source: IPVS 1.8. The memory outlives edits of the list; an entry whose backend is gone is
//! replaced when it is next asked for. The overload flag does not stop a remembered backend.
//! "Full" is: more active connections than its weight while some backend has less than half.

use super::cache::Cache;
use super::wlc::Wlc;
use crate::backend::Backend;
use crate::index::{Contest, Index};
use crate::scheduler::{After, List, Scheduler};
use crate::sync::Ordering;
use crate::{Options, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use lvs_core::{SchedFlags, Tick};

/// Whether some backend is half idle: any one is as good as the other.
#[derive(Debug)]
pub(crate) struct HalfIdle;

impl Contest for HalfIdle {
    type Key = ();

    #[inline]
    fn key(backend: &Backend) -> Option<()> {
        (u64::from(backend.active()) * 2 < u64::from(backend.weight())).then_some(())
    }

    #[inline]
    fn beats((): (), (): ()) -> bool {
        false
    }
}

/// What `lblc` and `lblcr` ask of a list.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Places by the backends' serial numbers.
    places: Box<[(u32, u32)]>,
    least: Index<Wlc>,
    half_idle: Index<HalfIdle>,
}

impl Survey {
    pub(crate) fn new(list: &List) -> Self {
        let mut places: Vec<_> = list.iter().map(|b| b.serial()).zip(0u32..).collect();
        places.sort_unstable();
        Self {
            places: places.into(),
            least: Index::new(list),
            half_idle: Index::new(list),
        }
    }

    /// The place of a backend that was remembered, if it is in the list.
    #[inline]
    pub(crate) fn place(&self, serial: u32) -> Option<usize> {
        let at = self
            .places
            .binary_search_by_key(&serial, |&(s, _)| s)
            .ok()?;
        self.places.get(at).map(|&(_, place)| place as usize)
    }

    /// The choice of `wlc`.
    #[inline]
    pub(crate) fn least(&self, list: &List) -> Option<usize> {
        self.least.best(list)
    }

    /// Whether a backend is full while another is half idle.
    #[inline]
    pub(crate) fn is_full(&self, list: &List, backend: &Backend) -> bool {
        backend.active() > backend.weight() && self.half_idle.best(list).is_some()
    }
}

#[derive(Debug)]
struct Locality {
    cache: Arc<Cache>,
    survey: Survey,
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Locality {
        cache: Arc::new(Cache::new(options.cache_expiration)),
        survey: Survey::new(list),
    })
}

impl Scheduler for Locality {
    fn pick(&self, list: &List, _: SchedFlags, request: &Request) -> Option<usize> {
        let survey = &self.survey;
        let Some(mut bucket) = self.cache.bucket(request.dst) else {
            return survey.least(list);
        };
        let mut known = bucket.find(request.dst, request.now);
        if let Some(slot) = known
            && let Some(at) = survey.place(slot.value.load(Ordering::Relaxed))
            && let Some(backend) = list.get(at)
            && backend.is_available()
            && backend.weight() > 0
            && !survey.is_full(list, backend)
        {
            return Some(at);
        }
        let at = survey.least(list)?;
        if known.is_none() {
            known = bucket.insert(request.dst, request.now, |_| ());
        }
        if let Some(slot) = known {
            slot.value.store(list.get(at)?.serial(), Ordering::Relaxed);
        }
        Some(at)
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        if !after.members {
            return None;
        }
        Some(Arc::new(Self {
            cache: Arc::clone(&self.cache),
            survey: Survey::new(list),
        }))
    }

    fn expire_after(&self, seconds: u32) {
        self.cache.expire_after(seconds);
    }

    fn tick(&self, _: &List, now: Tick) {
        self.cache.tick(now, |_| ());
    }
}
