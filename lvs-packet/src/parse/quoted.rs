//! The packet that an ICMP error quotes (RFC 792, RFC 4443): the start of a packet that we or our
//! neighbours sent, cut where the sender of the error liked to.

use super::ipv6::{addresses_of, chain};
use super::transport::{ICMP_LEN, UDP_LEN};
use super::{IPV4_LEN, IPV6_LEN, end, number, offset};
use crate::Fragment;
use crate::bytes::{array, u16_at, u32_at};
use crate::frame::Frame;
use crate::packet::{Kind, Packet};
use lvs_core::{Addr, DropReason, Endpoint, Family, Flow, Protocol};

/// What a quoted packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotedKind {
    /// TCP.
    Tcp,
    /// UDP; also what a GUE tunnel sends.
    Udp,
    /// SCTP.
    Sctp,
    /// A tunnel's packet with IPv4 in it (protocol 4).
    Ipv4,
    /// A tunnel's packet with IPv6 in it (protocol 41).
    Ipv6,
    /// A GRE tunnel's packet (protocol 47).
    Gre,
    /// Anything else.
    Other,
}

/// A quoted packet. Offsets count from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// What it is.
    pub kind: QuotedKind,
    /// Who it was from and for. Ports 0 unless [`Quoted::has_ports`].
    pub flow: Flow,
    /// Family of its IP header.
    pub family: Family,
    /// Its transport protocol's number.
    pub protocol: u8,
    /// Where its IP header starts.
    pub l3: u16,
    /// Where its transport header starts, or would.
    pub l4: u16,
    /// Where the quote ends.
    pub end: u32,
    /// Whether both ports are quoted: TCP, UDP or SCTP, no later fragment, not cut before.
    pub has_ports: bool,
    /// The DF bit; always set for IPv6.
    pub dont_fragment: bool,
    /// Type of the ICMP message that quotes it.
    pub icmp_type: u8,
    /// Code of that message.
    pub icmp_code: u8,
    /// The four bytes behind that message's checksum: the MTU of a "too big", the lower half of it
    /// for IPv4.
    pub icmp_info: u32,
}

impl Quoted {
    /// The MTU that the error reports, if it says that the packet was too big.
    #[must_use]
    pub const fn mtu(&self) -> Option<u32> {
        match (self.family, self.icmp_type, self.icmp_code) {
            (Family::V4, 3, 4) => Some(self.icmp_info & 0xffff),
            (Family::V6, 2, _) => Some(self.icmp_info),
            _ => None,
        }
    }
}

/// Parses the packet that `packet`, an ICMP error, quotes.
///
/// # Errors
/// [`DropReason::BadIcmpQuote`] if there is none whose addresses can be read, or `packet` is no
/// error.
pub fn parse_quoted(frame: &Frame<'_>, packet: &Packet) -> Result<Quoted, DropReason> {
    if packet.kind != Kind::IcmpError {
        return Err(DropReason::BadIcmpQuote);
    }
    let bytes = frame.bytes().get(..packet.tail()).unwrap_or_default();
    let at = packet.transport();
    let head: &[u8; ICMP_LEN] = array(bytes, at).ok_or(DropReason::BadIcmpQuote)?;
    let [icmp_type, icmp_code, ..] = *head;
    let error = Error {
        icmp_type,
        icmp_code,
        icmp_info: u32_at(head, 4).unwrap_or_default(),
    };
    network(bytes, at + ICMP_LEN, packet.family, error)
}

