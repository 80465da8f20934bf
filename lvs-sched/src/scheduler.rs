//! What a scheduler is: a choice among a list, and what becomes of its state when the list changes.

use crate::{Backend, Options, Request};
use alloc::sync::Arc;
use core::fmt::Debug;
use lvs_core::{SchedFlags, Tick};

/// The backends in list order, the newest first.
pub(crate) type List = [Arc<Backend>];

/// One edit of the list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// The last `count` backends of the list, oldest first, were added one by one.
    Added {
        /// How many.
        count: usize,
    },
    /// The backend that stood at this place, counted from the newest, is gone.
    Removed {
        /// Its former place.
        at: usize,
    },
    /// Weight or thresholds of a backend were set, perhaps to what they were.
    Updated,
}

/// What a row of edits has led to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    /// Whether backends were added or removed, and not only weights or thresholds set.
    pub(crate) members: bool,
    /// What [`Scheduler::step`] has made of [`Scheduler::turn`].
    pub(crate) turn: u64,
}

/// One rule by which a pool chooses.
///
/// A value belongs to one version of a list: an edit makes the next one from it. What the versions
/// share, they share through an `Arc`.
pub(crate) trait Scheduler: Send + Sync + Debug {
    /// The place of the backend that gets the connection.
    fn pick(&self, list: &List, flags: SchedFlags, request: &Request) -> Option<usize>;

    /// The scheduler for the list after a row of edits, or of one; `None`: this one serves on.
    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>>;

    /// How far a sequence of choices is that goes on over edits.
    fn turn(&self) -> u64 {
        0
    }

    /// What an edit makes of that. `list` is the list after it, the *oldest* first.
    fn step(&self, turn: u64, list: &List, edit: Edit) -> u64 {
        let _ = (list, edit);
        turn
    }

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
