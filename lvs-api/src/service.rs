//! A service as an operator defines it, in the form it has on the wire.

use crate::{flags, wire};
use lvs_core::{Engine, Family, LocalAddresses, OnRemoval, SchedFlags, ServiceKey, ServiceSpec};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A virtual service without its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Service {
    /// What it takes.
    pub key: ServiceKey,
    /// The scheduler's name.
    pub scheduler: String,
    /// The scheduler's flags; in JSON a list of their names ([`flags`]).
    pub flags: SchedFlags,
    /// Whether clients stay with their destination.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling.
    pub one_packet: bool,
    /// The persistence engine.
    pub engine: Option<String>,
    /// FULLNAT's local addresses. In an edit, `None` leaves them as they are.
    pub local: Option<LocalAddresses>,
    /// Whether servers behind FULLNAT are told their clients. In an edit, `None` as above.
    pub toa: Option<bool>,
    /// What becomes of the connections of destinations that leave. In an edit, `None` as above.
    pub on_removal: Option<OnRemoval>,
}

/// How long and how coarsely a client stays with its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// Seconds.
    pub timeout: u32,
    /// Clients that agree in these bits stay together; missing: each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
}

/// An IPv4 mask (`"255.255.255.0"`, holes allowed) or the length of an IPv6 prefix (`64`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Netmask {
    /// The mask of a service for IPv4.
    V4(Ipv4Addr),
    /// The prefix length of a service for IPv6.
    V6(u8),
}

impl Netmask {
    /// The family that it is for.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// As `lvs-core` holds it: the bits of a mask, or the length of a prefix.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::V4(mask) => mask.to_bits(),
            Self::V6(length) => length as u32,
        }
    }

    /// The mask that leaves every client by itself.
    #[must_use]
    pub const fn whole(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Self::V6(128),
        }
    }
}

impl Service {
    /// A service with this scheduler and nothing else set.
    pub fn new(key: ServiceKey, scheduler: impl Into<String>) -> Self {
        Self {
            key,
            scheduler: scheduler.into(),
            flags: SchedFlags::default(),
            persistence: None,
            one_packet: false,
            engine: None,
            local: None,
            toa: None,
            on_removal: None,
        }
    }

    /// The same for the director; an engine that does not exist is left out.
    #[must_use]
    pub fn spec(&self) -> ServiceSpec<'_> {
        let whole = Netmask::whole(self.key.family());
        ServiceSpec {
            key: self.key,
            scheduler: &self.scheduler,
            flags: self.flags,
            persistence: self.persistence.map(|p| lvs_core::Persistence {
                timeout: p.timeout,
                netmask: p.netmask.unwrap_or(whole).bits(),
            }),
            one_packet: self.one_packet,
            engine: self.engine.as_deref().and_then(Engine::from_name),
            local: self.local.unwrap_or_default(),
            tell_client: self.toa.unwrap_or_default(),
            on_removal: self.on_removal.unwrap_or_default(),
        }
    }
}

impl From<&ServiceSpec<'_>> for Service {
    fn from(spec: &ServiceSpec<'_>) -> Self {
        let family = spec.key.family();
        let persistence = spec.persistence.map(|p| {
            let netmask = match family {
                Family::V4 => Netmask::V4(Ipv4Addr::from_bits(p.netmask)),
                Family::V6 => Netmask::V6(u8::try_from(p.netmask).unwrap_or(128)),
            };
            Persistence {
                timeout: p.timeout,
                netmask: (netmask != Netmask::whole(family)).then_some(netmask),
            }
        });
        Self {
            key: spec.key,
            scheduler: spec.scheduler.to_owned(),
            flags: spec.flags,
            persistence,
            one_packet: spec.one_packet,
            engine: spec.engine.map(|engine| engine.name().to_owned()),
            local: Some(spec.local).filter(|local| !local.is_empty()),
            toa: spec.tell_client.then_some(true),
            on_removal: Some(spec.on_removal).filter(|policy| *policy != OnRemoval::Drain),
        }
    }
}

/// The JSON of a service: the names of flags need the scheduler to be understood.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(with = "wire::key")]
    service: ServiceKey,
    scheduler: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    persistence: Option<Persistence>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    one_packet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    persistence_engine: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::locals"
    )]
    local: Option<LocalAddresses>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    toa: Option<bool>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::optional_text"
    )]
    on_removal: Option<OnRemoval>,
}

impl From<Service> for Raw {
    fn from(service: Service) -> Self {
        let names = flags::names(&service.scheduler, service.flags);
        Self {
            service: service.key,
            flags: names.into_iter().map(str::to_owned).collect(),
            scheduler: service.scheduler,
            persistence: service.persistence,
            one_packet: service.one_packet,
            persistence_engine: service.engine,
            local: service.local,
            toa: service.toa,
            on_removal: service.on_removal,
        }
    }
}

impl TryFrom<Raw> for Service {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let flags = flags::parse(&raw.scheduler, raw.flags.iter().map(String::as_str))
            .map_err(|why| why.to_string())?;
        let netmask = raw.persistence.and_then(|p| p.netmask);
        if netmask.is_some_and(|mask| mask.family() != raw.service.family()) {
            return Err(
                "the persistence netmask is a mask for IPv4 and a prefix length for IPv6".into(),
            );
        }
        Ok(Self {
            key: raw.service,
            scheduler: raw.scheduler,
            flags,
            persistence: raw.persistence,
            one_packet: raw.one_packet,
            engine: raw.persistence_engine,
            local: raw.local,
            toa: raw.toa,
            on_removal: raw.on_removal,
        })
    }
}
