//! Looking ahead: whether a list of changes can be made, each upon those before it. Changes nothing;
//! what it lets pass is made without another question.

use crate::change::Change;
use crate::checks::{check_address, check_destination, check_service, endpoint};
use crate::error::RuleError;
use crate::marks::Marks;
use crate::rules::{Rules, Service};
use ahash::RandomState;
use hashbrown::{HashMap, HashSet};
use lvs_core::{
    Addr, DestinationSpec, Endpoint, ForwardMethod, LocalAddresses, ServiceKey, ServiceSpec,
};

/// The keys of services, the endpoints of their destinations, and what FULLNAT needs to know.
struct Outline<'a> {
    rules: &'a Rules,
    /// Whether the running services are gone.
    flushed: bool,
    /// Services that the changes touched: `None` once deleted.
    touched: HashMap<ServiceKey, Option<Known<'a>>, RandomState>,
    /// The one that the last change was about, which the next one likely is about too.
    last: Option<(ServiceKey, Option<Known<'a>>)>,
    /// Addresses of services, and local addresses, that the changes bring.
    vips: HashSet<Addr, RandomState>,
    locals: HashSet<Addr, RandomState>,
    /// Addresses of destinations, those of the changes included; not before somebody asks.
    servers: Option<HashSet<Addr, RandomState>>,
}

/// What matters of a service.
struct Known<'a> {
    /// As it runs, if it does.
    running: Option<(&'a Rules, &'a Service)>,
    /// Destinations that the changes touched, and whether each depends on the service's local
    /// addresses; `None` once deleted.
    touched: Vec<(Endpoint, Option<Needy>)>,
    /// Once they are many: all destinations.
    all: Option<HashMap<Endpoint, Needy, RandomState>>,
    count: usize,
    /// How many its scheduler has room for.
    room: usize,
    has_locals: bool,
}

/// Whether a destination is one by FULLNAT without a local address of its own.
type Needy = bool;

fn is_needy(method: ForwardMethod, local: &LocalAddresses) -> Needy {
    method == ForwardMethod::FullNat && local.is_empty()
}

impl<'a> Known<'a> {
    fn new(spec: &ServiceSpec<'_>) -> Self {
        Self {
            running: None,
            touched: Vec::new(),
            all: None,
            count: 0,
            room: room(spec.scheduler),
            has_locals: !spec.local.is_empty(),
        }
    }

    fn running(rules: &'a Rules, service: &'a Service) -> Self {
        Self {
            running: Some((rules, service)),
            touched: Vec::new(),
            all: None,
            count: service.pool.backends().len(),
            room: service.pool.capacity(),
            has_locals: !service.local.is_empty(),
        }
    }

    /// The destination at an endpoint, if there is one.
    fn get(&self, endpoint: Endpoint) -> Option<Needy> {
        if let Some(all) = &self.all {
            return all.get(&endpoint).copied();
        }
        let mut touched = self.touched.iter();
        if let Some((_, now)) = touched.find(|(known, _)| *known == endpoint) {
            return *now;
        }
        let (rules, service) = self.running?;
        let mut backends = service.pool.backends().iter();
        let found = backends.find(|backend| backend.endpoint() == endpoint)?;
        let terms = &rules.destination(found.id())?.spec;
        Some(is_needy(terms.method, terms.local()))
    }

    /// Puts a destination at an endpoint, or takes it away.
    fn put(&mut self, endpoint: Endpoint, now: Option<Needy>) {
        /// Up to this many are looked through.
        const FEW: usize = 32;
        if let Some(all) = &mut self.all {
            match now {
                Some(needy) => all.insert(endpoint, needy),
                None => all.remove(&endpoint),
            };
            return;
        }
        let mut touched = self.touched.iter_mut();
        match touched.find(|(known, _)| *known == endpoint) {
            Some((_, known)) => *known = now,
            None => self.touched.push((endpoint, now)),
        }
        if self.touched.len() > FEW {
            self.all = Some(self.destinations().collect());
        }
    }

