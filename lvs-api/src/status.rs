//! What a director can tell: its rules with their counters, its connections, its settings.

use crate::wire::{self, CountersWire, RatesWire};
use crate::{Destination, Health, Method, Service};
use lvs_core::{Counters, DropReason, Endpoint, Protocol, Rates};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The release of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The rows of the connection table, which listings show as `size=`.
    pub table_size: u64,
    /// The most connections that the table can hold.
    pub capacity: u64,
    /// The connections that it holds, templates included.
    pub connections: u64,
}

/// A service, what it has done, and its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// As it is defined.
    pub config: Service,
    /// What has passed since the last `zero`.
    #[serde(with = "CountersWire")]
    pub counters: Counters,
    /// The same per second.
    #[serde(with = "RatesWire")]
    pub rates: Rates,
    /// Its destinations in the director's order, newest first.
    pub destinations: Vec<DestinationStatus>,
}

/// A destination and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// As it is defined.
    pub config: Destination,
    /// Connections in an active state.
    pub active: u32,
    /// The others.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Whether it can serve, as was said last.
    #[serde(default)]
    pub health: Health,
    /// Whether its upper threshold keeps new connections away.
    #[serde(default)]
    pub overloaded: bool,
    /// What has passed since the last `zero`.
    #[serde(with = "CountersWire")]
    pub counters: Counters,
    /// The same per second.
    #[serde(with = "RatesWire")]
    pub rates: Rates,
}

impl ServiceStatus {
    /// A service that has done nothing and has no destination.
    #[must_use]
    pub fn new(config: Service) -> Self {
        Self {
            config,
            counters: Counters::default(),
            rates: Rates::default(),
            destinations: Vec::new(),
        }
    }
}

impl DestinationStatus {
    /// A destination that has done nothing.
    #[must_use]
    pub fn new(config: Destination) -> Self {
        Self {
            config,
            active: 0,
            inactive: 0,
            persistent: 0,
            health: Health::Up,
            overloaded: false,
            counters: Counters::default(),
            rates: Rates::default(),
        }
    }
}

/// An entry of the connection table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// TCP, UDP, SCTP; IP for the template of a firewall mark.
    #[serde(with = "wire::protocol")]
    pub protocol: Protocol,
    /// Where the client sends from; port 0 for a template.
    #[serde(with = "wire::text")]
    pub client: Endpoint,
    /// Where it sends to; `0.0.0.MARK:0` for the template of a firewall mark.
    #[serde(rename = "virtual", with = "wire::text")]
    pub virtual_: Endpoint,
    /// The server.
    #[serde(with = "wire::text")]
    pub destination: Endpoint,
    /// Where the server sees it come from, if neither from the client nor unchanged.
    #[serde(
        default,
        with = "wire::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub local: Option<Endpoint>,
    /// How packets reach the server.
    pub method: Method,
    /// The state's name (`lvs_core::state::name`).
    pub state: Cow<'static, str>,
    /// Whole seconds until it ends, if no more packets come.
    pub expires: u32,
    /// The persistence engine of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What that engine keys the template by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_data: Option<String>,
}

/// What has passed through the director as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Since the last `zero`.
    #[serde(with = "CountersWire")]
    pub counters: Counters,
    /// Per second.
    #[serde(with = "RatesWire")]
    pub rates: Rates,
}

/// How many packets went no further for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// The reason's name.
    pub reason: Cow<'static, str>,
    /// How many.
    pub packets: u64,
    /// The reason in a sentence.
    pub description: Cow<'static, str>,
}

impl DropCount {
    /// The count of a reason.
    #[must_use]
    pub const fn new(reason: DropReason, packets: u64) -> Self {
        Self {
            reason: Cow::Borrowed(reason.name()),
            packets,
            description: Cow::Borrowed(reason.description()),
        }
    }
}

/// The timeouts that can be set (`ipvsadm --set`), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// An established TCP connection.
    pub tcp: u32,
    /// A TCP connection after a FIN.
    pub tcp_fin: u32,
    /// A UDP flow.
    pub udp: u32,
}

/// The two sides of connection synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncRole {
    /// Tells others.
    Master,
    /// Listens.
    Backup,
}

/// A request for a synchronisation daemon; what is missing takes the daemon's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncStart {
    /// Which side.
    pub role: SyncRole,
    /// The interface for multicast.
    pub interface: String,
    /// The group of directors, 0 to 255.
    #[serde(default)]
    pub syncid: u8,
    /// The longest message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxlen: Option<u16>,
    /// The multicast group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<IpAddr>,
    /// The UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The TTL of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
}

/// A synchronisation daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDaemon {
    /// Which side.
    pub role: SyncRole,
    /// The interface for multicast.
    pub interface: String,
    /// The group of directors.
    pub syncid: u8,
    /// The longest message.
    pub maxlen: u16,
    /// The multicast group.
    pub group: IpAddr,
    /// The UDP port.
    pub port: u16,
    /// The TTL of messages.
    pub ttl: u8,
}
