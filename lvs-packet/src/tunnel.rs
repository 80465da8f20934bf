//! Tunnels to a server: the packet whole, behind another IP header (IPVS 3.4).
//!
//! ```text
//!  ipip   Ethernet | outer IP |                      | inner packet
//!  gre    Ethernet | outer IP | GRE 4, with checksum 8 | inner packet
//!  gue    Ethernet | outer IP | UDP 8 | GUE 4          | inner packet
//! ```
//!
//! The outer header takes TTL, DSCP and ECN from the inner one as it stands in the frame (so the
//! TTL is decremented before), a partial checksum is finished first, and padding behind the packet
//! is cut: nothing is left to be done to the result. Only with remote checksum offload a partial
//! checksum is left to the receiver: it is told in the GUE header where to sum, and where to put it. A frame that stands for several packets is
//! cut by [`crate::segment`] before.
//!
//! ```
//! use lvs_core::{Family, TunnelKind};
//! use lvs_packet::{Frame, Offload, build, parse, tunnel};
//! let mut buffer = [0; 160];
//! let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
//! let length = build::udp(&mut buffer[64..], &ip, 40001, 80, b"hello")?;
//! let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! let (director, server) = ("10.2.0.254".parse()?, "10.2.0.1".parse()?);
//! let options = tunnel::Options::default();
//! tunnel::encapsulate(&mut frame, &packet, TunnelKind::Ipip, director, server, &options).unwrap();
//! assert_eq!(frame.len(), length + tunnel::overhead(TunnelKind::Ipip, Family::V4));
//! assert_eq!(parse(&frame).unwrap().flow.dst.addr, server);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod plain;

use crate::bytes::{array, length_field, set, set_u16};
use crate::checksum;
use crate::frame::{Frame, Front};
use crate::packet::{Kind, Packet};
use crate::parse::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_LEN, IPV6_LEN, number};
use lvs_core::{Addr, DropReason, Family, Flow, TunnelChecksum, TunnelKind};

pub use plain::send_plain;

const UDP_LEN: usize = 8;
const GUE_LEN: usize = 4;
/// Private flags, and where the receiver sums and writes (`GUE_LEN_PRIV`, `GUE_PLEN_REMCSUM`).
const GUE_REMOTE_LEN: usize = 8;
/// In the flags of a GUE header: private flags follow.
const GUE_PRIVATE: u16 = 1;
/// In the private flags: remote checksum offload (draft-herbert-remotecsumoffload).
const GUE_REMOTE: u32 = 1 << 31;
const GRE_LEN: usize = 4;
const GRE_CHECKSUM_LEN: usize = 4;
/// Where the UDP checksum stands.
const UDP_CHECKSUM: usize = 6;
/// Where the GRE checksum stands.
const GRE_CHECKSUM: usize = 4;

/// What an outer header says that neither the inner packet nor the destination tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Identification of an outer IPv4 header without DF; with DF it is 0.
    pub ident: u16,
    /// The outer DF bit is the inner one's (`pmtu_disc = 1`); else it is clear.
    pub copy_df: bool,
    /// Source port of GUE, from [`gue_source_port`].
    pub source_port: u16,
}

impl Default for Options {
    /// As `pmtu_disc` is by default: DF copied.
    fn default() -> Self {
        Self {
            ident: 0,
            copy_df: true,
            source_port: FIRST_SOURCE_PORT,
        }
    }
}

/// `ip_local_port_range` of the kernel.
const FIRST_SOURCE_PORT: u16 = 32768;
const SOURCE_PORTS: u32 = 28_232;

/// The source port of a GUE packet: the same for all packets of a flow, spread over 32768..=60999
/// so that receivers and links can tell flows apart. `key` is drawn once by the caller, so that
/// nobody outside can aim at one.
#[must_use]
pub fn gue_source_port(flow: &Flow, key: u64) -> u16 {
    let mut hash = key;
    let ports = (u64::from(flow.src.port) << 24)
        | (u64::from(flow.dst.port) << 8)
        | u64::from(flow.protocol.number());
    for word in [
        flow.src.addr.hi,
        flow.src.addr.lo,
        flow.dst.addr.hi,
        flow.dst.addr.lo,
        ports,
    ] {
        // Steele, Lea and Flood's mixer (SplitMix64).
        hash = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
    }
    let spread = ((hash >> 32) * u64::from(SOURCE_PORTS)) >> 32;
    u16::try_from(spread).map_or(FIRST_SOURCE_PORT, |spread| FIRST_SOURCE_PORT + spread)
}

