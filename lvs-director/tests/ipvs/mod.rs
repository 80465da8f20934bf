//! IPVS, slow and obvious: written from its description alone, to be compared with the director.
//!
//! In come the edits of an operator, packets, and time; out comes what the kernel would do. Nothing is
//! indexed, nothing is shared with what it judges but for addresses, keys and the names of things. The
//! numbers in the comments are those of the description's chapters; its schedulers are those that the
//! tests of `lvs-sched` have written from the same pages.
//!
//! Not here: fragments, ICMP errors, SIP, FTP's commands, sizes and TTLs: each has tests of its own.

pub mod conns;
pub mod packets;
pub mod rules;
pub mod stage;
pub mod states;
pub mod steps;

#[path = "../../../lvs-sched/tests/model/mod.rs"]
pub mod schedulers;

use conns::Conn;
use lvs_core::{Endpoint, Protocol};
use rules::{Dest, Service, Tally};
use states::States;
use std::collections::BTreeMap;

/// Ticks of 4 ms.
pub const SECOND: u64 = 250;
pub const MINUTE: u64 = 60 * SECOND;

#[derive(Debug)]
pub struct World {
    pub now: u64,
    pub settings: BTreeMap<&'static str, u32>,
    pub states: States,
    /// Whether the host has the addresses of the services.
    pub vips_are_local: bool,
    /// The mark of a packet to this endpoint.
    pub mark: fn(Protocol, Endpoint) -> u32,
    pub services: Vec<Service>,
    pub dests: Vec<Dest>,
    pub conns: Vec<Conn>,
    pub tally: Tally,
    /// When a template last outlived its time because it had connections.
    pub held_at: u64,
    sweep: bool,
    until_drop: i64,
    serial: u32,
    last_dest: u32,
    last_conn: u64,
}

impl World {
    pub fn new(now: u64, mark: fn(Protocol, Endpoint) -> u32) -> Self {
        Self {
            now,
            settings: BTreeMap::from([("conn_reuse_mode", 1), ("am_droprate", 10)]),
            states: States::new(),
            vips_are_local: true,
            mark,
            services: Vec::new(),
            dests: Vec::new(),
            conns: Vec::new(),
            tally: Tally::default(),
            held_at: 0,
            sweep: false,
            until_drop: 0,
            serial: 0,
            last_dest: 0,
            last_conn: 0,
        }
    }

    pub fn get(&self, setting: &str) -> u32 {
        self.settings.get(setting).copied().unwrap_or(0)
    }
}
