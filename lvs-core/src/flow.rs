//! A protocol between two endpoints, as one packet shows it.

use crate::{Addr, Endpoint};
use core::fmt;

/// The protocols that a director knows by name; the value is the one of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// No transport protocol: the key of a firewall mark's persistence template.
    Ip = 0,
    /// ICMP for IPv4.
    Icmp = 1,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// ICMP for IPv6.
    Icmpv6 = 58,
    /// SCTP.
    Sctp = 132,
}

impl Protocol {
    /// The protocol of a number in an IP header.
    #[inline]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Ip,
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            _ => return None,
        })
    }

    /// The number in an IP header.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name as ipvsadm lists it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "IP",
            Self::Icmp => "ICMP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmpv6 => "ICMPv6",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Source, destination and protocol of a packet, in the direction in which it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the packet says that it comes from.
    pub src: Endpoint,
    /// Where it goes.
    pub dst: Endpoint,
}

impl Flow {
    /// The flow of nothing: no packet has it, no connection is found by it.
    pub const NONE: Self = Self {
        protocol: Protocol::Ip,
        src: Endpoint::new(Addr::UNSPECIFIED, 0),
        dst: Endpoint::new(Addr::UNSPECIFIED, 0),
    };

    /// A flow of its three parts.
    #[inline]
    #[must_use]
    pub const fn new(protocol: Protocol, src: Endpoint, dst: Endpoint) -> Self {
        Self { protocol, src, dst }
    }

    /// The flow of an answer.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            src: self.dst,
            dst: self.src,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol, self.src, self.dst)
    }
}
