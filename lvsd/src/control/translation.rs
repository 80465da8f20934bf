//! Between the words of the control protocol and those of the director.
//!
//! In: operations of `lvs-api`, and what the director answers. Out: the director's operations, and refusals and
//! listings of `lvs-api`. Nothing here changes a rule.

use super::backend::refuse;
use super::marks;
use lvs_api::{
    Destination, DestinationStatus, Errno, Operation, Refusal, Service, ServiceStatus, Sysctl, key,
};
use lvs_core::ServiceSpec;
use lvs_director::{RuleError, Setting};

/// An operation on the rules in the director's words; `None` for one on something else, which can
/// be done.
pub(super) fn translate(
    operation: &Operation,
) -> Result<Option<lvs_director::Operation<'_>>, Refusal> {
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
        Operation::SetHealth {
            service,
            address,
            health,
        } => Rule::SetHealth(*service, *address, health.core()),
        Operation::Flush {} => Rule::Flush,
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

/// The service or destination that an operation defines.
pub(super) fn rule_of(operation: &Operation) -> Option<String> {
    match operation {
        Operation::AddService { config } | Operation::EditService { config } => {
            Some(format!("service {}", key::format(&config.key)))
        }
        Operation::AddDestination { service, config }
        | Operation::EditDestination { service, config } => {
            let service = key::format(service);
            Some(format!("destination {} of {service}", config.address))
        }
        _ => None,
    }
}

pub(super) fn refusal(error: &RuleError) -> Refusal {
    let errno = match error {
        RuleError::ServiceExists(_) | RuleError::DestinationExists(..) => Errno::Exists,
        RuleError::NoSuchService(_) => Errno::NoService,
        RuleError::UnknownScheduler(_) | RuleError::NoSuchDestination(..) => Errno::NotFound,
        RuleError::OutOfRange(_) => Errno::Range,
        RuleError::Unsupported(_) => Errno::NotAvailable,
        RuleError::NoLocalAddress(..)
        | RuleError::LocalAddress(..)
        | RuleError::LocalService(_)
        | RuleError::LocalServer(..) => Errno::Address,
        _ => Errno::Invalid,
    };
    Refusal::new(errno, error.to_string())
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

pub(super) fn status(service: &lvs_director::ServiceStatus) -> ServiceStatus {
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
        health: found.health.into(),
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
