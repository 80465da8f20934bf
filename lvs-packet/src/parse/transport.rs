//! The transport header behind an IP header: TCP, UDP, SCTP, ICMP.

use super::{Network, end, number, offset};
use crate::packet::{Fragment, Kind, Packet, TcpFlags};
use lvs_core::{DropReason, Endpoint, Family, Flow, Protocol};

pub(crate) const TCP_LEN: usize = 20;
pub(crate) const UDP_LEN: usize = 8;
const SCTP_LEN: usize = 12;
const SCTP_CHUNK_LEN: usize = 4;
pub(crate) const ICMP_LEN: usize = 8;

/// Completes what the IP header said.
#[inline]
pub(super) fn parse(
    bytes: &[u8],
    network: &Network,
    segmented: bool,
) -> Result<Packet, DropReason> {
    let mut packet = Packet {
        kind: Kind::OtherIp,
        flow: Flow::new(
            Protocol::Ip,
            Endpoint::new(network.src, 0),
            Endpoint::new(network.dst, 0),
        ),
        family: network.family,
        protocol: network.protocol,
        l3: offset(network.l3)?,
        l4: offset(network.l4)?,
        end: end(network.end)?,
        tcp_flags: TcpFlags(0),
        ttl: network.ttl,
        tos: network.tos,
        dont_fragment: network.dont_fragment,
        fragment: network.fragment,
        sctp_chunk: 0,
    };
    let segment = bytes
        .get(network.l4..network.end)
        .ok_or(DropReason::Truncated)?;
    if network.in_transit {
        return Ok(packet);
    }
    match (network.protocol, network.family) {
        (number::TCP, _) => tcp(&mut packet, segment, network.second_unit)?,
        (number::UDP, _) => udp(&mut packet, segment, segmented)?,
        (number::SCTP, _) => sctp(&mut packet, segment)?,
        (number::ICMP, Family::V4) | (number::ICMPV6, Family::V6) => icmp(&mut packet, segment)?,
        _ => {}
    }
    Ok(packet)
}

/// Why a header of fewer bytes than it needs is refused: a first fragment must have it whole
/// (RFC 1858, 3; RFC 7112).
const fn short(packet: &Packet) -> DropReason {
    match packet.fragment {
        Fragment::First => DropReason::BadFragment,
        _ => DropReason::Truncated,
    }
}

#[inline]
fn ports(packet: &mut Packet, [s0, s1, d0, d1]: [u8; 4]) {
    packet.flow.src.port = u16::from_be_bytes([s0, s1]);
    packet.flow.dst.port = u16::from_be_bytes([d0, d1]);
}

#[inline]
fn tcp(packet: &mut Packet, segment: &[u8], second_unit: bool) -> Result<(), DropReason> {
    packet.kind = Kind::Tcp;
    packet.flow.protocol = Protocol::Tcp;
    if packet.fragment == Fragment::Later {
        // It would replace the flags of the first one (RFC 1858, 4).
        return if second_unit {
            Err(DropReason::BadFragment)
        } else {
            Ok(())
        };
    }
    let Some(header) = segment.first_chunk::<TCP_LEN>() else {
        return Err(short(packet));
    };
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, data, flags, ..] = *header;
    let data = usize::from(data >> 4) * 4;
    if data < TCP_LEN {
        return Err(DropReason::BadTcpOffset);
    }
    if data > segment.len() {
        return Err(match packet.fragment {
            Fragment::First => DropReason::BadFragment,
            _ => DropReason::BadTcpOffset,
        });
    }
    ports(packet, [s0, s1, d0, d1]);
    packet.tcp_flags = TcpFlags(flags);
    Ok(())
}

#[inline]
fn udp(packet: &mut Packet, segment: &[u8], segmented: bool) -> Result<(), DropReason> {
    packet.kind = Kind::Udp;
    packet.flow.protocol = Protocol::Udp;
    if packet.fragment == Fragment::Later {
        return Ok(());
    }
    let Some(&[s0, s1, d0, d1, l0, l1, _, _]) = segment.first_chunk::<UDP_LEN>() else {
        return Err(short(packet));
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let beyond = length > segment.len() && packet.fragment == Fragment::None;
    // The length of a segmented datagram is that of the whole or of one piece, by kernel version.
    if (length < UDP_LEN || beyond) && !segmented {
        return Err(DropReason::BadUdpLength);
    }
    ports(packet, [s0, s1, d0, d1]);
    Ok(())
}

fn sctp(packet: &mut Packet, segment: &[u8]) -> Result<(), DropReason> {
    packet.kind = Kind::Sctp;
    packet.flow.protocol = Protocol::Sctp;
    if packet.fragment == Fragment::Later {
        return Ok(());
    }
    let Some((&[s0, s1, d0, d1, ..], chunks)) = segment.split_first_chunk::<SCTP_LEN>() else {
        return Err(short(packet));
    };
    let &[chunk, _, l0, l1] = chunks.first_chunk().ok_or(DropReason::BadSctpChunk)?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let beyond = length > chunks.len() && packet.fragment == Fragment::None;
    if length < SCTP_CHUNK_LEN || beyond {
        return Err(DropReason::BadSctpChunk);
    }
    ports(packet, [s0, s1, d0, d1]);
    packet.sctp_chunk = chunk;
    Ok(())
}

fn icmp(packet: &mut Packet, segment: &[u8]) -> Result<(), DropReason> {
    packet.kind = Kind::IcmpOther;
    packet.flow.protocol = match packet.family {
        Family::V4 => Protocol::Icmp,
        Family::V6 => Protocol::Icmpv6,
    };
    if packet.fragment == Fragment::Later {
        return Ok(());
    }
    // The four bytes behind the checksum are part of every message that matters; those that end
    // before them (RFC 792 has none) are as good as cut.
    let Some(&[kind, ..]) = segment.first_chunk::<ICMP_LEN>() else {
        return Err(short(packet));
    };
    packet.kind = match (packet.family, kind) {
        (Family::V4, 3 | 4 | 11) | (Family::V6, 0..128) => Kind::IcmpError,
        (Family::V4, 8) | (Family::V6, 128) => Kind::IcmpEchoRequest,
        (Family::V6, 135) if packet.fragment == Fragment::None => Kind::NeighbourSolicitation,
        _ => Kind::IcmpOther,
    };
    Ok(())
}
