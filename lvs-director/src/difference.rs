//! Which changes lead from the running rules to others. Changes nothing, and does not look whether
//! what is wanted can be, but for what is wanted twice.

use crate::change::Change;
use crate::checks;
use crate::control::Rule;
use crate::destination::Terms;
use crate::error::{ReplaceError, RuleError};
use crate::rules::{Rules, Service};
use ahash::RandomState;
use hashbrown::{HashMap, HashSet};
use lvs_core::{Endpoint, ServiceSpec};

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
        let all = rule.destinations.iter();
        changes.extend(all.map(|spec| Change::AddDestination(key, spec)));
        return Ok(());
    };
    if !says(service, &rule.service) {
        changes.push(Change::EditService(&rule.service));
    }
    let mut running = Running::new(rules, service);
    for (place, spec) in rule.destinations.iter().enumerate() {
        let endpoint = checks::endpoint(key, spec);
        match running.find(place, endpoint) {
            Found::Not => {
                changes.push(Change::AddDestination(key, spec));
            }
            Found::Again => {
                return Err(ReplaceError {
                    service: *key,
                    destination: Some(endpoint),
                    error: Box::new(RuleError::DestinationExists(*key, endpoint)),
                });
            }
            Found::Running(terms) if !terms.says(spec) => {
                changes.push(Change::EditDestination(key, spec));
            }
            Found::Running(_) => {}
        }
    }
    let gone = running.others();
    changes.extend(gone.map(|endpoint| Change::DeleteDestination(key, endpoint)));
    Ok(())
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
    terms: Vec<&'a Terms>,
    /// Which of them are wanted.
    wanted: Vec<bool>,
    /// Where each stands, once the order did not tell and they are many.
    places: HashMap<Endpoint, usize, RandomState>,
}

enum Found<'a> {
    Not,
    /// It was found before.
    Again,
    Running(&'a Terms),
}

impl<'a> Running<'a> {
    fn new(rules: &'a Rules, service: &'a Service) -> Self {
        let mut terms: Vec<_> = rules
            .destinations_in(service)
            .map(|found| &found.spec)
            .collect();
        terms.reverse();
        Self {
            wanted: vec![false; terms.len()],
            terms,
            places: HashMap::default(),
        }
    }

    /// The destination at an endpoint, which likely stands at this place.
    fn find(&mut self, place: usize, endpoint: Endpoint) -> Found<'a> {
        let guessed = self.terms.get(place);
        let place = match guessed.is_some_and(|terms| terms.endpoint == endpoint) {
            true => Some(place),
            false => self.place(endpoint),
        };
        let Some(place) = place else {
            return Found::Not;
        };
        match (self.terms.get(place), self.wanted.get_mut(place)) {
            (Some(terms), Some(wanted)) if !*wanted => {
                *wanted = true;
                Found::Running(terms)
            }
            _ => Found::Again,
        }
    }

    fn place(&mut self, endpoint: Endpoint) -> Option<usize> {
        /// Up to this many are looked through.
        const FEW: usize = 32;
        let endpoints = self.terms.iter().map(|terms| terms.endpoint);
        if self.terms.len() <= FEW {
            return endpoints.into_iter().position(|found| found == endpoint);
        }
        if self.places.is_empty() {
            self.places = endpoints.zip(0..).collect();
        }
        self.places.get(&endpoint).copied()
    }

    /// The endpoints that nobody asked for, newest first.
    fn others(self) -> impl Iterator<Item = Endpoint> {
        let all = self.terms.into_iter().zip(self.wanted).rev();
        all.filter(|(_, wanted)| !wanted)
            .map(|(terms, _)| terms.endpoint)
    }
}
