//! The director of packets as the control plane sees it.
//!
//! Requests in the words of `lvs-api` come in, calls of [`Director`] go out; whoever has to follow
//! the rules is called after each change, before the request is answered.

use super::backend::{Backend, refuse};
use super::marks;
use super::memory::bucket;
use super::sync_book::SyncBook;
use crate::dataplane::{PortStatistics, clock};
use lvs_api::{
    Connection, Destination, DestinationStatus, DropCount, Errno, Info, MarkRule, Operation,
    Refusal, Service, ServiceStatus, SyncDaemon, Sysctl, Timeouts, Totals,
};
use lvs_core::{ServiceKey, ServiceSpec};
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
            let refused = |refusal| (place, refusal);
            match &**operation {
                Operation::StartDaemon { config } => match &mut sync {
                    Some(_) if self.has_mixed_families() => {
                        return Err(refused(mixed_families()));
                    }
                    Some(sync) => sync.start(config).map_err(refused)?,
                    None => {
                        let what = "connection synchronisation";
                        return Err(refused(refuse::not_available(what)));
                    }
                },
                Operation::StopDaemon { role } => match &mut sync {
                    Some(sync) => sync.stop(*role).map_err(refused)?,
                    None => return Err(refused(refuse::no_daemon(*role))),
                },
                _ => {
                    if sync.as_ref().is_some_and(SyncBook::is_running) {
                        self.keep_families(operation).map_err(refused)?;
                    }
                    let rule = translate(operation);
                    let rule = rule.map_err(|why| self.sooner(operation, why));
                    if let Some(rule) = rule.map_err(refused)? {
                        rules.push(rule);
                        places.push(place);
                    }
                }
            }
        }
        let refused = |(place, error): (usize, RuleError)| {
            (places.get(place).copied().unwrap_or(place), refusal(&error))
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

    /// What the kernel looks at before it looks for a persistence engine.
    fn sooner(&self, operation: &Operation, why: Refusal) -> Refusal {
        match operation {
            Operation::AddService { config } if self.exists(&config.key) => {
                refuse::service_exists(&config.key)
            }
            Operation::EditService { config } if !self.exists(&config.key) => {
                refuse::no_service(&config.key)
            }
            _ => why,
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

/// An operation on the rules in the director's words; `None` for one on something else, which can
/// be done.
fn translate(operation: &Operation) -> Result<Option<lvs_director::Operation<'_>>, Refusal> {
    use lvs_director::Operation as Rule;
    Ok(Some(match operation {
        Operation::AddService { config } => Rule::AddService(spec(config)?),
        Operation::EditService { config } => Rule::EditService(spec(config)?),
        Operation::DeleteService { service } => Rule::DeleteService(*service),
        Operation::AddDestination { service, config } => {
            Rule::AddDestination(*service, config.spec())
        }
        Operation::EditDestination { service, config } => {
            Rule::EditDestination(*service, config.spec())
        }
        Operation::DeleteDestination { service, address } => {
            Rule::DeleteDestination(*service, *address)
        }
        Operation::Flush => Rule::Flush,
        Operation::Zero { service } => Rule::Zero(*service),
        Operation::SetTimeouts { .. }
        | Operation::StartDaemon { .. }
        | Operation::StopDaemon { .. } => return Ok(None),
        Operation::SetSysctl { name, value } => {
            let setting: Result<Setting, _> = name.parse();
            let checked = setting.and_then(|setting| setting.check(*value));
            checked.map_err(|error| refuse::setting(&error))?;
            return Ok(None);
        }
        Operation::SetMarks { rules } => {
            let rules = rules.iter().map(marks::to_director);
            Rule::SetMarks(rules.collect::<Result<_, _>>()?)
        }
    }))
}

fn spec(service: &Service) -> Result<ServiceSpec<'_>, Refusal> {
    let spec = service.spec();
    match &service.engine {
        Some(engine) if spec.engine.is_none() => Err(refuse::no_engine(engine)),
        _ => Ok(spec),
    }
}

fn refusal(error: &RuleError) -> Refusal {
    let errno = match error {
        RuleError::ServiceExists(_) | RuleError::DestinationExists(..) => Errno::Exists,
        RuleError::NoSuchService(_) => Errno::NoService,
        RuleError::UnknownScheduler(_) | RuleError::NoSuchDestination(..) => Errno::NotFound,
        RuleError::OutOfRange(_) => Errno::Range,
        RuleError::Unsupported(_) => Errno::NotAvailable,
        _ => Errno::Invalid,
    };
    Refusal::new(errno, error.to_string())
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
        let now = clock::now();
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

/// A setting and its value as a listing shows it.
pub(super) fn sysctl((setting, value): (Setting, u32)) -> Sysctl {
    Sysctl {
        name: setting.name().to_owned(),
        value,
        default: setting.default_value(),
        maximum: *setting.range().end(),
        description: setting.description().to_owned(),
    }
}

fn status(service: &lvs_director::ServiceStatus) -> ServiceStatus {
    let spec = ServiceSpec {
        key: service.key,
        scheduler: service.scheduler,
        flags: service.flags,
        persistence: service.persistence,
        one_packet: service.one_packet,
        engine: service.engine,
        local: service.local,
        tell_client: service.tell_client,
        on_removal: service.on_removal,
    };
    let destinations = service.destinations.iter().map(|found| DestinationStatus {
        config: Destination::from(&found.spec),
        active: found.active,
        inactive: found.inactive,
        persistent: found.persistent,
        overloaded: found.overloaded,
        counters: found.counters,
        rates: found.rates,
    });
    ServiceStatus {
        config: Service::from(&spec),
        counters: service.counters,
        rates: service.rates,
        destinations: destinations.collect(),
    }
}
