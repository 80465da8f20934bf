//! Chance: a sequence of random numbers that threads share, and a choice by weight in constant
//! time.
//!
//! Not for secrets: SplitMix64 (Steele, Lea and Flood, 2014) over a counter. Choosing by weight is
//! Walker's alias method in whole numbers, so that the probabilities are exact.

use crate::scheduler::List;
use crate::sync::{AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A shared sequence of random numbers.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Numbers set aside for one choice.
const RUN: u64 = 128;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The start of up to [`RUN`] independent numbers that no other choice gets.
    #[inline]
    pub(crate) fn draws(&self) -> Draws {
        Draws(self.0.fetch_add(STEP.wrapping_mul(RUN), Ordering::Relaxed))
    }
}

/// Numbers that belong to one choice.
#[derive(Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    #[inline]
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if that is 0) and what is left of the draw: uniform as well, as far
    /// as 64 bits reach for both.
    #[inline]
    pub(crate) const fn below(&mut self, bound: u64) -> (u64, u64) {
        scale(self.next(), bound)
    }
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of a product"
)]
const fn scale(draw: u64, bound: u64) -> (u64, u64) {
    let product = draw as u128 * bound as u128;
    ((product >> 64) as u64, product as u64)
}

/// Places by their weights.
#[derive(Debug)]
pub(crate) struct Alias {
    /// Below the first number the column's own place, else the second.
    columns: Box<[(u64, u32)]>,
    /// The sum of the weights, which is also each column's height.
    total: u64,
}

impl Alias {
    /// For the weights that the backends have now.
    pub(crate) fn new(list: &List) -> Self {
        let count = list.len() as u64;
        let weights: Vec<u64> = list.iter().map(|b| u64::from(b.weight())).collect();
        let total: u64 = weights.iter().sum();
        let mut columns: Vec<(u64, u32)> = weights
            .into_iter()
            .zip(0u32..)
            .map(|(weight, at)| (weight * count, at))
            .collect();
        let (mut small, mut large): (Vec<_>, Vec<_>) = columns
            .iter()
            .copied()
            .partition(|&(height, _)| height < total);
        while let (Some(&(height, at)), Some(&(tall, giver))) = (small.last(), large.last()) {
            small.pop();
            large.pop();
            if let Some(column) = columns.get_mut(at as usize) {
                *column = (height, giver);
            }
            let rest = tall - (total - height);
            let side = if rest < total { &mut small } else { &mut large };
            side.push((rest, giver));
        }
        // The heights are whole numbers: what is left over is exactly as high as a column.
        for (_, at) in large.into_iter().chain(small) {
            if let Some(column) = columns.get_mut(at as usize) {
                *column = (total, at);
            }
        }
        Self {
            columns: columns.into(),
            total,
        }
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// A place, each with the probability of its weight. `coin` is uniform below the total, `rest`
    /// over all of its range.
    #[inline]
    pub(crate) fn place(&self, coin: u64, rest: u64) -> Option<usize> {
        let column = usize::try_from(scale(rest, self.columns.len() as u64).0).ok()?;
        let &(bar, other) = self.columns.get(column)?;
        Some(if coin < bar { column } else { other as usize })
    }
}
