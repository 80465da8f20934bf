//! What can be wrong with a rule, in the kernel's terms (IPVS 0.1).

use lvs_core::{Addr, Endpoint, ServiceKey};
use thiserror::Error;

/// A rule was refused; the running rules are as they were.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A service with this key is there already (`EEXIST`).
    #[error("service {0} already exists; edit it, or delete it first")]
    ServiceExists(ServiceKey),
    /// No service has this key (`ESRCH`).
    #[error("no service {0}; add it first")]
    NoSuchService(ServiceKey),
    /// No scheduler has this name (`ENOENT`).
    #[error("unknown scheduler `{0}`; there are {known}", known = lvs_sched::NAMES.join(", "))]
    UnknownScheduler(String),
    /// The service has a destination at this endpoint already (`EEXIST`).
    #[error("destination {1} of service {0} already exists; edit it, or delete it first")]
    DestinationExists(ServiceKey, Endpoint),
    /// The service has no destination at this endpoint (`ENOENT`).
    #[error("no destination {1} of service {0}; add it first")]
    NoSuchDestination(ServiceKey, Endpoint),
    /// The lower threshold is above the upper one, or a weight above the largest (`ERANGE`).
    #[error("{0}")]
    OutOfRange(&'static str),
    /// A value that cannot be (`EINVAL`).
    #[error("{0}")]
    Invalid(&'static str),
    /// A mark's rule that names addresses of both families, or another family than its own
    /// (`EINVAL`).
    #[error(
        "the rule for mark {0} can match no packet: its addresses are of different families; \
         write one rule for each family"
    )]
    MixedMark(u32),
    /// A destination by FULLNAT that nobody said an address for (`EINVAL`).
    #[error(
        "destination {1} of service {0} is reached by fullnat, which needs a local address: give one \
         to the service or to the destination"
    )]
    NoLocalAddress(ServiceKey, Endpoint),
    /// A local address that cannot be one (`EINVAL`).
    #[error("local address {1} of service {0} {2}")]
    LocalAddress(ServiceKey, Addr, &'static str),
    /// A service at a local address (`EINVAL`).
    #[error(
        "service {0} listens at a local address of fullnat; give it another, or give fullnat one of its \
         own first"
    )]
    LocalService(ServiceKey),
    /// A destination at a local address (`EINVAL`).
    #[error(
        "destination {1} of service {0} has a local address of fullnat; give it another, or give fullnat \
         one of its own first"
    )]
    LocalServer(ServiceKey, Endpoint),
    /// Something that this director does not do.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// A set of rules was refused ([`Director::replace`](crate::Director::replace)); the running rules
/// are as they were.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("service {service}{}: {error}", destination.map(|server| format!(", destination {server}")).unwrap_or_default())]
pub struct ReplaceError {
    /// The rule's service.
    pub service: ServiceKey,
    /// The destination, if it is about one.
    pub destination: Option<Endpoint>,
    /// What is wrong with it.
    #[source]
    pub error: Box<RuleError>,
}
