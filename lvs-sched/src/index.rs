//! The best backend without a look at all of them.
//!
//! In comes a list and a rule of comparison ([`Contest`]), out comes the place of the winner: the
//! same that a walk through the list would find. Backends stand in groups, groups in lines (see
//! [`crate::clock`]); each keeps its winner and the stamp at which it was found, and finds it anew
//! only when its clock has moved on. After one report to one backend of n that is a group, a line
//! and the line winners: about 30 + n / 120 comparisons.
//!
//! Threads repair the same node without a lock: stamp and winner are one word, so whatever a late
//! thread writes is true of the stamp that it writes with it, and an old stamp is repaired again.

use crate::backend::Backend;
use crate::clock;
use crate::scheduler::List;
use crate::sync::{AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::marker::PhantomData;

/// Up to this many a walk is faster.
#[cfg(not(lvs_loom))]
const SMALL: usize = 16;
#[cfg(lvs_loom)]
const SMALL: usize = 1;
const NOBODY: u32 = u32::MAX;

/// A rule of comparison: who takes part, and who beats whom. It must be a strict weak order.
pub(crate) trait Contest: Debug + Send + Sync + 'static {
    /// What is compared.
    type Key: Copy;

    /// The figures of a backend now; `None`: it does not take part.
    fn key(backend: &Backend) -> Option<Self::Key>;

    /// Whether a later one takes the place of an earlier one. Not in a tie.
    fn beats(challenger: Self::Key, holder: Self::Key) -> bool;
}

/// A walk through the list; the definition of the winner.
pub(crate) fn walk<C: Contest>(list: &List) -> Option<usize> {
    let mut best: Option<(usize, C::Key)> = None;
    for (at, backend) in list.iter().enumerate() {
        if let Some(key) = C::key(backend)
            && best.is_none_or(|(_, holder)| C::beats(key, holder))
        {
            best = Some((at, key));
        }
    }
    best.map(|(at, _)| at)
}

#[derive(Debug)]
struct Node {
    /// The stamp in the high half, the winner's place or [`NOBODY`] in the low half.
    word: AtomicU64,
    /// Of a group its clock; of a line its number.
    clock: u16,
    /// Of a group its members, of a line its groups.
    range: core::ops::Range<u32>,
}

impl Node {
    fn new(clock: u16, stamp: u32, range: core::ops::Range<u32>) -> Self {
        Self {
            word: AtomicU64::new(word(stamp.wrapping_sub(1), NOBODY)),
            clock,
            range,
        }
    }

    /// The winner as of the clock now, found by `find` if the clock has moved.
    #[inline]
    fn settle(&self, stamp: impl Fn(u16) -> u32, find: impl FnOnce() -> u32) -> u32 {
        // The stamp first: figures that are read after it are at least as new.
        let now = stamp(self.clock);
        let (stamped, winner) = split(self.word.load(Ordering::Acquire));
        if stamped == now {
            return winner;
        }
        let winner = find();
        self.word.store(word(now, winner), Ordering::Release);
        winner
    }
}

const fn word(stamp: u32, winner: u32) -> u64 {
    ((stamp as u64) << 32) | winner as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[expect(clippy::cast_possible_truncation, reason = "lists are shorter")]
const fn narrow(place: usize) -> u32 {
    place as u32
}

/// The winners of one version of a list.
#[derive(Debug)]
pub(crate) struct Index<C> {
    lines: Box<[Node]>,
    groups: Box<[Node]>,
    members: Box<[u32]>,
    contest: PhantomData<C>,
}

impl<C: Contest> Index<C> {
    /// An index for this list and no other.
    pub(crate) fn new(list: &List) -> Self {
        let mut index = Self {
            lines: Box::default(),
            groups: Box::default(),
            members: Box::default(),
            contest: PhantomData,
        };
        if list.len() <= SMALL {
            return index;
        }
        clock::attach(list);
        let mut members: Vec<(u16, u32)> = list
            .iter()
            .enumerate()
            .map(|(at, backend)| (backend.clock(), narrow(at)))
            .collect();
        // Clocks of one line are neighbours; members of a group stay in list order.
        members.sort_unstable();
        let (mut groups, mut start) = (Vec::new(), 0);
        for group in members.chunk_by(|a, b| a.0 == b.0) {
            let clock = group.first().map_or(0, |member| member.0);
            let end = start + narrow(group.len());
            groups.push(Node::new(clock, clock::stamp(clock), start..end));
            start = end;
        }
        let (mut lines, mut start) = (Vec::new(), 0);
        for line in groups.chunk_by(|a, b| clock::line_of(a.clock) == clock::line_of(b.clock)) {
            let number = line.first().map_or(0, |group| clock::line_of(group.clock));
            let end = start + narrow(line.len());
            lines.push(Node::new(number, clock::line_stamp(number), start..end));
            start = end;
        }
        index.members = members.into_iter().map(|(_, at)| at).collect();
        index.groups = groups.into();
        index.lines = lines.into();
        index
    }

    /// The place of the best backend of the list.
    #[inline]
    pub(crate) fn best(&self, list: &List) -> Option<usize> {
        if self.lines.is_empty() {
            return walk::<C>(list);
        }
        let winner = self.final_of(list, self.lines.iter(), |line| {
            line.settle(clock::line_stamp, || {
                self.final_of(list, within(&self.groups, &line.range), |group| {
                    group.settle(clock::stamp, || self.heat(list, group))
                })
            })
        });
        (winner != NOBODY).then_some(winner as usize)
    }

    /// The winner among a group's members, which stand in list order.
    #[inline]
    fn heat(&self, list: &List, group: &Node) -> u32 {
        let mut best: Option<(u32, C::Key)> = None;
        for &at in within(&self.members, &group.range) {
            if let Some(key) = list.get(at as usize).and_then(|backend| C::key(backend))
                && best.is_none_or(|(_, holder)| C::beats(key, holder))
            {
                best = Some((at, key));
            }
        }
        best.map_or(NOBODY, |(at, _)| at)
    }

    /// The winner among the nodes' winners, which stand in any order: ties go by place.
    #[inline]
    fn final_of<'a>(
        &self,
        list: &List,
        nodes: impl Iterator<Item = &'a Node>,
        winner: impl Fn(&Node) -> u32,
    ) -> u32 {
        let mut best: Option<(u32, C::Key)> = None;
        for node in nodes {
            let at = winner(node);
            let Some(key) = list.get(at as usize).and_then(|backend| C::key(backend)) else {
                continue;
            };
            let wins = best.is_none_or(|(place, holder)| {
                C::beats(key, holder) || (at < place && !C::beats(holder, key))
            });
            if wins {
                best = Some((at, key));
            }
        }
        best.map_or(NOBODY, |(at, _)| at)
    }
}

#[inline]
fn within<'a, T>(all: &'a [T], range: &core::ops::Range<u32>) -> core::slice::Iter<'a, T> {
    all.get(range.start as usize..range.end as usize)
        .unwrap_or_default()
        .iter()
}