    /// All destinations as they are by now.
    fn destinations(&self) -> impl Iterator<Item = (Endpoint, Needy)> {
        let running = self.running.filter(|_| self.all.is_none());
        let running = running.into_iter().flat_map(|(rules, service)| {
            let all = rules.destinations_in(service);
            all.map(|found| {
                let terms = &found.spec;
                (terms.endpoint, is_needy(terms.method, terms.local()))
            })
        });
        let untouched = running.filter(|(endpoint, _)| {
            let mut touched = self.touched.iter();
            !touched.any(|(known, _)| known == endpoint)
        });
        let touched = self.touched.iter().filter(|_| self.all.is_none());
        let touched = touched.filter_map(|&(endpoint, now)| Some((endpoint, now?)));
        let all = self.all.iter().flatten();
        all.map(|(endpoint, needy)| (*endpoint, *needy))
            .chain(untouched)
            .chain(touched)
    }

    fn add(&mut self, key: &ServiceKey, spec: &DestinationSpec) -> Result<(), RuleError> {
        let endpoint = check_destination(key, spec)?;
        if self.get(endpoint).is_some() {
            return Err(RuleError::DestinationExists(*key, endpoint));
        }
        self.check_new(key, spec, endpoint)?;
        self.put(endpoint, Some(is_needy(spec.method, &spec.local)));
        Ok(())
    }

    /// What is asked of a destination that is not there yet.
    fn check_new(
        &mut self,
        key: &ServiceKey,
        spec: &DestinationSpec,
        endpoint: Endpoint,
    ) -> Result<(), RuleError> {
        check_address(spec)?;
        self.check_needs(key, spec, endpoint)?;
        if self.count >= self.room {
            return Err(TOO_MANY);
        }
        self.count += 1;
        Ok(())
    }

    fn edit(&mut self, key: &ServiceKey, spec: &DestinationSpec) -> Result<(), RuleError> {
        let endpoint = check_destination(key, spec)?;
        if self.get(endpoint).is_none() {
            return Err(RuleError::NoSuchDestination(*key, endpoint));
        }
        self.check_needs(key, spec, endpoint)?;
        self.put(endpoint, Some(is_needy(spec.method, &spec.local)));
        Ok(())
    }

    fn check_needs(
        &self,
        key: &ServiceKey,
        spec: &DestinationSpec,
        endpoint: Endpoint,
    ) -> Result<(), RuleError> {
        if !self.has_locals && is_needy(spec.method, &spec.local) {
            return Err(RuleError::NoLocalAddress(*key, endpoint));
        }
        Ok(())
    }

    /// `stays`: whether the destination at an endpoint is not about to become another or to go.
    fn edit_service(
        &mut self,
        spec: &ServiceSpec<'_>,
        stays: impl Fn(Endpoint) -> bool,
    ) -> Result<(), RuleError> {
        check_service(spec)?;
        self.has_locals = !spec.local.is_empty();
        if !self.has_locals {
            let mut needy = self.destinations().filter(|(_, needy)| *needy);
            if let Some((endpoint, _)) = needy.find(|(endpoint, _)| stays(*endpoint)) {
                return Err(RuleError::NoLocalAddress(spec.key, endpoint));
            }
        }
        self.room = room(spec.scheduler);
        if self.count > self.room {
            return Err(TOO_MANY);
        }
        Ok(())
    }
}

const BOTH: &str = "is a service's address too; give FULLNAT one of its own";

const SERVERS: &str = "is a server's address too; give FULLNAT one of its own";

const TOO_MANY: RuleError = RuleError::Invalid(
    "the service has more destinations than its scheduler's table has slots (`mh`, `mhbl`: 4093); \
     take fewer, or another scheduler",
);

fn room(scheduler: &str) -> usize {
    lvs_sched::capacity(scheduler).unwrap_or(usize::MAX)
}

