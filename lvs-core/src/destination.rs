//! A server that can give a service: a destination, or real server.

use crate::{Endpoint, ForwardMethod, LocalAddresses, OnRemoval, TunnelKind};

/// The largest weight (the kernel's: a signed 32-bit number).
pub const MAX_WEIGHT: u32 = i32::MAX as u32;

/// Upper and lower connection thresholds (`-x`, `-y`); 0 is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Thresholds {
    /// At this many connections (active and inactive) the destination is overloaded.
    pub upper: u32,
    /// Below this many it no longer is; 0: three quarters of `upper`.
    pub lower: u32,
}

/// Whether a destination can serve, as somebody found out who watches it: nothing that an operator
/// defines.
///
/// A failed destination gets no new connections, as if its weight were 0, and its connections are
/// treated as [`DestinationSpec::on_removal`] says; persistence does not send clients to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Health {
    /// It serves, or nobody has said otherwise.
    #[default]
    Up,
    /// It does not.
    Failed,
}

/// A destination as an operator defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationSpec {
    /// The real server (RIP and its port).
    pub endpoint: Endpoint,
    /// How packets reach it.
    pub method: ForwardMethod,
    /// What a tunnel puts between the headers; of meaning with [`ForwardMethod::Tunnel`] only.
    pub tunnel: TunnelKind,
    /// Its share of new connections, 0 (quiesced) to [`MAX_WEIGHT`].
    pub weight: u32,
    /// When it counts as overloaded.
    pub thresholds: Thresholds,
    /// FULLNAT's local addresses towards this destination; none: the service's.
    pub local: LocalAddresses,
    /// What becomes of its connections when it leaves; `None`: what the service says.
    pub on_removal: Option<OnRemoval>,
}

impl DestinationSpec {
    /// A destination of weight 1 without thresholds.
    #[must_use]
    pub const fn new(endpoint: Endpoint, method: ForwardMethod) -> Self {
        Self {
            endpoint,
            method,
            tunnel: TunnelKind::Ipip,
            weight: 1,
            thresholds: Thresholds { upper: 0, lower: 0 },
            local: LocalAddresses::NONE,
            on_removal: None,
        }
    }
}
