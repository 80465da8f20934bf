//! What can be asked of a director, and in what company.

use crate::{Destination, Health, MarkRule, Refusal, Service, SyncRole, SyncStart, Timeouts, wire};
use lvs_core::{Endpoint, ServiceKey};
use serde::{Deserialize, Serialize};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Define a service.
    AddService {
        /// The service.
        config: Service,
    },
    /// Replace everything about a service but its key and its destinations.
    EditService {
        /// The service.
        config: Service,
    },
    /// Remove a service with its destinations.
    DeleteService {
        /// Which.
        #[serde(with = "wire::key")]
        service: ServiceKey,
    },
    /// Define a destination.
    AddDestination {
        /// Of which service.
        #[serde(with = "wire::key")]
        service: ServiceKey,
        /// The destination.
        config: Destination,
    },
    /// Replace everything about a destination but its address.
    EditDestination {
        /// Of which service.
        #[serde(with = "wire::key")]
        service: ServiceKey,
        /// The destination.
        config: Destination,
    },
    /// Remove a destination.
    DeleteDestination {
        /// Of which service.
        #[serde(with = "wire::key")]
        service: ServiceKey,
        /// Which.
        #[serde(with = "wire::text")]
        address: Endpoint,
    },
    /// Say whether a destination can serve, as a health check found out. Edits and reloads leave it as
    /// it is; a destination that is added is up.
    SetHealth {
        /// Of which service.
        #[serde(with = "wire::key")]
        service: ServiceKey,
        /// Which.
        #[serde(with = "wire::text")]
        address: Endpoint,
        /// Whether it can.
        health: Health,
    },
    /// Remove all services.
    Flush {},
    /// Count from zero again.
    Zero {
        /// One service and its destinations; missing: everything.
        #[serde(
            default,
            with = "wire::optional_key",
            skip_serializing_if = "Option::is_none"
        )]
        service: Option<ServiceKey>,
    },
    /// Set the timeouts; 0 leaves one as it is.
    SetTimeouts {
        /// The new values.
        timeouts: Timeouts,
    },
    /// Give a setting another value.
    SetSysctl {
        /// Its name, without `net.ipv4.vs.`.
        name: String,
        /// The value.
        value: u32,
    },
    /// Give packets their firewall marks by these rules, and no others.
    SetMarks {
        /// The rules, in order.
        rules: Vec<MarkRule>,
    },
    /// Start a connection synchronisation daemon.
    StartDaemon {
        /// Which and how.
        config: SyncStart,
    },
    /// Stop a connection synchronisation daemon.
    StopDaemon {
        /// Which.
        role: SyncRole,
    },
}

/// What becomes of the other operations when one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is done, and nobody sees a state in between.
    #[default]
    AllOrNothing,
    /// Each stands for itself, as with a kernel that is asked one thing after the other.
    OneByOne,
}

/// A list of changes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// All or nothing, or one by one.
    #[serde(default)]
    pub mode: Mode,
    /// The changes, in order.
    pub operations: Vec<Operation>,
}

/// What became of each operation of a transaction, in order.
///
/// An all-or-nothing transaction that was refused has no report; its answer is the
/// [`RefusalBody`](crate::RefusalBody) of the operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// `None`: done.
    pub results: Vec<Option<Refusal>>,
}
