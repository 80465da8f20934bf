//! `lblc` (IPVS 1.8), and the timer that it shares with `lblcr`.

use super::{Ask, Model, Server};

impl Model {
    pub(super) fn is_full(&self, server: &Server) -> bool {
        server.active > server.weight && self.servers.iter().any(|s| s.active * 2 < s.weight)
    }

    pub(super) fn lblc(&mut self, ask: Ask) -> Option<u32> {
        if let Some(entry) = self.cache.get_mut(&ask.dst) {
            entry.used = ask.now;
            let id = entry.set[0];
            let server = self.servers.iter().find(|s| s.id == id);
            if let Some(server) = server
                && server.weight > 0
                && !self.is_full(server)
            {
                return Some(id);
            }
        }
        let id = self.wlc()?;
        let entry = self.cache.entry(ask.dst).or_default();
        entry.set = vec![id];
        entry.used = ask.now;
        Some(id)
    }

    /// Called at every whole minute; too few entries for the limits to matter.
    pub fn minute(&mut self, now: u32) {
        if self.started.is_none() {
            self.started = Some(now);
            return;
        }
        if self.runs.is_multiple_of(30) {
            let expiration = self.expiration;
            self.cache
                .retain(|_, entry| now.wrapping_sub(entry.used) < expiration);
            self.runs = 1;
        } else {
            self.runs += 1;
        }
    }
}
