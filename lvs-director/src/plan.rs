//! Looking ahead: whether a list of operations would succeed, and which list leads from the
//! running rules to others. Changes nothing.

use crate::checks::{check_address, check_destination, check_service};
use crate::control::{Operation, Rule};
use crate::error::{ReplaceError, RuleError};
use crate::marks::Marks;
use crate::rules::Rules;
use hashbrown::{HashMap, HashSet};
use lvs_core::{
    Addr, DestinationSpec, Endpoint, ForwardMethod, LocalAddresses, ServiceKey, ServiceSpec,
};

/// The keys of services, the endpoints of their destinations, and what FULLNAT needs to know.
struct Outline<'a> {
    rules: &'a Rules,
    /// Services that the operations touched: `None` once deleted.
    touched: HashMap<ServiceKey, Option<Known>, ahash::RandomState>,
    /// Addresses of services, and local addresses, that the operations bring.
    vips: HashSet<Addr>,
    locals: HashSet<Addr>,
}

/// What matters of a service.
#[derive(Default)]
struct Known {
    endpoints: HashSet<Endpoint>,
    /// Those by FULLNAT that have no local address of their own.
    needy: HashSet<Endpoint>,
    has_locals: bool,
}

impl Known {
    fn put(&mut self, spec: &DestinationSpec) -> bool {
        match spec.method == ForwardMethod::FullNat && spec.local.is_empty() {
            true => self.needy.insert(spec.endpoint),
            false => self.needy.remove(&spec.endpoint),
        };
        self.endpoints.insert(spec.endpoint)
    }

    fn check(&self, key: &ServiceKey) -> Result<(), RuleError> {
        match self.needy.iter().next() {
            Some(endpoint) if !self.has_locals => Err(RuleError::NoLocalAddress(*key, *endpoint)),
            _ => Ok(()),
        }
    }
}

impl<'a> Outline<'a> {
    fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            touched: HashMap::default(),
            vips: HashSet::new(),
            locals: HashSet::new(),
        }
    }

    fn service(&mut self, key: &ServiceKey) -> &mut Option<Known> {
        let rules = self.rules;
        self.touched.entry(*key).or_insert_with(|| {
            let service = rules.service(key)?;
            let mut known = Known {
                has_locals: !service.local.is_empty(),
                ..Known::default()
            };
            for found in rules.destinations_in(service) {
                known.put(&found.spec);
            }
            Some(known)
        })
    }

    fn existing(&mut self, key: &ServiceKey) -> Result<&mut Known, RuleError> {
        self.service(key)
            .as_mut()
            .ok_or(RuleError::NoSuchService(*key))
    }

    /// An address is a service's or a local one, never both: its packets could not be told apart.
    fn check_apart(&mut self, key: &ServiceKey, locals: &LocalAddresses) -> Result<(), RuleError> {
        const BOTH: &str = "is a service's address too; give FULLNAT one of its own";
        if let ServiceKey::Endpoint { vip, .. } = key {
            if self.rules.is_local(vip.addr) || self.locals.contains(&vip.addr) {
                return Err(RuleError::LocalAddress(*key, vip.addr, BOTH));
            }
            self.vips.insert(vip.addr);
        }
        for addr in locals.iter() {
            if self.rules.has_service_at(addr) || self.vips.contains(&addr) {
                return Err(RuleError::LocalAddress(*key, addr, BOTH));
            }
            self.locals.insert(addr);
        }
        Ok(())
    }

    fn perform(&mut self, operation: &Operation<'_>) -> Result<(), RuleError> {
        match operation {
            Operation::AddService(spec) => {
                let service = self.service(&spec.key);
                if service.is_some() {
                    return Err(RuleError::ServiceExists(spec.key));
                }
                check_service(spec)?;
                *service = Some(Known {
                    has_locals: !spec.local.is_empty(),
                    ..Known::default()
                });
                self.check_apart(&spec.key, &spec.local)?;
            }
            Operation::EditService(spec) => {
                let known = self.existing(&spec.key)?;
                check_service(spec)?;
                known.has_locals = !spec.local.is_empty();
                known.check(&spec.key)?;
                self.check_apart(&spec.key, &spec.local)?;
            }
            Operation::DeleteService(key) => {
                self.existing(key)?;
                *self.service(key) = None;
            }
            Operation::AddDestination(key, spec) => {
                let known = self.existing(key)?;
                let spec = check_destination(key, spec)?;
                if !known.put(&spec) {
                    return Err(RuleError::DestinationExists(*key, spec.endpoint));
                }
                check_address(&spec)?;
                known.check(key)?;
                self.check_apart(key, &spec.local)?;
            }
            Operation::EditDestination(key, spec) => {
                let known = self.existing(key)?;
                let spec = check_destination(key, spec)?;
                if known.put(&spec) {
                    return Err(RuleError::NoSuchDestination(*key, spec.endpoint));
                }
                known.check(key)?;
                self.check_apart(key, &spec.local)?;
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
                let known = self.existing(key)?;
                known.needy.remove(endpoint);
                if !known.endpoints.remove(endpoint) {
                    return Err(RuleError::NoSuchDestination(*key, *endpoint));
                }
            }
        }
        Ok(())
    }
}

/// The first operation that would be refused.
pub(crate) fn check(rules: &Rules, operations: &[Operation<'_>]) -> Result<(), (usize, RuleError)> {
    let mut outline = Outline::new(rules);
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
        local: service.local,
        tell_client: service.tell_client,
        on_removal: service.on_removal,
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
