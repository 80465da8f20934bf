//! The schedulers as the reference describes them: literal loops, no index, no shortcut.
//!
//! What the crate computes is compared with this, by the property tests and by the fuzzer. It is
//! slow on purpose and shares no code with what it judges, but for addresses and hashes' inputs.
#![allow(dead_code, reason = "each user needs a part of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub,
    clippy::must_use_candidate,
    clippy::cast_possible_truncation,
    reason = "a model in tests: plain code first"
)]

pub mod duel;

use lvs_core::{Addr, Endpoint, Thresholds};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Server {
    pub id: u32,
    pub endpoint: Endpoint,
    pub weight: i64,
    pub last_weight: i64,
    pub active: i64,
    pub inactive: i64,
    pub overloaded: bool,
    pub thresholds: Thresholds,
}

impl Server {
    pub fn new(id: u32, endpoint: Endpoint, weight: u32, thresholds: Thresholds) -> Self {
        Self {
            id,
            endpoint,
            weight: weight.into(),
            last_weight: weight.into(),
            active: 0,
            inactive: 0,
            overloaded: false,
            thresholds,
        }
    }

    pub fn usable(&self) -> bool {
        !self.overloaded && self.weight > 0
    }

    fn over(&self) -> i128 {
        i128::from(self.active) * 256 + i128::from(self.inactive)
    }

