//! A destination as the workers see it, and what lives as long as it does, whatever becomes of its
//! definition: its load, its counters, its history.
//!
//! A value of a snapshot: an edit makes a new one around the same shared parts. Small on purpose, and
//! of few pieces of memory: a set of rules may have a hundred thousand.

use crate::locals::Local;
use crate::pages::Shared;
use crate::path_mtu::PathMtu;
use crate::removal::Leaving;
use crate::rules::is_ftp;
use crate::stats::{Estimator, Sharded};
use lvs_conn::DestinationId;
use lvs_core::{
    Counters, DestinationSpec, Endpoint, ForwardMethod, Health, LocalAddresses, OnRemoval,
    Protocol, ServiceKey, TunnelKind,
};
use lvs_sched::Backend;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A destination, in service or on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) id: DestinationId,
    pub(crate) spec: Terms,
    /// Its load and weight, shared with the scheduler.
    pub(crate) backend: Arc<Backend>,
    pub(crate) counters: Sharded,
    /// FULLNAT's ways to speak to it.
    pub(crate) locals: Arc<[Local]>,
    /// What was found out about it last.
    pub(crate) health: Health,
    /// It is on its way out, and its connections with it.
    pub(crate) leaving: Option<Leaving>,
    pub(crate) ledger: Shared<Ledger>,
    /// The service object that it was added to.
    pub(crate) home: Arc<Home>,
}

/// What an operator said of a destination: a [`DestinationSpec`] without room for addresses that few
/// have, and without thresholds, which its backend keeps.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) endpoint: Endpoint,
    pub(crate) method: ForwardMethod,
    pub(crate) tunnel: TunnelKind,
    pub(crate) weight: Weight,
    pub(crate) on_removal: Option<OnRemoval>,
    pub(crate) local: Option<Arc<LocalAddresses>>,
}

/// A weight that is edited in place, as a backend's is: the edit that sites make most, of all
/// destinations at once if need be. Nothing that a packet needs hangs on it.
#[derive(Debug)]
pub(crate) struct Weight(AtomicU32);

impl Weight {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// By the control plane.
    pub(crate) fn set(&self, weight: u32) {
        self.0.store(weight, Relaxed);
    }
}

impl Clone for Weight {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.get()))
    }
}

/// What becomes of a destination beside its packets.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Persistence templates that name it.
    pub(crate) templates: AtomicU32,
    /// What is known of the way to it, behind a tunnel.
    pub(crate) path_mtu: PathMtu,
    /// Nothing as long as nothing was counted.
    history: Mutex<Option<Box<History>>>,
}

/// What the control plane remembers of an object's counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct History {
    /// The counters at the moment from which the service counts them.
    pub(crate) birth: Counters,
    /// The counters at the last zeroing.
    pub(crate) zero: Counters,
    pub(crate) estimator: Estimator,
}

/// A service object: the same as long as the service is not deleted.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) key: ServiceKey,
    pub(crate) history: Mutex<ServiceHistory>,
}

/// What the control plane remembers of a service's counters.
#[derive(Debug, Default)]
pub(crate) struct ServiceHistory {
    /// What destinations that are gone had counted.
    pub(crate) departed: Counters,
    pub(crate) zero: Counters,
    pub(crate) estimator: Estimator,
}

impl Terms {
    /// What was said of the destination, whose endpoint is this.
    pub(crate) fn new(spec: &DestinationSpec, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            method: spec.method,
            tunnel: spec.tunnel,
            weight: Weight(AtomicU32::new(spec.weight)),
            on_removal: spec.on_removal,
            local: (!spec.local.is_empty()).then(|| Arc::new(spec.local)),
        }
    }

    /// FULLNAT's addresses of the destination itself.
    pub(crate) fn local(&self) -> &LocalAddresses {
        const NONE: &LocalAddresses = &LocalAddresses::NONE;
        self.local.as_deref().unwrap_or(NONE)
    }

    /// Whether it is what `spec` says of the same endpoint, weight and thresholds left aside.
    pub(crate) fn says(&self, spec: &DestinationSpec) -> bool {
        self.method == spec.method
            && self.tunnel == spec.tunnel
            && self.on_removal == spec.on_removal
            && match &self.local {
                Some(local) => **local == spec.local,
                None => spec.local.is_empty(),
            }
    }
}