/// Bytes that a tunnel adds to a packet; [`remote_overhead`] comes on top.
#[inline]
#[must_use]
pub const fn overhead(kind: TunnelKind, outer: Family) -> usize {
    let ip = match outer {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    ip + between(kind)
}

/// Bytes that remote checksum offload adds for this packet: none if nothing is left to the receiver, and
/// then the packet is sent as with a full checksum.
#[inline]
#[must_use]
pub fn remote_overhead(frame: &Frame<'_>, packet: &Packet, kind: TunnelKind) -> usize {
    remote(frame, packet, kind).map_or(0, |_| GUE_REMOTE_LEN)
}

/// Where the receiver sums and where it puts the result, from the start of the inner packet, if that is
/// left to it.
#[inline]
fn remote(frame: &Frame<'_>, packet: &Packet, kind: TunnelKind) -> Option<(u16, u16)> {
    const REMOTE: TunnelChecksum = TunnelChecksum::Remote;
    if !matches!(kind, TunnelKind::Gue { checksum, .. } if checksum == REMOTE) {
        return None;
    }
    // SCTP's is no Internet checksum, which receivers do not know.
    let left = frame.offload.checksum?;
    if !matches!(packet.kind, Kind::Tcp | Kind::Udp) {
        return None;
    }
    let start = left.start.checked_sub(packet.l3)?;
    Some((start, start.checked_add(left.offset)?))
}

/// Bytes between the outer and the inner IP header.
#[inline]
const fn between(kind: TunnelKind) -> usize {
    match kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gue { .. } => UDP_LEN + GUE_LEN,
        TunnelKind::Gre {
            checksum: TunnelChecksum::None,
        } => GRE_LEN,
        TunnelKind::Gre { .. } => GRE_LEN + GRE_CHECKSUM_LEN,
    }
}

/// Puts the packet behind an outer header from `source` to `destination`, whose family decides the
/// outer one. What was parsed before keeps describing the inner packet; its offsets grow by
/// [`overhead`] and [`remote_overhead`].
///
/// # Errors
/// [`DropReason::BadSegmentation`] if the frame stands for several packets,
/// [`DropReason::TooBig`] if an outer length field cannot hold the result,
/// [`DropReason::NoHeadroom`] without the room, [`DropReason::BadAddress`] if the addresses are of
/// two families, [`DropReason::BadVersion`] if there is no IP packet. The frame is unchanged, but
/// for a finished checksum.
#[inline]
pub fn encapsulate(
    frame: &mut Frame<'_>,
    packet: &Packet,
    kind: TunnelKind,
    source: Addr,
    destination: Addr,
    options: &Options,
) -> Result<(), DropReason> {
    if matches!(kind, TunnelKind::Ipip)
        && ipip(frame, packet, source, destination, options).is_some()
    {
        return Ok(());
    }
    any(frame, packet, kind, source, destination, options)
}

/// IPIP of a packet that stands behind an Ethernet header without tags, nothing left to be done to
/// it: nearly all. `None`, and nothing changed, for all others.
#[inline(always)]
fn ipip(
    frame: &mut Frame<'_>,
    packet: &Packet,
    source: Addr,
    destination: Addr,
    options: &Options,
) -> Option<()> {
    const L3: usize = ETHERNET_LEN;
    let outer = destination.family();
    if packet.ip() != L3 || !packet.is_ip() || source.family() != outer {
        return None;
    }
    let end = packet.tail();
    match outer {
        Family::V4 => {
            let length = u16::try_from(end - L3 + IPV4_LEN).ok()?;
            let Front {
                ethernet,
                room,
                inner,
            } = frame.open_front(end)?;
            let inner = Inner::of(inner, packet.family);
            let protocol = inner.protocol();
            set_u16(ethernet, L3 - 2, ETHERTYPE_IPV4);
            outer_v4(
                room,
                length,
                protocol,
                &inner,
                (source, destination),
                options,
            );
        }
        Family::V6 => {
            let length = u16::try_from(end - L3).ok()?;
            let Front {
                ethernet,
                room,
                inner,
            } = frame.open_front(end)?;
            let inner = Inner::of(inner, packet.family);
            let protocol = inner.protocol();
            set_u16(ethernet, L3 - 2, ETHERTYPE_IPV6);
            outer_v6(room, length, protocol, &inner, (source, destination));
        }
    }
    Some(())
}

