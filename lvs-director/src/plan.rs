//! Looking ahead: whether a list of operations would succeed, and which list leads from the
//! running rules to others. Changes nothing.

use crate::checks::{check_address, check_destination, check_service};
use crate::control::{Operation, Rule};
use crate::error::{ReplaceError, RuleError};
use crate::marks::Marks;
use crate::rules::Rules;
use hashbrown::{HashMap, HashSet};
use lvs_core::{Endpoint, ServiceKey, ServiceSpec};

/// The keys of services and the endpoints of their destinations, nothing else.
struct Outline<'a> {
    rules: &'a Rules,
    /// Services that the operations touched: `None` once deleted.
    touched: HashMap<ServiceKey, Option<HashSet<Endpoint>>, ahash::RandomState>,
}

impl Outline<'_> {
    fn service(&mut self, key: &ServiceKey) -> &mut Option<HashSet<Endpoint>> {
        let rules = self.rules;
        self.touched.entry(*key).or_insert_with(|| {
            let service = rules.service(key)?;
            Some(
                rules
                    .destinations_in(service)
                    .map(|found| found.spec.endpoint)
                    .collect(),
            )
        })
    }

    fn existing(&mut self, key: &ServiceKey) -> Result<&mut HashSet<Endpoint>, RuleError> {
        self.service(key)
            .as_mut()
            .ok_or(RuleError::NoSuchService(*key))
    }

    fn perform(&mut self, operation: &Operation<'_>) -> Result<(), RuleError> {
        match operation {
            Operation::AddService(spec) => {
                let service = self.service(&spec.key);
                if service.is_some() {
                    return Err(RuleError::ServiceExists(spec.key));
                }
                check_service(spec)?;
                *service = Some(HashSet::new());
            }
            Operation::EditService(spec) => {
                self.existing(&spec.key)?;
                check_service(spec)?;
            }
            Operation::DeleteService(key) => {
                self.existing(key)?;
                *self.service(key) = None;
            }
            Operation::AddDestination(key, spec) => {
                let endpoints = self.existing(key)?;
                let endpoint = check_destination(key, spec)?.endpoint;
                if !endpoints.insert(endpoint) {
                    return Err(RuleError::DestinationExists(*key, endpoint));
                }
                check_address(spec)?;
            }
            Operation::EditDestination(key, spec) => {
                let endpoints = self.existing(key)?;
                let endpoint = check_destination(key, spec)?.endpoint;
                if !endpoints.contains(&endpoint) {
                    return Err(RuleError::NoSuchDestination(*key, endpoint));
                }
            }
            Operation::Zero(None) => {}
            Operation::SetMarks(rules) => {
                Marks::new(rules)?;
            }
            Operation::Zero(Some(key)) => {
                self.existing(key)?;
            }
            Operation::Flush => {
                self.touched
                    .values_mut()
                    .for_each(|service| *service = None);
                self.touched
                    .extend(self.rules.services().map(|service| (service.key, None)));
            }
            Operation::DeleteDestination(key, endpoint) => {
                if !self.existing(key)?.remove(endpoint) {
                    return Err(RuleError::NoSuchDestination(*key, *endpoint));
                }
            }
        }
        Ok(())
    }
}

/// The first operation that would be refused.
pub(crate) fn check(rules: &Rules, operations: &[Operation<'_>]) -> Result<(), (usize, RuleError)> {
    let mut outline = Outline {
        rules,
        touched: HashMap::default(),
    };
    operations
        .iter()
        .enumerate()
        .try_for_each(|(place, operation)| {
            outline.perform(operation).map_err(|error| (place, error))
        })
}

/// The operations that make `wanted` of the running rules, leaving alone what is the same in both.
pub(crate) fn difference<'a>(
    rules: &Rules,
    wanted: &[Rule<'a>],
) -> Result<Vec<Operation<'a>>, ReplaceError> {
    let mut operations = Vec::new();
    let mut keys: HashSet<ServiceKey, ahash::RandomState> = HashSet::default();
    for rule in wanted {
        if !keys.insert(rule.service.key) {
            let service = rule.service.key;
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
    operations.extend(gone.map(|service| Operation::DeleteService(service.key)));
    for rule in wanted {
        difference_of_service(rules, rule, &mut operations)?;
    }
    Ok(operations)
}

fn difference_of_service<'a>(
    rules: &Rules,
    rule: &Rule<'a>,
    operations: &mut Vec<Operation<'a>>,
) -> Result<(), ReplaceError> {
    let key = rule.service.key;
    let Some(service) = rules.service(&key) else {
        operations.push(Operation::AddService(rule.service));
        operations.extend(
            rule.destinations
                .iter()
                .map(|spec| Operation::AddDestination(key, *spec)),
        );
        return Ok(());
    };
    let running = ServiceSpec {
        key,
        scheduler: service.pool.scheduler_name(),
        flags: service.flags(),
        persistence: service.persistence,
        one_packet: service.one_packet,
        engine: service.engine,
    };
    if running != rule.service {
        operations.push(Operation::EditService(rule.service));
    }
    let mut endpoints = HashSet::new();
    for spec in &rule.destinations {
        let refused = |error| ReplaceError {
            service: key,
            destination: Some(spec.endpoint),
            error: Box::new(error),
        };
        let spec = check_destination(&key, spec).map_err(refused)?;
        if !endpoints.insert(spec.endpoint) {
            return Err(refused(RuleError::DestinationExists(key, spec.endpoint)));
        }
        match rules.destination_at(service, spec.endpoint) {
            None => operations.push(Operation::AddDestination(key, spec)),
            Some(running) if running.spec != spec => {
                operations.push(Operation::EditDestination(key, spec));
            }
            Some(_) => {}
        }
    }
    let gone = rules
        .destinations_in(service)
        .map(|destination| destination.spec.endpoint)
        .filter(|endpoint| !endpoints.contains(endpoint));
    operations.extend(gone.map(|endpoint| Operation::DeleteDestination(key, endpoint)));
    Ok(())
}
