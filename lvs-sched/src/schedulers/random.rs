//! Chance: random numbers that threads need not share, and a choice by weight in constant time.
//!
//! Not for secrets: SplitMix64 (Steele, Lea and Flood, 2014) over a counter and the request. There
//! are some counters, each on a cache line of its own; a caller takes the one that the place of its
//! stack points to, which is another for most other threads. Two that meet on one lose time, and at
//! worst draw the same numbers if they ask for the same client; nothing depends on it.
//!
//! Choosing by weight is Walker's alias method: a column for each place, cut at one height, so that
//! a number of 32 bits says which column and which part of it.

use crate::Request;
use crate::sync::{AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::select_unpredictable;

/// A counter that one thread has mostly for itself.
#[derive(Debug)]
#[repr(align(64))]
struct Line(AtomicU64);

/// Where random numbers come from.
#[derive(Debug)]
pub(crate) struct Random([Line; LINES]);

const LINES: usize = 16;
/// Stacks of threads are at least that many bits of address apart.
const STACK: u32 = 21;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Numbers set aside for one choice.
const RUN: u64 = 128;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(core::array::from_fn(|_| Line(AtomicU64::new(seed))))
    }

    /// The start of up to [`RUN`] independent numbers for one choice.
    #[inline]
    pub(crate) fn draws(&self, request: &Request) -> Draws {
        let here = 0u8;
        let [first, ..] = &self.0;
        let line = (core::ptr::from_ref(&here).addr() >> STACK) % LINES;
        let Line(counter) = self.0.get(line).unwrap_or(first);
        // A load and a store: a step that is lost to another thread costs nothing but a number.
        let count = counter.load(Ordering::Relaxed);
        counter.store(
            count.wrapping_add(STEP.wrapping_mul(RUN)),
            Ordering::Relaxed,
        );
        let asker = request.src.lo ^ (u64::from(request.src_port) << 40);
        Draws(count ^ asker.wrapping_mul(STEP))
    }
}

/// Numbers that belong to one choice.
#[derive(Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    #[inline]
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Two independent numbers.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    pub(crate) const fn pair(&mut self) -> (u32, u32) {
        let draw = self.next();
        ((draw >> 32) as u32, draw as u32)
    }

    /// A number from 0 to `most`.
    #[inline]
    pub(crate) const fn up_to(&mut self, most: u64) -> u64 {
        ((self.next() as u128 * (most as u128 + 1)) >> 64) as u64
    }
}

/// A column: its own place below the cut, another one above it.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// In units of 2^-32 of the height.
    cut: u32,
    other: u32,
}

/// Places by their weights.
#[derive(Debug)]
pub(crate) struct Alias(Box<[Column]>);

impl Alias {
    /// For these weights, the first being that of place 0.
    pub(crate) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let (count, total) = (weights.len() as u64, weights.iter().sum::<u64>());
        let mut columns: Vec<Column> = (0..u32::MAX)
            .zip(&weights)
            .map(|(other, _)| Column { cut: 0, other })
            .collect();
        // In whole numbers: as if each column were as high as all weights together.
        let heights = weights.into_iter().map(|weight| weight * count);
        let (mut small, mut large): (Vec<_>, Vec<_>) =
            heights.zip(0u32..).partition(|&(height, _)| height < total);
        while let (Some(&(height, at)), Some(&(tall, giver))) = (small.last(), large.last()) {
            small.pop();
            large.pop();
            if let Some(column) = columns.get_mut(at as usize) {
                *column = Column {
                    cut: fraction(height, total),
                    other: giver,
                };
            }
            let rest = tall - (total - height);
            let side = if rest < total { &mut small } else { &mut large };
            side.push((rest, giver));
        }
        // What is left over is exactly as high as a column: all of it is its own.
        Self(columns.into())
    }

    /// A place, each with the probability of its weight, to 2^-32 of all.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    pub(crate) fn place(&self, draw: u32) -> Option<usize> {
        let product = u64::from(draw) * self.0.len() as u64;
        let (at, height) = ((product >> 32) as usize, product as u32);
        let &Column { cut, other } = self.0.get(at)?;
        // Chance decides: a branch would be guessed wrongly every other time.
        Some(select_unpredictable(height < cut, at, other as usize))
    }
}

/// `part` of `whole`, in units of 2^-32. `part` is less.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "53 bits are more than the 32 that are asked for"
)]
fn fraction(part: u64, whole: u64) -> u32 {
    (part as f64 / whole as f64 * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// The probability that the columns give each place.
    fn chances(alias: &Alias) -> Vec<f64> {
        let mut chances = vec![0.0; alias.0.len()];
        let count = alias.0.len() as f64;
        for (at, column) in alias.0.iter().enumerate() {
            let own = f64::from(column.cut) / 4_294_967_296.0;
            chances[at] += own / count;
            chances[column.other as usize] += (1.0 - own) / count;
        }
        chances
    }

    #[test]
    fn columns_hold_the_weights() {
        for weights in [
            vec![1],
            vec![5, 3, 2, 1],
            vec![0, 7, 0, 0, 1],
            vec![1, 65_535, 3],
            vec![i32::MAX as u32; 300],
            (0..1000).map(|n| n * n % 97).collect(),
        ] {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            let alias = Alias::new(weights.iter().copied());
            for (chance, weight) in chances(&alias).iter().zip(&weights) {
                let expected = f64::from(*weight) / total;
                assert!((chance - expected).abs() < 1e-9, "{weights:?}");
            }
        }
    }

    #[test]
    fn nothing_to_choose_from_is_no_place() {
        assert_eq!(Alias::new(core::iter::empty()).place(7), None);
    }
}
