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
const FREE: u16 = u16::MAX;

/// The slots: who has which.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Box<[u16]>,
    index: u8,
    size: u32,
    /// 2^64 / `size`, rounded up: a remainder by two products (Lemire, Kaser and Kurz, 2019).
    inverse: u64,
}

/// What a backend takes at a time, and where it will look next.
struct Taker {
    at: u16,
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
        Self {
            slots,
            index,
            size,
            inverse: u64::MAX / u64::from(size) + 1,
        }
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
        let fraction = self
            .inverse
            .wrapping_mul(u64::from(siphash(value, OFFSET_KEY)));
        #[expect(clippy::cast_possible_truncation, reason = "less than the size")]
        let slot = ((u128::from(fraction) * u128::from(self.size)) >> 64) as u32;
        slot
    }

    /// Who has a slot.
    #[inline]
    pub(crate) fn owner(&self, slot: u32) -> Option<usize> {
        self.slots.get(slot as usize).copied().map(usize::from)
    }

    /// How many backends there is room for: one a slot, and no more than a slot can name.
    pub(crate) fn capacity(&self) -> usize {
        (self.size as usize).min(usize::from(FREE))
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
    (0..FREE)
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

fn deal(mut takers: Vec<Taker>, size: u32) -> Box<[u16]> {
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
        self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;
    use lvs_core::{Addr, Endpoint, Thresholds};

    /// IPVS 1.11: 10.1.0.1, .2, .3 added in this order.
    fn list(weights: [u32; 3]) -> Vec<Arc<Backend>> {
        [1u32, 2, 3]
            .into_iter()
            .zip(weights)
            .map(|(n, weight)| {
                let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + n), 80);
                Backend::new(n, endpoint, weight, Thresholds::default())
            })
            .rev()
            .collect()
    }

    fn slots(weights: [u32; 3]) -> Vec<u32> {
        let list = list(weights);
        let table = Table::new(&list, 12);
        (0..table.size())
            .map(|slot| list[table.owner(slot).unwrap()].id())
            .collect()
    }

    fn totals(slots: &[u32]) -> [usize; 3] {
        [1, 2, 3].map(|n| slots.iter().filter(|&&owner| owner == n).count())
    }

    fn letters(text: &str) -> Vec<u32> {
        text.bytes()
            .filter(u8::is_ascii_uppercase)
            .map(|letter| u32::from(letter - b'A') + 1)
            .collect()
    }

    #[test]
    fn permutations_of_the_worked_example() {
        let of = |taker: &Taker| (taker.slot, taker.skip);
        let takers = takers(&list([1, 1, 1]), 4093, 6);
        let orders: Vec<_> = takers.iter().map(of).collect();
        assert_eq!(orders, [(2424, 45), (2769, 572), (310, 1461)]);
    }

    #[test]
    fn tables_of_the_worked_example() {
        let equal = slots([1, 1, 1]);
        assert_eq!(
            equal[..24],
            letters("C C C A C B C B C A B A C A C A C A C B B B B B")
        );
        assert_eq!(totals(&equal), [1364, 1364, 1365]);
        let weighted = slots([3, 1, 2]);
        assert_eq!(
            weighted[..24],
            letters("C C A A C C C A C A B A C A C A C A C B C A B B")
        );
        assert_eq!(totals(&weighted), [2046, 682, 1365]);
        assert_eq!(totals(&slots([200, 100, 1])), [2689, 1350, 54]);
    }

    #[test]
    fn quiesced_backends_keep_their_slots() {
        let list = list([3, 1, 2]);
        let before = Table::new(&list, 12);
        list[0].set_weight(0);
        assert_eq!(Table::new(&list, 12).slots, before.slots);
        list[0].reset_weight(0);
        let table = Table::new(&list, 12);
        assert!((0..4093).all(|slot| table.owner(slot) != Some(0)));
    }

    #[test]
    fn weights_share_no_slot_when_all_are_zero() {
        let table = Table::new(&list([0, 0, 0]), 12);
        assert!(table.is_empty() && table.owner(0).is_none());
    }
}
