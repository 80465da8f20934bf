//! The table of `mh` and `mhbl`: who has which slot.
//!
//! In comes a list, out comes a table of prime size, the one that the kernel would deal. Each backend
//! has its own order of preference over the slots, by two hashes of its address; in turn each takes
//! the first free ones of its order, as many as its weight says.
//!
//! Source: IPVS 1.7; Eisenbud et al., "Maglev", NSDI 2016, 3.4. Two things make it cheap:
//!
//! * Toward the end nearly all slots are taken, and walking an order to the next free one takes
//!   longer and longer. When fewer are free than the square root of the size, each of them is asked
//!   how many steps away it is (a product with the inverse of the step, modulo the size), and the
//!   nearest is taken.
//! * An edit that leaves what each backend takes at a time as it was leaves the table as it was: new
//!   thresholds, a weight of 0 (the last weight counts) and the way back, a weight that comes to the
//!   same number of turns. When that number changes for one backend, it takes or leaves slots from
//!   the first round on, and everyone behind finds other slots free: the kernel's table then is a
//!   new one, and is dealt as such.

use crate::hash::{OFFSET_KEY, SKIP_KEY, siphash};
use crate::scheduler::{After, List};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// The table sizes, by index from 8.
const PRIMES: [u32; 10] = [
    251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071,
];
const FREE: u16 = u16::MAX;

/// The slots: who has which. A clone shares them.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    slots: Arc<[u16]>,
    /// What each backend of the list takes at a time.
    turns: Arc<[u32]>,
    index: u8,
    size: u32,
    /// 2^64 / `size`, rounded up: see [`remainder`].
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
        let inverse = u64::MAX / u64::from(size) + 1;
        let turns = turns(list, index);
        let takers = takers(list, &turns, size);
        let slots = if takers.is_empty() {
            Arc::from(Vec::new())
        } else {
            deal(takers, size, inverse)
        };
        Self {
            slots,
            turns,
            index,
            size,
            inverse,
        }
    }

    /// The table after an edit; `None`: it is as it was.
    pub(crate) fn edited(&self, list: &List, after: After) -> Option<Self> {
        let same = !after.members && turns(list, self.index) == self.turns;
        (!same).then(|| Self::new(list, self.index))
    }

    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    /// The slot of a value.
    #[inline]
    pub(crate) fn slot(&self, value: u32) -> u32 {
        let hash = u64::from(siphash(value, OFFSET_KEY));
        remainder(hash, self.size, self.inverse)
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

/// What each backend takes at a time; 0 of a weight that was never above 0.
fn turns(list: &List, index: u8) -> Arc<[u32]> {
    let weights: Vec<u32> = list.iter().map(|backend| backend.last_weight()).collect();
    let divisor = weights.iter().fold(0, |g, &w| gcd(g, w)).max(1);
    let max = weights.iter().copied().max().unwrap_or(0);
    let bits = u32::from(index) / 2;
    let shift = (u32::BITS - (max / divisor).leading_zeros()).saturating_sub(bits);
    let turns = |weight: u32| ((weight / divisor) >> shift).max(u32::from(weight != 0));
    weights.into_iter().map(turns).collect()
}

fn takers(list: &List, turns: &[u32], size: u32) -> Vec<Taker> {
    (0..FREE)
        .zip(list)
        .zip(turns)
        .filter(|&(_, &turns)| turns != 0)
        .map(|((at, backend), &turns)| {
            let endpoint = backend.endpoint();
            let value = endpoint.addr.fold().wrapping_add(u32::from(endpoint.port));
            Taker {
                at,
                turns,
                slot: siphash(value, OFFSET_KEY) % size,
                skip: siphash(value, SKIP_KEY) % (size - 1) + 1,
            }
        })
        .collect()
}

/// Whose turn it is.
struct Turns {
    taker: usize,
    /// Turns that it has had in this round.
    had: u32,
}

impl Turns {
    fn next<'a>(&mut self, takers: &'a mut [Taker]) -> Option<&'a mut Taker> {
        if takers.get(self.taker)?.turns == self.had {
            self.had = 0;
            self.taker += 1;
            if self.taker == takers.len() {
                self.taker = 0;
            }
        }
        self.had += 1;
        takers.get_mut(self.taker)
    }
}

