//! The transport header behind an IP header: TCP, UDP, SCTP, ICMP.

use super::{Network, end, number, offset};
use crate::packet::{Fragment, Kind, Packet, TcpFlags};
use lvs_core::{DropReason, Endpoint, Family, Flow, Protocol};

pub(crate) const TCP_LEN: usize = 20;
pub(crate) const UDP_LEN: usize = 8;
const SCTP_LEN: usize = 12;
const SCTP_CHUNK_LEN: usize = 4;
const SCTP_ABORT: u8 = 6;
const SCTP_COOKIE_ECHO: u8 = 10;
const SCTP_COOKIE_ACK: u8 = 11;
pub(crate) const ICMP_LEN: usize = 8;

/// What a transport header says.
#[derive(Clone, Copy)]
struct Upper {
    kind: Kind,
    protocol: Protocol,
    /// Both ports as they stand in the header.
    ports: [u8; 4],
    tcp_flags: u8,
    sctp_chunk: u8,
}

impl Upper {
    #[inline(always)]
    const fn new(kind: Kind, protocol: Protocol) -> Self {
        Self {
            kind,
            protocol,
            ports: [0; 4],
            tcp_flags: 0,
            sctp_chunk: 0,
        }
    }
}

/// Completes what the IP header said.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], network: Network, segmented: bool) -> Result<Packet, DropReason> {
    let segment = bytes
        .get(network.l4..network.end)
        .ok_or(DropReason::Truncated)?;
    let fragment = network.fragment;
    let upper = match network.protocol {
        number::TCP => tcp(segment, fragment, network.second_unit)?,
        number::UDP => udp(segment, fragment, segmented)?,
        protocol => other(segment, fragment, network.family, protocol)?,
    };
    let [s0, s1, d0, d1] = upper.ports;
    Ok(Packet {
        kind: upper.kind,
        flow: Flow::new(
            upper.protocol,
            Endpoint::new(network.src, u16::from_be_bytes([s0, s1])),
            Endpoint::new(network.dst, u16::from_be_bytes([d0, d1])),
        ),
        family: network.family,
        protocol: network.protocol,
        l3: offset(network.l3)?,
        l4: offset(network.l4)?,
        end: end(network.end)?,
        tcp_flags: TcpFlags(upper.tcp_flags),
        ttl: network.ttl,
        tos: network.tos,
        dont_fragment: network.dont_fragment,
        fragment,
        sctp_chunk: upper.sctp_chunk,
    })
}

/// Why a header of fewer bytes than it needs is refused: a first fragment must have it whole
/// (RFC 1858, 3; RFC 7112).
#[cold]
const fn short(fragment: Fragment) -> DropReason {
    match fragment {
        Fragment::First => DropReason::BadFragment,
        _ => DropReason::Truncated,
    }
}

#[inline(always)]
fn tcp(segment: &[u8], fragment: Fragment, second_unit: bool) -> Result<Upper, DropReason> {
    let upper = Upper::new(Kind::Tcp, Protocol::Tcp);
    if fragment == Fragment::Later {
        // It would replace the flags of the first one (RFC 1858, 4).
        return if second_unit {
            Err(DropReason::BadFragment)
        } else {
            Ok(upper)
        };
    }
    let Some(header) = segment.first_chunk::<TCP_LEN>() else {
        return Err(short(fragment));
    };
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, data, tcp_flags, ..] = *header;
    let data = usize::from(data >> 4) * 4;
    if data < TCP_LEN {
        return Err(DropReason::BadTcpOffset);
    }
    if data > segment.len() {
        return Err(match fragment {
            Fragment::First => DropReason::BadFragment,
            _ => DropReason::BadTcpOffset,
        });
    }
    Ok(Upper {
        ports: [s0, s1, d0, d1],
        tcp_flags,
        ..upper
    })
}

#[inline(always)]
fn udp(segment: &[u8], fragment: Fragment, segmented: bool) -> Result<Upper, DropReason> {
    let upper = Upper::new(Kind::Udp, Protocol::Udp);
    if fragment == Fragment::Later {
        return Ok(upper);
    }
    let Some(&[s0, s1, d0, d1, l0, l1, _, _]) = segment.first_chunk::<UDP_LEN>() else {
        return Err(short(fragment));
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let beyond = length > segment.len() && fragment.is_whole();
    // The length of a segmented datagram is that of the whole or of one piece, by kernel version.
    if (length < UDP_LEN || beyond) && !segmented {
        return Err(DropReason::BadUdpLength);
    }
    Ok(Upper {
        ports: [s0, s1, d0, d1],
        ..upper
    })
}

#[inline(never)]
fn other(
    segment: &[u8],
    fragment: Fragment,
    family: Family,
    protocol: u8,
) -> Result<Upper, DropReason> {
    match (protocol, family) {
        (number::SCTP, _) => sctp(segment, fragment),
        (number::ICMP, Family::V4) => icmp(segment, fragment, Protocol::Icmp),
        (number::ICMPV6, Family::V6) => icmp(segment, fragment, Protocol::Icmpv6),
        _ => Ok(Upper::new(Kind::OtherIp, Protocol::Ip)),
    }
}

fn sctp(segment: &[u8], fragment: Fragment) -> Result<Upper, DropReason> {
    let upper = Upper::new(Kind::Sctp, Protocol::Sctp);
    if fragment == Fragment::Later {
        return Ok(upper);
    }
    let Some((&[s0, s1, d0, d1, ..], chunks)) = segment.split_first_chunk::<SCTP_LEN>() else {
        return Err(short(fragment));
    };
    let &[first, _, l0, l1] = chunks.first_chunk().ok_or(DropReason::BadSctpChunk)?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let beyond = length > chunks.len() && fragment.is_whole();
    if length < SCTP_CHUNK_LEN || beyond {
        return Err(DropReason::BadSctpChunk);
    }
    // With the end of a handshake comes its refusal, if there is one (IPVS 2.10).
    let next = chunks.get(length.next_multiple_of(4)).copied();
    let refused = matches!(first, SCTP_COOKIE_ECHO | SCTP_COOKIE_ACK) && next == Some(SCTP_ABORT);
    Ok(Upper {
        ports: [s0, s1, d0, d1],
        sctp_chunk: if refused { SCTP_ABORT } else { first },
        ..upper
    })
}

fn icmp(segment: &[u8], fragment: Fragment, protocol: Protocol) -> Result<Upper, DropReason> {
    let upper = Upper::new(Kind::IcmpOther, protocol);
    if fragment == Fragment::Later {
        return Ok(upper);
    }
    // The four bytes behind the checksum are part of every message that matters; those that end
    // before them (RFC 792 has none) are as good as cut.
    let Some(&[icmp_type, ..]) = segment.first_chunk::<ICMP_LEN>() else {
        return Err(short(fragment));
    };
    let kind = match (protocol, icmp_type) {
        (Protocol::Icmp, 3 | 4 | 11) | (Protocol::Icmpv6, 0..128) => Kind::IcmpError,
        (Protocol::Icmp, 8) | (Protocol::Icmpv6, 128) => Kind::IcmpEchoRequest,
        (Protocol::Icmpv6, 135) if fragment == Fragment::None => Kind::NeighbourSolicitation,
        _ => Kind::IcmpOther,
    };
    Ok(Upper { kind, ..upper })
}
