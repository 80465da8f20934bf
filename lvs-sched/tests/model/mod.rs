//! The schedulers as the reference describes them: literal loops, no index, no shortcut.
//!
//! What the crate computes is compared with this, by the property tests and by the fuzzer. It is
//! slow on purpose, a file for each scheduler, and shares no code with what it judges but for
//! addresses and hashes' inputs.
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

mod dh;
pub mod duel;
mod fo;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod mh;
mod nq;
mod ovf;
mod rr;
mod sed;
mod server;
mod sh;
mod wlc;
mod wrr;

pub use server::Server;

use hash::fold;
use lvs_core::Addr;
use std::collections::BTreeMap;

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

    fn deal(&mut self, hook: &str) {
        match self.scheduler.as_str() {
            "dh" if hook != "upd" => self.deal_dh(),
            "sh" => self.deal_sh(),
            "mh" => self.deal_mh(),
            _ => {}
        }
    }

    pub fn table(&self) -> &[u32] {
        &self.table
    }

    pub fn pick(&mut self, ask: Ask) -> Option<u32> {
        match self.scheduler.clone().as_str() {
            "rr" => self.rr(),
            "wrr" => self.wrr(),
            "lc" => self.lc(),
            "wlc" => self.wlc(),
            "sed" => self.sed(),
            "nq" => self.nq(),
            "fo" => self.fo(),
            "ovf" => self.ovf(),
            "dh" => self.dh(ask),
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

    fn value(&self, ask: Ask) -> u32 {
        let port = if self.flags.port { ask.src_port } else { 0 };
        fold(ask.src).wrapping_add(u32::from(port))
    }
}
