//! The director of packets as the control plane sees it.
//!
//! Requests in the words of `lvs-api` come in, calls of [`Director`] go out; whoever has to follow
//! the rules is called after each change, before the request is answered.

use super::backend::{Backend, refuse};
use super::marks;
use super::memory::bucket;
use super::sync_book::SyncBook;
use super::translation::{refusal, rule_of, status, sysctl, translate};
use crate::dataplane::{PortStatistics, clock};
use lvs_api::{
    Connection, DropCount, Errno, Info, MarkRule, Operation, Refusal, ServiceStatus, SyncDaemon,
    Sysctl, Timeouts, Totals,
};
use lvs_core::{Addr, Family, ServiceKey, Tick};
use lvs_director::{Director, RuleError, Setting};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The rows that listings show as `size=`; the kernel's default, since scripts look at it.
const TABLE_SIZE: u64 = 4096;

/// A [`Backend`] that edits a [`Director`].
pub struct Rules {
    director: Arc<Director>,
    changed: Box<dyn Fn() + Send + Sync>,
    rings: Box<dyn Fn() -> Vec<PortStatistics> + Send + Sync>,
    /// The broadcast addresses of the host's networks.
    broadcasts: Box<dyn Fn() -> Vec<Addr> + Send + Sync>,
    /// The clock that the packets have.
    clock: Box<dyn Fn() -> Tick + Send + Sync>,
    /// Synchronisation daemons, where they are only pretended.
    sync: Option<Mutex<SyncBook>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("director", &self.director)
            .finish_non_exhaustive()
    }
}

impl Rules {
    /// The rules of a director; `changed` is called after each change of them.
    #[must_use]
    pub fn new(director: Arc<Director>, changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            director,
            changed: Box::new(changed),
            rings: Box::new(Vec::new),
            broadcasts: Box::new(Vec::new),
            clock: Box::new(clock::now),
            sync: None,
        }
    }

    /// The same with rings whose drops are listed beside the director's.
    #[must_use]
    pub fn with_rings(
        mut self,
        rings: impl Fn() -> Vec<PortStatistics> + Send + Sync + 'static,
    ) -> Self {
        self.rings = Box::new(rings);
        self
    }

    /// The same on a host with these broadcast addresses, which no destination can have.
    #[must_use]
    pub fn with_broadcasts(
        mut self,
        broadcasts: impl Fn() -> Vec<Addr> + Send + Sync + 'static,
    ) -> Self {
        self.broadcasts = Box::new(broadcasts);
        self
    }

    /// The same for packets that are given the time of this clock instead of the monotonic one.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Tick + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Does what is not a rule, and was found to be possible.
    fn set(&self, operation: &Operation) {
        match operation {
            Operation::SetTimeouts { timeouts } => {
                let Timeouts { tcp, tcp_fin, udp } = *timeouts;
                self.director.timeouts().set_seconds(tcp, tcp_fin, udp);
            }
            Operation::SetSysctl { name, value } => {
                if let Ok(setting) = name.parse::<Setting>() {
                    // Checked before.
                    let _ = self.director.settings().set(setting, *value);
                }
            }
            _ => {}
        }
    }

    /// The same for a director that gets no packets: synchronisation daemons can be started on
    /// these interfaces and are listed, and do nothing.
    #[must_use]
    pub fn practising(mut self, interfaces: &[impl AsRef<str>]) -> Self {
        self.sync = Some(Mutex::new(SyncBook::new(interfaces)));
        self
    }

    /// An edit with what it does not say, as it is now: the words of ipvsadm know nothing of it.
    fn filled<'a>(&self, operation: &'a Operation) -> Cow<'a, Operation> {
        match operation {
            Operation::EditService { config } => {
                let Some(running) = self.director.service(&config.key) else {
                    return Cow::Borrowed(operation);
                };
                let mut config = config.clone();
                config.local.get_or_insert(running.local);
                config.toa.get_or_insert(running.tell_client);
                config.on_removal.get_or_insert(running.on_removal);
                Cow::Owned(Operation::EditService { config })
            }
            Operation::EditDestination { service, config } => {
                let running = self.director.service(service);
                let mut destinations = running.iter().flat_map(|found| &found.destinations);
                let Some(running) =
                    destinations.find(|found| found.spec.endpoint == config.address)
                else {
                    return Cow::Borrowed(operation);
                };
                let mut config = config.clone();
                config.local.get_or_insert(running.spec.local);
                config.on_removal = config.on_removal.or(running.spec.on_removal);
                Cow::Owned(Operation::EditDestination {
                    service: *service,
                    config,
                })
            }
            _ => Cow::Borrowed(operation),
        }
    }

    fn perform(&self, operations: &[Operation]) -> Result<(), (usize, Refusal)> {
        // Held to the end: what is started in one transaction is not seen by another before.
        let mut book = self.sync.as_ref().map(Mutex::lock);
        let mut sync = book.as_deref().cloned();
        let operations: Vec<_> = operations.iter().map(|one| self.filled(one)).collect();
        let mut rules = Vec::with_capacity(operations.len());
        // The place of each rule operation in the caller's list.
        let mut places = Vec::with_capacity(operations.len());
        for (place, operation) in operations.iter().enumerate() {
            match self.prepare(operation, &mut sync) {
                Ok(Some(rule)) => {
                    rules.push(rule);
                    places.push(place);
                }
                Ok(None) => {}
                Err(why) => return Err(self.first_refusal(rules, places, operation, (place, why))),
            }
        }
        let refused = |(place, error): (usize, RuleError)| {
            let place = places.get(place).copied().unwrap_or(place);
            let mut refusal = refusal(&error);
            // The others name it themselves.
            if let RuleError::OutOfRange(_) | RuleError::Invalid(_) = error
                && let Some(rule) = operations.get(place).and_then(|one| rule_of(one))
            {
                refusal.message = format!("{rule}: {}", refusal.message);
            }
            (place, refusal)
        };
        self.director.apply(&rules).map_err(refused)?;
        if let (Some(book), Some(sync)) = (&mut book, sync) {
            **book = sync;
        }
        for operation in &operations {
            self.set(operation);
        }
        if !rules.is_empty() {
            (self.changed)();
        }
        Ok(())
    }
}

