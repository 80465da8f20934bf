//! From the bytes of a frame to a [`Packet`]: one pass, nothing copied, nothing changed.
//!
//! What goes in is a frame as the wire, or a kernel that left work to the hardware, gives it. What
//! comes out is where its headers stand, or the reason why they cannot. Every length is checked
//! against the frame, the checksum of an IPv4 header is verified; transport checksums are not, the
//! rewriters keep wrong ones wrong (IPVS 3.2).
//!
//! ```
//! use lvs_packet::{Frame, Kind, Offload, build, parse};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("198.51.100.7".parse()?, "192.0.2.10".parse()?);
//! let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40000, 80), b"").unwrap();
//! let frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! assert_eq!(packet.kind, Kind::Tcp);
//! assert_eq!(packet.flow.dst.port, 80);
//! # Ok::<(), core::net::AddrParseError>(())
//! ```

mod ipv4;
mod ipv6;
mod plain;
mod quoted;
mod transport;

use crate::bytes::{array, u16_at};
use crate::frame::Frame;
use crate::packet::{Fragment, Kind, Packet};
use lvs_core::{Addr, DropReason, Family};

pub(crate) use ipv6::MAX_EXTENSION_HEADERS;
pub(crate) use transport::{ICMP_LEN, TCP_LEN, UDP_LEN};

pub use plain::Plain;
pub(crate) use plain::{HEAD_V4, HEAD_V6, L4_V4, L4_V6};
pub use quoted::{Quoted, QuotedKind, parse_quoted, parse_quoted_tunnel};

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and what was used before 802.1ad.
const VLAN_TYPES: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Nested tags beyond this make the frame none of ours.
const MAX_TAGS: usize = 4;
pub(crate) const ETHERNET_LEN: usize = 14;
pub(crate) const ARP_LEN: usize = 28;
pub(crate) const IPV4_LEN: usize = 20;
pub(crate) const IPV6_LEN: usize = 40;

/// Protocol numbers that stand in IP headers (IANA).
pub(crate) mod number {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPIP: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
}

/// What an IP header with all that belongs to it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) family: Family,
    pub(crate) l3: usize,
    pub(crate) l4: usize,
    pub(crate) end: usize,
    pub(crate) protocol: u8,
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) fragment: Fragment,
    /// The fragment is the second unit of eight bytes, where a tiny first fragment would have
    /// left the rest of a TCP header.
    pub(crate) second_unit: bool,
}

/// Parses a frame from its Ethernet header on.
///
/// # Errors
/// What is malformed, by the rules of RFC 791, 8200, 9293, 768, 9260 and 792; a frame that is not
/// IP is none of that but [`Kind::NotIp`].
#[inline]
pub fn parse(frame: &Frame<'_>) -> Result<Packet, DropReason> {
    match plain::parse(frame) {
        Some(packet) => Ok(packet),
        None => general(frame),
    }
}

/// Parses any frame.
#[inline(never)]
fn general(frame: &Frame<'_>) -> Result<Packet, DropReason> {
    let bytes = frame.bytes();
    let segmented = frame.offload.segmentation.is_some();
    match u16_at(bytes, 12).ok_or(DropReason::Truncated)? {
        ETHERTYPE_IPV4 => {
            let network = ipv4::parse(bytes, ETHERNET_LEN, segmented)?;
            transport::parse(bytes, network, segmented)
        }
        ETHERTYPE_IPV6 => {
            let network = ipv6::parse(bytes, ETHERNET_LEN, segmented)?;
            transport::parse(bytes, network, segmented)
        }
        _ => other(bytes, segmented),
    }
}

/// What [`parse`] would say of a frame if its IPv4 options were good: for who tells the sender that they are
/// not ([`crate::options::receive`]).
///
/// # Errors
/// As [`parse`], but for [`DropReason::BadIpOptions`]; [`DropReason::BadVersion`] if it is not IPv4.
#[cold]
pub fn despite_options(frame: &Frame<'_>) -> Result<Packet, DropReason> {
    let bytes = frame.bytes();
    match untag(bytes)? {
        (ETHERTYPE_IPV4, l3) => transport::parse(bytes, ipv4::parse_lenient(bytes, l3)?, false),
        _ => Err(DropReason::BadVersion),
    }
}

/// What is not IP, or IP behind tags.
#[inline(never)]
fn other(bytes: &[u8], segmented: bool) -> Result<Packet, DropReason> {
    let (ethertype, l3) = untag(bytes)?;
    match ethertype {
        ETHERTYPE_IPV4 => transport::parse(bytes, ipv4::parse(bytes, l3, segmented)?, segmented),
        ETHERTYPE_IPV6 => transport::parse(bytes, ipv6::parse(bytes, l3, segmented)?, segmented),
        ETHERTYPE_ARP => arp(bytes, l3),
        _ => Ok(Packet::not_ip(Kind::NotIp, offset(l3)?, end(bytes.len())?)),
    }
}

/// The EtherType behind the VLAN tags, and where its payload starts.
fn untag(bytes: &[u8]) -> Result<(u16, usize), DropReason> {
    let mut at = 12;
    for _ in 0..=MAX_TAGS {
        let ethertype = u16_at(bytes, at).ok_or(DropReason::Truncated)?;
        if !VLAN_TYPES.contains(&ethertype) {
            return Ok((ethertype, at + 2));
        }
        at += 4;
    }
    // Behind the last type that was read; what it tags is nobody's.
    Ok((0, at - 2))
}

fn arp(bytes: &[u8], l3: usize) -> Result<Packet, DropReason> {
    let arp: &[u8; ARP_LEN] = array(bytes, l3).ok_or(DropReason::Truncated)?;
    // Ethernet, IPv4, addresses of 6 and 4 bytes, a request.
    let request = arp.starts_with(&[0, 1, 8, 0, 6, 4, 0, 1]);
    let kind = if request {
        Kind::ArpRequest
    } else {
        Kind::NotIp
    };
    Ok(Packet::not_ip(kind, offset(l3)?, end(l3 + ARP_LEN)?))
}

/// An offset of a header. No chain of headers that is accepted reaches 64 KB.
#[inline]
pub(crate) fn offset(at: usize) -> Result<u16, DropReason> {
    u16::try_from(at).map_err(|_| DropReason::Truncated)
}

#[inline]
pub(crate) fn end(at: usize) -> Result<u32, DropReason> {
    u32::try_from(at).map_err(|_| DropReason::BadTotalLength)
}
