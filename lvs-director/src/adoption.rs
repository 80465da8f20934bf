//! Connections that are older than the director: those of a table that another process had before.
//!
//! In: a table with connections, and rules as they come. Out: connections that belong to the
//! destinations of these rules, counted there. Their numbers meant something to the last director
//! only, so all are forgotten at first; a connection finds its destination by its service and its
//! server's address. One that finds none is as if its destination had been removed (IPVS 0.4), until
//! somebody adds it. Never: a wait of a worker.

use crate::begin::server_of;
use crate::destination::Destination;
use crate::director::Director;
use crate::rules::{FTP, Rules, Service};
use ahash::RandomState;
use hashbrown::HashMap;
use lvs_conn::{Conn, ConnKind, DestinationId};
use lvs_core::{Addr, Endpoint, Family, ForwardMethod, Protocol, ServiceKey, state};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Entries of a step of a search.
const STEP: usize = 256;

/// What became of the connections that a table came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Adopted {
    /// Those that have found their destination, templates included.
    pub found: usize,
    /// Those whose destination is in no rule.
    pub orphans: usize,
}

/// How far the search has come.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    /// There may be connections without a destination.
    orphans: AtomicBool,
    /// A destination was added meanwhile.
    asked: AtomicBool,
    search: Mutex<Search>,
}

#[derive(Debug, Default)]
struct Search {
    /// Where it goes on; `None`: there is none.
    at: Option<usize>,
    so_far: Adopted,
}

impl Adoption {
    /// A destination was added, and the rules that have it are published.
    pub(crate) fn ask(&self) {
        if self.orphans.load(Relaxed) {
            // Release: the collector that sees it sees the rules.
            self.asked.store(true, Release);
        }
    }

    /// By the collector, before it reads the rules.
    pub(crate) fn begin_if_asked(&self) {
        if self.asked.load(Relaxed) && self.asked.swap(false, Acquire) {
            *self.search.lock() = Search {
                at: Some(0),
                so_far: Adopted::default(),
            };
        }
    }
}

impl Director {
    /// Makes the connections that the table came with nobody's, and what they hold of this director
    /// theirs.
    pub(crate) fn take_over(&self) {
        if self.table.is_empty() {
            return;
        }
        self.adoption.orphans.store(true, Relaxed);
        let mut handle = self.table.register();
        let mut locals = Vec::new();
        self.table.scan(&mut handle, |conn| {
            conn.set_dest(DestinationId::NONE);
            if let Some(local) = conn.local() {
                locals.push((local, conn.destination().addr));
            }
            if conn.client().port == 0 && conn.is_helped() {
                self.waiting.fetch_add(1, Relaxed);
            }
            if conn.kind() == ConnKind::Template && conn.mark() != 0 {
                // It was found by a value that its process remembered.
                conn.set_mark(0);
                conn.invalidate();
            }
        });
        self.locals.claim(&locals);
    }

    /// Gives the connections that the table came with to the destinations of the present rules. To be
    /// called once these are made, before workers have packets and before the collector runs; for what
    /// is added later [`Director::collect`] sees to it.
    pub fn adopt(&self) -> Adopted {
        if !self.adoption.orphans.load(Relaxed) {
            return Adopted::default();
        }
        let mut search = self.adoption.search.lock();
        *search = Search {
            at: Some(0),
            so_far: Adopted::default(),
        };
        let rules = self.rules.load();
        self.search(&mut search, &rules, usize::MAX);
        search.so_far
    }

    /// A part of the search that additions have asked for, about `budget` entries.
    pub(crate) fn adopt_some(&self, rules: &Rules, budget: usize) {
        if !self.adoption.orphans.load(Relaxed) {
            return;
        }
        let mut search = self.adoption.search.lock();
        if search.at.is_some() {
            self.search(&mut search, rules, budget);
        }
    }