impl<'a> Outline<'a> {
    /// Before the first of these changes.
    fn about(rules: &'a Rules, changes: &[Change<'_>]) -> Self {
        let mut outline = Self {
            rules,
            flushed: false,
            touched: HashMap::default(),
            last: None,
            vips: HashSet::default(),
            locals: HashSet::default(),
            servers: None,
        };
        if changes.iter().any(|change| !change.locals().is_empty()) {
            outline.watch_servers();
        }
        outline
    }

    /// Has the addresses of the destinations that the changes bring taken down from here on.
    fn watch_servers(&mut self) {
        let running = self.rules.services();
        let running = running.flat_map(|service| self.rules.destinations_in(service));
        self.servers = Some(running.map(|found| found.spec.endpoint.addr).collect());
    }

    fn service(&mut self, key: &ServiceKey) -> &mut Option<Known<'a>> {
        let last = match self.last.take() {
            Some(last) if last.0 == *key => last.1,
            last => {
                self.touched.extend(last);
                let known = self.touched.remove(key);
                known.unwrap_or_else(|| {
                    let running = self.rules.service(key).filter(|_| !self.flushed)?;
                    Some(Known::running(self.rules, running))
                })
            }
        };
        &mut self.last.insert((*key, last)).1
    }

    fn existing(&mut self, key: &ServiceKey) -> Result<&mut Known<'a>, RuleError> {
        self.service(key)
            .as_mut()
            .ok_or(RuleError::NoSuchService(*key))
    }

    /// An address is a service's or a local one, never both: its packets could not be told apart.
    fn check_apart(&mut self, spec: &ServiceSpec<'_>) -> Result<(), RuleError> {
        if let ServiceKey::Endpoint { vip, .. } = spec.key {
            if self.is_local(vip.addr) {
                return Err(RuleError::LocalService(spec.key));
            }
            self.vips.insert(vip.addr);
        }
        self.check_locals(&spec.key, &spec.local)
    }

    fn check_locals(&mut self, key: &ServiceKey, locals: &LocalAddresses) -> Result<(), RuleError> {
        for addr in locals.iter() {
            if self.rules.has_service_at(addr) || self.vips.contains(&addr) {
                return Err(RuleError::LocalAddress(*key, addr, BOTH));
            }
            if self.is_local(addr) {
                continue;
            }
            if self.servers.as_ref().is_some_and(|all| all.contains(&addr)) {
                return Err(RuleError::LocalAddress(*key, addr, SERVERS));
            }
            self.locals.insert(addr);
        }
        Ok(())
    }

    fn is_local(&self, addr: Addr) -> bool {
        self.rules.is_pooled(addr) || self.locals.contains(&addr)
    }

    /// Nor is it a server's: whose packet would one from there be?
    fn check_server(&mut self, key: &ServiceKey, spec: &DestinationSpec) -> Result<(), RuleError> {
        let Endpoint { addr, .. } = spec.endpoint;
        if self.is_local(addr) {
            return Err(RuleError::LocalServer(*key, spec.endpoint));
        }
        if let Some(servers) = &mut self.servers {
            servers.insert(addr);
        }
        Ok(())
    }

    fn perform(&mut self, change: &Change<'_>) -> Result<(), RuleError> {
        match *change {
            Change::AddService(spec) => {
                let service = self.service(&spec.key);
                if service.is_some() {
                    return Err(RuleError::ServiceExists(spec.key));
                }
                check_service(spec)?;
                *service = Some(Known::new(spec));
                self.check_apart(spec)?;
            }
            Change::EditService(spec) => {
                self.existing(&spec.key)?.edit_service(spec, |_| true)?;
                self.check_apart(spec)?;
            }
            Change::DeleteService(key) => {
                self.existing(key)?;
                *self.service(key) = None;
            }
            Change::AddDestination(key, spec) => {
                self.existing(key)?.add(key, spec)?;
                self.check_server(key, spec)?;
                self.check_locals(key, &spec.local)?;
            }
            Change::EditDestination(key, spec, _) => {
                self.existing(key)?.edit(key, spec)?;
                self.check_locals(key, &spec.local)?;
            }
            Change::DeleteDestination(key, endpoint, _) => {
                let known = self.existing(key)?;
                if known.get(endpoint).is_none() {
                    return Err(RuleError::NoSuchDestination(*key, endpoint));
                }
                known.put(endpoint, None);
                known.count = known.count.saturating_sub(1);
            }
            Change::SetHealth(key, endpoint, _) => {
                if self.existing(key)?.get(endpoint).is_none() {
                    return Err(RuleError::NoSuchDestination(*key, endpoint));
                }
            }
            Change::Zero(None) => {}
            Change::Zero(Some(key)) => {
                self.existing(key)?;
            }
            Change::SetMarks(rules) => {
                Marks::new(rules)?;
            }
            Change::Flush => {
                (self.flushed, self.last) = (true, None);
                self.touched.clear();
            }
        }
        Ok(())
    }
}

