//! `dh` (IPVS 1.5).

use super::hash::{fold, hash32};
use super::{Ask, Model};

impl Model {
    pub(super) fn deal_dh(&mut self) {
        let ids = self.servers.iter().map(|s| s.id);
        self.table = ids.cycle().take(256).collect();
    }

    pub(super) fn dh(&self, ask: Ask) -> Option<u32> {
        self.use_of(self.table.get(hash32(fold(ask.dst), 8) as usize).copied())
    }
}
