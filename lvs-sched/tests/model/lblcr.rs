//! `lblcr` (IPVS 1.9).

use super::{Ask, Entry, Model, Server};

impl Model {
    pub(super) fn lblcr(&mut self, ask: Ask) -> Option<u32> {
        if self.cache.contains_key(&ask.dst) {
            let entry = self.cache.get_mut(&ask.dst).unwrap();
            entry.used = ask.now;
            let mut least: Option<&Server> = None;
            for id in &entry.set {
                if let Some(server) = self.servers.iter().find(|s| s.id == *id)
                    && server.usable()
                    && least.is_none_or(|l| {
                        l.over() * i128::from(server.weight) > server.over() * i128::from(l.weight)
                    })
                {
                    least = Some(server);
                }
            }
            let chosen = least.cloned();
            if entry.set.len() > 1 && ask.now.wrapping_sub(entry.changed) > self.expiration {
                let there = |id: u32| self.servers.iter().find(|s| s.id == id);
                let mut worst: Option<&Server> = None;
                let mut gone = entry.set.iter().copied().find(|&id| there(id).is_none());
                for server in entry.set.iter().filter_map(|&id| there(id)) {
                    if server.weight > 0
                        && worst.is_none_or(|w| {
                            w.over() * i128::from(server.weight)
                                < server.over() * i128::from(w.weight)
                        })
                    {
                        worst = Some(server);
                    }
                }
                gone = gone.or_else(|| worst.map(|s| s.id));
                entry.set.retain(|&id| Some(id) != gone);
                entry.changed = ask.now;
            }
            if let Some(server) = chosen
                && !self.is_full(&server)
            {
                return Some(server.id);
            }
        }
        let id = self.wlc()?;
        let entry = self.cache.entry(ask.dst).or_insert_with(|| Entry {
            set: Vec::new(),
            changed: ask.now,
            used: ask.now,
        });
        if !entry.set.contains(&id) {
            entry.set.insert(0, id);
            entry.changed = ask.now;
        }
        Some(id)
    }
}