impl Rules {
    fn exists(&self, key: &ServiceKey) -> bool {
        self.director.service(key).is_some()
    }

    /// An operation as a rule, or done in `sync`, or checked, as far as the director is not asked.
    fn prepare<'o>(
        &self,
        operation: &'o Operation,
        sync: &mut Option<SyncBook>,
    ) -> Result<Option<lvs_director::Operation<'o>>, Refusal> {
        match (operation, sync) {
            (Operation::StartDaemon { .. }, Some(_)) if self.has_mixed_families() => {
                Err(mixed_families())
            }
            (Operation::StartDaemon { config }, Some(sync)) => {
                sync.start(config)?;
                Ok(None)
            }
            (Operation::StartDaemon { .. }, None) => {
                Err(refuse::not_available("connection synchronisation"))
            }
            (Operation::StopDaemon { role }, Some(sync)) => {
                sync.stop(*role)?;
                Ok(None)
            }
            (Operation::StopDaemon { role }, None) => Err(refuse::no_daemon(*role)),
            (_, sync) => {
                if sync.as_ref().is_some_and(SyncBook::is_running) {
                    self.keep_families(operation)?;
                }
                Ok(translate(operation)?.map(|rule| self.on_this_host(rule)))
            }
        }
    }

    /// A broadcast address of the host's networks is as little a server's as that of all networks,
    /// which the director refuses where the kernel does.
    fn on_this_host<'o>(&self, rule: lvs_director::Operation<'o>) -> lvs_director::Operation<'o> {
        use lvs_director::Operation::AddDestination;
        match rule {
            AddDestination(key, mut spec) if (self.broadcasts)().contains(&spec.endpoint.addr) => {
                spec.endpoint.addr = std::net::Ipv4Addr::BROADCAST.into();
                AddDestination(key, spec)
            }
            other => other,
        }
    }

    /// Which refusal comes first: one that was found without asking the director, or one that it
    /// has for what stands before. Nothing is done.
    fn first_refusal<'o>(
        &self,
        mut rules: Vec<lvs_director::Operation<'o>>,
        mut places: Vec<usize>,
        operation: &'o Operation,
        (place, why): (usize, Refusal),
    ) -> (usize, Refusal) {
        use lvs_director::Operation as Rule;
        // The kernel looks for the service and the scheduler before it looks for an engine.
        let without_engine = match operation {
            Operation::AddService { config } => Some(Rule::AddService(config.spec())),
            Operation::EditService { config } => Some(Rule::EditService(config.spec())),
            _ => None,
        };
        if let Some(rule) = without_engine {
            rules.push(rule);
            places.push(place);
        }
        // There is no such service: the director refuses the whole, whatever it thinks of the rest.
        rules.push(Rule::DeleteService(ServiceKey::FwMark {
            family: Family::V4,
            mark: 0,
        }));
        let Err((at, error)) = self.director.apply(&rules) else {
            return (place, why);
        };
        match places.get(at) {
            Some(&earlier) if earlier < place => (earlier, refusal(&error)),
            Some(_)
                if matches!(
                    error,
                    RuleError::ServiceExists(_)
                        | RuleError::NoSuchService(_)
                        | RuleError::UnknownScheduler(_)
                ) =>
            {
                (place, refusal(&error))
            }
            _ => (place, why),
        }
    }

    /// Whether a destination is of another family than its service.
    fn has_mixed_families(&self) -> bool {
        self.director.services().iter().any(|service| {
            let family = service.key.family();
            let mut all = service.destinations.iter();
            all.any(|found| found.spec.endpoint.addr.family() != family)
        })
    }

    /// Refuses a destination of another family than its service, which cannot be synchronised.
    fn keep_families(&self, operation: &Operation) -> Result<(), Refusal> {
        let (Operation::AddDestination { service, config }
        | Operation::EditDestination { service, config }) = operation
        else {
            return Ok(());
        };
        if config.address.addr.family() == service.family() || !self.exists(service) {
            return Ok(());
        }
        Err(mixed_families())
    }
}

