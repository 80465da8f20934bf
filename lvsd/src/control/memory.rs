//! A director without packets: the kernel's rules about rules, and nothing else.
//!
//! Operations in, refusals or a changed list out. For tests, and for finding out before a
//! configuration is used whether a director would take it.

use super::backend::{Backend, refuse};
use super::marks;
use super::sync_book::SyncBook;
use super::translation::sysctl;
use lvs_api::{
    Connection, Destination, DestinationStatus, DropCount, Errno, Info, MAX_NAME, MarkRule, Method,
    Operation, Refusal, Service, ServiceStatus, SyncDaemon, Sysctl, Timeouts, Totals, Tunnel,
};
use lvs_core::{Counters, DropReason, Endpoint, MAX_WEIGHT, Rates, ServiceKey};
use lvs_director::{Setting, Settings};
use parking_lot::Mutex;

/// The persistence engines of the kernel.
const ENGINES: [&str; 1] = ["sip"];

/// A director without packets.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
}

/// Cloned for every transaction: simple, and fast enough for what it is for.
#[derive(Clone, Debug)]
struct State {
    /// Newest first within a bucket of the kernel's, which is where its order comes from.
    services: Vec<ServiceStatus>,
    connections: Vec<Connection>,
    timeouts: Timeouts,
    sysctl: Vec<Sysctl>,
    marks: Vec<MarkRule>,
    sync: SyncBook,
    totals: Totals,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                services: Vec::new(),
                connections: Vec::new(),
                timeouts: Timeouts {
                    tcp: 900,
                    tcp_fin: 120,
                    udp: 300,
                },
                sysctl: Settings::default().iter().map(sysctl).collect(),
                marks: Vec::new(),
                sync: SyncBook::default(),
                totals: Totals::default(),
            }),
        }
    }

    /// The same, with interfaces on which synchronisation could run.
    #[must_use]
    pub fn with_interfaces(self, names: &[&str]) -> Self {
        self.state.lock().sync = SyncBook::new(names);
        self
    }

    /// Pretends that these connections exist.
    pub fn set_connections(&self, connections: Vec<Connection>) {
        self.state.lock().connections = connections;
    }

    /// Pretends that a service and its destinations have done something.
    pub fn touch(&self, key: &ServiceKey, change: impl FnOnce(&mut ServiceStatus)) {
        let mut state = self.state.lock();
        if let Some(service) = state.services.iter_mut().find(|s| s.config.key == *key) {
            change(service);
        }
    }
}

impl Backend for Memory {
    fn info(&self) -> Info {
        Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            table_size: 4096,
            capacity: 0,
            connections: self.state.lock().connections.len() as u64,
        }
    }

    fn services(&self) -> Vec<ServiceStatus> {
        let mut services = self.state.lock().services.clone();
        services.sort_by_key(|service| bucket(&service.config.key));
        services
    }

    fn apply(&self, operation: &Operation) -> Result<(), Refusal> {
        self.state.lock().apply(operation)
    }

    fn transaction(&self, operations: &[Operation]) -> Result<(), (usize, Refusal)> {
        let mut state = self.state.lock();
        let mut next = state.clone();
        for (i, operation) in operations.iter().enumerate() {
            next.apply(operation).map_err(|refusal| (i, refusal))?;
        }
        *state = next;
        Ok(())
    }

    fn connections(&self, from: u64, limit: usize, out: &mut Vec<Connection>) -> Option<u64> {
        let state = self.state.lock();
        let start = usize::try_from(from).ok()?;
        let slice = state.connections.iter().skip(start).take(limit);
        out.extend(slice.cloned());
        let next = start.saturating_add(limit);
        (next < state.connections.len()).then_some(next as u64)
    }

    fn totals(&self) -> Totals {
        self.state.lock().totals
    }

    fn drops(&self) -> Vec<DropCount> {
        let all = DropReason::ALL.iter();
        all.map(|&reason| DropCount::new(reason, 0)).collect()
    }

    fn sysctl(&self) -> Vec<Sysctl> {
        self.state.lock().sysctl.clone()
    }

    fn marks(&self) -> Vec<MarkRule> {
        self.state.lock().marks.clone()
    }

    fn timeouts(&self) -> Timeouts {
        self.state.lock().timeouts
    }

    fn daemons(&self) -> Vec<SyncDaemon> {
        self.state.lock().sync.daemons().to_vec()
    }
}

