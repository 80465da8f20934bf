//! What a scheduler is: a choice among a list, and what becomes of its state when the list changes.

use crate::{Backend, Options, Request};
use alloc::sync::Arc;
use core::fmt::Debug;
use lvs_core::{SchedFlags, Tick};

/// The backends in list order, the newest first.
pub(crate) type List = [Arc<Backend>];

/// What happened to the list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// The first `count` backends are new; they were added one by one, the first as the last.
    Added {
        /// How many.
        count: usize,
    },
    /// The backend that stood at this place is gone.
    Removed {
        /// Its former place.
        at: usize,
    },
    /// Weight or thresholds of a backend were set, perhaps to what they were.
    Updated,
}

/// One rule by which a pool chooses.
///
/// A value belongs to one version of a list: an edit makes the next one from it. What the versions
/// share, they share through an `Arc`.
pub(crate) trait Scheduler: Send + Sync + Debug {
    /// The place of the backend that gets the connection.
    fn pick(&self, list: &List, flags: SchedFlags, request: &Request) -> Option<usize>;

    /// The scheduler for the list after an edit; `None`: this one serves on.
    fn edited(&self, list: &List, edit: Edit) -> Option<Arc<dyn Scheduler>>;

    /// Has what is remembered of addresses expire after so many idle seconds.
    fn expire_after(&self, seconds: u32) {
        let _ = seconds;
    }

    /// Housekeeping, about once a second.
    fn tick(&self, list: &List, now: Tick) {
        let _ = (list, now);
    }

    /// How many backends the rule can serve.
    fn capacity(&self) -> usize {
        usize::MAX
    }
}

/// Makes a scheduler for a list that exists already.
pub(crate) type Build = fn(&List, &Options) -> Arc<dyn Scheduler>;

/// The first usable backend: what remains when a faster way found none.
pub(crate) fn first_usable(list: &List) -> Option<usize> {
    list.iter().position(|backend| backend.is_usable())
}
