//! An edit of the rules: a snapshot that changes beside the running one until it is published.
//!
//! In: changes that `plan` has let pass, so that each of them can be made. Out: the new snapshot,
//! published by one store; but weights and thresholds, which the running snapshot shares, count at once.
//! Schedulers hear of all changes of a service at once, however many there are.

use crate::change::{Change, Known};
use crate::checks;
use crate::destination::{Destination, Home, Terms};
use crate::director::{Control, Director};
use crate::listing::total_of_service;
use crate::locals::Pairs;
use crate::marks::Marks;
use crate::removal::Leaving;
use crate::rules::{Rules, Service};
use crate::settings::Setting;
use crate::stats::Estimator;
use crate::trash::{Bin, Trash};
use lvs_conn::DestinationId;
use lvs_core::{
    Counters, DestinationSpec, Endpoint, ForwardMethod, Health, OnRemoval, ServiceKey, ServiceSpec,
    Thresholds, Tick,
};
use lvs_sched::{Backend, Draft, Pool};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// A snapshot in the making. What cannot be made, because nobody has looked ahead, is left out.
pub(crate) struct Edit<'a> {
    director: &'a Director,
    control: &'a mut Control,
    rules: Rules,
    /// FULLNAT's ports, if any were asked for.
    pairs: Option<Pairs>,
    /// The service that the last change was about, not yet in `rules`.
    open: Option<Box<Open>>,
    /// Whether destinations came into service, and whether some went out of it.
    adds: bool,
    discards: bool,
}

/// A service that is being edited. Changes of one service mostly come in a row, and its scheduler's
/// tables need not be built for each.
struct Open {
    service: Service,
    /// Its pool as it will be; that of `service` is the one before.
    draft: Draft,
    /// What was deleted from it.
    bin: Bin,
}

impl Open {
    fn new(service: Service, trash: &mut Trash) -> Box<Self> {
        let draft = Draft::new(service.pool.clone());
        let bin = trash.take(&service.key);
        Box::new(Self {
            service,
            draft,
            bin,
        })
    }

    /// The number of the destination at an endpoint.
    fn find(&self, endpoint: Endpoint, known: Known) -> Option<u32> {
        if known.is_some() {
            return known;
        }
        let mut backends = self.draft.backends().iter();
        let found = backends.find(|backend| backend.endpoint() == endpoint)?;
        Some(found.id())
    }
}

impl<'a> Edit<'a> {
    /// Before so many changes.
    pub(crate) fn new(director: &'a Director, control: &'a mut Control, changes: usize) -> Self {
        let mut rules = Rules::clone(&director.rules.load());
        rules.expect(changes);
        Self {
            director,
            control,
            rules,
            pairs: None,
            open: None,
            adds: false,
            discards: false,
        }
    }

    /// Makes the outcome of so many changes the rules.
    pub(crate) fn publish(mut self, changes: usize) {
        self.close();
        if let Some(pairs) = self.pairs {
            // Before the rules: a port that a worker takes is one that can be given back.
            self.director.locals.publish(pairs);
        }
        self.director.publish(self.control, self.rules, changes);
        if self.adds {
            self.director.adoption.ask();
        }
        if self.discards && self.director.settings.is_on(Setting::ExpireNodestConn) {
            // Release: the collector that sees it sees the destinations unavailable.
            self.director.sweep_asked.store(true, Release);
        }
    }