impl State {
    fn apply(&mut self, operation: &Operation) -> Result<(), Refusal> {
        match operation {
            Operation::AddService { config } => {
                if self.services.iter().any(|s| s.config.key == config.key) {
                    return Err(refuse::service_exists(&config.key));
                }
                check_service(config)?;
                self.services.insert(0, ServiceStatus::new(config.clone()));
            }
            Operation::EditService { config } => {
                let service = self.find(&config.key)?;
                check_service(config)?;
                service.config = config.clone();
            }
            Operation::DeleteService { service } => {
                self.find(service)?;
                self.services.retain(|s| s.config.key != *service);
            }
            Operation::AddDestination { service, config } => {
                let found = self.find(service)?;
                check_destination(service, config)?;
                if position(found, config.address).is_some() {
                    return Err(refuse::destination_exists(service, config.address));
                }
                check_address(config.address)?;
                let status = DestinationStatus::new(config.clone());
                found.destinations.insert(0, status);
            }
            Operation::EditDestination { service, config } => {
                let found = self.find(service)?;
                check_destination(service, config)?;
                let place = position(found, config.address);
                let Some(slot) = place.and_then(|i| found.destinations.get_mut(i)) else {
                    return Err(refuse::no_destination(service, config.address));
                };
                slot.config = config.clone();
            }
            Operation::DeleteDestination { service, address } => {
                let found = self.find(service)?;
                let Some(place) = position(found, *address) else {
                    return Err(refuse::no_destination(service, *address));
                };
                found.destinations.remove(place);
            }
            Operation::SetHealth {
                service,
                address,
                health,
            } => {
                let found = self.find(service)?;
                let place = position(found, *address);
                let Some(slot) = place.and_then(|i| found.destinations.get_mut(i)) else {
                    return Err(refuse::no_destination(service, *address));
                };
                slot.health = *health;
            }
            Operation::Flush {} => self.services.clear(),
            Operation::Zero { service } => self.zero(service.as_ref())?,
            Operation::SetSysctl { name, value } => {
                let setting: Result<Setting, _> = name.parse();
                let checked = setting.and_then(|setting| setting.check(*value));
                checked.map_err(|error| refuse::setting(&error))?;
                for sysctl in self.sysctl.iter_mut().filter(|found| found.name == *name) {
                    sysctl.value = *value;
                }
            }
            Operation::SetMarks { rules } => {
                let checked: Result<Vec<_>, _> = rules.iter().map(marks::to_director).collect();
                self.marks = checked?.iter().map(marks::from_director).collect();
            }
            Operation::SetTimeouts { timeouts } => {
                let keep = |old: &mut u32, new| *old = if new == 0 { *old } else { new };
                keep(&mut self.timeouts.tcp, timeouts.tcp);
                keep(&mut self.timeouts.tcp_fin, timeouts.tcp_fin);
                keep(&mut self.timeouts.udp, timeouts.udp);
            }
            Operation::StartDaemon { config } => self.sync.start(config)?,
            Operation::StopDaemon { role } => self.sync.stop(*role)?,
        }
        Ok(())
    }

    fn find(&mut self, key: &ServiceKey) -> Result<&mut ServiceStatus, Refusal> {
        let mut all = self.services.iter_mut();
        all.find(|service| service.config.key == *key)
            .ok_or_else(|| refuse::no_service(key))
    }

    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Refusal> {
        if let Some(key) = key {
            self.find(key)?;
        } else {
            self.totals = Totals::default();
        }
        let wanted = |s: &&mut ServiceStatus| key.is_none_or(|key| s.config.key == *key);
        for service in self.services.iter_mut().filter(wanted) {
            service.counters = Counters::default();
            service.rates = Rates::default();
            for destination in &mut service.destinations {
                destination.counters = Counters::default();
                destination.rates = Rates::default();
            }
        }
        Ok(())
    }
}

fn position(service: &ServiceStatus, address: Endpoint) -> Option<usize> {
    let mut all = service.destinations.iter();
    all.position(|destination| destination.config.address == address)
}

fn check_service(config: &Service) -> Result<(), Refusal> {
    let name = config.scheduler.as_str();
    if name.len() > MAX_NAME || !lvs_sched::NAMES.contains(&name) {
        return Err(refuse::no_scheduler(name));
    }
    if let Some(engine) = &config.engine
        && !ENGINES.contains(&engine.as_str())
    {
        return Err(refuse::no_engine(engine));
    }
    Ok(())
}

