//! NAT: one end of a packet gets another address and port (IPVS 3.2).
//!
//! Checksums follow by difference: true ones stay true, wrong ones stay as wrong. A UDP checksum
//! that is absent is filled in. A partial checksum (the sum of the pseudo header) follows the
//! addresses only. SCTP's CRC32c is computed anew if the port changed. The TTL is not touched.
//! What was parsed before describes the packet as it was.
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, checksum, nat, parse};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
//! let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40001, 80), b"")?;
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! nat::rewrite_destination(&mut frame, &packet, "10.2.0.1:8080".parse()?);
//! let packet = parse(&frame).unwrap();
//! assert_eq!(packet.flow.dst, "10.2.0.1:8080".parse()?);
//! assert_eq!(checksum::verify(&frame, &packet), Some(true));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array_mut, set, set_u16, u16_at};
use crate::checksum::{self, Delta};
use crate::frame::{Frame, PartialChecksum};
use crate::packet::{Fragment, Kind, Packet};
use crate::parse::{IPV4_LEN, IPV6_LEN};
use crate::swift;
use lvs_core::{Endpoint, Family};

const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;
const ICMP_CHECKSUM: u16 = 2;

/// Which end is rewritten.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Source,
    Destination,
}

impl End {
    /// Where its address stands in an IPv4 header.
    #[inline]
    pub(crate) const fn v4_address(self) -> usize {
        match self {
            Self::Source => 12,
            Self::Destination => 16,
        }
    }

    /// Where its address stands in an IPv6 header.
    #[inline]
    pub(crate) const fn v6_address(self) -> usize {
        match self {
            Self::Source => 8,
            Self::Destination => 24,
        }
    }

