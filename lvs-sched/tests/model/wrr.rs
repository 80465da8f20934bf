//! `wrr` (IPVS 1.3): the kernel's loop, pass by pass.

use super::{Model, gcd};

impl Model {
    pub(super) fn measure(&mut self) {
        let weights = self.servers.iter().map(|s| s.weight);
        self.di = weights.clone().filter(|&w| w > 0).fold(0, gcd);
        if self.di == 0 {
            self.di = 1;
        }
        let max = weights.max().unwrap_or(0);
        self.mw = if max > 0 { max - (self.di - 1) } else { 0 };
    }

    pub(super) fn wrr_changed(&mut self) {
        if self.scheduler != "wrr" {
            return;
        }
        self.cursor = None;
        self.measure();
        if self.cw > self.mw || self.cw == 0 {
            self.cw = self.mw;
        } else if self.di > 1 {
            self.cw = (self.cw / self.di) * self.di + 1;
        }
    }

    pub(super) fn wrr(&mut self) -> Option<u32> {
        let last = self.cursor;
        let mut stop = None;
        let (mut last_pass, mut restarted) = (false, false);
        if self.mw == 0 {
            return None;
        }
        loop {
            let start = match self.cursor {
                Some(id) => self.servers.iter().position(|s| s.id == id).unwrap() + 1,
                None => 0,
            };
            for server in &self.servers[start..] {
                if !server.overloaded && server.weight >= self.cw {
                    self.cursor = Some(server.id);
                    return Some(server.id);
                }
                if stop == Some(server.id) {
                    self.cursor = stop;
                    return None;
                }
            }
            self.cursor = None;
            self.cw -= self.di;
            if self.cw <= 0 {
                self.cw = self.mw;
                if last_pass || last.is_none() {
                    return None;
                }
                restarted = true;
            }
            last_pass = self.cw <= self.di;
            if last_pass && restarted && last.is_some() {
                stop = last;
            }
        }
    }
}
