//! The crate against the model: the same edits, the same events, the same choices.
//!
//! In come steps, from a property test or a fuzzer; whatever they are, they become a valid use of
//! the interface. It panics where the two differ.

use super::{Ask, Flags, Model, Server};
use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Options, Pool, Request};
use std::sync::Arc;

/// The schedulers that the model knows.
pub const MODELLED: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "none",
];

/// Those whose choice is only known to be allowed.
pub const RANDOM: &[&str] = &["twos", "mhbl", "p2c"];

/// Seconds after which `lblc` and `lblcr` forget; short, so that runs see it happen.
const EXPIRATION: u32 = 3000;

#[derive(Clone, Debug)]
pub enum Step {
    /// That many new servers, added at once.
    Add {
        count: u8,
        weight: u32,
        upper: u8,
    },
    Remove(u8),
    /// Adds a removed server again.
    Revive(u8, u32),
    Weight(u8, u32),
    Thresholds(u8, u8, u8),
    /// An edit that changes nothing.
    Touch(u8),
    Scheduler(u8, u8),
    /// Chooses, and opens a connection if `open`.
    Pick {
        client: u16,
        target: u8,
        open: bool,
        active: bool,
    },
    /// That many choices in a row, each opened.
    Burst(u8),
    Move(u16),
    Close(u16),
    Wait(u16),
}

pub struct Duel {
    pool: Pool,
    model: Model,
    backends: Vec<Arc<Backend>>,
    removed: Vec<Server>,
    conns: Vec<(Arc<Backend>, bool)>,
    minutes: u32,
    seconds: u32,
}

/// Weights as operators set them, and the ends of the range.
fn weight(raw: u32) -> u32 {
    match raw % 8 {
        0 => 0,
        1..=4 => raw / 8 % 12,
        5 => raw / 8 % 1000,
        6 => raw / 8 % 65_536,
        _ => (i32::MAX as u32) - raw / 8 % 3,
    }
}

fn limits(upper: u8, lower: u8) -> Thresholds {
    let upper = u32::from(upper % 16);
    Thresholds {
        upper: if upper < 8 { 0 } else { upper - 7 },
        lower: u32::from(lower % 4).min(upper.saturating_sub(7)),
    }
}

impl Duel {
    pub fn new(scheduler: &str, flags: u8) -> Self {
        let (ours, theirs) = both(flags);
        let options = Options {
            cache_expiration: EXPIRATION,
            ..Options::default()
        };
        let pool = Pool::with_options(scheduler, ours, options).unwrap();
        let mut model = Model::new(scheduler, theirs);
        model.expiration = Tick::seconds(EXPIRATION);
        model.minute(0);
        pool.tick(Tick(0));
        Self {
            pool,
            model,
            backends: Vec::new(),
            removed: Vec::new(),
            conns: Vec::new(),
            minutes: 0,
            seconds: 0,
        }
    }

    fn weight(&self, raw: u32) -> u32 {
        let weight = weight(raw);
        // The literal wrr takes a pass a unit of weight.
        if self.model.scheduler == "wrr" {
            weight % 2000
        } else {
            weight
        }
    }

    fn member(&self, which: u8) -> Option<u32> {
        let servers = &self.model.servers;
        let at = usize::from(which) % servers.len().max(1);
        servers.get(at).map(|server| server.id)
    }

