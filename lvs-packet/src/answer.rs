//! Answers to the sender of a packet, made from the packet itself, in place (IPVS 3.7).
//!
//! The frame becomes the answer: Ethernet addresses change places, VLAN tags stay, the IP header
//! is new. What was parsed before is stale afterwards.
//!
//! ```
//! use lvs_packet::{Frame, Kind, Offload, answer, build, parse};
//! let mut buffer = [0; 192];
//! let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
//! let length = build::tcp(&mut buffer[64..], &ip, &build::Tcp::syn(40001, 80), b"")?;
//! let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! let vip = packet.flow.dst.addr;
//! answer::icmp_error(&mut frame, &packet, answer::IcmpProblem::PortUnreachable, vip).unwrap();
//! let error = parse(&frame).unwrap();
//! assert_eq!((error.kind, error.flow.dst.addr), (Kind::IcmpError, packet.flow.src.addr));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array, length_field, set, set_u16, u8_at, u16_at, u32_at};
use crate::checksum;
use crate::ethernet;
use crate::frame::{Frame, Offload};
use crate::options::{self, Echo};
use crate::packet::{Fragment, Kind, Packet, TcpFlags};
use crate::parse::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP_LEN, IPV4_LEN, IPV6_LEN, Quoted, TCP_LEN, number,
};
use lvs_core::{Addr, DropReason, Family};

/// TTL and hop limit of what the director itself sends.
const TTL: u8 = 64;
/// An IPv4 error in all, and so with 548 quoted bytes (RFC 1812, 4.3.2.3).
const V4_ERROR_LIMIT: usize = 576;
/// An IPv6 error in all: the least MTU (RFC 4443, 2.4).
const V6_ERROR_LIMIT: usize = 1280;
const ECN: u8 = 3;

/// Why a packet cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpProblem {
    /// Nobody serves this port: 3/3, or 1/4 of `ICMPv6`.
    PortUnreachable,
    /// No route: 3/1, or 1/0 of `ICMPv6`.
    HostUnreachable,
    /// TTL or hop limit used up: 11/0, or 3/0 of `ICMPv6`.
    TimeExceeded,
    /// Longer than the MTU of its way: 3/4, or 2/0 of `ICMPv6`.
    TooBig {
        /// What would pass, in bytes.
        mtu: u32,
    },
    /// An option that cannot be, or that nobody knows: 12, or 4 of `ICMPv6`.
    BadOption {
        /// The code of the message.
        code: u8,
        /// Where, in bytes from the start of the IP header.
        pointer: u16,
    },
    /// An error that came back about a tunnel's packet, for the sender of the packet inside: type,
    /// code, and the four bytes behind the checksum.
    Relayed {
        /// Type of the message.
        icmp_type: u8,
        /// Its code.
        icmp_code: u8,
        /// The four bytes behind its checksum.
        icmp_info: u32,
    },
}

impl IcmpProblem {
    /// Type and code of the message that says so.
    #[must_use]
    pub const fn kind(self, family: Family) -> (u8, u8) {
        let (icmp_type, icmp_code, _) = self.message(family);
        (icmp_type, icmp_code)
    }

    /// Type, code, and the four bytes behind the checksum.
    const fn message(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Self::PortUnreachable, Family::V4) => (3, 3, 0),
            (Self::PortUnreachable, Family::V6) => (1, 4, 0),
            (Self::HostUnreachable, Family::V4) => (3, 1, 0),
            (Self::HostUnreachable, Family::V6) => (1, 0, 0),
            (Self::TimeExceeded, Family::V4) => (11, 0, 0),
            (Self::TimeExceeded, Family::V6) => (3, 0, 0),
            // An IPv4 packet is never longer than its 16 bits.
            (Self::TooBig { mtu }, Family::V4) => (3, 4, if mtu > 0xffff { 0xffff } else { mtu }),
            (Self::TooBig { mtu }, Family::V6) => (2, 0, mtu),
            (Self::BadOption { code, pointer }, Family::V4) => (12, code, (pointer as u32) << 24),
            (Self::BadOption { code, pointer }, Family::V6) => (4, code, pointer as u32),
            (
                Self::Relayed {
                    icmp_type,
                    icmp_code,
                    icmp_info,
                },
                _,
            ) => (icmp_type, icmp_code, icmp_info),
        }
    }
}