    /// Rule R of IPVS 0.5.
    pub fn judge(&mut self) {
        let (u, l) = (
            i64::from(self.thresholds.upper),
            i64::from(self.thresholds.lower),
        );
        let total = self.active + self.inactive;
        if u == 0 {
            self.overloaded = false;
        } else if total >= u {
            self.overloaded = true;
        } else {
            let floor = if l != 0 { l } else { u - (u >> 2) };
            if total < floor {
                self.overloaded = false;
            }
        }
    }

    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        if thresholds != self.thresholds {
            self.thresholds = thresholds;
            self.judge();
        }
    }

    pub fn opened(&mut self, active: bool) {
        if active {
            self.active += 1;
        } else {
            self.inactive += 1;
        }
        self.judge();
    }

    pub fn closed(&mut self, active: bool) {
        if active {
            self.active -= 1;
        } else {
            self.inactive -= 1;
        }
        if self.overloaded {
            self.judge();
        }
    }

    pub fn moved(&mut self, to_active: bool) {
        let step = if to_active { 1 } else { -1 };
        self.active += step;
        self.inactive -= step;
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    pub fallback: bool,
    pub port: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub src: Addr,
    pub src_port: u16,
    pub dst: Addr,
    /// Ticks of 4 ms.
    pub now: u32,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// Newest first; `lblc` has one.
    set: Vec<u32>,
    changed: u32,
    used: u32,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub scheduler: String,
    pub flags: Flags,
    /// Newest first.
    pub servers: Vec<Server>,
    /// rr, wrr: the id of the last one chosen; `None`: at the head.
    cursor: Option<u32>,
    cw: i64,
    mw: i64,
    di: i64,
    /// dh, sh, mh: ids.
    table: Vec<u32>,
    cache: BTreeMap<Addr, Entry>,
    /// lblc, lblcr: ticks.
    pub expiration: u32,
    started: Option<u32>,
    runs: u32,
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub fn fold(addr: Addr) -> u32 {
    match addr.v4_bits() {
        Some(bits) => bits,
        None => addr
            .v6_octets()
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .fold(0, |x, word| x ^ word),
    }
}

fn hash32(value: u32, bits: u32) -> u32 {
    (u64::from(value) * 0x61C8_8647 % (1 << 32)) as u32 >> (32 - bits)
}

/// SipHash-1-3 from its definition, over four bytes.
fn siphash(word: u32, key: u64) -> u32 {
    let mut v = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    };
    let mut bytes = [0u8; 8];
    bytes[..4].copy_from_slice(&word.to_le_bytes());
    bytes[7] = 4;
    let message = u64::from_le_bytes(bytes);
    v[3] ^= message;
    round(&mut v);
    v[0] ^= message;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

const K1: u64 = 2_654_435_761;
const K2: u64 = 2_654_446_892;
const MH: u32 = 4093;

impl Model {
    pub fn new(scheduler: &str, flags: Flags) -> Self {
        let mut model = Self {
            scheduler: scheduler.into(),
            flags,
            servers: Vec::new(),
            cursor: None,
            cw: 0,
            mw: 0,
            di: 1,
            table: Vec::new(),
            cache: BTreeMap::new(),
            expiration: 86_400 * 250,
            started: None,
            runs: 1,
        };
        model.bind();
        model
    }

    pub fn server(&mut self, id: u32) -> &mut Server {
        self.servers.iter_mut().find(|s| s.id == id).unwrap()
    }

    pub fn add(&mut self, server: Server) {
        self.servers.insert(0, server);
        self.wrr_changed();
        self.deal("add");
    }

    pub fn remove(&mut self, id: u32) -> Server {
        let at = self.servers.iter().position(|s| s.id == id).unwrap();
        if self.cursor == Some(id) {
            self.cursor = at.checked_sub(1).map(|before| self.servers[before].id);
        }
        let gone = self.servers.remove(at);
        self.wrr_changed();
        self.deal("del");
        gone
    }

    pub fn set_weight(&mut self, id: u32, weight: u32) {
        let server = self.server(id);
        server.weight = weight.into();
        if weight != 0 {
            server.last_weight = weight.into();
        }
    }

    pub fn updated(&mut self) {
        self.wrr_changed();
        self.deal("upd");
    }

    pub fn set_scheduler(&mut self, scheduler: &str, flags: Flags) {
        self.flags = flags;
        if self.scheduler != scheduler {
            self.scheduler = scheduler.into();
            self.bind();
        }
    }

    fn bind(&mut self) {
        self.cursor = None;
        self.cache.clear();
        self.started = None;
        self.runs = 1;
        self.measure();
        self.cw = self.mw;
        self.deal("add");
    }

    fn measure(&mut self) {
        let weights = self.servers.iter().map(|s| s.weight);
        self.di = weights.clone().filter(|&w| w > 0).fold(0, gcd);
        if self.di == 0 {
            self.di = 1;
        }
        let max = weights.max().unwrap_or(0);
        self.mw = if max > 0 { max - (self.di - 1) } else { 0 };
    }

    fn wrr_changed(&mut self) {
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

    fn deal(&mut self, hook: &str) {
        match self.scheduler.as_str() {
            "dh" if hook != "upd" => {
                self.table = self
                    .servers
                    .iter()
                    .map(|s| s.id)
                    .cycle()
                    .take(256)
                    .collect();
            }
            "sh" => {
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
            "mh" => self.table = self.maglev(MH, 6),
            _ => {}
        }
    }

    fn maglev(&self, size: u32, weight_bits: u32) -> Vec<u32> {
        let g = self.servers.iter().map(|s| s.last_weight).fold(0, gcd);
        if g == 0 {
            return Vec::new();
        }
        let m = self.servers.iter().map(|s| s.last_weight).max().unwrap();
        let mut fls = 0;
        while (m / g) >> fls != 0 {
            fls += 1;
        }
        let rshift = u32::saturating_sub(fls, weight_bits);
        let mut orders: Vec<_> = self
            .servers
            .iter()
            .map(|s| {
                let value = fold(s.endpoint.addr).wrapping_add(u32::from(s.endpoint.port));
                let offset = siphash(value, K1) % size;
                let skip = siphash(value, K2) % (size - 1) + 1;
                let turns = match (s.last_weight / g) >> rshift {
                    0 if s.last_weight != 0 => 1,
                    turns => turns,
                };
                (s.id, offset, skip, turns)
            })
            .collect();
        let mut table: Vec<Option<u32>> = vec![None; size as usize];
        let mut taken = 0;
        while taken < size {
            for (id, cur, skip, turns) in &mut orders {
                for _ in 0..*turns {
                    if taken == size {
                        break;
                    }
                    while table[*cur as usize].is_some() {
                        *cur = (*cur + *skip) % size;
                    }
                    table[*cur as usize] = Some(*id);
                    taken += 1;
                }
            }
        }
        table.into_iter().flatten().collect()
    }

    pub fn table(&self) -> &[u32] {
        &self.table
    }

    pub fn pick(&mut self, ask: Ask) -> Option<u32> {
        match self.scheduler.clone().as_str() {
            "rr" => self.rr(),
            "wrr" => self.wrr(),
            "lc" => self.least(Server::over, |_| 1),
            "wlc" => self.wlc(),
            "sed" => self.sed(),
            "nq" => self
                .servers
                .iter()
                .find(|s| s.usable() && s.active == 0)
                .map(|s| s.id)
                .or_else(|| self.sed()),
            "fo" => self.highest(|_| true),
            "ovf" => self.highest(|s| s.active <= s.weight),
            "dh" => self.use_of(self.table.get(hash32(fold(ask.dst), 8) as usize).copied()),
            "sh" => self.sh(ask),
            "mh" => self.mh(ask),
            "lblc" => self.lblc(ask),
            "lblcr" => self.lblcr(ask),
            "none" => None,
            other => panic!("{other} is not modelled"),
        }
    }

    fn use_of(&self, id: Option<u32>) -> Option<u32> {
        let server = self.servers.iter().find(|s| Some(s.id) == id)?;
        server.usable().then_some(server.id)
    }

    fn rr(&mut self) -> Option<u32> {
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

    fn wrr(&mut self) -> Option<u32> {
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

    fn least(&self, over: impl Fn(&Server) -> i128, w: impl Fn(&Server) -> i128) -> Option<u32> {
        let mut least: Option<&Server> = None;
        for server in self.servers.iter().filter(|s| s.usable()) {
            match least {
                Some(l) if over(l) * w(server) <= over(server) * w(l) => {}
                _ => least = Some(server),
            }
        }
        least.map(|s| s.id)
    }

    fn wlc(&self) -> Option<u32> {
        self.least(Server::over, |s| s.weight.into())
    }

    fn sed(&self) -> Option<u32> {
        self.least(|s| i128::from(s.active) + 1, |s| s.weight.into())
    }

    fn highest(&self, will_do: impl Fn(&Server) -> bool) -> Option<u32> {
        let mut best: Option<&Server> = None;
        for server in self.servers.iter().filter(|s| s.usable() && will_do(s)) {
            if best.is_none_or(|b| server.weight > b.weight) {
                best = Some(server);
            }
        }
        best.map(|s| s.id)
    }

    fn value(&self, ask: Ask) -> u32 {
        let port = if self.flags.port { ask.src_port } else { 0 };
        fold(ask.src).wrapping_add(u32::from(port))
    }

    fn sh(&self, ask: Ask) -> Option<u32> {
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

    fn mh(&self, ask: Ask) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        let value = self.value(ask);
        let slot = |offset: u32| siphash(value.wrapping_add(offset), K1) % MH;
        let try_slot = |slot: u32| self.use_of(Some(self.table[slot as usize]));
        match try_slot(slot(0)) {
            None if self.flags.fallback => {
                (0..MH).find_map(|off| try_slot(slot((off + slot(0)) % MH)))
            }
            found => found,
        }
    }

    fn is_full(&self, server: &Server) -> bool {
        server.active > server.weight && self.servers.iter().any(|s| s.active * 2 < s.weight)
    }

    fn lblc(&mut self, ask: Ask) -> Option<u32> {
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

    fn lblcr(&mut self, ask: Ask) -> Option<u32> {
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
