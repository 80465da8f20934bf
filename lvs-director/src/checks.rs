//! Whether a rule can be, looked at by itself (IPVS 0.1, 5.3).
//!
//! In: a service or a destination as an operator wants it. Out: what is wrong with it, or what the
//! kernel would make of it. Knows no other rule, and changes none.

use crate::error::RuleError;
use lvs_core::{
    DestinationSpec, Endpoint, Family, ForwardMethod, LocalAddresses, MAX_WEIGHT, OnRemoval,
    Protocol, ServiceKey, ServiceSpec, TunnelKind,
};

/// The longest persistence timeout, in seconds.
const MAX_PERSISTENCE: u32 = 2_678_400;

/// Whether a service can be (IPVS 0.1, 5.3).
pub(crate) fn check_service(spec: &ServiceSpec<'_>) -> Result<(), RuleError> {
    if !lvs_sched::NAMES.contains(&spec.scheduler) {
        return Err(unknown_scheduler(spec));
    }
    match spec.key {
        ServiceKey::Endpoint {
            protocol: Protocol::Tcp | Protocol::Udp | Protocol::Sctp,
            ..
        } => {}
        ServiceKey::Endpoint { .. } => {
            return Err(RuleError::Invalid("a service is TCP, UDP or SCTP"));
        }
        ServiceKey::FwMark { mark: 0, .. } => {
            return Err(RuleError::Invalid("a firewall mark is 1 to 4294967295"));
        }
        ServiceKey::FwMark { .. } => {}
    }
    if let Some(persistence) = spec.persistence {
        if !(1..=MAX_PERSISTENCE).contains(&persistence.timeout) {
            return Err(RuleError::OutOfRange(
                "a persistence timeout is 1 to 2678400 seconds",
            ));
        }
        if spec.key.family() == Family::V6 && !(1..=128).contains(&persistence.netmask) {
            return Err(RuleError::Invalid(
                "an IPv6 persistence mask is 1 to 128 bits",
            ));
        }
    }
    check_removal(Some(spec.on_removal))?;
    check_locals(&spec.key, &spec.local)
}

/// Whether addresses can be the director's own towards servers of a service.
fn check_locals(key: &ServiceKey, locals: &LocalAddresses) -> Result<(), RuleError> {
    for (place, addr) in locals.iter().enumerate() {
        let wrong = if addr.family() != key.family() {
            "is of the other address family; write one of the service's"
        } else if !addr.is_unicast() || addr.is_loopback() {
            "is none that a server could answer to; write a unicast address of the director"
        } else if locals.iter().take(place).any(|before| before == addr) {
            "is given twice; leave one out"
        } else {
            continue;
        };
        return Err(RuleError::LocalAddress(*key, addr, wrong));
    }
    Ok(())
}

fn check_removal(policy: Option<OnRemoval>) -> Result<(), RuleError> {
    match policy {
        Some(OnRemoval::DrainFor(seconds)) if !(1..=OnRemoval::MAX_DRAIN).contains(&seconds) => {
            Err(RuleError::OutOfRange("a drain lasts 1 to 2678400 seconds"))
        }
        _ => Ok(()),
    }
}

/// Whether a destination can be (IPVS 0.1); answers with its [`endpoint`].
pub(crate) fn check_destination(
    key: &ServiceKey,
    spec: &DestinationSpec,
) -> Result<Endpoint, RuleError> {
    if spec.endpoint.addr.family() != key.family() && spec.method != ForwardMethod::Tunnel {
        return Err(RuleError::Invalid(
            "a destination of the other address family can only be reached through a tunnel",
        ));
    }
    if spec.weight > MAX_WEIGHT {
        return Err(RuleError::OutOfRange("a weight is 0 to 2147483647"));
    }
    if spec.thresholds.lower > spec.thresholds.upper {
        return Err(RuleError::OutOfRange(
            "the lower threshold is above the upper one; raise that",
        ));
    }
    if spec.thresholds.upper > MAX_WEIGHT {
        return Err(RuleError::OutOfRange("a threshold is 0 to 2147483647"));
    }
    check_removal(spec.on_removal)?;
    check_locals(key, &spec.local)?;
    match (spec.method, spec.tunnel) {
        (ForwardMethod::Bypass, _) => Err(RuleError::Invalid(
            "bypass is a setting of the director, not a method",
        )),
        (_, TunnelKind::Gue { port: 0, .. }) => Err(RuleError::Invalid(
            "a GUE tunnel needs a port from 1 to 65535",
        )),
        _ => Ok(endpoint(key, spec)),
    }
}

/// Whether a new destination can have its address; the kernel asks last of all.
pub(crate) fn check_address(spec: &DestinationSpec) -> Result<(), RuleError> {
    if spec.endpoint.addr.may_be_server() {
        return Ok(());
    }
    Err(RuleError::Invalid(
        "the address of a destination is a unicast one",
    ))
}

/// What the kernel would make of a destination's endpoint: with direct routing and tunnels the port is
/// the service's (5.3).
pub(crate) const fn endpoint(key: &ServiceKey, spec: &DestinationSpec) -> Endpoint {
    match key {
        ServiceKey::Endpoint { vip, .. } if !spec.method.rewrites_replies() => {
            Endpoint::new(spec.endpoint.addr, vip.port)
        }
        _ => spec.endpoint,
    }
}

pub(crate) fn unknown_scheduler(spec: &ServiceSpec<'_>) -> RuleError {
    RuleError::UnknownScheduler(spec.scheduler.to_owned())
}