/// The frame becomes an ICMP error about the packet in it, from `source` to its sender. The packet
/// is quoted as it stands in the frame; for "too big" the caller decrements the TTL before. IPv4 options
/// that record the way are in the error too, with `source` once more ([`crate::options`]).
///
/// # Errors
/// What may not be answered (RFC 1122, 3.2.2; RFC 4443, 2.4) or not like this:
/// [`DropReason::BadAddress`] if the sender, the destination or `source` is no unicast address,
/// or `source` of another family; [`DropReason::BadIcmpQuote`] if the packet is an ICMP error itself;
/// [`DropReason::FragmentUnknown`] if it is a later fragment; [`DropReason::BadVersion`] if it is
/// not IP; [`DropReason::NoHeadroom`] without 48 free bytes before the frame (28 for IPv4, and what its
/// options are long). The
/// frame is unchanged, but for a finished checksum.
pub fn icmp_error(
    frame: &mut Frame<'_>,
    packet: &Packet,
    problem: IcmpProblem,
    source: Addr,
) -> Result<(), DropReason> {
    if is_about_others(frame, packet) {
        return Err(DropReason::BadIcmpQuote);
    }
    if packet.fragment == Fragment::Later {
        return Err(DropReason::FragmentUnknown);
    }
    answerable(packet)?;
    let to = packet.flow.src.addr;
    let unicast = source.is_unicast() && packet.flow.dst.addr.is_unicast();
    if source.family() != packet.family || !unicast {
        return Err(DropReason::BadAddress);
    }
    // The tail first: what a partial checksum covers ends with the packet.
    frame.set_len(packet.tail())?;
    checksum::finish_partial(frame)?;
    let tos = tos(frame, packet);
    let options = echo(frame, packet, source);
    error_about(
        frame,
        packet.ip(),
        packet.ip(),
        problem,
        (source, to),
        (tos, options),
    )
}

/// The frame, an error about a tunnel's packet, becomes an error about the packet `inner` that the
/// tunnel carried, from `source` to the sender of that: quoted exactly as the error quotes it.
///
/// # Errors
/// As [`icmp_error`]; [`DropReason::BadIcmpQuote`] if `inner` is itself an ICMP message.
pub fn relay_error(
    frame: &mut Frame<'_>,
    packet: &Packet,
    inner: &Quoted,
    problem: IcmpProblem,
    source: Addr,
) -> Result<(), DropReason> {
    if packet.kind != Kind::IcmpError || matches!(inner.protocol, number::ICMP | number::ICMPV6) {
        return Err(DropReason::BadIcmpQuote);
    }
    let to = inner.flow.src.addr;
    let unicast = source.is_unicast() && to.is_unicast();
    if source.family() != inner.family || !unicast {
        return Err(DropReason::BadAddress);
    }
    let end = usize::try_from(inner.end).map_err(|_| DropReason::Truncated)?;
    frame.set_len(end)?;
    let l3 = usize::from(inner.l3);
    let tos = u8_at(frame.bytes(), l3 + 1).unwrap_or_default();
    error_about(
        frame,
        packet.ip(),
        l3,
        problem,
        (source, to),
        (tos, Echo::NONE),
    )
}

/// The type of service as the frame has it; 0 for IPv6, whose errors do not take it over.
fn tos(frame: &Frame<'_>, packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => u8_at(frame.bytes(), packet.ip() + 1).unwrap_or_default(),
        Family::V6 => 0,
    }
}

/// Replaces all between the link layer, which ends at `l3`, and `quote` by an error that quotes
/// the rest of the frame, as much of it as goes into one.
fn error_about(
    frame: &mut Frame<'_>,
    l3: usize,
    quote: usize,
    problem: IcmpProblem,
    (source, to): (Addr, Addr),
    (tos, options): (u8, Echo),
) -> Result<(), DropReason> {
    let family = source.family();
    let (ip_len, limit) = match family {
        Family::V4 => (IPV4_LEN, V4_ERROR_LIMIT),
        Family::V6 => (IPV6_LEN, V6_ERROR_LIMIT),
    };
    let room = quote - l3;
    let needed = ip_len + options.len() + ICMP_LEN;
    if let Some(missing) = needed.checked_sub(room) {
        frame.open_gap(l3, missing)?;
    } else {
        frame.close_gap(l3, room - needed)?;
    }
    frame.set_len(frame.len().min(l3 + limit))?;
    frame.offload = Offload::default();
    ethernet::swap_addresses(frame);
    set_ethertype(frame, l3, family);
    let own = Own {
        protocol: icmp_protocol(family),
        tos: match family {
            Family::V4 => 0xc0 | (tos & 0x1e),
            Family::V6 => 0,
        },
        ident: Some(match family {
            Family::V4 => u16_at(frame.bytes(), l3 + needed + 4).unwrap_or_default(),
            Family::V6 => 0,
        }),
        options,
    };
    let (icmp_type, icmp_code, icmp_info) = problem.message(family);
    let message = header(frame, l3, source, to, own)?;
    set(message, 0, [icmp_type, icmp_code, 0, 0]);
    set(message, 4, icmp_info.to_be_bytes());
    let checksum = match family {
        Family::V4 => checksum::full(message),
        Family::V6 => checksum::transport(source, to, number::ICMPV6, message),
    };
    set_u16(message, 2, checksum);
    Ok(())
}

