//! How an index learns which backends changed without asking each: clocks that they advance.
//!
//! In comes the number of a backend's clock, out comes the news that something behind it changed.
//! A backend advances two stamps of one cache line: its group's ([`MEMBERS`] backends) and the
//! line's (15 groups). Whoever keeps a result remembers the stamp at which it was computed, and
//! computes anew when the stamp has moved. Nothing is consumed by reading, so any number of pools,
//! and any number of versions of a pool, watch the same backends.
//!
//! The lines are the process's, not a pool's: a backend needs no pointer to who watches it, and no
//! pool need be told when another is gone. When more groups were handed out than there are, groups
//! share a stamp, which costs needless looks and never misses a change.
//!
//! ```text
//! one line, 64 bytes:  | any | group 0 | group 1 | ... | group 14 |
//! ```

use crate::backend::Backend;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Backends that share a group's stamp.
pub(crate) const MEMBERS: usize = 8;
#[cfg(not(lvs_loom))]
const GROUPS: usize = 15;
#[cfg(lvs_loom)]
const GROUPS: usize = 1;
#[cfg(not(lvs_loom))]
const LINES: usize = 1024;
#[cfg(lvs_loom)]
const LINES: usize = 1;

#[repr(align(64))]
struct Line {
    any: AtomicU32,
    groups: [AtomicU32; GROUPS],
}

#[cfg(not(lvs_loom))]
static CLOCKS: [Line; LINES] = [const {
    Line {
        any: AtomicU32::new(0),
        groups: [const { AtomicU32::new(0) }; GROUPS],
    }
}; LINES];

// loom makes its statics anew for every execution.
#[cfg(lvs_loom)]
loom::lazy_static! {
    static ref CLOCKS: [Line; LINES] = [Line {
        any: AtomicU32::new(0),
        groups: [AtomicU32::new(0)],
    }];
}

static NEXT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

#[cfg(not(lvs_loom))]
const _: () = assert!(size_of::<Line>() == 64);
const _: () = assert!(LINES * GROUPS < u16::MAX as usize);

/// On a cache line of its own, which is read much and hardly ever written.
#[repr(align(64))]
struct Reshapes(AtomicU64);

#[cfg(not(lvs_loom))]
static RESHAPES: Reshapes = Reshapes(AtomicU64::new(0));
#[cfg(lvs_loom)]
loom::lazy_static! {
    static ref RESHAPES: Reshapes = Reshapes(AtomicU64::new(0));
}

/// How often any backend of the process has become usable or unusable. Such things are rare beside
/// choices. What is loaded after it is at least as new.
#[inline]
pub(crate) fn reshapes() -> u64 {
    RESHAPES.0.load(Ordering::Acquire)
}

/// Tells that a backend has become usable or unusable. The change must have been stored before.
pub(crate) fn reshaped() {
    RESHAPES.0.fetch_add(1, Ordering::Release);
}

/// A clock's number is 1 more than its place, so that 0 says "none".
const fn place(clock: u16) -> (usize, usize) {
    let place = (clock as usize).saturating_sub(1) % (LINES * GROUPS);
    (place / GROUPS, place % GROUPS)
}

fn line(index: usize) -> Option<&'static Line> {
    CLOCKS.get(index)
}

/// The line in which a clock stands.
pub(crate) const fn line_of(clock: u16) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "below LINES")]
    let line = place(clock).0 as u16;
    line
}

/// Tells that a backend of this clock changed. The change must have been stored before.
#[inline]
pub(crate) fn advance(clock: u16) {
    let (at, group) = place(clock);
    if let Some(line) = line(at) {
        // Group first: who sees the line's new stamp sees the group's.
        if let Some(group) = line.groups.get(group) {
            group.fetch_add(1, Ordering::Release);
        }
        line.any.fetch_add(1, Ordering::Release);
    }
}

/// The stamp of a line. What is loaded after it is at least as new.
#[inline]
pub(crate) fn line_stamp(index: u16) -> u32 {
    line(index as usize).map_or(0, |line| line.any.load(Ordering::Acquire))
}

/// The stamp of a clock's group. What is loaded after it is at least as new.
#[inline]
pub(crate) fn stamp(clock: u16) -> u32 {
    let (at, group) = place(clock);
    line(at)
        .and_then(|line| line.groups.get(group))
        .map_or(0, |group| group.load(Ordering::Acquire))
}

/// Gives a clock to every backend of the list that has none, filling the groups that are not full.
pub(crate) fn attach(list: &[Arc<Backend>]) {
    let mut used: Vec<u16> = list.iter().map(|backend| backend.clock()).collect();
    if used.iter().all(|&clock| clock != 0) {
        return;
    }
    used.retain(|&clock| clock != 0);
    used.sort_unstable();
    let mut room: Vec<(u16, usize)> = used
        .chunk_by(|a, b| a == b)
        .filter(|group| group.len() < MEMBERS)
        .filter_map(|group| Some((*group.first()?, MEMBERS - group.len())))
        .collect();
    // The oldest first, so that neighbours in the list are neighbours in a group.
    for backend in list.iter().rev().filter(|backend| backend.clock() == 0) {
        if room.last().is_none() {
            #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
            let fresh = NEXT.fetch_add(1, Ordering::Relaxed) % ((LINES * GROUPS) as u32);
            let fresh = u16::try_from(fresh).unwrap_or(0);
            room.push((fresh + 1, MEMBERS));
        }
        if let Some((clock, left)) = room.last_mut() {
            let clock = *clock;
            *left -= 1;
            if *left == 0 {
                room.pop();
            }
            backend.clock_or(|| clock);
        }
    }
}
