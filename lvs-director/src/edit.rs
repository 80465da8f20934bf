//! An edit of the rules: a snapshot that changes beside the running one until it is published.
//!
//! In: operations, already looked through as a whole by `plan`. Out: the new snapshot, published by one
//! store, or nothing. Schedulers hear of the new destinations of a service once, however many there are.

use crate::checks::{check_address, check_destination, check_service, unknown_scheduler};
use crate::control::Operation;
use crate::director::{Control, Director};
use crate::error::RuleError;
use crate::listing::total_of_service;
use crate::marks::Marks;
use crate::removal::Leaving;
use crate::rules::{Destination, History, Rules, Service};
use crate::settings::Setting;
use crate::stats::Estimator;
use lvs_conn::DestinationId;
use lvs_core::{
    Counters, DestinationSpec, Endpoint, ForwardMethod, OnRemoval, ServiceKey, ServiceSpec, Tick,
};
use lvs_sched::{Backend, EditError, Pool};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// A snapshot in the making. Each operation looks first and changes then, so that a refused one
/// has changed nothing.
pub(crate) struct Edit<'a> {
    director: &'a Director,
    control: &'a mut Control,
    pub(crate) rules: Rules,
    /// The service that the last operation was about, not yet in `rules`.
    open: Option<Open>,
    /// Whether it adds a destination.
    adds: bool,
}

/// A service that is being edited. Operations on one service mostly come in a row, and its
/// scheduler's tables need not be built for each.
struct Open {
    service: Service,
    /// Destinations that its scheduler does not know yet.
    added: Vec<Arc<Backend>>,
}

impl Open {
    const fn new(service: Service) -> Self {
        Self {
            service,
            added: Vec::new(),
        }
    }

    /// Tells the scheduler of the new destinations.
    fn settle(&mut self) -> Result<(), RuleError> {
        if self.added.is_empty() {
            return Ok(());
        }
        self.service
            .pool
            .extend(self.added.drain(..))
            .map_err(|error| refused("", error))
    }
}

impl<'a> Edit<'a> {
    pub(crate) fn new(director: &'a Director, control: &'a mut Control) -> Self {
        let rules = Rules::clone(&director.rules.load());
        Self {
            director,
            control,
            rules,
            open: None,
            adds: false,
        }
    }

    pub(crate) fn publish(mut self) -> Result<(), RuleError> {
        self.close()?;
        self.director.publish(self.control, self.rules);
        if self.adds {
            self.director.adoption.ask();
        }
        Ok(())
    }

    /// Puts the open service into the rules.
    fn close(&mut self) -> Result<(), RuleError> {
        if let Some(mut open) = self.open.take() {
            open.settle()?;
            self.rules.put_service(open.service);
        }
        Ok(())
    }

    /// A service to edit, to be put back into `open`.
    fn take(&mut self, key: &ServiceKey) -> Result<Open, RuleError> {
        match self.open.take_if(|open| open.service.key == *key) {
            Some(open) => Ok(open),
            None => {
                self.close()?;
                Ok(Open::new(self.service(key)?))
            }
        }
    }

    /// The same with all of its destinations known to its scheduler.
    fn take_settled(&mut self, key: &ServiceKey) -> Result<Open, RuleError> {
        let mut open = self.take(key)?;
        open.settle()?;
        Ok(open)
    }

    pub(crate) fn perform(&mut self, operation: &Operation<'_>) -> Result<(), RuleError> {
        match operation {
            Operation::AddService(spec) => self.add_service(spec),
            Operation::EditService(spec) => self.edit_service(spec),
            Operation::DeleteService(key) => self.delete_service(key),
            Operation::AddDestination(key, spec) => self.add_destination(key, spec),
            Operation::EditDestination(key, spec) => self.edit_destination(key, spec),
            Operation::DeleteDestination(key, endpoint) => self.delete_destination(key, *endpoint),
            Operation::Flush => {
                self.close()?;
                let keys: Vec<_> = self.rules.services().map(|service| service.key).collect();
                keys.iter().try_for_each(|key| self.delete_service(key))
            }
            Operation::Zero(key) => self.zero(key.as_ref()),
            Operation::SetMarks(rules) => {
                self.rules.marks = Arc::new(Marks::new(rules)?);
                Ok(())
            }
        }
    }