/// The frame becomes the RST with which a stack answers for a closed port.
///
/// # Errors
/// [`DropReason::BadTcpOffset`] if the packet is no whole TCP segment or is itself a RST, which is
/// not answered; [`DropReason::BadAddress`] if an address is no unicast one. The frame is
/// unchanged.
pub fn tcp_reset(frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    let flags = packet.tcp_flags;
    if packet.kind != Kind::Tcp || !packet.fragment.is_whole() || flags.contains(TcpFlags::RST) {
        return Err(DropReason::BadTcpOffset);
    }
    answerable(packet)?;
    let (source, to) = (packet.flow.dst, packet.flow.src);
    if !source.addr.is_unicast() {
        return Err(DropReason::BadAddress);
    }
    let old: [u8; TCP_LEN] =
        *array(frame.bytes(), packet.transport()).ok_or(DropReason::Truncated)?;
    let field = |at| u32_at(&old, at).unwrap_or_default();
    let (sequence, acknowledged, flags) = if flags.contains(TcpFlags::ACK) {
        (field(8), 0, TcpFlags::RST)
    } else {
        let data_offset = usize::from(u8_at(&old, 12).unwrap_or_default() >> 4) * 4;
        let payload = (packet.tail() - packet.transport()).saturating_sub(data_offset);
        let length = u32::try_from(payload).unwrap_or_default()
            + u32::from(flags.contains(TcpFlags::SYN))
            + u32::from(flags.contains(TcpFlags::FIN));
        (
            0,
            field(4).wrapping_add(length),
            TcpFlags::RST | TcpFlags::ACK,
        )
    };
    let l3 = packet.ip();
    let ip_len = match packet.family {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    let options = echo(frame, packet, source.addr);
    frame.set_len(l3 + ip_len + options.len() + TCP_LEN)?;
    frame.offload = Offload::default();
    ethernet::swap_addresses(frame);
    let own = Own {
        protocol: number::TCP,
        tos: packet.tos & !ECN,
        ident: None,
        options,
    };
    let segment = header(frame, l3, source.addr, to.addr, own)?;
    set_u16(segment, 0, source.port);
    set_u16(segment, 2, to.port);
    set(segment, 4, sequence.to_be_bytes());
    set(segment, 8, acknowledged.to_be_bytes());
    set(segment, 12, [0x50, flags.0, 0, 0, 0, 0, 0, 0]);
    let checksum = checksum::transport(source.addr, to.addr, number::TCP, segment);
    set_u16(segment, 16, checksum);
    Ok(())
}

/// The frame, an echo request, becomes its reply, without extension headers, and of IPv4 options with
/// those that record the way.
///
/// # Errors
/// [`DropReason::BadVersion`] if the packet is no echo request; [`DropReason::FragmentUnknown`] if
/// it is a piece of one; [`DropReason::BadAddress`] if an address is no unicast one;
/// [`DropReason::BadIcmpChecksum`]. The frame is unchanged.
pub fn echo_reply(frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    if packet.kind != Kind::IcmpEchoRequest {
        return Err(DropReason::BadVersion);
    }
    if !packet.fragment.is_whole() {
        return Err(DropReason::FragmentUnknown);
    }
    answerable(packet)?;
    let (source, to) = (packet.flow.dst.addr, packet.flow.src.addr);
    if !source.is_unicast() {
        return Err(DropReason::BadAddress);
    }
    let l3 = packet.ip();
    let (ip_len, reply) = match packet.family {
        Family::V4 => (IPV4_LEN, 0),
        Family::V6 => (IPV6_LEN, 129),
    };
    frame.set_len(packet.tail())?;
    checksum::finish_partial(frame)?;
    if checksum::verify(frame, packet) != Some(true) {
        return Err(DropReason::BadIcmpChecksum);
    }
    let ident = u16_at(frame.bytes(), l3 + 4).unwrap_or_default();
    let options = echo(frame, packet, source);
    let header_len = ip_len + options.len();
    frame.close_gap(l3, (packet.transport() - l3).saturating_sub(header_len))?;
    frame.offload = Offload::default();
    ethernet::swap_addresses(frame);
    let own = Own {
        protocol: icmp_protocol(packet.family),
        tos: packet.tos,
        ident: Some(ident),
        options,
    };
    let message = header(frame, l3, source, to, own)?;
    let old = u16_at(message, 0).unwrap_or_default();
    let checksum = u16_at(message, 2).unwrap_or_default();
    let [_, code] = old.to_be_bytes();
    let new = u16::from_be_bytes([reply, code]);
    set_u16(message, 0, new);
    set_u16(message, 2, checksum::update(checksum, old, new));
    Ok(())
}

/// Whether a packet is one about which no ICMP error is sent (RFC 1122, 3.2.2): another error, a redirect
/// or source quench among them, or an ICMP message of a type that nobody knows.
fn is_about_others(frame: &Frame<'_>, packet: &Packet) -> bool {
    /// The last type that Linux knows: address mask reply.
    const LAST: u8 = 18;
    match packet.kind {
        Kind::IcmpError => true,
        Kind::IcmpOther if packet.family == Family::V4 => {
            let icmp_type = u8_at(frame.bytes(), packet.transport());
            icmp_type.is_none_or(|found| matches!(found, 3 | 4 | 5 | 11 | 12) || found > LAST)
        }
        _ => false,
    }
}

/// Whether there is someone to answer.
fn answerable(packet: &Packet) -> Result<(), DropReason> {
    if !packet.is_ip() {
        return Err(DropReason::BadVersion);
    }
    let from = packet.flow.src.addr;
    if !from.is_unicast() || from.is_loopback() {
        return Err(DropReason::BadAddress);
    }
    Ok(())
}

const fn icmp_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => number::ICMP,
        Family::V6 => number::ICMPV6,
    }
}

