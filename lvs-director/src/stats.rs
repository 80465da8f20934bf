//! Counting: each worker writes its own cache lines, the reader sums them.
//!
//! A worker adds with a plain load and store, since nobody else writes its shard; a reader may see
//! a packet counted whose bytes are not yet. The estimator is IPVS's (7.2).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use lvs_core::{Counters, DropReason, Rates};
use std::sync::Arc;

/// What one worker has counted of one object.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Shard {
    conns: AtomicU64,
    in_packets: AtomicU64,
    out_packets: AtomicU64,
    in_bytes: AtomicU64,
    out_bytes: AtomicU64,
}

/// Adds to a counter that this thread alone writes.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl Shard {
    #[inline]
    pub(crate) fn connection(&self) {
        add(&self.conns, 1);
    }

    #[inline]
    pub(crate) fn packet_in(&self, bytes: u32) {
        add(&self.in_packets, 1);
        add(&self.in_bytes, u64::from(bytes));
    }

    #[inline]
    pub(crate) fn packet_out(&self, bytes: u32) {
        add(&self.out_packets, 1);
        add(&self.out_bytes, u64::from(bytes));
    }

    /// More of a packet that has been counted: a later fragment.
    #[inline]
    pub(crate) fn more_in(&self, bytes: u32) {
        add(&self.in_bytes, u64::from(bytes));
    }

    /// As [`Shard::more_in`], towards a client.
    #[inline]
    pub(crate) fn more_out(&self, bytes: u32) {
        add(&self.out_bytes, u64::from(bytes));
    }

    fn read(&self) -> Counters {
        Counters {
            conns: self.conns.load(Relaxed),
            in_packets: self.in_packets.load(Relaxed),
            out_packets: self.out_packets.load(Relaxed),
            in_bytes: self.in_bytes.load(Relaxed),
            out_bytes: self.out_bytes.load(Relaxed),
        }
    }
}

/// The counters of one object, a shard a worker; a clone is the same counters. A slab holds those of
/// some objects.
#[derive(Debug, Clone)]
pub(crate) struct Sharded {
    slab: Arc<[Shard]>,
    first: u32,
    workers: u32,
}

impl Sharded {
    /// The shard of a worker, whose number is one of those that there are.
    #[inline]
    pub(crate) fn of(&self, worker: usize) -> Option<&Shard> {
        self.slab.get(self.first as usize + worker)
    }

    pub(crate) fn sum(&self) -> Counters {
        let rest = self.slab.get(self.first as usize..).unwrap_or_default();
        rest.iter()
            .take(self.workers as usize)
            .fold(Counters::default(), |sum, shard| sum + shard.read())
    }
}

/// Makes counters, all zero.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    /// The newest slab, and how much of it is given away.
    slab: Arc<[Shard]>,
    used: u32,
}

impl Slabs {
    /// About how many shards a slab has: a page.
    const SHARDS: u32 = 64;

    /// Counters for so many workers; the same number each time.
    pub(crate) fn give(&mut self, workers: usize) -> Sharded {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        if self.used.saturating_add(workers) as usize > self.slab.len() {
            let objects = Self::SHARDS.checked_div(workers).unwrap_or(1).max(1);
            let shards = 0..objects.saturating_mul(workers);
            self.slab = shards.map(|_| Shard::default()).collect();
            self.used = 0;
        }
        let first = self.used;
        self.used += workers;
        Sharded {
            slab: Arc::clone(&self.slab),
            first,
            workers,
        }
    }
}

/// What one worker has dropped, by reason.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Drops([AtomicU64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; DropReason::COUNT])
    }
}

impl Drops {
    #[inline]
    pub(crate) fn count(&self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    #[inline]
    pub(crate) fn count_many(&self, reason: DropReason, times: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            add(counter, times);
        }
    }

    pub(crate) fn read(&self, reason: DropReason) -> u64 {
        self.0
            .get(reason as usize)
            .map_or(0, |counter| counter.load(Relaxed))
    }
}

/// IPVS's rate estimator: an exponentially weighted mean of two-second samples (7.2).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimator {
    last: Counters,
    mean: [i64; 5],
}

impl Estimator {
    /// Takes the next sample; to be called every two seconds.
    pub(crate) fn sample(&mut self, now: Counters) {
        let delta = now - self.last;
        self.last = now;
        // Connections and packets are scaled by 2^10 a second, bytes by 2^5.
        let samples = [
            (delta.conns, 9),
            (delta.in_packets, 9),
            (delta.out_packets, 9),
            (delta.in_bytes, 4),
            (delta.out_bytes, 4),
        ];
        for (mean, (amount, shift)) in self.mean.iter_mut().zip(samples) {
            let rate = (amount << shift).cast_signed();
            *mean += (rate - *mean) >> 2;
        }
    }

    /// Forgets the rates, not the counters (`-Z`).
    pub(crate) fn zero(&mut self) {
        self.mean = [0; 5];
    }

    pub(crate) fn rates(&self) -> Rates {
        let [cps, in_pps, out_pps, in_bps, out_bps] = self.mean;
        let packets = |mean: i64| ((mean + 0x1ff) >> 10).cast_unsigned();
        let bytes = |mean: i64| ((mean + 0xf) >> 5).cast_unsigned();
        Rates {
            cps: packets(cps),
            in_pps: packets(in_pps),
            out_pps: packets(out_pps),
            in_bps: bytes(in_bps),
            out_bps: bytes(out_bps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cps_of(deltas: &[u64]) -> Vec<u64> {
        let mut estimator = Estimator::default();
        let mut total = Counters::default();
        deltas
            .iter()
            .map(|delta| {
                total.conns += delta;
                estimator.sample(total);
                estimator.rates().cps
            })
            .collect()
    }

    /// The two worked examples of IPVS 7.2.
    #[test]
    fn rates_follow_the_kernels_examples() {
        assert_eq!(cps_of(&[100, 0, 0, 0]), [12, 9, 7, 5]);
        assert_eq!(cps_of(&[100, 100, 100, 100]), [12, 22, 29, 34]);
    }

    #[test]
    fn shards_sum() {
        let mut slabs = Slabs::default();
        let (sharded, others) = (slabs.give(2), slabs.give(2));
        others.of(0).unwrap().packet_in(100);
        sharded.of(0).unwrap().packet_in(100);
        sharded.of(1).unwrap().packet_in(50);
        sharded.of(1).unwrap().packet_out(7);
        sharded.of(0).unwrap().connection();
        let sum = sharded.sum();
        assert_eq!(
            (sum.conns, sum.in_packets, sum.in_bytes, sum.out_bytes),
            (1, 2, 150, 7)
        );
    }

    #[test]
    fn each_has_counters_of_its_own() {
        let mut slabs = Slabs::default();
        let all: Vec<Sharded> = (0..200).map(|_| slabs.give(3)).collect();
        for (n, sharded) in (0..).zip(&all) {
            sharded.of(2).unwrap().packet_in(n);
        }
        for (n, sharded) in (0..).zip(&all) {
            assert_eq!(sharded.sum().in_bytes, n);
        }
    }
}
