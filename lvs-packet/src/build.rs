//! Packets made from values, for tests, fuzzing and embedders: Ethernet, IP and a transport
//! header, with true lengths and checksums, into a buffer of the caller's.
//!
//! ```
//! use lvs_packet::{Frame, Kind, Offload, build, parse};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("fd01::5".parse()?, "fd00::1".parse()?);
//! let length = build::udp(&mut buffer, &ip, 40001, 53, b"query")?;
//! let frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! assert_eq!(parse(&frame).unwrap().kind, Kind::Udp);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{length_field, set, set_u16};
use crate::checksum;
use crate::packet::TcpFlags;
use crate::parse::{
    ARP_LEN, ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP_LEN, IPV4_LEN,
    IPV6_LEN, TCP_LEN, UDP_LEN, number,
};
use core::fmt;
use lvs_core::{Addr, Family};

/// The buffer does not hold the packet, or a length field does not hold its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packet is longer than the buffer or its length fields allow")
    }
}

impl core::error::Error for TooLong {}

/// An Ethernet and an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Ethernet source.
    pub from: [u8; 6],
    /// Ethernet destination.
    pub to: [u8; 6],
    /// TPID and TCI of VLAN tags, outermost first.
    pub tags: &'a [(u16, u16)],
    /// Source; decides the family, together with the destination.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv4 identification.
    pub ident: u16,
    /// Flags and offset of IPv4, as they stand in the header; 0x4000 is DF.
    pub fragment: u16,
    /// Flow label of IPv6, 20 bits.
    pub flow_label: u32,
    /// IPv4 options (a multiple of 4 bytes), or whole IPv6 extension headers; the last one's next
    /// header is the caller's to set.
    pub options: &'a [u8],
    /// The first number of an IPv6 chain, if there are extension headers.
    pub first_extension: Option<u8>,
}

impl Ip<'_> {
    /// Plain headers: TTL 64, TOS 0, DF, no tags and options, locally administered Ethernet
    /// addresses.
    #[must_use]
    pub const fn new(src: Addr, dst: Addr) -> Self {
        Self {
            from: [2, 0, 0, 0, 0, 1],
            to: [2, 0, 0, 0, 0, 2],
            tags: &[],
            src,
            dst,
            ttl: 64,
            tos: 0,
            ident: 0,
            fragment: 0x4000,
            flow_label: 0,
            options: &[],
            first_extension: None,
        }
    }
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window.
    pub window: u16,
    /// Options, a multiple of 4 bytes, at most 40.
    pub options: &'a [u8],
}

impl Tcp<'_> {
    /// A connection's first segment.
    #[must_use]
    pub const fn syn(src: u16, dst: u16) -> Self {
        Self {
            src,
            dst,
            sequence: 1000,
            acknowledged: 0,
            flags: TcpFlags::SYN,
            window: 64240,
            options: &[],
        }
    }
}

/// A TCP segment. Gives the frame's length.
///
/// # Errors
/// [`TooLong`].
pub fn tcp(
    buffer: &mut [u8],
    ip: &Ip<'_>,
    tcp: &Tcp<'_>,
    payload: &[u8],
) -> Result<usize, TooLong> {
    let header_len = TCP_LEN + tcp.options.len();
    let (l4, length) = headers(buffer, ip, number::TCP, header_len + payload.len())?;
    let segment = buffer.get_mut(l4..length).ok_or(TooLong)?;
    set_u16(segment, 0, tcp.src);
    set_u16(segment, 2, tcp.dst);
    set(segment, 4, tcp.sequence.to_be_bytes());
    set(segment, 8, tcp.acknowledged.to_be_bytes());
    let data_offset = u8::try_from(header_len * 4).map_err(|_| TooLong)?;
    let [w0, w1] = tcp.window.to_be_bytes();
    set(segment, 12, [data_offset, tcp.flags.0, w0, w1, 0, 0, 0, 0]);
    copy(segment, TCP_LEN, tcp.options)?;
    copy(segment, header_len, payload)?;
    let checksum = checksum::transport(ip.src, ip.dst, number::TCP, segment);
    set_u16(segment, 16, checksum);
    Ok(length)
}

