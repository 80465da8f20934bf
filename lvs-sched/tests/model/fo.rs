//! `fo` (IPVS 1.4) and the walk that it shares with `ovf`.

use super::{Model, Server};

impl Model {
    pub(super) fn fo(&self) -> Option<u32> {
        self.highest(|_| true)
    }

    pub(super) fn highest(&self, will_do: impl Fn(&Server) -> bool) -> Option<u32> {
        let mut best: Option<&Server> = None;
        for server in self.servers.iter().filter(|s| s.usable() && will_do(s)) {
            if best.is_none_or(|b| server.weight > b.weight) {
                best = Some(server);
            }
        }
        best.map(|s| s.id)
    }
}