/// A check of what a difference consists of: each change is about a service or a destination of its own,
/// which is there if it is changed or deleted and is not if it is added, and those of one service come
/// in a row. So nothing is looked for, and nothing remembered for later.
impl<'a> Outline<'a> {
    /// The service at hand.
    fn at_hand(&mut self, key: &ServiceKey) -> Result<&mut Known<'a>, RuleError> {
        if self.last.as_ref().is_none_or(|(last, _)| last != key) {
            let running = self.rules.service(key);
            let known = running.map(|running| Known::running(self.rules, running));
            self.last = Some((*key, known));
        }
        let known = self.last.as_mut().and_then(|(_, known)| known.as_mut());
        known.ok_or(RuleError::NoSuchService(*key))
    }

    /// `rest` are the changes after it.
    fn perform_distinct(
        &mut self,
        change: &Change<'_>,
        rest: &[Change<'_>],
    ) -> Result<(), RuleError> {
        match *change {
            Change::AddService(spec) => {
                check_service(spec)?;
                self.last = Some((spec.key, Some(Known::new(spec))));
                self.check_apart(spec)
            }
            Change::EditService(spec) => {
                let stays = |known| {
                    let about = rest.iter().map_while(|change| match *change {
                        Change::AddDestination(key, spec)
                        | Change::EditDestination(key, spec, _) => Some((key, endpoint(key, spec))),
                        Change::DeleteDestination(key, endpoint, _) => Some((key, endpoint)),
                        _ => None,
                    });
                    let mut same = about.take_while(|(key, _)| **key == spec.key);
                    !same.any(|(_, endpoint)| endpoint == known)
                };
                self.at_hand(&spec.key)?.edit_service(spec, stays)?;
                self.check_apart(spec)
            }
            Change::AddDestination(key, spec) => {
                let at = check_destination(key, spec)?;
                self.at_hand(key)?.check_new(key, spec, at)?;
                self.check_server(key, spec)?;
                self.check_locals(key, &spec.local)
            }
            Change::EditDestination(key, spec, _) => {
                let at = check_destination(key, spec)?;
                self.at_hand(key)?.check_needs(key, spec, at)?;
                self.check_locals(key, &spec.local)
            }
            Change::DeleteDestination(key, ..) => {
                let known = self.at_hand(key)?;
                known.count = known.count.saturating_sub(1);
                Ok(())
            }
            // Of the others there is only the deletion of services, which are there.
            _ => Ok(()),
        }
    }
}

/// The first change that would be refused.
pub(crate) fn check(rules: &Rules, changes: &[Change<'_>]) -> Result<(), (usize, RuleError)> {
    let mut outline = Outline::about(rules, changes);
    let mut changes = changes.iter().enumerate();
    changes.try_for_each(|(place, change)| outline.perform(change).map_err(|error| (place, error)))
}

/// The first change of a difference that would be refused.
pub(crate) fn check_difference(
    rules: &Rules,
    changes: &[Change<'_>],
) -> Result<(), (usize, RuleError)> {
    let mut outline = Outline::about(rules, changes);
    let mut rest = changes.iter();
    while let Some(change) = rest.next() {
        let performed = outline.perform_distinct(change, rest.as_slice());
        performed.map_err(|error| (changes.len() - rest.len() - 1, error))?;
    }
    Ok(())
}
