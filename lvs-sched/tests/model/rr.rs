//! `rr` (IPVS 1.2): the next usable one after the cursor.

use super::Model;

impl Model {
    pub(super) fn rr(&mut self) -> Option<u32> {
        let start = match self.cursor {
            Some(id) => self.servers.iter().position(|s| s.id == id).unwrap() + 1,
            None => 0,
        };
        let count = self.servers.len();
        let id = (start..count)
            .chain(0..start)
            .map(|at| &self.servers[at])
            .find(|s| s.usable())?
            .id;
        self.cursor = Some(id);
        Some(id)
    }
}
