//! `sh` (IPVS 1.6).

use super::hash::hash32;
use super::{Ask, Model};

impl Model {
    pub(super) fn deal_sh(&mut self) {
        self.table.clear();
        while self.table.len() < 256 && !self.servers.is_empty() {
            for server in &self.servers {
                for _ in 0..server.weight.clamp(1, 256) {
                    if self.table.len() < 256 {
                        self.table.push(server.id);
                    }
                }
            }
        }
    }

    pub(super) fn sh(&self, ask: Ask) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        let value = self.value(ask);
        let key = |offset: u32| {
            let bucket = offset.wrapping_add(hash32(value, 8)) % 256;
            self.use_of(Some(self.table[bucket as usize]))
        };
        let h = hash32(value, 8) % 256;
        match key(0) {
            None if self.flags.fallback => (0..256).find_map(|off| key((off + h) % 256)),
            found => found,
        }
    }
}
