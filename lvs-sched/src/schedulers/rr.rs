//! `rr`: one after the other. From the last one chosen on through the list and around; the first
//! usable one is it. Weights matter only as zero or not.
//!
//! Source: IPVS 1.2. The cursor outlives edits: a removed cursor falls back to its predecessor.
//!
//! The cursor moves by compare-and-swap from the place that was read to the place chosen, so every
//! choice is the successor of one other choice: with all backends usable, any n choices in a row,
//! by whatever threads, are n different backends.

use crate::scheduler::{Edit, List, Scheduler};
use crate::sync::{AtomicU32, Ordering};
use crate::{Options, Request};
use alloc::sync::Arc;
use lvs_core::SchedFlags;

#[derive(Debug)]
struct RoundRobin {
    /// 1 more than the place of the last one chosen; 0: before the first.
    cursor: AtomicU32,
}

pub(crate) fn build(_: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(RoundRobin {
        cursor: AtomicU32::new(0),
    })
}

impl Scheduler for RoundRobin {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        let mut cursor = self.cursor.load(Ordering::Relaxed);
        loop {
            let (before, after) = list
                .split_at_checked(cursor as usize)
                .unwrap_or((list, &[]));
            let at = match after.iter().position(|backend| backend.is_usable()) {
                Some(at) => before.len() + at,
                None => before.iter().position(|backend| backend.is_usable())?,
            };
            #[expect(clippy::cast_possible_truncation, reason = "lists are shorter")]
            let next = at as u32 + 1;
            // Relaxed: the cursor publishes nothing but itself.
            match self.cursor.compare_exchange_weak(
                cursor,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(at),
                Err(now) => cursor = now,
            }
        }
    }

    fn edited(&self, _: &List, edit: Edit) -> Option<Arc<dyn Scheduler>> {
        let cursor = self.cursor.load(Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "lists are shorter")]
        let cursor = match edit {
            Edit::Added { .. } if cursor == 0 => 0,
            Edit::Added { count } => cursor + count as u32,
            Edit::Removed { at } if cursor as usize > at => cursor - 1,
            Edit::Removed { .. } => cursor,
            Edit::Updated => return None,
        };
        Some(Arc::new(Self {
            cursor: AtomicU32::new(cursor),
        }))
    }
}
