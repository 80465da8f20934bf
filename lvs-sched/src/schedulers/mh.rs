//! `mh`: Maglev hashing. Each backend has its own order of preference over the slots of a table of
//! prime size; in turn each takes the first free slots of its order, as many as its weight says.
//! The client's address chooses the slot; few slots change hands when the list changes.
//!
//! `mh-port` (flag 2) hashes the client's port too. If the slot's backend is not usable, nobody
//! gets the connection, or with `mh-fallback` (flag 1) the first usable one that rehashing meets.
//! A backend set to weight 0 keeps its slots: the table goes by the last weight.
//!
//! Source: IPVS 1.7; Eisenbud et al., "Maglev", NSDI 2016, 3.4. The table is dealt anew after
//! every edit.

use crate::hash::{OFFSET_KEY, SKIP_KEY, siphash};
use crate::scheduler::{Edit, List, Scheduler};
use crate::{Options, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use lvs_core::SchedFlags;

/// The table sizes, by index from 8.
const PRIMES: [u32; 10] = [
    251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071,
];
const FREE: u32 = u32::MAX;

/// The slots: who has which.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Box<[u32]>,
    index: u8,
    size: u32,
}

/// What a backend takes at a time, and where it will look next.
struct Taker {
    at: u32,
    turns: u32,
    slot: u32,
    skip: u32,
}

impl Table {
    /// Deals a table; the index is that of [`Options::mh_index`].
    pub(crate) fn new(list: &List, index: u8) -> Self {
        let index = index.clamp(8, 17);
        let size = PRIMES.get(usize::from(index) - 8).copied().unwrap_or(4093);
        let takers = takers(list, size, u32::from(index) / 2);
        let slots = if takers.is_empty() {
            Box::default()
        } else {
            deal(takers, size)
        };
        Self { slots, index, size }
    }

    pub(crate) const fn index(&self) -> u8 {
        self.index
    }

    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    /// The slot of a value.
    #[inline]
    pub(crate) fn slot(&self, value: u32) -> u32 {
        siphash(value, OFFSET_KEY) % self.size
    }

    /// Who has a slot.
    #[inline]
    pub(crate) fn owner(&self, slot: u32) -> Option<usize> {
        self.slots.get(slot as usize).map(|&at| at as usize)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

fn takers(list: &List, size: u32, weight_bits: u32) -> Vec<Taker> {
    let weights: Vec<u32> = list.iter().map(|backend| backend.last_weight()).collect();
    let divisor = weights.iter().fold(0, |g, &w| gcd(g, w)).max(1);
    let max = weights.iter().copied().max().unwrap_or(0);
    let shift = (u32::BITS - (max / divisor).leading_zeros()).saturating_sub(weight_bits);
    (0u32..)
        .zip(list)
        .zip(weights)
        .filter(|&(_, weight)| weight != 0)
        .map(|((at, backend), weight)| {
            let endpoint = backend.endpoint();
            let value = endpoint.addr.fold().wrapping_add(u32::from(endpoint.port));
            Taker {
                at,
                turns: ((weight / divisor) >> shift).max(1),
                slot: siphash(value, OFFSET_KEY) % size,
                skip: siphash(value, SKIP_KEY) % (size - 1) + 1,
            }
        })
        .collect()
}

fn deal(mut takers: Vec<Taker>, size: u32) -> Box<[u32]> {
    let mut slots = vec![FREE; size as usize].into_boxed_slice();
    // A bit per slot stays in the nearest cache while the table does not.
    let mut taken = vec![0u64; (size as usize).div_ceil(64)];
    let mut left = size;
    loop {
        for taker in &mut takers {
            for _ in 0..taker.turns {
                let mut slot = taker.slot;
                loop {
                    let Some(word) = taken.get_mut(slot as usize / 64) else {
                        return slots;
                    };
                    let bit = 1 << (slot % 64);
                    if *word & bit == 0 {
                        *word |= bit;
                        break;
                    }
                    slot += taker.skip;
                    slot = slot.min(slot.wrapping_sub(size));
                }
                taker.slot = slot;
                if let Some(owner) = slots.get_mut(slot as usize) {
                    *owner = taker.at;
                }
                left -= 1;
                if left == 0 {
                    return slots;
                }
            }
        }
    }
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// What of a request is hashed.
#[inline]
pub(crate) fn value(request: &Request, flags: SchedFlags) -> u32 {
    let port = if flags.flag2 { request.src_port } else { 0 };
    request.src.fold().wrapping_add(u32::from(port))
}

#[derive(Debug)]
struct Maglev(Table);

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Maglev(Table::new(list, options.mh_index)))
}

impl Scheduler for Maglev {
    #[inline]
    fn pick(&self, list: &List, flags: SchedFlags, request: &Request) -> Option<usize> {
        let table = &self.0;
        let value = value(request, flags);
        let usable = |slot| {
            let at = table.owner(slot)?;
            list.get(at)?.is_usable().then_some(at)
        };
        let slot = table.slot(value);
        let first = usable(slot);
        if first.is_some() || !flags.flag1 || table.is_empty() {
            return first;
        }
        (0..table.size()).find_map(|offset| {
            let rehash = (offset + slot) % table.size();
            usable(table.slot(value.wrapping_add(rehash)))
        })
    }

    fn edited(&self, list: &List, _: Edit) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self(Table::new(list, self.0.index()))))
    }

    fn capacity(&self) -> usize {
        self.0.size() as usize
    }
}
