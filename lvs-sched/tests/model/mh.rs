//! `mh` (IPVS 1.7): the table slot by slot, the rehash one by one.

use super::hash::{fold, siphash};
use super::{Ask, Model, gcd};

const K1: u64 = 2_654_435_761;
const K2: u64 = 2_654_446_892;
const MH: u32 = 4093;

impl Model {
    pub(super) fn deal_mh(&mut self) {
        self.table = self.maglev(MH, 6);
    }

    fn maglev(&self, size: u32, weight_bits: u32) -> Vec<u32> {
        let g = self.servers.iter().map(|s| s.last_weight).fold(0, gcd);
        if g == 0 {
            return Vec::new();
        }
        let m = self.servers.iter().map(|s| s.last_weight).max().unwrap();
        let mut fls = 0;
        while (m / g) >> fls != 0 {
            fls += 1;
        }
        let rshift = u32::saturating_sub(fls, weight_bits);
        let mut orders: Vec<_> = self
            .servers
            .iter()
            .map(|s| {
                let value = fold(s.endpoint.addr).wrapping_add(u32::from(s.endpoint.port));
                let offset = siphash(value, K1) % size;
                let skip = siphash(value, K2) % (size - 1) + 1;
                let turns = match (s.last_weight / g) >> rshift {
                    0 if s.last_weight != 0 => 1,
                    turns => turns,
                };
                (s.id, offset, skip, turns)
            })
            .collect();
        let mut table: Vec<Option<u32>> = vec![None; size as usize];
        let mut taken = 0;
        while taken < size {
            for (id, cur, skip, turns) in &mut orders {
                for _ in 0..*turns {
                    if taken == size {
                        break;
                    }
                    while table[*cur as usize].is_some() {
                        *cur = (*cur + *skip) % size;
                    }
                    table[*cur as usize] = Some(*id);
                    taken += 1;
                }
            }
        }
        table.into_iter().flatten().collect()
    }

    pub(super) fn mh(&self, ask: Ask) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        let value = self.value(ask);
        let slot = |offset: u32| siphash(value.wrapping_add(offset), K1) % MH;
        let try_slot = |slot: u32| self.use_of(Some(self.table[slot as usize]));
        match try_slot(slot(0)) {
            None if self.flags.fallback => {
                (0..MH).find_map(|off| try_slot(slot((off + slot(0)) % MH)))
            }
            found => found,
        }
    }
}