impl Ledger {
    /// What is remembered of the counters.
    pub(crate) fn history(&self) -> History {
        self.history.lock().as_deref().copied().unwrap_or_default()
    }

    /// The counters count for another service from here on.
    pub(crate) fn restart(&self, now: Counters) {
        self.remember(|history| {
            *history = History {
                birth: now,
                zero: now,
                ..History::default()
            };
        });
    }

    /// From now on the counters are remembered otherwise.
    pub(crate) fn remember(&self, change: impl FnOnce(&mut History)) {
        change(self.history.lock().get_or_insert_default());
    }

    /// Takes a sample for the rates.
    pub(crate) fn sample(&self, now: Counters) {
        let mut history = self.history.lock();
        if history.is_some() || now != Counters::default() {
            history.get_or_insert_default().estimator.sample(now);
        }
    }
}

impl Home {
    pub(crate) fn new(key: ServiceKey) -> Self {
        Self {
            key,
            history: Mutex::default(),
        }
    }
}

impl Destination {
    /// What an operator said of it, in the operator's words.
    pub(crate) fn spec(&self) -> DestinationSpec {
        let terms = &self.spec;
        DestinationSpec {
            endpoint: terms.endpoint,
            method: terms.method,
            tunnel: terms.tunnel,
            weight: terms.weight.get(),
            thresholds: self.backend.thresholds(),
            local: *terms.local(),
            on_removal: terms.on_removal,
        }
    }

    /// Whether it is what `spec` says of the same endpoint.
    pub(crate) fn says(&self, spec: &DestinationSpec) -> bool {
        self.spec.weight.get() == spec.weight
            && self.backend.thresholds() == spec.thresholds
            && self.spec.says(spec)
    }

    /// The weight that the scheduler is to see.
    pub(crate) fn effective_weight(&self) -> u32 {
        self.effective(self.spec.weight.get())
    }

    /// What the scheduler were to see of this weight.
    pub(crate) const fn effective(&self, weight: u32) -> u32 {
        match self.health {
            Health::Up => weight,
            Health::Failed => 0,
        }
    }

    /// A local endpoint was taken in vain.
    pub(crate) fn give_back(&self, local: Endpoint) {
        let mut locals = self.locals.iter();
        if let Some(found) = locals.find(|found| found.addr == local.addr) {
            found.give_back(local.port);
        }
    }

    /// What its service has counted of it.
    pub(crate) fn counted(&self) -> Counters {
        self.counters.sum() - self.ledger.history().birth
    }

    /// The endpoints from which replies come that have to be rewritten; port 0: from all.
    pub(crate) fn rewritten_servers(&self) -> impl Iterator<Item = (Protocol, Endpoint)> {
        const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let endpoint = self.spec.endpoint;
        let (protocol, port) = match self.home.key {
            // The data connections of FTP have ports of their own.
            ServiceKey::Endpoint { protocol, vip } if is_ftp(protocol, vip) => (Some(protocol), 0),
            // A service of all ports keeps them.
            ServiceKey::Endpoint { protocol, vip } if endpoint.port == 0 || vip.port == 0 => {
                (Some(protocol), vip.port)
            }
            ServiceKey::Endpoint { protocol, .. } => (Some(protocol), endpoint.port),
            // So does a mark's, if it is persistent, which may change.
            ServiceKey::FwMark { .. } => (None, 0),
        };
        let rewritten = self.spec.method.rewrites_replies();
        ALL.into_iter()
            .filter(move |found| rewritten && protocol.is_none_or(|only| only == *found))
            .map(move |found| (found, Endpoint { port, ..endpoint }))
    }

    /// The same with the port that the destination was given, if any (IPVS 0.3).
    pub(crate) fn real_servers(&self) -> impl Iterator<Item = (Protocol, Endpoint)> {
        let endpoint = self.spec.endpoint;
        self.rewritten_servers()
            .filter(move |_| endpoint.port != 0)
            .map(move |(protocol, _)| (protocol, endpoint))
    }
}
