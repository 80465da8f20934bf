//! `nq` (IPVS 1.4).

use super::Model;

impl Model {
    pub(super) fn nq(&self) -> Option<u32> {
        let idle = self.servers.iter().find(|s| s.usable() && s.active == 0);
        idle.map(|s| s.id).or_else(|| self.sed())
    }
}
