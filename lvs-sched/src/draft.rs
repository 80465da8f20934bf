//! Many edits of a pool, whose tables are built once.
//!
//! In: a pool, and edits in their order. Out: the pool that as many single edits would have led to, or
//! the reason why there is none. Until then nothing is changed, neither the pool nor a backend.

use crate::scheduler::{After, Edit};
use crate::{Backend, EditError, Pool};
use alloc::sync::Arc;
use alloc::vec::Vec;
use lvs_core::SchedFlags;

/// A pool that is being edited.
///
/// ```
/// use lvs_core::{SchedFlags, Thresholds};
/// use lvs_sched::{Backend, Draft, Pool};
///
/// let mut draft = Draft::new(Pool::new("mh", SchedFlags::default())?);
/// for (id, text) in [(1, "10.0.0.1:80"), (2, "10.0.0.2:80")] {
///     draft.add(Backend::new(id, text.parse()?, 1, Thresholds::default()));
/// }
/// let pool = draft.finish()?;
/// assert_eq!(pool.backends().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Draft {
    pool: Pool,
    /// Its backends once they are others, oldest first.
    members: Option<Vec<Arc<Backend>>>,
    /// The last so many of them are not in the pool, and of those so many the turn does not know yet.
    added: usize,
    new: usize,
    removed: Vec<Arc<Backend>>,
    updated: bool,
    turn: u64,
}

impl Draft {
    /// Nothing is different yet.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            turn: pool.scheduler.turn(),
            pool,
            members: None,
            added: 0,
            new: 0,
            removed: Vec::new(),
            updated: false,
        }
    }

    /// Its backends at the moment, in no particular order.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        self.members.as_deref().unwrap_or(&self.pool.list)
    }

    /// As [`Pool::add`]; the backend is available once the draft is finished.
    pub fn add(&mut self, backend: Arc<Backend>) {
        self.members().push(backend);
        self.new += 1;
        self.added += 1;
    }

    /// As [`Pool::remove`]; the backend is unavailable once the draft is finished.
    pub fn remove(&mut self, backend: &Backend) -> bool {
        let Some(from_oldest) = self.position(backend) else {
            return false;
        };
        self.settle();
        let members = self.members();
        let gone = members.remove(from_oldest);
        let at = members.len() - from_oldest;
        if at < self.added {
            self.added -= 1;
        }
        self.removed.push(gone);
        self.step(Edit::Removed { at });
        true
    }

    /// Sets a backend's weight or thresholds, which it has at once, and takes note of it as
    /// [`Draft::updated`] does. What was added before is as it was added.
    pub fn update(&mut self, backend: &Backend, change: impl FnOnce(&Backend)) -> bool {
        self.settle();
        change(backend);
        self.updated(backend)
    }

    /// As [`Pool::updated`].
    pub fn updated(&mut self, backend: &Backend) -> bool {
        let there = self.backends().iter().any(|member| is(member, backend));
        if there {
            self.settle();
            self.step(Edit::Updated);
            self.updated = true;
        }
        there
    }

    /// As [`Pool::set_scheduler`], on all that came before.
    ///
    /// # Errors
    /// Those of [`Pool::set_scheduler`] and [`Draft::finish`].
    pub fn set_scheduler(self, scheduler: &str, flags: SchedFlags) -> Result<Self, EditError> {
        let mut pool = self.finish()?;
        pool.set_scheduler(scheduler, flags)?;
        Ok(Self::new(pool))
    }

    /// The pool after all edits.
    ///
    /// # Errors
    /// [`EditError::TooManyBackends`], [`EditError::AlreadyThere`]; nothing is changed.
    pub fn finish(mut self) -> Result<Pool, EditError> {
        self.settle();
        let after = After {
            members: self.members.is_some(),
            turn: self.turn,
        };
        if let Some(members) = self.members {
            if members.len() > self.pool.scheduler.capacity() {
                return Err(EditError::TooManyBackends);
            }
            if self.added != 0 && has_twins(&members) {
                return Err(EditError::AlreadyThere);
            }
            for gone in &self.removed {
                gone.set_available(false);
            }
            for member in members.iter().rev().take(self.added) {
                member.set_available(true);
            }
            self.pool.list = members.into_iter().rev().collect();
        }
        if (after.members || self.updated)
            && let Some(next) = self.pool.scheduler.edited(&self.pool.list, after)
        {
            self.pool.scheduler = next;
        }
        Ok(self.pool)
    }

    fn members(&mut self) -> &mut Vec<Arc<Backend>> {
        let list = &self.pool.list;
        self.members
            .get_or_insert_with(|| list.iter().rev().cloned().collect())
    }

    /// Where a backend stands, counted from the oldest.
    fn position(&self, backend: &Backend) -> Option<usize> {
        let position = self
            .backends()
            .iter()
            .position(|member| is(member, backend))?;
        Some(match self.members {
            Some(_) => position,
            None => self.pool.list.len() - 1 - position,
        })
    }

    /// Has the turn know of the backends that were added last.
    fn settle(&mut self) {
        let count = core::mem::take(&mut self.new);
        if count != 0 {
            self.step(Edit::Added { count });
        }
    }

    fn step(&mut self, edit: Edit) {
        // After updates alone the order is the other one, which no rule minds.
        self.turn = self.pool.scheduler.step(self.turn, self.backends(), edit);
    }
}

fn is(member: &Arc<Backend>, backend: &Backend) -> bool {
    core::ptr::eq(&raw const **member, backend)
}

/// Whether one backend is in the list twice.
fn has_twins(list: &[Arc<Backend>]) -> bool {
    const FEW: usize = 32;
    if list.len() <= FEW {
        let mut rest = list;
        while let Some((last, before)) = rest.split_last() {
            if before.iter().any(|member| Arc::ptr_eq(member, last)) {
                return true;
            }
            rest = before;
        }
        return false;
    }
    let mut all: Vec<_> = list.iter().map(Arc::as_ptr).collect();
    all.sort_unstable();
    all.array_windows().any(|[a, b]| a == b)
}