fn deal(mut takers: Vec<Taker>, size: u32, inverse: u64) -> Arc<[u16]> {
    let mut slots = vec![FREE; size as usize];
    // A bit per slot stays in the nearest cache while the table does not.
    let mut taken = vec![0u64; (size as usize).div_ceil(64)];
    let mut turns = Turns { taker: 0, had: 0 };
    for _ in size.isqrt()..size {
        let Some(taker) = turns.next(&mut takers) else {
            return slots.into();
        };
        let mut slot = taker.slot;
        loop {
            let Some(word) = taken.get_mut(slot as usize / 64) else {
                return slots.into();
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
    }
    let mut free: Vec<u32> = (0..size)
        .zip(&slots)
        .filter(|&(_, &owner)| owner == FREE)
        .map(|(slot, _)| slot)
        .collect();
    while let Some(taker) = turns.next(&mut takers) {
        let unstep = u64::from(reciprocal(taker.skip, size, inverse));
        let steps = |slot: u32| {
            let way = u64::from(slot + size - taker.slot);
            remainder(way * unstep, size, inverse)
        };
        let nearest = free
            .iter()
            .enumerate()
            .min_by_key(|&(_, &slot)| steps(slot));
        let Some((at, &slot)) = nearest else { break };
        free.swap_remove(at);
        taker.slot = slot;
        if let Some(owner) = slots.get_mut(slot as usize) {
            *owner = taker.at;
        }
    }
    slots.into()
}

/// `value` modulo `size`, by two products (Lemire, Kaser and Kurz, 2019); `inverse` is 2^64 / `size`,
/// rounded up. Exact while `value * size` is below 2^64.
#[inline]
const fn remainder(value: u64, size: u32, inverse: u64) -> u32 {
    let fraction = inverse.wrapping_mul(value);
    #[expect(clippy::cast_possible_truncation, reason = "less than the size")]
    let rest = ((fraction as u128 * size as u128) >> 64) as u32;
    rest
}

/// What times `value` is 1 modulo the prime `size`: its power of `size` - 2 (Fermat).
fn reciprocal(value: u32, size: u32, inverse: u64) -> u32 {
    let times = |a: u32, b: u32| remainder(u64::from(a) * u64::from(b), size, inverse);
    let (mut power, mut square, mut exponent) = (1, value, size - 2);
    while exponent != 0 {
        if exponent & 1 != 0 {
            power = times(power, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    power
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
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
        let takers = takers(&list([1, 1, 1]), &[1, 1, 1], 4093);
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
    fn edits_that_change_no_turns_leave_the_table() {
        let list = list([30, 10, 20]);
        let table = Table::new(&list, 12);
        let after = |members| After { members, turn: 0 };
        let edited = |weight| {
            list[2].set_weight(weight);
            table.edited(&list, after(false))
        };
        assert!(edited(0).is_none() && edited(30).is_none());
        let dealt = edited(29).map(|table| table.slots);
        assert!(dealt.is_some_and(|slots| slots != table.slots));
        assert!(table.edited(&list, after(true)).is_some());
    }

    /// The deal as it is written, without a shortcut.
    fn plain(list: &[Arc<Backend>], index: u8) -> Vec<u16> {
        let size = PRIMES[usize::from(index) - 8];
        let mut takers = takers(list, &turns(list, index), size);
        let mut slots = vec![FREE; size as usize];
        while slots.contains(&FREE) {
            for taker in &mut takers {
                for _ in 0..taker.turns {
                    if !slots.contains(&FREE) {
                        break;
                    }
                    while slots[taker.slot as usize] != FREE {
                        taker.slot = (taker.slot + taker.skip) % size;
                    }
                    slots[taker.slot as usize] = taker.at;
                }
            }
        }
        slots
    }

    #[test]
    fn shortcuts_deal_the_same_table() {
        for index in 8..=10 {
            for count in [1, 2, 7, 100, 251] {
                let backend = |n: u32| {
                    let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + n * 13), 80);
                    Backend::new(n, endpoint, n * n % 11 + 1, Thresholds::default())
                };
                let list: Vec<_> = (0..count).map(backend).collect();
                let table = Table::new(&list, index);
                assert_eq!(table.slots[..], plain(&list, index), "{index} {count}");
            }
        }
    }

    #[test]
    fn weights_share_no_slot_when_all_are_zero() {
        let table = Table::new(&list([0, 0, 0]), 12);
        assert!(table.is_empty() && table.owner(0).is_none());
    }
}
