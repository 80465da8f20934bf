//! A destination as an operator defines it, in the form it has on the wire.

use crate::wire;
use lvs_core::{
    DestinationSpec, Endpoint, ForwardMethod, LocalAddresses, OnRemoval, Thresholds, TunnelKind,
};
use serde::{Deserialize, Serialize};

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Address and port of the server.
    #[serde(with = "wire::text")]
    pub address: Endpoint,
    /// How packets reach it.
    pub method: Method,
    /// Its share of new connections, 0 (no new ones) to 2147483647.
    #[serde(default = "one")]
    pub weight: u32,
    /// At this many connections it takes no new ones; 0: no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub upper_threshold: u32,
    /// Below this many it takes new ones again; 0: three quarters of the upper threshold.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lower_threshold: u32,
    /// What goes between the headers; of meaning with [`Method::Tun`] only.
    #[serde(default, skip_serializing_if = "Tunnel::is_ipip")]
    pub tunnel: Tunnel,
    /// FULLNAT's local addresses towards it; none: the service's. In an edit, missing: as they are.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::locals"
    )]
    pub local: Option<LocalAddresses>,
    /// What becomes of connections when it leaves: `drain`, `drain SECONDS`, `reset` or
    /// `reschedule`. In an edit, missing: as it is.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::optional_text"
    )]
    pub on_removal: Option<OnRemoval>,
}

const fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Destination {
    /// A destination of weight 1 and nothing else set.
    #[must_use]
    pub const fn new(address: Endpoint, method: Method) -> Self {
        Self {
            address,
            method,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::Ipip,
            local: None,
            on_removal: None,
        }
    }

    /// The same for the director.
    #[must_use]
    pub const fn spec(&self) -> DestinationSpec {
        DestinationSpec {
            endpoint: self.address,
            method: self.method.core(),
            tunnel: self.tunnel.core(),
            weight: self.weight,
            thresholds: Thresholds {
                upper: self.upper_threshold,
                lower: self.lower_threshold,
            },
            local: match self.local {
                Some(local) => local,
                None => LocalAddresses::NONE,
            },
            on_removal: self.on_removal,
        }
    }
}

impl From<&DestinationSpec> for Destination {
    fn from(spec: &DestinationSpec) -> Self {
        Self {
            address: spec.endpoint,
            method: spec.method.into(),
            weight: spec.weight,
            upper_threshold: spec.thresholds.upper,
            lower_threshold: spec.thresholds.lower,
            tunnel: spec.tunnel.into(),
            local: Some(spec.local).filter(|local| !local.is_empty()),
            on_removal: spec.on_removal,
        }
    }
}

/// Whether a destination can serve, as somebody found out who watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It serves, or nobody has said otherwise.
    #[default]
    Up,
    /// It gets no new connections, and those it has go the way of its `on_removal`.
    Failed,
}

impl Health {
    /// The same for the director.
    #[must_use]
    pub const fn core(self) -> lvs_core::Health {
        match self {
            Self::Up => lvs_core::Health::Up,
            Self::Failed => lvs_core::Health::Failed,
        }
    }
}

impl From<lvs_core::Health> for Health {
    fn from(health: lvs_core::Health) -> Self {
        match health {
            lvs_core::Health::Up => Self::Up,
            lvs_core::Health::Failed => Self::Failed,
        }
    }
}

/// How packets reach a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Address translation; replies come back through the director.
    Nat,
    /// Direct routing: another next hop, the packet unchanged.
    Dr,
    /// A tunnel.
    Tun,
    /// This host.
    Local,
    /// Where the client meant it.
    Bypass,
    /// Address translation of both sides.
    FullNat,
}

impl Method {
    /// The same for the director.
    #[must_use]
    pub const fn core(self) -> ForwardMethod {
        match self {
            Self::Nat => ForwardMethod::Masquerade,
            Self::Dr => ForwardMethod::DirectRoute,
            Self::Tun => ForwardMethod::Tunnel,
            Self::Local => ForwardMethod::Local,
            Self::Bypass => ForwardMethod::Bypass,
            Self::FullNat => ForwardMethod::FullNat,
        }
    }
}

impl From<ForwardMethod> for Method {
    fn from(method: ForwardMethod) -> Self {
        match method {
            ForwardMethod::Masquerade => Self::Nat,
            ForwardMethod::DirectRoute => Self::Dr,
            ForwardMethod::Tunnel => Self::Tun,
            ForwardMethod::Local => Self::Local,
            ForwardMethod::Bypass => Self::Bypass,
            ForwardMethod::FullNat => Self::FullNat,
        }
    }
}

/// What goes between the outer and the inner header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Tunnel {
    /// Nothing.
    #[default]
    Ipip,
    /// UDP and GUE headers.
    Gue {
        /// The destination port, not 0.
        port: u16,
        /// What covers the UDP header.
        #[serde(default)]
        checksum: TunnelChecksum,
    },
    /// A GRE header.
    Gre {
        /// What covers it.
        #[serde(default)]
        checksum: TunnelChecksum,
    },
}

/// The checksum of a tunnel's own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// A full one.
    Full,
    /// Remote checksum offload, GUE only.
    Remote,
}

impl Tunnel {
    const fn is_ipip(&self) -> bool {
        matches!(self, Self::Ipip)
    }

    /// The same for the director.
    #[must_use]
    pub const fn core(self) -> TunnelKind {
        match self {
            Self::Ipip => TunnelKind::Ipip,
            Self::Gue { port, checksum } => TunnelKind::Gue {
                port,
                checksum: checksum.core(),
            },
            Self::Gre { checksum } => TunnelKind::Gre {
                checksum: checksum.core(),
            },
        }
    }
}

impl From<TunnelKind> for Tunnel {
    fn from(kind: TunnelKind) -> Self {
        match kind {
            TunnelKind::Ipip => Self::Ipip,
            TunnelKind::Gue { port, checksum } => Self::Gue {
                port,
                checksum: checksum.into(),
            },
            TunnelKind::Gre { checksum } => Self::Gre {
                checksum: checksum.into(),
            },
        }
    }
}

impl TunnelChecksum {
    const fn core(self) -> lvs_core::TunnelChecksum {
        match self {
            Self::None => lvs_core::TunnelChecksum::None,
            Self::Full => lvs_core::TunnelChecksum::Full,
            Self::Remote => lvs_core::TunnelChecksum::Remote,
        }
    }
}

impl From<lvs_core::TunnelChecksum> for TunnelChecksum {
    fn from(checksum: lvs_core::TunnelChecksum) -> Self {
        match checksum {
            lvs_core::TunnelChecksum::None => Self::None,
            lvs_core::TunnelChecksum::Full => Self::Full,
            lvs_core::TunnelChecksum::Remote => Self::Remote,
        }
    }
}
