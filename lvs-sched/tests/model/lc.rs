//! `lc` (IPVS 1.4) and the walk that it shares with `wlc` and `sed`.

use super::{Model, Server};

impl Model {
    pub(super) fn lc(&self) -> Option<u32> {
        self.least(Server::over, |_| 1)
    }

    pub(super) fn least(
        &self,
        over: impl Fn(&Server) -> i128,
        w: impl Fn(&Server) -> i128,
    ) -> Option<u32> {
        let mut least: Option<&Server> = None;
        for server in self.servers.iter().filter(|s| s.usable()) {
            match least {
                Some(l) if over(l) * w(server) <= over(server) * w(l) => {}
                _ => least = Some(server),
            }
        }
        least.map(|s| s.id)
    }
}