/// A UDP datagram. Gives the frame's length.
///
/// # Errors
/// [`TooLong`].
pub fn udp(
    buffer: &mut [u8],
    ip: &Ip<'_>,
    src: u16,
    dst: u16,
    payload: &[u8],
) -> Result<usize, TooLong> {
    let (l4, length) = headers(buffer, ip, number::UDP, UDP_LEN + payload.len())?;
    let datagram = buffer.get_mut(l4..length).ok_or(TooLong)?;
    let field = length_field(datagram.len());
    set_u16(datagram, 0, src);
    set_u16(datagram, 2, dst);
    set_u16(datagram, 4, field);
    set_u16(datagram, 6, 0);
    copy(datagram, UDP_LEN, payload)?;
    let checksum = match checksum::transport(ip.src, ip.dst, number::UDP, datagram) {
        0 => 0xffff,
        checksum => checksum,
    };
    set_u16(datagram, 6, checksum);
    Ok(length)
}

/// An SCTP packet with these chunks. Gives the frame's length.
///
/// # Errors
/// [`TooLong`].
pub fn sctp(
    buffer: &mut [u8],
    ip: &Ip<'_>,
    src: u16,
    dst: u16,
    tag: u32,
    chunks: &[u8],
) -> Result<usize, TooLong> {
    let (l4, length) = headers(buffer, ip, number::SCTP, 12 + chunks.len())?;
    let packet = buffer.get_mut(l4..length).ok_or(TooLong)?;
    set_u16(packet, 0, src);
    set_u16(packet, 2, dst);
    set(packet, 4, tag.to_be_bytes());
    copy(packet, 12, chunks)?;
    let crc = checksum::sctp(packet);
    set(packet, 8, crc);
    Ok(length)
}

/// An ICMP or `ICMPv6` message, by the family of the addresses: type, code, the four bytes behind
/// the checksum, and the rest. Gives the frame's length.
///
/// # Errors
/// [`TooLong`].
pub fn icmp(
    buffer: &mut [u8],
    ip: &Ip<'_>,
    (icmp_type, code): (u8, u8),
    info: u32,
    payload: &[u8],
) -> Result<usize, TooLong> {
    let protocol = match ip.src.family() {
        Family::V4 => number::ICMP,
        Family::V6 => number::ICMPV6,
    };
    let (l4, length) = headers(buffer, ip, protocol, ICMP_LEN + payload.len())?;
    let message = buffer.get_mut(l4..length).ok_or(TooLong)?;
    set(message, 0, [icmp_type, code, 0, 0]);
    set(message, 4, info.to_be_bytes());
    copy(message, ICMP_LEN, payload)?;
    let checksum = match ip.src.family() {
        Family::V4 => checksum::full(message),
        Family::V6 => checksum::transport(ip.src, ip.dst, protocol, message),
    };
    set_u16(message, 2, checksum);
    Ok(length)
}

/// A packet of any protocol, with this behind its IP header: a fragment, for instance. Gives the
/// frame's length.
///
/// # Errors
/// [`TooLong`].
pub fn ip(buffer: &mut [u8], ip: &Ip<'_>, protocol: u8, payload: &[u8]) -> Result<usize, TooLong> {
    let (l4, length) = headers(buffer, ip, protocol, payload.len())?;
    copy(buffer, l4, payload)?;
    Ok(length)
}