/// Any tunnel of any packet.
#[inline(never)]
fn any(
    frame: &mut Frame<'_>,
    packet: &Packet,
    kind: TunnelKind,
    source: Addr,
    destination: Addr,
    options: &Options,
) -> Result<(), DropReason> {
    if !packet.is_ip() {
        return Err(DropReason::BadVersion);
    }
    if frame.offload.segmentation.is_some() {
        return Err(DropReason::BadSegmentation);
    }
    let outer = destination.family();
    if source.family() != outer {
        return Err(DropReason::BadAddress);
    }
    let l3 = packet.ip();
    let left = remote(frame, packet, kind);
    let remote = left.map_or(0, |_| GUE_REMOTE_LEN);
    let gap = overhead(kind, outer) + remote;
    let length = gap + packet.tail() - l3;
    let limit = match outer {
        Family::V4 => usize::from(u16::MAX),
        Family::V6 => usize::from(u16::MAX) + IPV6_LEN,
    };
    if length > limit {
        return Err(DropReason::TooBig);
    }
    // Both headers are at least as long as that of IPv4.
    let inner = array(frame.bytes(), l3).ok_or(DropReason::Truncated)?;
    let inner = Inner::of(inner, packet.family);
    frame.set_len(packet.tail())?;
    if left.is_some() {
        frame.offload.checksum = None;
    } else if frame.offload.checksum.is_some() {
        checksum::finish_partial(frame)?;
    }
    frame.open_gap(l3, gap)?;
    let Some((ethertype, rest)) = frame
        .bytes_mut()
        .get_mut(l3 - 2..)
        .and_then(<[u8]>::split_first_chunk_mut)
    else {
        return Err(DropReason::Truncated);
    };
    let protocol = match kind {
        TunnelKind::Ipip => inner.protocol(),
        TunnelKind::Gue { .. } => number::UDP,
        TunnelKind::Gre { .. } => number::GRE,
    };
    let (header, payload) = rest
        .split_at_mut_checked(gap - between(kind) - remote)
        .ok_or(DropReason::Truncated)?;
    let ends = (source, destination);
    match outer {
        Family::V4 => {
            *ethertype = ETHERTYPE_IPV4.to_be_bytes();
            let header = header.first_chunk_mut().ok_or(DropReason::Truncated)?;
            outer_v4(
                header,
                length_field(length),
                protocol,
                &inner,
                ends,
                options,
            );
        }
        Family::V6 => {
            *ethertype = ETHERTYPE_IPV6.to_be_bytes();
            let header = header.first_chunk_mut().ok_or(DropReason::Truncated)?;
            outer_v6(
                header,
                length_field(length - IPV6_LEN),
                protocol,
                &inner,
                ends,
            );
        }
    }
    match kind {
        TunnelKind::Ipip => {}
        TunnelKind::Gue { port, checksum } => {
            let length = length_field(payload.len());
            gue(payload, length, &inner, (options.source_port, port));
            if let Some(places) = left {
                gue_remote(payload, places);
            }
            if checksum != TunnelChecksum::None {
                let sum = match checksum::transport(source, destination, number::UDP, payload) {
                    0 => 0xffff,
                    sum => sum,
                };
                set_u16(payload, UDP_CHECKSUM, sum);
            }
        }
        TunnelKind::Gre { checksum } => gre(payload, &inner, checksum != TunnelChecksum::None),
    }
    Ok(())
}