fn mixed_families() -> Refusal {
    Refusal::new(
        Errno::Invalid,
        "destinations of another address family than their service cannot be synchronised",
    )
}

impl Backend for Rules {
    fn info(&self) -> Info {
        let table = self.director.table();
        Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            table_size: TABLE_SIZE,
            capacity: table.capacity() as u64,
            connections: table.len() as u64,
        }
    }

    fn services(&self) -> Vec<ServiceStatus> {
        let mut services: Vec<_> = self.director.services().iter().map(status).collect();
        services.sort_by_key(|service| (bucket(&service.config.key), service.config.key));
        services
    }

    fn service(&self, key: &ServiceKey) -> Result<ServiceStatus, Refusal> {
        let found = self.director.service(key);
        found
            .as_ref()
            .map(status)
            .ok_or_else(|| refuse::no_service(key))
    }

    fn apply(&self, operation: &Operation) -> Result<(), Refusal> {
        self.perform(std::slice::from_ref(operation))
            .map_err(|(_, refusal)| refusal)
    }

    fn transaction(&self, operations: &[Operation]) -> Result<(), (usize, Refusal)> {
        self.perform(operations)
    }

    fn connections(&self, from: u64, limit: usize, out: &mut Vec<Connection>) -> Option<u64> {
        let now = (self.clock)();
        let end = out.len().saturating_add(limit);
        let mut at = usize::try_from(from).ok()?;
        while out.len() < end {
            at = self.director.connections_from(at, now, |found| {
                out.push(Connection {
                    protocol: found.protocol,
                    client: found.client,
                    virtual_: found.virtual_endpoint,
                    destination: found.destination,
                    local: found.local,
                    method: found.method.into(),
                    state: Cow::Borrowed(found.state_name()),
                    expires: found.expires,
                    engine: found.engine.as_ref().map(|(engine, _)| engine.to_string()),
                    engine_data: found.engine.as_ref().map(|(_, data)| data.clone()),
                });
            })?;
        }
        Some(at as u64)
    }

    fn totals(&self) -> Totals {
        Totals {
            counters: self.director.totals(),
            rates: self.director.rates(),
        }
    }

    fn drops(&self) -> Vec<DropCount> {
        let rings = (self.rings)();
        let count = |(reason, packets)| {
            let lost: u64 = rings.iter().map(|ring| ring.dropped(reason)).sum();
            DropCount::new(reason, packets + lost)
        };
        self.director.drops().map(count).collect()
    }

    fn sysctl(&self) -> Vec<Sysctl> {
        let settings = self.director.settings();
        settings.iter().map(sysctl).collect()
    }

    fn marks(&self) -> Vec<MarkRule> {
        let rules = self.director.marks();
        rules.iter().map(marks::from_director).collect()
    }

    fn timeouts(&self) -> Timeouts {
        let (tcp, tcp_fin, udp) = self.director.timeouts().seconds();
        Timeouts { tcp, tcp_fin, udp }
    }

    fn daemons(&self) -> Vec<SyncDaemon> {
        let book = self.sync.as_ref().map(Mutex::lock);
        book.map_or_else(Vec::new, |book| book.daemons().to_vec())
    }
}

#[cfg(test)]
mod tests;
