//! What parsing a frame tells: a small value that says what the packet is and where its headers
//! stand. It borrows nothing, and goes stale where a rewrite changes what it says.

use core::fmt;
use core::ops::BitOr;
use lvs_core::{Addr, Endpoint, Family, Flow, Protocol};

/// What a frame carries, as far as a director cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP over IP.
    Tcp,
    /// UDP over IP.
    Udp,
    /// SCTP over IP.
    Sctp,
    /// An ICMP error that may concern a connection: IPv4 types 3, 4 and 11, `ICMPv6` types below
    /// 128 (IPVS 3.6).
    IcmpError,
    /// An ICMP or `ICMPv6` echo request.
    IcmpEchoRequest,
    /// Any other ICMP or `ICMPv6` message.
    IcmpOther,
    /// IP with a protocol that is none of the above.
    OtherIp,
    /// An IPv6 neighbour solicitation (RFC 4861, 4.3).
    NeighbourSolicitation,
    /// An ARP request for an IPv4 address over Ethernet (RFC 826).
    ArpRequest,
    /// Neither IP nor an ARP request.
    NotIp,
}

/// Which piece of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Fragment {
    /// The whole.
    #[default]
    None,
    /// The whole, behind an IPv6 fragment header that says so (RFC 6946).
    Atomic,
    /// The first of several: it has the transport header.
    First,
    /// Any further one: it has no ports.
    Later,
}

impl Fragment {
    /// Whether it is no piece but the whole.
    #[inline]
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::None | Self::Atomic)
    }
}

/// The flags of a TCP header (RFC 9293, 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all flags of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for TcpFlags {
    /// One letter per flag, as tcpdump has them, CWR first: `S`, `SA`, `FPA`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::CWR, "W"),
            (Self::ECE, "E"),
            (Self::URG, "U"),
            (Self::SYN, "S"),
            (Self::FIN, "F"),
            (Self::RST, "R"),
            (Self::PSH, "P"),
            (Self::ACK, "A"),
        ];
        f.write_str("TcpFlags(")?;
        for (flag, name) in names {
            if self.contains(flag) {
                f.write_str(name)?;
            }
        }
        f.write_str(")")
    }
}

/// A parsed frame. Offsets count from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub kind: Kind,
    /// Who talks to whom. Addresses for every IP packet; ports only where [`Packet::kind`] is TCP,
    /// UDP or SCTP and the packet is no later fragment, else 0. The protocol is
    /// [`Protocol::Ip`] where [`Packet::protocol`] is none of the known ones.
    pub flow: Flow,
    /// The family of the IP header; IPv4 for ARP and what is not IP.
    pub family: Family,
    /// The transport protocol's number, behind all IPv6 extension headers; 0 if not IP.
    pub protocol: u8,
    /// Where the IP header starts, behind Ethernet and VLAN tags.
    pub l3: u16,
    /// Where the transport header starts.
    pub l4: u16,
    /// Where the IP packet ends: `l3` and its total length. Behind it may be padding.
    pub end: u32,
    /// The flags of a TCP header; none otherwise.
    pub tcp_flags: TcpFlags,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class: DSCP and ECN.
    pub tos: u8,
    /// The DF bit; always set for IPv6, whose routers never fragment.
    pub dont_fragment: bool,
    /// Which piece of a datagram.
    pub fragment: Fragment,
    /// The type of the first chunk of SCTP, or ABORT where that comes right behind COOKIE ECHO or
    /// COOKIE ACK (IPVS 2.10); 0 otherwise.
    pub sctp_chunk: u8,
}

impl Packet {
    /// No packet at all: an empty frame that is not IP.
    pub const NONE: Self = Self::not_ip(Kind::NotIp, 0, 0);

    /// Something that is not IP, whose payload starts at `l3`.
    pub(crate) const fn not_ip(kind: Kind, l3: u16, end: u32) -> Self {
        let nobody = Endpoint::new(Addr::UNSPECIFIED, 0);
        Self {
            kind,
            flow: Flow::new(Protocol::Ip, nobody, nobody),
            family: Family::V4,
            protocol: 0,
            l3,
            l4: l3,
            end,
            tcp_flags: TcpFlags(0),
            ttl: 0,
            tos: 0,
            dont_fragment: false,
            fragment: Fragment::None,
            sctp_chunk: 0,
        }
    }

    /// Length of the IP packet, header included: the bytes that statistics count (IPVS 7.1).
    #[inline]
    #[must_use]
    pub const fn ip_len(&self) -> u32 {
        self.end - self.l3 as u32
    }

    /// Whether the flow has ports.
    #[inline]
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Udp | Kind::Sctp)
            && !matches!(self.fragment, Fragment::Later)
    }

    /// `l3` as an index.
    #[inline]
    pub(crate) const fn ip(&self) -> usize {
        self.l3 as usize
    }

    /// `l4` as an index.
    #[inline]
    pub(crate) const fn transport(&self) -> usize {
        self.l4 as usize
    }

    /// `end` as an index.
    #[inline]
    pub(crate) const fn tail(&self) -> usize {
        self.end as usize
    }

    /// Whether it is an IP packet.
    #[inline]
    #[must_use]
    pub const fn is_ip(&self) -> bool {
        !matches!(self.kind, Kind::NotIp | Kind::ArpRequest)
    }
}