    /// Where its port stands in a transport header.
    #[inline]
    pub(crate) const fn port(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

/// Sends the packet to `to`: a client's request on its way to a server. An endpoint of the other
/// family, or a frame that is not `packet`, changes nothing.
#[inline]
pub fn rewrite_destination(frame: &mut Frame<'_>, packet: &Packet, to: Endpoint) {
    if swift::rewrite(frame, packet, None, Some(to)).is_none() {
        rewrite_any(frame, packet, to, End::Destination);
    }
}

/// Lets the packet come from `from`: a server's reply on its way to the client. An endpoint of the
/// other family, or a frame that is not `packet`, changes nothing.
pub fn rewrite_source(frame: &mut Frame<'_>, packet: &Packet, from: Endpoint) {
    if swift::rewrite(frame, packet, Some(from), None).is_none() {
        rewrite_any(frame, packet, from, End::Source);
    }
}

/// The end of any packet.
#[inline(never)]
pub(crate) fn rewrite_any(frame: &mut Frame<'_>, packet: &Packet, new: Endpoint, end: End) {
    let old = match end {
        End::Source => packet.flow.src,
        End::Destination => packet.flow.dst,
    };
    if !packet.is_ip() || new.addr.family() != packet.family {
        return;
    }
    let addresses = match packet.family {
        Family::V4 => Delta::NONE.v4(old.addr, new.addr),
        Family::V6 => Delta::NONE.v6(old.addr, new.addr),
    };
    rewrite_address(frame, packet, new, end, addresses);
    if packet.fragment == Fragment::Later {
        return;
    }
    match packet.kind {
        Kind::Tcp => internet(frame, packet, (old, new), end, addresses, TCP_CHECKSUM),
        Kind::Udp => internet(frame, packet, (old, new), end, addresses, UDP_CHECKSUM),
        Kind::Sctp => sctp(frame, packet, new.port, end),
        Kind::IcmpError | Kind::IcmpEchoRequest | Kind::IcmpOther | Kind::NeighbourSolicitation => {
            icmp(frame, packet, addresses);
        }
        Kind::OtherIp | Kind::ArpRequest | Kind::NotIp => {}
    }
}

/// The address in the IP header, and the checksum of an IPv4 header.
#[inline]
fn rewrite_address(
    frame: &mut Frame<'_>,
    packet: &Packet,
    new: Endpoint,
    end: End,
    addresses: Delta,
) {
    match packet.family {
        Family::V4 => {
            let Some(header) = array_mut::<IPV4_LEN>(frame.bytes_mut(), packet.ip()) else {
                return;
            };
            set(header, end.v4_address(), new.addr.v4_octets());
            let [_, _, _, _, _, _, _, _, _, _, c0, c1, ..] = *header;
            let updated = addresses.apply(u16::from_be_bytes([c0, c1]));
            set(header, 10, updated.to_be_bytes());
        }
        Family::V6 => {
            let Some(header) = array_mut::<IPV6_LEN>(frame.bytes_mut(), packet.ip()) else {
                return;
            };
            set(header, end.v6_address(), new.addr.v6_octets());
        }
    }
}

/// Port and checksum of TCP or UDP.
#[inline]
fn internet(
    frame: &mut Frame<'_>,
    packet: &Packet,
    (old, new): (Endpoint, Endpoint),
    end: End,
    addresses: Delta,
    field: u16,
) {
    let at = packet.transport();
    let partial = is_partial(frame, packet, field);
    let Some(segment) = frame.bytes_mut().get_mut(at..) else {
        return;
    };
    let field = usize::from(field);
    let Some(checksum) = u16_at(segment, field) else {
        return;
    };
    set_u16(segment, end.port(), new.port);
    if partial {
        set_u16(segment, field, addresses.apply_to_sum(checksum));
        return;
    }
    if packet.kind == Kind::Udp {
        if checksum == 0 {
            fill_in(frame, packet, new, end);
            return;
        }
        let updated = match addresses.word(old.port, new.port).apply(checksum) {
            0 => 0xffff,
            updated => updated,
        };
        set_u16(segment, field, updated);
        return;
    }
    set_u16(
        segment,
        field,
        addresses.word(old.port, new.port).apply(checksum),
    );
}

/// Computes a UDP checksum that was absent. That of a frame for several datagrams is left to
/// whoever cuts it; that of a first fragment cannot be known and stays absent.
#[cold]
fn fill_in(frame: &mut Frame<'_>, packet: &Packet, new: Endpoint, end: End) {
    if !packet.fragment.is_whole() {
        return;
    }
    let (src, dst) = match end {
        End::Source => (new.addr, packet.flow.dst.addr),
        End::Destination => (packet.flow.src.addr, new.addr),
    };
    let at = packet.transport();
    if frame.offload.segmentation.is_some() {
        if frame.offload.checksum.is_none() {
            let length = packet.end - u32::from(packet.l4);
            let sum = checksum::pseudo_header(src, dst, packet.protocol, length);
            set_u16(frame.bytes_mut(), at + usize::from(UDP_CHECKSUM), sum);
            frame.offload.checksum = Some(PartialChecksum {
                start: packet.l4,
                offset: UDP_CHECKSUM,
            });
        }
        return;
    }
    // Something inside is still to be finished (a tunnel's packet): the outer sum covers it. If
    // that is impossible, the frame is broken and stays so.
    let _ = checksum::finish_partial(frame);
    let tail = packet.tail();
    let Some(segment) = frame.bytes_mut().get_mut(at..tail) else {
        return;
    };
    let length = u16_at(segment, 4).map_or(0, usize::from);
    let datagram = segment.get(..length).unwrap_or(segment);
    let checksum = match checksum::transport(src, dst, packet.protocol, datagram) {
        0 => 0xffff,
        checksum => checksum,
    };
    set_u16(segment, usize::from(UDP_CHECKSUM), checksum);
}

/// The checksum of `ICMPv6`, which covers the addresses; that of ICMP does not.
#[cold]
fn icmp(frame: &mut Frame<'_>, packet: &Packet, addresses: Delta) {
    if packet.family == Family::V4 {
        return;
    }
    let field = packet.transport() + usize::from(ICMP_CHECKSUM);
    let partial = is_partial(frame, packet, ICMP_CHECKSUM);
    let Some(checksum) = u16_at(frame.bytes(), field) else {
        return;
    };
    let updated = match partial {
        true => addresses.apply_to_sum(checksum),
        false => addresses.apply(checksum),
    };
    set_u16(frame.bytes_mut(), field, updated);
}

/// Whether the checksum at `field` of the transport header is left to be finished.
#[inline]
fn is_partial(frame: &Frame<'_>, packet: &Packet, field: u16) -> bool {
    let expected = PartialChecksum {
        start: packet.l4,
        offset: field,
    };
    frame.offload.checksum == Some(expected)
}

/// Port and CRC32c of SCTP. The CRC of a first fragment covers bytes that are not here and is left
/// as it is.
fn sctp(frame: &mut Frame<'_>, packet: &Packet, port: u16, end: End) {
    let (at, tail) = (packet.transport(), packet.tail());
    let left = frame.offload.checksum.is_some();
    let Some(segment) = frame.bytes_mut().get_mut(at..tail) else {
        return;
    };
    let changed = u16_at(segment, end.port()) != Some(port);
    set_u16(segment, end.port(), port);
    if !packet.fragment.is_whole() {
        return;
    }
    // No later stage could tell that what is left to be computed is not an Internet checksum.
    if changed || left {
        let crc = checksum::sctp(segment);
        set(segment, 8, crc);
        frame.offload.checksum = None;
    }
}