fn check_destination(service: &ServiceKey, config: &Destination) -> Result<(), Refusal> {
    if config.weight > MAX_WEIGHT {
        return Err(Refusal::new(
            Errno::Range,
            format!("the weight {} is over {MAX_WEIGHT}", config.weight),
        ));
    }
    let (upper, lower) = (config.upper_threshold, config.lower_threshold);
    if lower > upper {
        return Err(refuse::thresholds(upper, lower));
    }
    let mixed = service.family() != config.address.addr.family();
    if mixed && config.method != Method::Tun {
        return Err(Refusal::new(
            Errno::Invalid,
            "only a tunnel can lead to a server of the other address family",
        ));
    }
    if let Tunnel::Gue { port: 0, .. } = config.tunnel {
        return Err(Refusal::new(Errno::Invalid, "a GUE tunnel needs a port"));
    }
    Ok(())
}

fn check_address(address: Endpoint) -> Result<(), Refusal> {
    if !address.addr.may_be_server() {
        return Err(refuse::not_unicast(address));
    }
    Ok(())
}

/// The kernel's hash bucket; marks follow all addresses (IPVS 0.1).
pub(super) fn bucket(key: &ServiceKey) -> (bool, u32) {
    match key {
        ServiceKey::Endpoint { protocol, vip } => {
            let port = u32::from(vip.port);
            let hash = u32::from(protocol.number()) ^ vip.addr.fold() ^ (port >> 8) ^ port;
            (false, hash & 255)
        }
        ServiceKey::FwMark { mark, .. } => (true, mark & 255),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_api::key;

    fn run(director: &Memory, json: &str) -> Result<(), Errno> {
        let operation = serde_json::from_str(json).unwrap();
        director.apply(&operation).map_err(|refusal| refusal.errno)
    }

    fn destination(director: &Memory, op: &str, more: &str) -> Result<(), Errno> {
        let json = format!(
            r#"{{"op":"{op}","service":"tcp://192.0.2.10:80","config":{{"method":"nat",{more}}}}}"#
        );
        run(director, &json)
    }

    #[test]
    fn the_kernels_errors() {
        let director = Memory::new();
        let service = |op: &str, scheduler: &str| {
            run(
                &director,
                &format!(
                    r#"{{"op":"{op}","config":{{"service":"tcp://192.0.2.10:80","scheduler":"{scheduler}"}}}}"#
                ),
            )
        };
        assert_eq!(service("edit_service", "rr"), Err(Errno::NoService));
        assert_eq!(service("add_service", "bogus"), Err(Errno::NotFound));
        assert_eq!(service("add_service", "none"), Ok(()));
        assert_eq!(service("add_service", "rr"), Err(Errno::Exists));
        let add = |more: &str| destination(&director, "add_destination", more);
        assert_eq!(add(r#""address":"10.0.0.1:80""#), Ok(()));
        assert_eq!(add(r#""address":"10.0.0.1:80""#), Err(Errno::Exists));
        assert_eq!(add(r#""address":"224.0.0.1:80""#), Err(Errno::Invalid));
        assert_eq!(add(r#""address":"[fd00::1]:80""#), Err(Errno::Invalid));
        assert_eq!(
            add(r#""address":"10.0.0.2:80","upper_threshold":1,"lower_threshold":2"#),
            Err(Errno::Range)
        );
        assert_eq!(
            add(r#""address":"10.0.0.2:80","weight":2147483648"#),
            Err(Errno::Range)
        );
        let edit = destination(&director, "edit_destination", r#""address":"10.0.0.9:80""#);
        assert_eq!(edit, Err(Errno::NotFound));
        let missing = r#"{"op":"zero","service":"tcp://192.0.2.10:81"}"#;
        assert_eq!(run(&director, missing), Err(Errno::NoService));
    }

    #[test]
    fn a_refused_transaction_leaves_no_trace() {
        let director = Memory::new();
        let key = key::parse("tcp://192.0.2.10:80").unwrap();
        let add = Operation::AddService {
            config: Service::new(key, "rr"),
        };
        let (place, refusal) = director.transaction(&[add.clone(), add]).unwrap_err();
        assert_eq!((place, refusal.errno), (1, Errno::Exists));
        assert!(director.services().is_empty());
    }
}
