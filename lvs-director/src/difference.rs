//! Which changes lead from the running rules to others. Changes nothing, and does not look whether
//! what is wanted can be, but for what is wanted twice.

use crate::change::Change;
use crate::checks;
use crate::control::Rule;
use crate::destination::Destination;
use crate::error::{ReplaceError, RuleError};
use crate::rules::{Rules, Service};
use ahash::RandomState;
use hashbrown::{HashMap, HashSet};
use lvs_core::{Endpoint, ServiceKey, ServiceSpec};

/// The changes that make `wanted` of the running rules, leaving alone what is the same in both.
pub(crate) fn difference<'a>(
    rules: &'a Rules,
    wanted: &'a [Rule<'_>],
) -> Result<Vec<Change<'a>>, ReplaceError> {
    let mut changes = Vec::new();
    let mut keys = HashSet::with_capacity_and_hasher(wanted.len(), RandomState::new());
    for rule in wanted {
        let service = rule.service.key;
        if !keys.insert(&rule.service.key) {
            return Err(ReplaceError {
                service,
                destination: None,
                error: Box::new(RuleError::ServiceExists(service)),
            });
        }
    }
    let gone = rules
        .services()
        .filter(|service| !keys.contains(&service.key));
    changes.extend(gone.map(|service| Change::DeleteService(&service.key)));
    for rule in wanted {
        difference_of_service(rules, rule, &mut changes)?;
    }
    Ok(changes)
}

fn difference_of_service<'a>(
    rules: &'a Rules,
    rule: &'a Rule<'_>,
    changes: &mut Vec<Change<'a>>,
) -> Result<(), ReplaceError> {
    let key = &rule.service.key;
    let Some(service) = rules.service(key) else {
        changes.push(Change::AddService(&rule.service));
        let mut before = Before::new(rule);
        for (place, spec) in rule.destinations.iter().enumerate() {
            let endpoint = checks::endpoint(key, spec);
            if before.has(place, endpoint) {
                return Err(twice(key, endpoint));
            }
            changes.push(Change::AddDestination(key, spec));
        }
        return Ok(());
    };
    if !says(service, &rule.service) {
        changes.push(Change::EditService(&rule.service));
    }
    let mut running = Running::new(rules, service);
    let mut before = Before::new(rule);
    for (place, spec) in rule.destinations.iter().enumerate() {
        let endpoint = checks::endpoint(key, spec);
        match running.find(place, endpoint) {
            Found::Not if !before.has(place, endpoint) => {
                changes.push(Change::AddDestination(key, spec));
            }
            Found::Not | Found::Again => return Err(twice(key, endpoint)),
            Found::Running(found) if !found.says(spec) => {
                let number = found.id.index;
                changes.push(Change::EditDestination(key, spec, Some(number)));
            }
            Found::Running(_) => {}
        }
    }
    let gone = running.others();
    changes.extend(gone.map(|found| {
        let endpoint = found.spec.endpoint;
        Change::DeleteDestination(key, endpoint, Some(found.id.index))
    }));
    Ok(())
}

fn twice(key: &ServiceKey, endpoint: Endpoint) -> ReplaceError {
    ReplaceError {
        service: *key,
        destination: Some(endpoint),
        error: Box::new(RuleError::DestinationExists(*key, endpoint)),
    }
}

/// Up to this many are looked through.
const FEW: usize = 32;

/// The destinations of a rule before the one at hand.
struct Before<'a> {
    rule: &'a Rule<'a>,
    /// Once they are many: those that were asked for, and all that stood before the first of them.
    asked: HashSet<Endpoint, RandomState>,
}

impl<'a> Before<'a> {
    fn new(rule: &'a Rule<'_>) -> Self {
        Self {
            rule,
            asked: HashSet::default(),
        }
    }

    /// Whether one before this place is, or was asked for, at the endpoint.
    fn has(&mut self, place: usize, endpoint: Endpoint) -> bool {
        let key = &self.rule.service.key;
        let before = self.rule.destinations.iter().take(place);
        let mut before = before.map(|spec| checks::endpoint(key, spec));
        if place <= FEW {
            return before.any(|known| known == endpoint);
        }
        if self.asked.is_empty() {
            self.asked.extend(before);
        }
        !self.asked.insert(endpoint)
    }
}

/// Whether a service is what an operator says of it.
fn says(service: &Service, spec: &ServiceSpec<'_>) -> bool {
    let running = ServiceSpec {
        key: service.key,
        scheduler: service.pool.scheduler_name(),
        flags: service.flags(),
        persistence: service.persistence,
        one_packet: service.one_packet,
        engine: service.engine,
        local: service.local,
        tell_client: service.tell_client,
        on_removal: service.on_removal,
    };
    running == *spec
}

/// The destinations of a running service, in the order in which they were added.
struct Running<'a> {
    all: Vec<&'a Destination>,
    /// Which of them are wanted.
    wanted: Vec<bool>,
    /// Where each stands, once the order did not tell and they are many.
    places: HashMap<Endpoint, usize, RandomState>,
}

enum Found<'a> {
    Not,
    /// It was found before.
    Again,
    Running(&'a Destination),
}

impl<'a> Running<'a> {
    fn new(rules: &'a Rules, service: &'a Service) -> Self {
        let mut all = Vec::with_capacity(service.pool.backends().len());
        all.extend(rules.destinations_in(service).map(|found| &**found));
        all.reverse();
        Self {
            wanted: vec![false; all.len()],
            all,
            places: HashMap::default(),
        }
    }

    /// The destination at an endpoint, which likely stands at this place.
    fn find(&mut self, place: usize, endpoint: Endpoint) -> Found<'a> {
        let guessed = self.all.get(place);
        let place = match guessed.is_some_and(|found| found.spec.endpoint == endpoint) {
            true => Some(place),
            false => self.place(endpoint),
        };
        let Some(place) = place else {
            return Found::Not;
        };
        match (self.all.get(place), self.wanted.get_mut(place)) {
            (Some(found), Some(wanted)) if !*wanted => {
                *wanted = true;
                Found::Running(found)
            }
            _ => Found::Again,
        }
    }

    fn place(&mut self, endpoint: Endpoint) -> Option<usize> {
        let endpoints = self.all.iter().map(|found| found.spec.endpoint);
        if self.all.len() <= FEW {
            return endpoints.into_iter().position(|found| found == endpoint);
        }
        if self.places.is_empty() {
            self.places = endpoints.zip(0..).collect();
        }
        self.places.get(&endpoint).copied()
    }

    /// Those that nobody asked for, newest first.
    fn others(self) -> impl Iterator<Item = &'a Destination> {
        let all = self.all.into_iter().zip(self.wanted).rev();
        all.filter(|(_, wanted)| !wanted).map(|(found, _)| found)
    }
}
