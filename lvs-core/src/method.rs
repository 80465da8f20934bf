//! How a packet reaches a destination.

use core::fmt;
use core::str::FromStr;

/// The forwarding method of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum ForwardMethod {
    /// NAT (`-m`): the destination's address and port replace the VIP's, and back.
    Masquerade = 0,
    /// The destination is this host; the packet is left to its stack.
    Local = 1,
    /// IP in IP (`-i`), or another tunnel of [`TunnelKind`].
    Tunnel = 2,
    /// Direct routing (`-g`): only the link-layer next hop changes.
    #[default]
    DirectRoute = 3,
    /// Sent on to where the client meant it (`cache_bypass`).
    Bypass = 4,
    /// Both sides rewritten, so that replies return here whatever the servers' routes.
    FullNat = 5,
}

impl ForwardMethod {
    /// The method of a number, as entries and IPVS's messages store it.
    #[inline]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Masquerade,
            1 => Self::Local,
            2 => Self::Tunnel,
            3 => Self::DirectRoute,
            4 => Self::Bypass,
            5 => Self::FullNat,
            _ => return None,
        })
    }

    /// The name as ipvsadm lists it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masquerade => "Masq",
            Self::Local => "Local",
            Self::Tunnel => "Tunnel",
            Self::DirectRoute => "Route",
            Self::Bypass => "Bypass",
            Self::FullNat => "FullNat",
        }
    }

    /// Whether the replies of the server come back through the director and are rewritten there.
    #[inline]
    #[must_use]
    pub const fn rewrites_replies(self) -> bool {
        matches!(self, Self::Masquerade | Self::FullNat)
    }
}

impl fmt::Display for ForwardMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no forwarding method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownForwardMethod;

impl fmt::Display for UnknownForwardMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown forwarding method, expected nat, dr, tun or fullnat")
    }
}

impl core::error::Error for UnknownForwardMethod {}

impl FromStr for ForwardMethod {
    type Err = UnknownForwardMethod;

    /// The words of configuration files: `nat`, `dr`, `tun`, `fullnat`, and ipvsadm's longer ones.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "nat" | "masq" | "masquerading" => Self::Masquerade,
            "dr" | "route" | "gatewaying" => Self::DirectRoute,
            "tun" | "tunnel" | "ipip" => Self::Tunnel,
            "fullnat" | "fnat" => Self::FullNat,
            _ => return Err(UnknownForwardMethod),
        })
    }
}

/// What goes between the outer and the inner IP header of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TunnelKind {
    /// Nothing (IPIP, 6in4, 4in6, 6in6).
    #[default]
    Ipip,
    /// UDP and GUE headers, to this port.
    Gue {
        /// Destination port of the outer UDP header, host order, not 0.
        port: u16,
        /// What covers the outer UDP header.
        checksum: TunnelChecksum,
    },
    /// A GRE header.
    Gre {
        /// What covers the GRE header; remote offload does not exist here.
        checksum: TunnelChecksum,
    },
}

/// The checksum of a tunnel's own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TunnelChecksum {
    /// None (`--tun-nocsum`).
    #[default]
    None,
    /// A full one (`--tun-csum`).
    Full,
    /// Remote checksum offload (`--tun-remcsum`, GUE only).
    Remote,
}