/// Parses the packet inside a quoted tunnel packet: IPIP, GRE as RFC 2784 has it, or, if `outer`
/// is UDP, GUE (the caller knows whether its port is a tunnel's).
///
/// # Errors
/// [`DropReason::BadIcmpQuote`] if `outer` is none of these or the quote ends before the inner
/// addresses.
pub fn parse_quoted_tunnel(frame: &Frame<'_>, outer: &Quoted) -> Result<Quoted, DropReason> {
    const BAD: DropReason = DropReason::BadIcmpQuote;
    let end = usize::try_from(outer.end).map_err(|_| BAD)?;
    let bytes = frame.bytes().get(..end).unwrap_or_default();
    let l4 = usize::from(outer.l4);
    let error = Error {
        icmp_type: outer.icmp_type,
        icmp_code: outer.icmp_code,
        icmp_info: outer.icmp_info,
    };
    let (at, family) = match outer.kind {
        QuotedKind::Ipv4 => (l4, Family::V4),
        QuotedKind::Ipv6 => (l4, Family::V6),
        QuotedKind::Gre => {
            let length = match u16_at(bytes, l4).ok_or(BAD)? {
                0 => 4,
                0x8000 => 8,
                _ => return Err(BAD),
            };
            let family = match u16_at(bytes, l4 + 2).ok_or(BAD)? {
                super::ETHERTYPE_IPV4 => Family::V4,
                super::ETHERTYPE_IPV6 => Family::V6,
                _ => return Err(BAD),
            };
            (l4 + length, family)
        }
        QuotedKind::Udp => {
            let &[head, inner, ..] = array::<4>(bytes, l4 + UDP_LEN).ok_or(BAD)?;
            // Version 0, no control message.
            if head & 0xe0 != 0 {
                return Err(BAD);
            }
            let family = match inner {
                number::IPIP => Family::V4,
                number::IPV6 => Family::V6,
                _ => return Err(BAD),
            };
            (l4 + UDP_LEN + 4 + usize::from(head & 0x1f) * 4, family)
        }
        _ => return Err(BAD),
    };
    network(bytes, at, family, error)
}

#[derive(Clone, Copy)]
struct Error {
    icmp_type: u8,
    icmp_code: u8,
    icmp_info: u32,
}

fn network(bytes: &[u8], l3: usize, family: Family, error: Error) -> Result<Quoted, DropReason> {
    const BAD: DropReason = DropReason::BadIcmpQuote;
    let quote = bytes.get(l3..).ok_or(BAD)?;
    let src;
    let dst;
    let protocol;
    let l4;
    let later;
    let dont_fragment;
    match family {
        Family::V4 => {
            let header: &[u8; IPV4_LEN] = quote.first_chunk().ok_or(BAD)?;
            let [
                version,
                _,
                _,
                _,
                _,
                _,
                f0,
                f1,
                _,
                number,
                _,
                _,
                from @ ..,
                d0,
                d1,
                d2,
                d3,
            ] = *header;
            let length = usize::from(version & 0xf) * 4;
            if version >> 4 != 4 || length < IPV4_LEN || length > quote.len() {
                return Err(BAD);
            }
            src = Addr::from_v4_octets(from);
            dst = Addr::from_v4_octets([d0, d1, d2, d3]);
            protocol = number;
            l4 = length;
            later = u16::from_be_bytes([f0, f1]) & 0x1fff != 0;
            dont_fragment = f0 & 0x40 != 0;
        }
        Family::V6 => {
            let header: &[u8; IPV6_LEN] = quote.first_chunk().ok_or(BAD)?;
            let [version, _, _, _, _, _, next, _, addresses @ ..] = header;
            if version >> 4 != 6 {
                return Err(BAD);
            }
            (src, dst) = addresses_of(addresses);
            if src.is_v4() || dst.is_v4() {
                return Err(BAD);
            }
            let upper = chain(quote, *next, false).map_err(|_| BAD)?;
            protocol = upper.protocol;
            l4 = upper.at;
            later = upper.fragment == Fragment::Later;
            dont_fragment = true;
        }
    }
    let kind = match protocol {
        number::TCP => QuotedKind::Tcp,
        number::UDP => QuotedKind::Udp,
        number::SCTP => QuotedKind::Sctp,
        number::IPIP => QuotedKind::Ipv4,
        number::IPV6 => QuotedKind::Ipv6,
        number::GRE => QuotedKind::Gre,
        _ => QuotedKind::Other,
    };
    let mut quoted = Quoted {
        kind,
        flow: Flow::new(
            Protocol::from_number(protocol).unwrap_or(Protocol::Ip),
            Endpoint::new(src, 0),
            Endpoint::new(dst, 0),
        ),
        family,
        protocol,
        l3: offset(l3)?,
        l4: offset(l3 + l4)?,
        end: end(bytes.len())?,
        has_ports: false,
        dont_fragment,
        icmp_type: error.icmp_type,
        icmp_code: error.icmp_code,
        icmp_info: error.icmp_info,
    };
    let has_ports = matches!(kind, QuotedKind::Tcp | QuotedKind::Udp | QuotedKind::Sctp);
    if has_ports
        && !later
        && let Some(&[s0, s1, d0, d1]) = array(quote, l4)
    {
        quoted.flow.src.port = u16::from_be_bytes([s0, s1]);
        quoted.flow.dst.port = u16::from_be_bytes([d0, d1]);
        quoted.has_ports = true;
    }
    Ok(quoted)
}