/// Writes an outer IPv4 header. Its checksum is computed from the values: what has just been written
/// cannot be read back in other pieces at once.
#[inline(always)]
fn outer_v4(
    header: &mut [u8; IPV4_LEN],
    length: u16,
    protocol: u8,
    inner: &Inner,
    (source, destination): (Addr, Addr),
    options: &Options,
) {
    let dont_fragment = options.copy_df && inner.dont_fragment;
    let second = match dont_fragment {
        true => 0x4000,
        false => u32::from(options.ident) << 16,
    };
    let tos = u32::from(inner.outer_tos());
    let words = [
        0x4500_0000 | (tos << 16) | u32::from(length),
        second,
        (u32::from(inner.ttl) << 24) | (u32::from(protocol) << 16),
        source.low_word(),
        destination.low_word(),
    ];
    let checksum = u32::from(checksum::of_words(words));
    let [w0, w1, w2, w3, w4] = words;
    let words = [(0, w0), (4, w1), (8, w2 | checksum), (12, w3), (16, w4)];
    for (at, word) in words {
        set(header, at, word.to_be_bytes());
    }
}

/// Writes an outer IPv6 header; `length` is that of its payload.
#[inline(always)]
fn outer_v6(
    header: &mut [u8; IPV6_LEN],
    length: u16,
    protocol: u8,
    inner: &Inner,
    (source, destination): (Addr, Addr),
) {
    let (tos, [l0, l1]) = (inner.outer_tos(), length.to_be_bytes());
    let first = [
        0x60 | (tos >> 4),
        tos << 4,
        0,
        0,
        l0,
        l1,
        protocol,
        inner.ttl,
    ];
    set(header, 0, first);
    set(header, 8, source.v6_octets());
    set(header, 24, destination.v6_octets());
}

/// What an outer header takes from the inner one.
struct Inner {
    v4: bool,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
}

impl Inner {
    /// From the first bytes of the inner header.
    #[inline(always)]
    const fn of(header: &[u8; IPV4_LEN], family: Family) -> Self {
        let [b0, b1, _, _, _, _, b6, b7, b8, ..] = *header;
        match family {
            Family::V4 => Self {
                v4: true,
                tos: b1,
                ttl: b8,
                dont_fragment: b6 & 0x40 != 0,
            },
            Family::V6 => Self {
                v4: false,
                tos: (b0 << 4) | (b1 >> 4),
                ttl: b7,
                dont_fragment: false,
            },
        }
    }

    /// The protocol number under which a header carries it.
    #[inline(always)]
    const fn protocol(&self) -> u8 {
        if self.v4 { number::IPIP } else { number::IPV6 }
    }

    /// DSCP as it is; ECN too, but congestion experienced inside starts as ECT(0) outside
    /// (RFC 6040's normal mode as Linux has it).
    #[inline]
    const fn outer_tos(&self) -> u8 {
        match self.tos & 3 {
            3 => self.tos & !3 | 2,
            _ => self.tos,
        }
    }
}

/// UDP without checksum, and GUE version 0 (draft-ietf-intarea-gue, 3).
/// `length` is that of both and of all that follows.
#[inline(always)]
fn gue(payload: &mut [u8], length: u16, inner: &Inner, (source_port, port): (u16, u16)) {
    set_u16(payload, 0, source_port);
    set_u16(payload, 2, port);
    set_u16(payload, 4, length);
    set(payload, UDP_CHECKSUM, [0, 0, 0, inner.protocol(), 0, 0]);
}

/// The options of a GUE header that has told of its checksum's place: from the start of the inner packet.
fn gue_remote(payload: &mut [u8], (start, field): (u16, u16)) {
    let words = u8::try_from(GUE_REMOTE_LEN / 4).unwrap_or_default();
    set(payload, UDP_LEN, [words]);
    set_u16(payload, UDP_LEN + 2, GUE_PRIVATE);
    set(payload, UDP_LEN + GUE_LEN, GUE_REMOTE.to_be_bytes());
    set_u16(payload, UDP_LEN + GUE_LEN + 4, start);
    set_u16(payload, UDP_LEN + GUE_LEN + 6, field);
}

/// GRE (RFC 2784).
#[inline(always)]
fn gre(payload: &mut [u8], inner: &Inner, with_checksum: bool) {
    let ethertype = if inner.v4 {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    };
    set_u16(payload, 2, ethertype);
    if with_checksum {
        set_u16(payload, 0, 0x8000);
        set(payload, GRE_CHECKSUM, [0; 4]);
        let checksum = checksum::full(payload);
        set_u16(payload, GRE_CHECKSUM, checksum);
    } else {
        set_u16(payload, 0, 0);
    }
}
