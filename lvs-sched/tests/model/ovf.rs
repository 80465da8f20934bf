//! `ovf` (IPVS 1.4).

use super::Model;

impl Model {
    pub(super) fn ovf(&self) -> Option<u32> {
        self.highest(|s| s.active <= s.weight)
    }
}
