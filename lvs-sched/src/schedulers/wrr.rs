//! `wrr`: in turn, the heavier ones more often. A required weight falls by the weights' greatest
//! common divisor from the highest to the lowest and around; on each level a walk through the list
//! takes everyone who weighs at least that much. Over a cycle each has exactly its share.
//!
//! Source: IPVS 1.3. Every edit moves the cursor to the head and keeps the required weight, cut to
//! the new weights.
//!
//! The sequence is the kernel's, the way to it is not: on a level of few the kernel walks past
//! everybody else. Here sets of places are kept for some levels, each half as large as the next, so
//! that a walk meets at most one unwanted place for a wanted one; levels that only overloaded
//! backends reach are left out by arithmetic. A choice is constant time on average over a walk,
//! and 2n places are kept in all.
//!
//! Cursor and required weight are one word that moves by compare-and-swap, so the choices of all
//! threads together are one run of the sequence.

use crate::scheduler::{After, Edit, List, Scheduler};
use crate::sync::{Apart, AtomicU64, Ordering};
use crate::{Backend, Options, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use lvs_core::SchedFlags;

/// The places of all that weigh more than `below`.
#[derive(Debug)]
struct Level {
    /// The heaviest weight that is not of this level, or 0.
    below: u32,
    places: Places,
}

/// A set of places, with a bit for each and, where there are several words of them, one for each word.
/// The first word, mostly the only one, is kept without memory of its own.
#[derive(Debug)]
struct Places {
    first: u64,
    others: Box<[u64]>,
    summary: Box<[u64]>,
}

impl Places {
    fn new(size: usize, places: impl Iterator<Item = u32>) -> Self {
        let words = size.div_ceil(64);
        let mut first = 0;
        let mut others = vec![0u64; words.saturating_sub(1)];
        let summarised = if words > 1 { words } else { 0 };
        let mut summary = vec![0u64; summarised.div_ceil(64)];
        for place in places {
            let place = place as usize;
            let word = match (place / 64).checked_sub(1) {
                None => Some(&mut first),
                Some(at) => others.get_mut(at),
            };
            if let Some(word) = word {
                *word |= 1 << (place % 64);
            }
            if let Some(above) = summary.get_mut(place / 4096) {
                *above |= 1 << (place / 64 % 64);
            }
        }
        Self {
            first,
            others: others.into(),
            summary: summary.into(),
        }
    }

    #[inline]
    fn word(&self, at: u32) -> Option<u64> {
        match at.checked_sub(1) {
            None => Some(self.first),
            Some(at) => self.others.get(at as usize).copied(),
        }
    }

    /// The first place of the set that is not before `from`.
    #[inline]
    fn from(&self, from: u32) -> Option<u32> {
        let word = from / 64;
        let rest = self.word(word)? & (u64::MAX << (from % 64));
        if rest != 0 {
            return Some(word * 64 + rest.trailing_zeros());
        }
        let word = word + 1;
        let mut mask = u64::MAX << (word % 64);
        for (block, summary) in (word / 64..).zip(self.summary.get((word / 64) as usize..)?) {
            let rest = summary & mask;
            if rest != 0 {
                let word = block * 64 + rest.trailing_zeros();
                let bits = self.word(word)?;
                return Some(word * 64 + bits.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }
}

/// Where the sequence stands: how far the walk is, and the weight that it requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    /// 1 more than the place of the last one chosen; 0: at the head.
    cursor: u32,
    required: u32,
}

impl Turn {
    const fn pack(self) -> u64 {
        ((self.cursor as u64) << 32) | self.required as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    const fn unpack(word: u64) -> Self {
        Self {
            cursor: (word >> 32) as u32,
            required: word as u32,
        }
    }
}

#[derive(Debug)]
struct Weighted {
    turn: Apart<AtomicU64>,
    weights: Box<[u32]>,
    /// The smallest set first; the last one is everybody of a weight above 0.
    levels: Box<[Level]>,
    /// The greatest common divisor of the weights, 1 if there are none.
    step: u32,
    /// Where the required weight starts; 0 if there are no weights.
    top: u32,
}

/// What the weights of a list come to.
#[derive(Clone, Copy)]
struct Measure {
    gcd: u32,
    max: u32,
}

impl Measure {
    const NOTHING: Self = Self { gcd: 0, max: 0 };

    fn of(list: &List) -> Self {
        let weights = list.iter().map(|backend| backend.weight());
        weights.fold(Self::NOTHING, Self::add)
    }

    fn add(self, weight: u32) -> Self {
        Self {
            gcd: if self.gcd == 1 {
                1
            } else {
                gcd(self.gcd, weight)
            },
            max: self.max.max(weight),
        }
    }

    fn step(self) -> u32 {
        self.gcd.max(1)
    }

    fn top(self) -> u32 {
        self.max.saturating_sub(self.step() - 1)
    }

    /// The required weight after an edit that led to these weights.
    fn cut(self, required: u32) -> u32 {
        let (step, top) = (self.step(), self.top());
        if required > top || required == 0 {
            top
        } else if step > 1 {
            required / step * step + 1
        } else {
            required
        }
    }
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Weighted {
    /// The scheduler for a list, at the head with this weight required.
    fn new(list: &List, required: u32) -> Self {
        let weights: Box<[u32]> = list.iter().map(|backend| backend.weight()).collect();
        let measure = weights.iter().copied().fold(Measure::NOTHING, Measure::add);
        let turn = Turn {
            cursor: 0,
            required,
        };
        Self {
            turn: Apart::new(AtomicU64::new(turn.pack())),
            levels: levels(&weights),
            weights,
            step: measure.step(),
            top: measure.top(),
        }
    }

    /// The choice after `turn` and where it leads to, or where a vain walk ends.
    #[inline]
    fn next(&self, list: &List, turn: Turn) -> (Option<u32>, Turn) {
        let mut cursor = turn.cursor;
        let mut required = turn.required;
        let mut wrapped = false;
        loop {
            let Some(level) = self.levels.iter().find(|level| level.below < required) else {
                return (None, turn);
            };
            // The heaviest usable one below the required weight, had the walk begun at the head.
            let mut lighter = 0;
            let mut from = cursor;
            while let Some(at) = level.places.from(from) {
                from = at + 1;
                let weight = self.weights.get(at as usize).copied().unwrap_or(0);
                let usable = list.get(at as usize).is_some_and(|b| Backend::is_usable(b));
                if usable && weight >= required {
                    let turn = Turn {
                        cursor: from,
                        required,
                    };
                    return (Some(at), turn);
                }
                if usable {
                    lighter = lighter.max(weight);
                }
            }
            let next = if cursor != 0 {
                // Part of a walk tells nothing about who stands before its start.
                required.saturating_sub(self.step)
            } else {
                // Weights are multiples of the step, required weights 1 more than that.
                let heaviest = if lighter != 0 { lighter } else { level.below };
                heaviest.saturating_sub(self.step - 1)
            };
            cursor = 0;
            required = next;
            if required == 0 {
                if wrapped {
                    break;
                }
                wrapped = true;
                required = self.top;
            }
        }
        // Nobody: the kernel's walk ends at the head, or where it began if that was the lowest level.
        let end = if turn.cursor == 0 || turn.required > self.step {
            Turn {
                cursor: 0,
                required: self.top,
            }
        } else {
            turn
        };
        (None, end)
    }
}

/// Sets of places, from the one of everybody on each at most half as large as the one before.
fn levels(weights: &[u32]) -> Box<[Level]> {
    /// So many are put in order without memory from elsewhere.
    const FEW: usize = 32;
    let (mut few, mut many) = ([(0, 0); FEW], Vec::new());
    if weights.len() > FEW {
        many.resize(weights.len(), (0, 0));
    }
    let room = if many.is_empty() {
        few.as_mut_slice()
    } else {
        many.as_mut_slice()
    };
    let usable = weights.iter().copied().zip(0..);
    let usable = usable.filter(|&(weight, _)| weight != 0);
    let filled = room.iter_mut().zip(usable);
    let count = filled.map(|(slot, one)| *slot = one).count();
    let order: &mut [(u32, u32)] = room.get_mut(..count).unwrap_or_default();
    order.sort_unstable_by_key(|&(weight, at)| (Reverse(weight), at));
    // One of everybody is all that equal weights need.
    let mut levels = Vec::with_capacity(1);
    let mut size = order.len();
    while size != 0 {
        let (heavier, lighter) = order.split_at(size);
        levels.push(Level {
            below: lighter.first().map_or(0, |&(weight, _)| weight),
            places: Places::new(weights.len(), heavier.iter().map(|&(_, at)| at)),
        });
        // The largest set of a whole number of weights that is at most half of this one.
        let bar = order.get(size / 2).map_or(0, |&(weight, _)| weight);
        size = order.partition_point(|&(weight, _)| weight > bar);
    }
    levels.reverse();
    levels.into()
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Weighted::new(list, Measure::of(list).cut(0)))
}

impl Scheduler for Weighted {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        // Relaxed: the turn publishes nothing but itself.
        let mut word = self.turn.get().load(Ordering::Relaxed);
        loop {
            let (chosen, turn) = self.next(list, Turn::unpack(word));
            match self.turn.get().compare_exchange_weak(
                word,
                turn.pack(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return chosen.map(|at| at as usize),
                Err(now) => word = now,
            }
        }
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        let required = Turn::unpack(after.turn).required;
        Some(Arc::new(Self::new(list, required)))
    }

    fn turn(&self) -> u64 {
        self.turn.get().load(Ordering::Relaxed)
    }

    fn step(&self, turn: u64, list: &List, edit: Edit) -> u64 {
        let added = match edit {
            Edit::Added { count } => count,
            Edit::Removed { .. } | Edit::Updated => 0,
        };
        let (old, new) = list.split_at(list.len().saturating_sub(added));
        let mut measure = Measure::of(old);
        let mut required = Turn::unpack(turn).required;
        if added == 0 {
            required = measure.cut(required);
        }
        for backend in new {
            measure = measure.add(backend.weight());
            required = measure.cut(required);
        }
        let cursor = 0;
        Turn { cursor, required }.pack()
    }
}