    fn search(&self, search: &mut Search, rules: &Rules, budget: usize) {
        let servers = Servers::of(rules);
        let mut handle = self.table.register();
        let Search { at, so_far } = search;
        let mut steps = budget.div_ceil(STEP);
        while steps > 0
            && let Some(from) = *at
        {
            steps -= 1;
            *at = self.table.scan_from(&mut handle, from, |conn| {
                if conn.dest() != DestinationId::NONE || conn.method() == ForwardMethod::Bypass {
                    return;
                }
                match servers.of_connection(*conn) {
                    Some(destination) => {
                        give(*conn, destination);
                        so_far.found += 1;
                    }
                    None => so_far.orphans += 1,
                }
            });
        }
        if at.is_none() {
            self.adoption.orphans.store(so_far.orphans != 0, Relaxed);
        }
    }
}

/// As if the destination's scheduler had just chosen it for the connection.
fn give(conn: Conn<'_>, destination: &Destination) {
    conn.set_dest(destination.id);
    if conn.kind() == ConnKind::Template {
        destination.ledger.templates.fetch_add(1, Relaxed);
        destination.backend.judge();
    } else {
        let active = state::is_active(conn.protocol(), conn.state());
        destination.backend.opened(active);
    }
}

/// The destinations of rules by what connections know of them.
struct Servers<'a> {
    rules: &'a Rules,
    /// By endpoint; with port 0 also any one of its address.
    by_endpoint: HashMap<(ServiceKey, Endpoint), &'a Arc<Destination>, RandomState>,
}

impl<'a> Servers<'a> {
    fn of(rules: &'a Rules) -> Self {
        let mut by_endpoint = HashMap::default();
        let all = || {
            rules.services().flat_map(|service| {
                let key = service.key;
                let destinations = rules.destinations_in(service);
                destinations.map(move |found| (key, found.spec.endpoint, found))
            })
        };
        for (key, endpoint, found) in all() {
            by_endpoint.insert((key, endpoint), found);
        }
        for (key, endpoint, found) in all() {
            let any_port = Endpoint {
                port: 0,
                ..endpoint
            };
            by_endpoint.entry((key, any_port)).or_insert(found);
        }
        Self { rules, by_endpoint }
    }

    fn of_connection(&self, conn: Conn<'_>) -> Option<&'a Arc<Destination>> {
        let is_template = conn.kind() == ConnKind::Template;
        if !is_template
            && let Some(control) = conn.control()
            && control.kind() == ConnKind::Normal
        {
            // Data of a connection that tells where they go.
            return self.of_connection(control);
        }
        let server = conn.destination();
        let port = conn.virtual_endpoint().port;
        self.services_of(conn)
            .into_iter()
            .flatten()
            .find_map(|service| {
                let get = |endpoint| self.by_endpoint.get(&(service.key, endpoint)).copied();
                get(server).or_else(|| {
                    let any_port = Endpoint { port: 0, ..server };
                    let leads_there = |found: &&Arc<Destination>| {
                        (is_template && server.port == 0)
                            || server_of(found, service, port) == server
                    };
                    get(any_port).filter(leads_there)
                })
            })
    }

    /// The services that may have made a connection.
    fn services_of(&self, conn: Conn<'_>) -> [Option<&'a Arc<Service>>; 2] {
        let rules = self.rules;
        let virtual_ = conn.virtual_endpoint();
        let family = virtual_.addr.family();
        let marked = |mark| rules.service(&ServiceKey::FwMark { family, mark });
        let protocol = conn.protocol();
        let at = |port| rules.service_at(protocol, Endpoint { port, ..virtual_ });
        match conn.kind() {
            ConnKind::Template if protocol == Protocol::Ip => {
                [marked(mark_of(virtual_.addr)), None]
            }
            // One for all ports, or all of FTP.
            ConnKind::Template if virtual_.port == 0 => [at(0), at(FTP)],
            ConnKind::Template => [at(virtual_.port), None],
            _ => {
                let mark = conn.mark();
                let by_mark = if mark == 0 { None } else { marked(mark) };
                [by_mark, rules.service_for(protocol, virtual_)]
            }
        }
    }
}

/// The mark in the place of an address (IPVS 2.5).
fn mark_of(addr: Addr) -> u32 {
    match addr.family() {
        Family::V4 => addr.low_word(),
        Family::V6 => (addr.hi >> 32) as u32,
    }
}