    /// Puts the open service into the rules.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let Open {
            mut service,
            draft,
            bin,
        } = *open;
        self.control.trash.put(service.key, bin);
        let finished = draft.finish();
        debug_assert!(finished.is_ok(), "{finished:?}");
        if let Ok(pool) = finished {
            service.pool = pool;
        }
        self.rules.put_service(service);
    }

    /// A service to edit, to be put back into `open`.
    fn take(&mut self, key: &ServiceKey) -> Option<Box<Open>> {
        let open = self.open.take_if(|open| open.service.key == *key);
        open.or_else(|| {
            self.close();
            let service = self.rules.service(key);
            service.map(|service| Open::new(Service::clone(service), &mut self.control.trash))
        })
    }

    pub(crate) fn make(&mut self, change: &Change<'_>) {
        match *change {
            Change::AddService(spec) => self.add_service(spec),
            Change::EditService(spec) => self.edit_service(spec),
            Change::DeleteService(key) => {
                self.close();
                self.delete_service(key);
            }
            Change::AddDestination(key, spec) => self.add_destination(key, spec),
            Change::EditDestination(key, spec, known) => self.edit_destination(key, spec, known),
            Change::DeleteDestination(key, endpoint, known) => {
                self.delete_destination(key, endpoint, known);
            }
            Change::SetHealth(key, endpoint, health) => {
                if let Some(mut open) = self.take(key) {
                    let found = open.find(endpoint, None);
                    let change = |old| Destination { health, ..old };
                    self.change_destination(&mut open, found, None, change);
                    self.open = Some(open);
                }
            }
            Change::Flush => {
                self.close();
                let keys: Vec<_> = self.rules.services().map(|service| service.key).collect();
                keys.iter().for_each(|key| self.delete_service(key));
            }
            Change::Zero(key) => self.zero(key),
            Change::SetMarks(rules) => {
                if let Ok(marks) = Marks::new(rules) {
                    self.rules.marks = Arc::new(marks);
                }
            }
        }
    }

    fn zero(&mut self, key: Option<&ServiceKey>) {
        self.close();
        let Some(key) = key else {
            self.rules
                .services()
                .for_each(|service| zero(&self.rules, service));
            self.control.departed = Counters::default();
            self.control.estimator = Estimator::default();
            return;
        };
        if let Some(service) = self.rules.service(key) {
            // The totals keep what the service no longer shows.
            self.control.departed +=
                total_of_service(&self.rules, service) - service.home.history.lock().zero;
            zero(&self.rules, service);
        }
    }

    fn add_service(&mut self, spec: &ServiceSpec<'_>) {
        self.close();
        let Ok(pool) = Pool::new(spec.scheduler, spec.flags) else {
            return;
        };
        self.open_calls(spec);
        let service = Service {
            key: spec.key,
            persistence: spec.persistence,
            one_packet: spec.one_packet,
            engine: spec.engine,
            local: spec.local,
            tell_client: spec.tell_client,
            on_removal: spec.on_removal,
            pool,
            home: Arc::new(Home::new(spec.key)),
        };
        self.open = Some(Open::new(service, &mut self.control.trash));
    }

    /// Room for what an engine remembers, before the first worker needs it.
    fn open_calls(&self, spec: &ServiceSpec<'_>) {
        if spec.engine.is_some() {
            self.director.calls.open(self.director.table.capacity());
        }
    }

    fn edit_service(&mut self, spec: &ServiceSpec<'_>) {
        let Some(open) = self.take(&spec.key) else {
            return;
        };
        let Open {
            service,
            draft,
            bin,
        } = *open;
        let Ok(draft) = draft.set_scheduler(spec.scheduler, spec.flags) else {
            self.control.trash.put(service.key, bin);
            return;
        };
        let service = Service {
            persistence: spec.persistence,
            one_packet: spec.one_packet,
            engine: spec.engine,
            local: spec.local,
            tell_client: spec.tell_client,
            on_removal: spec.on_removal,
            ..service
        };
        self.open_calls(spec);
        for backend in draft.backends() {
            if let Some(old) = self.rules.destination(backend.id()).cloned() {
                let new = self.extras(&service, Destination::clone(&old));
                self.rules
                    .put_destination(old.id.index, Some(Arc::new(new)));
            }
        }
        self.open = Some(Box::new(Open {
            service,
            draft,
            bin,
        }));
    }

    fn delete_service(&mut self, key: &ServiceKey) {
        let Some(service) = self.rules.service(key).cloned() else {
            return;
        };
        let mut counted = Counters::default();
        let mut bin = self.control.trash.take(key);
        bin.reserve(service.pool.backends().len());
        for backend in service.pool.backends() {
            // Its scheduler need not hear of it: it goes as well.
            backend.set_available(false);
            if let Some(destination) = self.rules.destination(backend.id()).cloned() {
                counted += destination.counted();
                self.discard(&service, &mut bin, destination);
            }
        }
        self.control.trash.put(*key, bin);
        let history = service.home.history.lock();
        self.control.departed += history.departed + counted - history.zero;
        self.rules.remove_service(key);
    }

    fn add_destination(&mut self, key: &ServiceKey, spec: &DestinationSpec) {
        let Some(mut open) = self.take(key) else {
            return;
        };
        let endpoint = checks::endpoint(key, spec);
        let terms = Terms::new(spec, endpoint);
        let revived = open.bin.revive(endpoint);
        let service = &open.service;
        let destination = match revived {
            Some(old) => {
                self.rules.count_real(&old, true);
                self.rules.renew_tunnel(&old);
                // Its counts go on with the service object; with a new service they begin anew.
                if Arc::ptr_eq(&service.home, &old.home) {
                    let mut history = service.home.history.lock();
                    history.departed = history.departed - old.counted();
                } else {
                    let now = old.counters.sum();
                    old.ledger.restart(now);
                }
                Destination {
                    spec: terms,
                    home: Arc::clone(&service.home),
                    health: Health::Up,
                    leaving: None,
                    ..Destination::clone(&old)
                }
            }
            None => self.new_destination(service, terms, spec.thresholds),
        };
        let destination = self.extras(service, destination);
        let backend = &destination.backend;
        backend.reset_weight(spec.weight);
        backend.set_thresholds(spec.thresholds);
        open.draft.add(Arc::clone(backend));
        self.rules
            .put_destination(destination.id.index, Some(Arc::new(destination)));
        self.adds = true;
        self.open = Some(open);
    }

    fn new_destination(
        &mut self,
        service: &Service,
        spec: Terms,
        thresholds: Thresholds,
    ) -> Destination {
        let control = &mut *self.control;
        let index = control.free.pop().unwrap_or_else(|| {
            // Memory has an end long before.
            let index = control.next_index;
            control.next_index = index.saturating_add(1);
            index
        });
        control.generation = control.generation.wrapping_add(1);
        Destination {
            id: DestinationId {
                index,
                generation: control.generation,
            },
            backend: Backend::new(index, spec.endpoint, spec.weight.get(), thresholds),
            spec,
            counters: control.slabs.give(self.director.workers),
            locals: Arc::default(),
            health: Health::Up,
            leaving: None,
            ledger: control.ledgers.give(),
            home: Arc::clone(&service.home),
        }
    }

    /// What a destination has from its service and its own definition together: local addresses, and
    /// whether it is on its way out.
    fn extras(&mut self, service: &Service, destination: Destination) -> Destination {
        let spec = &destination.spec;
        let locals = match spec.method {
            ForwardMethod::FullNat => {
                let local = spec.local.as_deref().unwrap_or(&service.local);
                let pairs = self
                    .pairs
                    .get_or_insert_with(|| self.director.locals.pairs());
                pairs.towards(spec.endpoint.addr, local)
            }
            _ => Arc::default(),
        };
        let leaving = match destination.effective_weight() {
            0 => self.leaving(service, &destination),
            _ => None,
        };
        Destination {
            locals,
            leaving,
            ..destination
        }
    }

    /// What becomes of the connections of a destination that leaves now, or has left before.
    fn leaving(&self, service: &Service, destination: &Destination) -> Option<Leaving> {
        let policy = destination.spec.on_removal.unwrap_or(service.on_removal);
        let now = Tick(self.director.clock.load(Relaxed));
        let since = destination.leaving.map_or(now, |before| before.since);
        (policy != OnRemoval::Drain).then_some(Leaving { policy, since })
    }

    fn edit_destination(&mut self, key: &ServiceKey, spec: &DestinationSpec, known: Known) {
        let Some(mut open) = self.take(key) else {
            return;
        };
        let endpoint = checks::endpoint(key, spec);
        let found = open.find(endpoint, known);
        if !self.weigh(&mut open, found, spec) {
            let change = |old| Destination {
                spec: Terms::new(spec, endpoint),
                ..old
            };
            self.change_destination(&mut open, found, Some(spec.thresholds), change);
        }
        self.open = Some(open);
    }

    /// Gives a destination another weight and thresholds in place, if that is all that becomes
    /// different; whether it is.
    fn weigh(&self, open: &mut Open, found: Known, spec: &DestinationSpec) -> bool {
        let Some(there) = found.and_then(|index| self.rules.destination(index)) else {
            return false;
        };
        let weight = there.effective(spec.weight);
        let leaves = weight == 0 && self.leaving(&open.service, there).is_some();
        if leaves || there.leaving.is_some() || !there.spec.says(spec) {
            return false;
        }
        there.spec.weight.set(spec.weight);
        open.draft.update(&there.backend, |backend| {
            backend.set_weight(weight);
            backend.set_thresholds(spec.thresholds);
        });
        true
    }

    /// Puts another in the place of a destination, about the same parts.
    fn change_destination(
        &mut self,
        open: &mut Open,
        found: Known,
        thresholds: Option<Thresholds>,
        change: impl FnOnce(Destination) -> Destination,
    ) {
        if let Some(old) = found.and_then(|index| self.rules.destination(index)) {
            let changed = change(Destination::clone(old));
            let destination = self.extras(&open.service, changed);
            open.draft.update(&destination.backend, |backend| {
                backend.set_weight(destination.effective_weight());
                if let Some(thresholds) = thresholds {
                    backend.set_thresholds(thresholds);
                }
            });
            self.rules
                .put_destination(destination.id.index, Some(Arc::new(destination)));
        }
    }

    fn delete_destination(&mut self, key: &ServiceKey, endpoint: Endpoint, known: Known) {
        let Some(mut open) = self.take(key) else {
            return;
        };
        let found = open.find(endpoint, known);
        if let Some(destination) = found
            .and_then(|index| self.rules.destination(index))
            .cloned()
        {
            open.draft.remove(&destination.backend);
            open.service.home.history.lock().departed += destination.counted();
            self.discard(&open.service, &mut open.bin, destination);
        }
        self.open = Some(open);
    }

    /// What becomes of a destination that is out of service and that the service has counted.
    fn discard(&mut self, service: &Service, bin: &mut Bin, destination: Arc<Destination>) {
        self.discards = true;
        // The index keeps the destination until no connection holds it: `Director::tick`.
        let destination = match self.leaving(service, &destination) {
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
        self.rules.count_real(&destination, false);
        bin.push(destination);
    }
}

fn zero(rules: &Rules, service: &Service) {
    let total = total_of_service(rules, service);
    let mut history = service.home.history.lock();
    history.zero = total;
    history.estimator.zero();
    for destination in rules.destinations_in(service) {
        let now = destination.counters.sum();
        destination.ledger.remember(|history| {
            history.zero = now;
            history.estimator.zero();
        });
    }
}