/// What an own IP header says beside its addresses.
struct Own {
    protocol: u8,
    tos: u8,
    /// The identification of IPv4; without one, DF is set.
    ident: Option<u16>,
    /// Those of IPv4.
    options: Echo,
}

/// The options of an answer from `source` to the packet.
fn echo(frame: &Frame<'_>, packet: &Packet, source: Addr) -> Echo {
    if !options::are_in(packet) {
        return Echo::NONE;
    }
    let header = frame.bytes().get(packet.ip()..packet.transport());
    Echo::to(header.unwrap_or_default(), source)
}

/// Writes an own IP header at `l3`, for a packet that is the rest of the frame, and gives what
/// stands behind it.
fn header<'f>(
    frame: &'f mut Frame<'_>,
    l3: usize,
    source: Addr,
    to: Addr,
    own: Own,
) -> Result<&'f mut [u8], DropReason> {
    let packet = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
    let length = packet.len();
    let Own {
        protocol,
        tos,
        ident,
        options,
    } = own;
    match source.family() {
        Family::V4 => {
            let (header, rest) = packet
                .split_at_mut_checked(IPV4_LEN + options.len())
                .ok_or(DropReason::Truncated)?;
            let flags = if ident.is_none() { 0x40 } else { 0 };
            let [l0, l1] = length_field(length).to_be_bytes();
            let [i0, i1] = ident.unwrap_or_default().to_be_bytes();
            let [.., units] = (header.len() / 4).to_be_bytes();
            let start = [
                0x40 | units,
                tos,
                l0,
                l1,
                i0,
                i1,
                flags,
                0,
                TTL,
                protocol,
                0,
                0,
            ];
            set(header, 0, start);
            set(header, 12, source.v4_octets());
            set(header, 16, to.v4_octets());
            if let Some(room) = header.get_mut(IPV4_LEN..) {
                room.copy_from_slice(options.bytes());
            }
            let checksum = checksum::full(header);
            set_u16(header, 10, checksum);
            Ok(rest)
        }
        Family::V6 => {
            let (header, rest) = packet
                .split_first_chunk_mut::<IPV6_LEN>()
                .ok_or(DropReason::Truncated)?;
            let [l0, l1] = length_field(length - IPV6_LEN).to_be_bytes();
            let start = [0x60 | (tos >> 4), tos << 4, 0, 0, l0, l1, protocol, TTL];
            set(header, 0, start);
            set(header, 8, source.v6_octets());
            set(header, 24, to.v6_octets());
            Ok(rest)
        }
    }
}

/// Writes the EtherType in front of the IP header at `l3`.
fn set_ethertype(frame: &mut Frame<'_>, l3: usize, family: Family) {
    let ethertype = match family {
        Family::V4 => ETHERTYPE_IPV4,
        Family::V6 => ETHERTYPE_IPV6,
    };
    set_u16(frame.bytes_mut(), l3 - 2, ethertype);
}
