//! What the control plane shows: services and destinations with their counts.

use crate::marks::MarkRule;
use lvs_core::{
    Addr, Counters, DestinationSpec, Endpoint, Engine, ForwardMethod, Health, LocalAddresses,
    OnRemoval, Persistence, Protocol, Rates, SchedFlags, ServiceKey, state,
};

/// A service as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceStatus {
    /// What it takes.
    pub key: ServiceKey,
    /// The name of its scheduler.
    pub scheduler: &'static str,
    /// The scheduler's flags.
    pub flags: SchedFlags,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling.
    pub one_packet: bool,
    /// Its persistence engine, if any.
    pub engine: Option<Engine>,
    /// FULLNAT's local addresses.
    pub local: LocalAddresses,
    /// Whether servers behind FULLNAT are told their clients.
    pub tell_client: bool,
    /// What becomes of the connections of destinations that leave.
    pub on_removal: OnRemoval,
    /// What has passed since it was added or last zeroed.
    pub counters: Counters,
    /// The same per second.
    pub rates: Rates,
    /// Its destinations in the kernel's order: newest first.
    pub destinations: Vec<DestinationStatus>,
}

/// A destination as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DestinationStatus {
    /// As the operator defined it.
    pub spec: DestinationSpec,
    /// Active connections (IPVS 2.11).
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Whether it can serve, as somebody found out.
    pub health: Health,
    /// Whether its upper threshold keeps new connections away.
    pub overloaded: bool,
    /// What has passed since it was added or last zeroed.
    pub counters: Counters,
    /// The same per second.
    pub rates: Rates,
}

/// A connection as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The transport protocol; [`Protocol::Ip`] for a mark's template.
    pub protocol: Protocol,
    /// The client.
    pub client: Endpoint,
    /// What it asked for.
    pub virtual_endpoint: Endpoint,
    /// Who serves it.
    pub destination: Endpoint,
    /// FULLNAT's own endpoint towards it.
    pub local: Option<Endpoint>,
    /// How its packets reach the destination.
    pub method: ForwardMethod,
    /// The state's number; [`ConnectionStatus::state_name`] tells its name.
    pub state: u8,
    /// Whole seconds until it ends if nothing comes, rounded down.
    pub expires: u32,
    /// Whether this is a persistence template.
    pub template: bool,
    /// The engine that told the clients of a template apart, and what by: a Call-ID.
    pub engine: Option<(Engine, String)>,
}

impl ConnectionStatus {
    /// The name of its state; templates have states of their own.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        let protocol = if self.template {
            Protocol::Ip
        } else {
            self.protocol
        };
        state::name(protocol, self.state)
    }
}

/// What the host must leave to the director.
///
/// An `AF_PACKET` socket sees copies; the originals of these packets have to be dropped before the
/// host's stack answers or forwards them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Services by address: packets to these belong to the director.
    pub services: Vec<(Protocol, Endpoint)>,
    /// Local addresses of FULLNAT: the director's own, whether the host has them or not.
    pub locals: Vec<Addr>,
    /// Destinations whose replies are rewritten: packets from these belong to the director.
    pub replies: Vec<(Protocol, Endpoint)>,
    /// The rules of marks, in order, each with whether its mark has a service. The last rule that
    /// takes a packet decides whether it belongs to the director.
    pub marks: Vec<(MarkRule, bool)>,
}
