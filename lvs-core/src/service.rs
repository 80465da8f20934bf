//! What clients ask for: a virtual service, by address or by firewall mark.

use crate::{Endpoint, Family, LocalAddresses, OnRemoval, Protocol};
use core::fmt;

/// What tells one virtual service from another (IPVS: `-t`, `-u`, `--sctp-service`, `-f`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// A protocol, an address and a port (port 0: every port, for persistent services).
    Endpoint {
        /// TCP, UDP or SCTP.
        protocol: Protocol,
        /// The VIP and its port.
        vip: Endpoint,
    },
    /// A firewall mark within a family.
    FwMark {
        /// The family of the packets that the service takes.
        family: Family,
        /// The mark, not 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// The family of the packets that the service takes.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Endpoint { vip, .. } => vip.addr.family(),
            Self::FwMark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    /// As ipvsadm names it: `TCP  192.0.2.10:80`, `FWM  7`, `FWM  8 IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { protocol, vip } => write!(f, "{:<4} {vip}", protocol.name()),
            Self::FwMark {
                family: Family::V4,
                mark,
            } => write!(f, "FWM  {}", mark.cast_signed()),
            Self::FwMark {
                family: Family::V6,
                mark,
            } => {
                write!(f, "FWM  {} IPv6", mark.cast_signed())
            }
        }
    }
}

/// The three scheduler flags of a service (`-b`); their meaning is the scheduler's.
///
/// `sh`: flag 1 is `sh-fallback`, flag 2 `sh-port`. `mh`: `mh-fallback`, `mh-port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SchedFlags {
    /// `flag-1`, `sh-fallback`, `mh-fallback`.
    pub flag1: bool,
    /// `flag-2`, `sh-port`, `mh-port`.
    pub flag2: bool,
    /// `flag-3`, of no meaning today.
    pub flag3: bool,
}

/// How long and how coarsely a client stays with its destination (`-p`, `-M`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Persistence {
    /// Seconds, 1 to 2,678,400.
    pub timeout: u32,
    /// IPv4: the mask's 32 bits (holes allowed, as in IPVS). IPv6: the prefix length, 1 to 128.
    pub netmask: u32,
}

/// A persistence engine (`--pe`): what beside its address tells one client from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// The Call-ID of SIP over UDP (RFC 3261, 20.8): packets of a call stay together.
    Sip,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Sip];

    /// The name that ipvsadm knows it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
        }
    }

    /// The engine of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A virtual service as an operator defines it, without its destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSpec<'a> {
    /// What it takes.
    pub key: ServiceKey,
    /// The scheduler's name, at most 15 characters.
    pub scheduler: &'a str,
    /// The scheduler's flags.
    pub flags: SchedFlags,
    /// Whether clients stay with their destination.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling (`-o`), UDP and marks only.
    pub one_packet: bool,
    /// What persistence goes by beside the client's address; of meaning with persistence only.
    pub engine: Option<Engine>,
    /// The director's own addresses towards destinations by FULLNAT that have none of their own.
    pub local: LocalAddresses,
    /// Whether servers behind FULLNAT are told their clients: by an option of TCP (TOA), and of
    /// IPv4 for UDP (UOA).
    pub tell_client: bool,
    /// What becomes of the connections of destinations that leave.
    pub on_removal: OnRemoval,
}

impl<'a> ServiceSpec<'a> {
    /// A service with this key and scheduler and nothing else set.
    #[must_use]
    pub const fn new(key: ServiceKey, scheduler: &'a str) -> Self {
        Self {
            key,
            scheduler,
            flags: SchedFlags {
                flag1: false,
                flag2: false,
                flag3: false,
            },
            persistence: None,
            one_packet: false,
            engine: None,
            local: LocalAddresses::NONE,
            tell_client: false,
            on_removal: OnRemoval::Drain,
        }
    }
}