/// A question for the link-layer address of `target`, from the owner of `src` at `from`: an ARP
/// request, or a neighbour solicitation to its multicast group. Gives the frame's length.
///
/// # Errors
/// [`TooLong`].
pub fn who_has(
    buffer: &mut [u8],
    from: [u8; 6],
    src: Addr,
    target: Addr,
) -> Result<usize, TooLong> {
    match target.family() {
        Family::V4 => {
            let length = ETHERNET_LEN + ARP_LEN;
            let frame = buffer.get_mut(..length).ok_or(TooLong)?;
            set(frame, 0, [0xff; 6]);
            set(frame, 6, from);
            set_u16(frame, 12, ETHERTYPE_ARP);
            set(frame, 14, [0, 1, 8, 0, 6, 4, 0, 1]);
            set(frame, 22, from);
            set(frame, 28, src.v4_octets());
            set(frame, 32, [0; 6]);
            set(frame, 38, target.v4_octets());
            Ok(length)
        }
        Family::V6 => {
            let [.., g0, g1, g2] = target.v6_octets();
            let group = u64::from(u32::from_be_bytes([0xff, g0, g1, g2]));
            let header = Ip {
                from,
                to: [0x33, 0x33, 0xff, g0, g1, g2],
                ttl: 255,
                ..Ip::new(
                    src,
                    Addr {
                        hi: 0xff02 << 48,
                        lo: 1 << 32 | group,
                    },
                )
            };
            let mut payload = [0; 24];
            set(&mut payload, 0, target.v6_octets());
            set(&mut payload, 16, [1, 1]);
            set(&mut payload, 18, from);
            icmp(buffer, &header, (135, 0), 0, &payload)
        }
    }
}

/// Writes Ethernet and IP headers for `payload` bytes; gives where these start and end.
fn headers(
    buffer: &mut [u8],
    ip: &Ip<'_>,
    protocol: u8,
    payload: usize,
) -> Result<(usize, usize), TooLong> {
    set(buffer, 0, ip.to);
    set(buffer, 6, ip.from);
    let mut at = 12;
    for (tpid, tci) in ip.tags {
        set_u16(buffer, at, *tpid);
        set_u16(buffer, at + 2, *tci);
        at += 4;
    }
    let l3 = at + 2;
    let fixed = match ip.src.family() {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    let l4 = l3 + fixed + ip.options.len();
    let length = l4 + payload;
    let header = buffer
        .get_mut(..length)
        .and_then(|frame| frame.get_mut(l3..l4))
        .ok_or(TooLong)?;
    match ip.src.family() {
        Family::V4 => {
            let total = u16::try_from(length - l3).map_err(|_| TooLong)?;
            let ihl = u8::try_from((l4 - l3) / 4).map_err(|_| TooLong)?;
            if ihl > 15 {
                return Err(TooLong);
            }
            set(header, 0, [0x40 | ihl, ip.tos]);
            set_u16(header, 2, total);
            set_u16(header, 4, ip.ident);
            set_u16(header, 6, ip.fragment);
            set(header, 8, [ip.ttl, protocol, 0, 0]);
            set(header, 12, ip.src.v4_octets());
            set(header, 16, ip.dst.v4_octets());
            copy(header, IPV4_LEN, ip.options)?;
            let checksum = checksum::full(header);
            set_u16(header, 10, checksum);
            set_u16(buffer, at, ETHERTYPE_IPV4);
        }
        Family::V6 => {
            let total = u16::try_from(length - l3 - IPV6_LEN).map_err(|_| TooLong)?;
            let word = 0x6000_0000 | (u32::from(ip.tos) << 20) | (ip.flow_label & 0xf_ffff);
            set(header, 0, word.to_be_bytes());
            set_u16(header, 4, total);
            set(header, 6, [ip.first_extension.unwrap_or(protocol), ip.ttl]);
            set(header, 8, ip.src.v6_octets());
            set(header, 24, ip.dst.v6_octets());
            copy(header, IPV6_LEN, ip.options)?;
            set_u16(buffer, at, ETHERTYPE_IPV6);
        }
    }
    Ok((l4, length))
}

fn copy(to: &mut [u8], at: usize, from: &[u8]) -> Result<(), TooLong> {
    to.get_mut(at..at + from.len())
        .ok_or(TooLong)?
        .copy_from_slice(from);
    Ok(())
}