    fn backend(&self, id: u32) -> Arc<Backend> {
        Arc::clone(&self.backends[id as usize])
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Add {
                count,
                weight,
                upper,
            } => {
                let mut new = Vec::new();
                for n in 0..u32::from(count % 40).max(1) {
                    if self.model.servers.len() >= 200 {
                        break;
                    }
                    let id = u32::try_from(self.backends.len()).unwrap();
                    let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0001 + id), 80);
                    let weight = self.weight(weight.rotate_left(n));
                    let limits = limits(upper, 0);
                    let backend = Backend::new(id, endpoint, weight, limits);
                    new.push(Arc::clone(&backend));
                    self.backends.push(backend);
                    self.model.add(Server::new(id, endpoint, weight, limits));
                }
                self.pool.extend(new).unwrap();
            }
            Step::Remove(which) => {
                if let Some(id) = self.member(which) {
                    assert!(self.pool.remove(&self.backend(id)));
                    let gone = self.model.remove(id);
                    self.removed.push(gone);
                }
            }
            Step::Revive(which, raw) => {
                if !self.removed.is_empty() {
                    let at = usize::from(which) % self.removed.len();
                    let mut server = self.removed.swap_remove(at);
                    let weight = self.weight(raw);
                    (server.weight, server.last_weight) = (weight.into(), weight.into());
                    let backend = self.backend(server.id);
                    backend.reset_weight(weight);
                    self.pool.add(backend).unwrap();
                    self.model.add(server);
                }
            }
            Step::Weight(which, raw) => {
                if let Some(id) = self.member(which) {
                    let weight = self.weight(raw);
                    self.backend(id).set_weight(weight);
                    self.model.set_weight(id, weight);
                    self.updated(id);
                }
            }
            Step::Thresholds(which, upper, lower) => {
                if let Some(id) = self.member(which) {
                    let limits = limits(upper, lower);
                    self.backend(id).set_thresholds(limits);
                    self.model.server(id).set_thresholds(limits);
                    self.updated(id);
                }
            }
            Step::Touch(which) => {
                if let Some(id) = self.member(which) {
                    self.updated(id);
                }
            }
            Step::Scheduler(which, flags) => {
                let name = MODELLED[usize::from(which) % MODELLED.len()];
                let heavy = self.model.servers.iter().any(|server| server.weight > 2000);
                if name == "wrr" && heavy {
                    return;
                }
                let (ours, theirs) = both(flags);
                let fresh = name != self.model.scheduler;
                self.pool.set_scheduler(name, ours).unwrap();
                self.model.set_scheduler(name, theirs);
                if fresh {
                    self.pool.tick(Tick(Tick::seconds(self.seconds)));
                    self.minutes = self.seconds / 60;
                    self.model.minute(Tick::seconds(self.seconds));
                    // Whole minutes from here on, as the model counts them.
                    self.seconds = self.minutes * 60;
                }
            }
            Step::Pick {
                client,
                target,
                open,
                active,
            } => {
                self.pick(client, target, open, active);
            }
            Step::Burst(count) => {
                for n in 0..u16::from(count) {
                    self.pick(n.wrapping_mul(257), 0, true, n % 3 != 0);
                }
            }
            Step::Move(which) => {
                let at = usize::from(which) % self.conns.len().max(1);
                if let Some((backend, active)) = self.conns.get_mut(at) {
                    *active = !*active;
                    if *active {
                        backend.activated();
                    } else {
                        backend.deactivated();
                    }
                    let (id, active) = (backend.id(), *active);
                    self.modelled(id).moved(active);
                }
            }
            Step::Close(which) => {
                if !self.conns.is_empty() {
                    let at = usize::from(which) % self.conns.len();
                    let (backend, active) = self.conns.swap_remove(at);
                    backend.closed(active);
                    self.modelled(backend.id()).closed(active);
                }
            }
            Step::Wait(minutes) => {
                let most = if minutes.is_multiple_of(16) {
                    3000
                } else {
                    EXPIRATION / 60
                };
                for _ in 0..u32::from(minutes) % most {
                    self.minutes += 1;
                    self.seconds = self.minutes * 60;
                    let now = Tick::seconds(self.seconds);
                    self.model.minute(now);
                    self.pool.tick(Tick(now));
                }
            }
        }
        self.agree();
    }

    fn updated(&mut self, id: u32) {
        assert!(self.pool.updated(&self.backend(id)));
        self.model.updated();
    }

    fn modelled(&mut self, id: u32) -> &mut Server {
        let all = self.model.servers.iter_mut().chain(&mut self.removed);
        all.into_iter().find(|server| server.id == id).unwrap()
    }

    fn pick(&mut self, client: u16, target: u8, open: bool, active: bool) {
        let ask = Ask {
            src: Addr::from_v4_bits(0xc633_6400 + u32::from(client)),
            src_port: client.rotate_left(3),
            dst: Addr::from_v4_bits(0xcb00_7100 + u32::from(target % 4)),
            now: Tick::seconds(self.seconds),
        };
        let request = Request {
            src: ask.src,
            src_port: ask.src_port,
            dst: ask.dst,
            now: Tick(ask.now),
        };
        let ours = self.pool.pick(&request).cloned();
        let id = ours.as_ref().map(|backend| backend.id());
        if RANDOM.contains(&self.model.scheduler.as_str()) {
            let allowed: Vec<u32> = self
                .model
                .servers
                .iter()
                .filter(|server| server.usable())
                .map(|server| server.id)
                .collect();
            match id {
                Some(id) => assert!(allowed.contains(&id), "{id} is not usable: {allowed:?}"),
                // A table without slots: Maglev's, when everybody was added with weight 0.
                None => assert!(allowed.is_empty(), "nobody of {allowed:?}"),
            }
        } else {
            let theirs = self.model.pick(ask);
            assert_eq!(
                id, theirs,
                "{} differs: {:?}",
                self.model.scheduler, self.model.servers
            );
        }
        if let Some(backend) = ours.filter(|_| open) {
            backend.opened(active);
            self.modelled(backend.id()).opened(active);
            self.conns.push((backend, active));
        }
    }

    fn agree(&self) {
        let ours = self.pool.backends();
        assert_eq!(ours.len(), self.model.servers.len());
        for (ours, theirs) in ours.iter().zip(&self.model.servers) {
            let figures = (ours.id(), i64::from(ours.weight()), ours.is_overloaded());
            assert_eq!(figures, (theirs.id, theirs.weight, theirs.overloaded));
            let counts = (i64::from(ours.active()), i64::from(ours.inactive()));
            assert_eq!(counts, (theirs.active, theirs.inactive));
        }
    }
}

fn both(flags: u8) -> (SchedFlags, Flags) {
    let (fallback, port) = (flags & 1 != 0, flags & 2 != 0);
    let ours = SchedFlags {
        flag1: fallback,
        flag2: port,
        flag3: false,
    };
    (ours, Flags { fallback, port })
}