    fn service(&self, key: &ServiceKey) -> Result<Service, RuleError> {
        let service = self
            .rules
            .service(key)
            .ok_or(RuleError::NoSuchService(*key))?;
        Ok(Service::clone(service))
    }

    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), RuleError> {
        self.close()?;
        let Some(key) = key else {
            self.rules
                .services()
                .for_each(|service| zero(&self.rules, service));
            self.control.departed = Counters::default();
            self.control.estimator = Estimator::default();
            return Ok(());
        };
        let service = self
            .rules
            .service(key)
            .ok_or(RuleError::NoSuchService(*key))?;
        // The totals keep what the service no longer shows.
        self.control.departed +=
            total_of_service(&self.rules, service) - service.history.lock().zero;
        zero(&self.rules, service);
        Ok(())
    }

    fn add_service(&mut self, spec: &ServiceSpec<'_>) -> Result<(), RuleError> {
        self.close()?;
        if self.rules.service(&spec.key).is_some() {
            return Err(RuleError::ServiceExists(spec.key));
        }
        check_service(spec)?;
        let pool = Pool::new(spec.scheduler, spec.flags).map_err(|_| unknown_scheduler(spec))?;
        self.open_calls(spec);
        self.open = Some(Open::new(Service {
            key: spec.key,
            persistence: spec.persistence,
            one_packet: spec.one_packet,
            engine: spec.engine,
            local: spec.local,
            tell_client: spec.tell_client,
            on_removal: spec.on_removal,
            pool,
            history: Arc::default(),
        }));
        Ok(())
    }

    /// Room for what an engine remembers, before the first worker needs it.
    fn open_calls(&self, spec: &ServiceSpec<'_>) {
        if spec.engine.is_some() {
            self.director.calls.open(self.director.table.capacity());
        }
    }

    fn edit_service(&mut self, spec: &ServiceSpec<'_>) -> Result<(), RuleError> {
        let mut open = self.take_settled(&spec.key)?;
        check_service(spec)?;
        let service = &mut open.service;
        service
            .pool
            .set_scheduler(spec.scheduler, spec.flags)
            .map_err(|error| refused(spec.scheduler, error))?;
        service.persistence = spec.persistence;
        service.one_packet = spec.one_packet;
        service.engine = spec.engine;
        service.local = spec.local;
        service.tell_client = spec.tell_client;
        service.on_removal = spec.on_removal;
        self.open_calls(spec);
        let destinations: Vec<_> = self.rules.destinations_in(service).cloned().collect();
        for old in destinations {
            let spec = old.spec;
            let new = self.extras(service, Destination::clone(&old), &spec);
            self.rules
                .put_destination(old.id.index, Some(Arc::new(new)));
        }
        self.open = Some(open);
        Ok(())
    }

    fn delete_service(&mut self, key: &ServiceKey) -> Result<(), RuleError> {
        self.close()?;
        let service = self.service(key)?;
        let destinations: Vec<_> = self.rules.destinations_in(&service).cloned().collect();
        for destination in destinations {
            // Its scheduler need not hear of it: it goes as well.
            destination.backend.set_available(false);
            self.discard(&service, destination);
        }
        let history = service.history.lock();
        self.control.departed += history.departed - history.zero;
        self.rules.remove_service(key);
        Ok(())
    }

    fn add_destination(
        &mut self,
        key: &ServiceKey,
        spec: &DestinationSpec,
    ) -> Result<(), RuleError> {
        let mut open = self.take(key)?;
        let spec = &check_destination(key, spec)?;
        let service = &open.service;
        if self.rules.destination_at(service, spec.endpoint).is_some()
            || open.added.iter().any(|b| b.endpoint() == spec.endpoint)
        {
            return Err(RuleError::DestinationExists(*key, spec.endpoint));
        }
        check_address(spec)?;
        let destination = match self.control.trash.revive(key, spec.endpoint) {
            Some(old) => {
                // Its counts go on with the service object; with a new service they begin anew.
                let now = old.counters.sum();
                if Arc::ptr_eq(&service.history, &old.service_history) {
                    let counted = now - old.history.lock().birth;
                    let mut history = service.history.lock();
                    history.departed = history.departed - counted;
                } else {
                    *old.history.lock() = History {
                        birth: now,
                        zero: now,
                        ..History::default()
                    };
                }
                Destination {
                    spec: *spec,
                    service_history: Arc::clone(&service.history),
                    leaving: None,
                    ..Destination::clone(&old)
                }
            }
            None => self.new_destination(service, spec)?,
        };
        let destination = self.extras(service, destination, spec);
        let backend = &destination.backend;
        backend.reset_weight(spec.weight);
        backend.set_thresholds(spec.thresholds);
        open.added.push(Arc::clone(backend));
        self.rules
            .put_destination(destination.id.index, Some(Arc::new(destination)));
        self.adds = true;
        self.open = Some(open);
        Ok(())
    }

    fn new_destination(
        &mut self,
        service: &Service,
        spec: &DestinationSpec,
    ) -> Result<Destination, RuleError> {
        let index = match self.control.free.pop() {
            Some(index) => index,
            None => {
                let index = self.control.next_index;
                self.control.next_index = index
                    .checked_add(1)
                    .ok_or(RuleError::OutOfRange("there are too many destinations"))?;
                index
            }
        };
        self.control.generation = self.control.generation.wrapping_add(1);
        Ok(Destination {
            id: DestinationId {
                index,
                generation: self.control.generation,
            },
            service: service.key,
            spec: *spec,
            backend: Backend::new(index, spec.endpoint, spec.weight, spec.thresholds),
            counters: self.director.sharded(),
            locals: Arc::default(),
            leaving: None,
            templates: Arc::default(),
            history: Arc::default(),
            path_mtu: Arc::default(),
            service_history: Arc::clone(&service.history),
        })
    }

    /// What a destination has from its service and its own definition together: local addresses, and
    /// whether it is on its way out.
    fn extras(
        &self,
        service: &Service,
        destination: Destination,
        spec: &DestinationSpec,
    ) -> Destination {
        let local = match spec.local.is_empty() {
            true => &service.local,
            false => &spec.local,
        };
        let locals = match spec.method {
            ForwardMethod::FullNat => self.director.locals.towards(spec.endpoint.addr, local),
            _ => Arc::default(),
        };
        let leaving = match spec.weight {
            0 => self.leaving(service, spec, destination.leaving),
            _ => None,
        };
        Destination {
            locals,
            leaving,
            ..destination
        }
    }

    /// What becomes of the connections of a destination that leaves now, or has left before.
    fn leaving(
        &self,
        service: &Service,
        spec: &DestinationSpec,
        before: Option<Leaving>,
    ) -> Option<Leaving> {
        let policy = spec.on_removal.unwrap_or(service.on_removal);
        let now = Tick(self.director.clock.load(Relaxed));
        let since = before.map_or(now, |before| before.since);
        (policy != OnRemoval::Drain).then_some(Leaving { policy, since })
    }

    fn edit_destination(
        &mut self,
        key: &ServiceKey,
        spec: &DestinationSpec,
    ) -> Result<(), RuleError> {
        let mut open = self.take_settled(key)?;
        let spec = &check_destination(key, spec)?;
        let service = &mut open.service;
        let old = self
            .rules
            .destination_at(service, spec.endpoint)
            .ok_or(RuleError::NoSuchDestination(*key, spec.endpoint))?;
        let destination = Destination {
            spec: *spec,
            ..Destination::clone(old)
        };
        let destination = self.extras(service, destination, spec);
        destination.backend.set_weight(spec.weight);
        destination.backend.set_thresholds(spec.thresholds);
        service.pool.updated(&destination.backend);
        self.rules
            .put_destination(destination.id.index, Some(Arc::new(destination)));
        self.open = Some(open);
        Ok(())
    }

    fn delete_destination(
        &mut self,
        key: &ServiceKey,
        endpoint: Endpoint,
    ) -> Result<(), RuleError> {
        let mut open = self.take_settled(key)?;
        let service = &mut open.service;
        let destination = Arc::clone(
            self.rules
                .destination_at(service, endpoint)
                .ok_or(RuleError::NoSuchDestination(*key, endpoint))?,
        );
        service.pool.remove(&destination.backend);
        self.discard(&open.service, destination);
        self.open = Some(open);
        Ok(())
    }

    /// What becomes of a destination that is out of service.
    fn discard(&mut self, service: &Service, destination: Arc<Destination>) {
        if self.director.settings.is_on(Setting::ExpireNodestConn) {
            // Release: the collector that sees it sees the destination unavailable.
            self.director.sweep_asked.store(true, Release);
        }
        let counted = destination.counters.sum() - destination.history.lock().birth;
        service.history.lock().departed += counted;
        // The index keeps the destination until no connection holds it: `Director::tick`.
        let destination = match self.leaving(service, &destination.spec, destination.leaving) {
            None => destination,
            leaving => {
                let left = Arc::new(Destination {
                    leaving,
                    ..Destination::clone(&destination)
                });
                let index = left.id.index;
                self.rules.put_destination(index, Some(Arc::clone(&left)));
                left
            }
        };
        self.control.trash.push(destination);
    }
}

fn zero(rules: &Rules, service: &Service) {
    let total = total_of_service(rules, service);
    let mut history = service.history.lock();
    history.zero = total;
    history.estimator.zero();
    for destination in rules.destinations_in(service) {
        let mut history = destination.history.lock();
        history.zero = destination.counters.sum();
        history.estimator.zero();
    }
}

fn refused(scheduler: &str, error: EditError) -> RuleError {
    match error {
        EditError::UnknownScheduler => RuleError::UnknownScheduler(scheduler.to_owned()),
        EditError::TooManyBackends => RuleError::Invalid(
            "the scheduler's table has fewer slots than the service destinations",
        ),
        _ => RuleError::Invalid("the scheduler refused the change"),
    }
}
