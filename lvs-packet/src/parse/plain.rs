//! The frames that nearly all are: TCP or UDP, whole, over IPv4 without options or IPv6 without
//! extension headers, no VLAN tag, nothing wrong.
//!
//! In: a frame. Out: which of four sorts it is, and its flow; of any other frame nothing, and never
//! why. The length of all headers is compared once, every offset is a constant, and fields are
//! compared as they lie. What else the general parser would say can be asked for afterwards
//! ([`Plain::packet`]): most packets of a director are forwarded without it.

use super::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_LEN, IPV6_LEN};
use super::{TCP_LEN, UDP_LEN, number};
use crate::bytes::{array, u8_at, u16_at, u32_at, u64_at};
use crate::checksum;
use crate::frame::Frame;
use crate::packet::{Kind, Packet, TcpFlags};
use core::hint::cold_path;
use lvs_core::{Addr, Endpoint, Family, Flow, Protocol};

/// A plain frame, by what it carries: TCP or UDP, whole, over IPv4 without options or IPv6 without
/// extension headers, no VLAN tag, nothing wrong with it. Its offsets are constants.
///
/// ```
/// use lvs_core::Flow;
/// use lvs_packet::{Frame, Offload, Plain, build, parse};
/// let mut buffer = [0; 128];
/// let ip = build::Ip::new("198.51.100.7".parse()?, "192.0.2.10".parse()?);
/// let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40000, 80), b"").unwrap();
/// let frame = Frame::new(&mut buffer, 0, length, Offload::default());
/// let mut flow = Flow::NONE;
/// let plain = Plain::of(&frame, &mut flow).unwrap();
/// assert_eq!(plain, Plain::Tcp4);
/// assert_eq!(plain.packet(&frame, &flow), parse(&frame).ok());
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Plain {
    // The numbers of the protocols, so that none has to be made of another.
    /// TCP over IPv4.
    Tcp4 = number::TCP,
    /// UDP over IPv4.
    Udp4 = number::UDP,
    /// TCP over IPv6.
    Tcp6 = number::TCP | V6_BIT,
    /// UDP over IPv6.
    Udp6 = number::UDP | V6_BIT,
}

const V6_BIT: u8 = 0x80;

/// The headers of a plain frame of IPv4, and of a longer transport header what there is of it: no
/// frame is shorter, Ethernet pads to 60.
pub(crate) const HEAD_V4: usize = ETHERNET_LEN + IPV4_LEN + TCP_LEN;
/// The same of IPv6; a shorter datagram of UDP is not worth a way of its own.
pub(crate) const HEAD_V6: usize = ETHERNET_LEN + IPV6_LEN + TCP_LEN;
/// Where the transport header begins.
pub(crate) const L4_V4: usize = ETHERNET_LEN + IPV4_LEN;
pub(crate) const L4_V6: usize = ETHERNET_LEN + IPV6_LEN;

impl Plain {
    /// What a frame is, if it is plain: then `flow` is its flow; otherwise `flow` is left alone.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: &Frame<'_>, flow: &mut Flow) -> Option<Self> {
        Self::v4(frame, flow).or_else(|| Self::v6(frame, flow))
    }

    /// The same, if it is of IPv4.
    #[inline(always)]
    #[must_use]
    pub fn v4(frame: &Frame<'_>, flow: &mut Flow) -> Option<Self> {
        // What lies behind the frame's end is looked at before its length is, and then is of no
        // meaning.
        let head: &[u8; HEAD_V4] = frame.head()?;
        if u16::from_ne_bytes(*array(head, 12)?) != V4 {
            return None;
        }
        ipv4(head, frame.len(), |tcp, seen| {
            *flow = seen;
            Some(if tcp { Self::Tcp4 } else { Self::Udp4 })
        })
    }

    /// The same, if it is of IPv6.
    #[inline(always)]
    #[must_use]
    pub fn v6(frame: &Frame<'_>, flow: &mut Flow) -> Option<Self> {
        let head: &[u8; HEAD_V6] = frame.head()?;
        if u16::from_ne_bytes(*array(head, 12)?) != V6 {
            return None;
        }
        ipv6(head, frame.len(), |tcp, seen| {
            *flow = seen;
            Some(if tcp { Self::Tcp6 } else { Self::Udp6 })
        })
    }

    /// The family of its addresses.
    #[inline]
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Tcp4 | Self::Udp4 => Family::V4,
            Self::Tcp6 | Self::Udp6 => Family::V6,
        }
    }

    /// Whether it carries TCP; otherwise UDP.
    #[inline]
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }

    /// Length of the IP packet in `frame`, which is the one that it was found with; of another frame the
    /// answer is of no meaning.
    #[inline(always)]
    #[must_use]
    pub fn ip_len(self, frame: &Frame<'_>) -> Option<u32> {
        let head: &[u8; HEAD_V4] = frame.head()?;
        match self.family() {
            Family::V4 => u16_at(head, ETHERNET_LEN + 2).map(u32::from),
            Family::V6 => u16_at(head, ETHERNET_LEN + 4).map(|payload| u32::from(payload) + 40),
        }
    }

    /// The flags of TCP, and none of UDP, in `frame`, which is the one that it was found with; of another
    /// frame the answer is of no meaning.
    #[inline]
    #[must_use]
    pub fn tcp_flags(self, frame: &Frame<'_>) -> TcpFlags {
        let flags = match self {
            Self::Tcp4 => frame
                .head::<HEAD_V4>()
                .and_then(|head| u8_at(head, L4_V4 + 13)),
            Self::Tcp6 => frame
                .head::<HEAD_V6>()
                .and_then(|head| u8_at(head, L4_V6 + 13)),
            Self::Udp4 | Self::Udp6 => None,
        };
        TcpFlags(flags.unwrap_or(0))
    }

    /// What the general parser says of it. `frame` and `flow` are those that it was found with; of
    /// another frame the answer is of no meaning.
    #[inline(always)]
    #[must_use]
    pub fn packet(self, frame: &Frame<'_>, flow: &Flow) -> Option<Packet> {
        // One straight run for each, whose offsets are constants.
        match self {
            Self::Tcp4 => read_ipv4::<true>(frame, flow),
            Self::Udp4 => read_ipv4::<false>(frame, flow),
            Self::Tcp6 => read_ipv6::<true>(frame, flow),
            Self::Udp6 => read_ipv6::<false>(frame, flow),
        }
    }
}

#[inline(always)]
fn read_ipv4<const TCP: bool>(frame: &Frame<'_>, flow: &Flow) -> Option<Packet> {
    let head: &[u8; HEAD_V4] = frame.head()?;
    let total = u16_at(head, ETHERNET_LEN + 2)?;
    Some(Packet {
        family: Family::V4,
        l4: constant(L4_V4),
        end: u32::from(constant(ETHERNET_LEN)) + u32::from(total),
        tcp_flags: TcpFlags(u8_at(head, L4_V4 + 13).filter(|_| TCP).unwrap_or(0)),
        ttl: u8_at(head, ETHERNET_LEN + 8)?,
        tos: u8_at(head, ETHERNET_LEN + 1)?,
        dont_fragment: u8_at(head, ETHERNET_LEN + 6)? & 0x40 != 0,
        ..of_flow::<TCP>(flow)
    })
}

#[inline(always)]
fn read_ipv6<const TCP: bool>(frame: &Frame<'_>, flow: &Flow) -> Option<Packet> {
    let head: &[u8; HEAD_V6] = frame.head()?;
    let payload = u16_at(head, ETHERNET_LEN + 4)?;
    Some(Packet {
        family: Family::V6,
        l4: constant(L4_V6),
        // What the length does not count is what precedes the transport header.
        end: u32::from(constant(L4_V6)) + u32::from(payload),
        tcp_flags: TcpFlags(u8_at(head, L4_V6 + 13).filter(|_| TCP).unwrap_or(0)),
        ttl: u8_at(head, ETHERNET_LEN + 7)?,
        tos: u8_at(head, ETHERNET_LEN)? << 4 | u8_at(head, ETHERNET_LEN + 1)? >> 4,
        dont_fragment: true,
        ..of_flow::<TCP>(flow)
    })
}

/// What both families have in common.
#[inline(always)]
const fn of_flow<const TCP: bool>(flow: &Flow) -> Packet {
    let (kind, protocol) = if TCP {
        (Kind::Tcp, number::TCP)
    } else {
        (Kind::Udp, number::UDP)
    };
    let mut packet = Packet::not_ip(kind, constant(ETHERNET_LEN), 0);
    packet.flow = *flow;
    packet.protocol = protocol;
    packet
}

/// A small offset as a header's.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 256, as is checked")]
const fn constant(at: usize) -> u16 {
    assert!(at < 256);
    at as u16
}

/// The packet of a plain frame; `None` of any other.
#[inline(always)]
pub(super) fn parse(frame: &Frame<'_>) -> Option<Packet> {
    let head: &[u8; HEAD_V4] = frame.head()?;
    match u16::from_ne_bytes(*array(head, 12)?) {
        V4 => ipv4(head, frame.len(), |tcp, flow| match tcp {
            true => read_ipv4::<true>(frame, &flow),
            false => read_ipv4::<false>(frame, &flow),
        }),
        V6 => ipv6(frame.head()?, frame.len(), |tcp, flow| match tcp {
            true => read_ipv6::<true>(frame, &flow),
            false => read_ipv6::<false>(frame, &flow),
        }),
        _ => None,
    }
}

/// The types of Ethernet as they lie in a frame.
const V4: u16 = ETHERTYPE_IPV4.to_be();
const V6: u16 = ETHERTYPE_IPV6.to_be();

/// What `then` makes of a plain packet's protocol, TCP or UDP, and flow: it becomes part of the way.
#[inline(always)]
fn ipv4<T>(
    head: &[u8; HEAD_V4],
    len: usize,
    then: impl FnOnce(bool, Flow) -> Option<T>,
) -> Option<T> {
    /// Version 4, five words long; and of the word of the fragment nothing but DF.
    const FIXED: u64 = 0xff00_0000_0000_3fff_u64.to_be();
    const PLAIN: u64 = 0x4500_0000_0000_0000_u64.to_be();
    /// Multicast begins here, and the reserved block of which one address is refused; of block 0 too.
    const UNUSUAL: u8 = 0xe0;

    let first = u64::from_ne_bytes(*array(head, ETHERNET_LEN)?);
    let second = u64::from_ne_bytes(*array(head, ETHERNET_LEN + 8)?);
    let last = u32::from_ne_bytes(*array(head, ETHERNET_LEN + 16)?);
    if first & FIXED != PLAIN
        || u8_at(head, ETHERNET_LEN + 12)?.wrapping_sub(1) >= UNUSUAL - 1
        || !checksum::header_is_true(first, second, last)
    {
        return None;
    }
    let total = usize::from(u16_at(head, ETHERNET_LEN + 2)?);
    if ETHERNET_LEN + total > len {
        return None;
    }
    let tcp = is_tcp(u8_at(head, ETHERNET_LEN + 9)?)?;
    if tcp {
        fits_tcp::<IPV4_LEN>(u8_at(head, L4_V4 + 12)?, total)?;
    } else {
        fits_udp::<IPV4_LEN>(u16_at(head, L4_V4 + 4)?, total)?;
    }
    let end = |address, port| {
        let address = Addr::from_v4_bits(u32_at(head, address)?);
        Some(Endpoint::new(address, u16_at(head, port)?))
    };
    let (src, dst) = (
        end(ETHERNET_LEN + 12, L4_V4)?,
        end(ETHERNET_LEN + 16, L4_V4 + 2)?,
    );
    then(tcp, Flow::new(protocol(tcp), src, dst))
}

/// The same of IPv6.
#[inline(always)]
fn ipv6<T>(
    head: &[u8; HEAD_V6],
    len: usize,
    then: impl FnOnce(bool, Flow) -> Option<T>,
) -> Option<T> {
    /// Of what is refused, mapped IPv4 addresses begin with zeros, and multicast is the last.
    const MULTICAST: u64 = 0xff00_0000_0000_0000;

    let addr = |at| {
        Some(Addr {
            hi: u64_at(head, at)?,
            lo: u64_at(head, at + 8)?,
        })
    };
    let (src, dst) = (addr(ETHERNET_LEN + 8)?, addr(ETHERNET_LEN + 24)?);
    let usual = src.hi != 0 && src.hi < MULTICAST && dst.hi != 0;
    if u8_at(head, ETHERNET_LEN)? >> 4 != 6 || !usual {
        return None;
    }
    let payload = usize::from(u16_at(head, ETHERNET_LEN + 4)?);
    if L4_V6 + payload > len {
        return None;
    }
    let tcp = is_tcp(u8_at(head, ETHERNET_LEN + 6)?)?;
    if tcp {
        fits_tcp::<0>(u8_at(head, L4_V6 + 12)?, payload)?;
    } else {
        fits_udp::<0>(u16_at(head, L4_V6 + 4)?, payload)?;
    }
    let src = Endpoint::new(src, u16_at(head, L4_V6)?);
    let dst = Endpoint::new(dst, u16_at(head, L4_V6 + 2)?);
    then(tcp, Flow::new(protocol(tcp), src, dst))
}

/// Whether this is the number of TCP, and not that of UDP; nothing of any other.
#[inline(always)]
const fn is_tcp(next: u8) -> Option<bool> {
    if next == number::TCP {
        return Some(true);
    }
    // What is most is laid out first.
    cold_path();
    if next == number::UDP {
        Some(false)
    } else {
        None
    }
}

#[inline(always)]
const fn protocol(tcp: bool) -> Protocol {
    if tcp { Protocol::Tcp } else { Protocol::Udp }
}

/// Whether a TCP header whose data begins where its octet says fits behind so many bytes of a packet.
#[inline(always)]
fn fits_tcp<const BEFORE: usize>(data: u8, total: usize) -> Option<()> {
    // In words, in the upper half of the octet.
    (data >= 0x50 && usize::from(data >> 4) * 4 + BEFORE <= total).then_some(())
}

/// Whether a datagram of UDP that says this length fits behind so many bytes of a packet.
#[inline(always)]
fn fits_udp<const BEFORE: usize>(length: u16, total: usize) -> Option<()> {
    let length = usize::from(length);
    (length >= UDP_LEN && length + BEFORE <= total).then_some(())
}

#[cfg(test)]
mod tests {
    use super::Plain;
    use crate::frame::{Frame, Offload, SegmentKind, Segmentation};
    use crate::{build, checksum, parse::general};
    use lvs_core::{Addr, Flow};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn frame(v4: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
        let addr =
            |v4: &str, v6: &str, is_v4| -> Addr { if is_v4 { v4 } else { v6 }.parse().unwrap() };
        let ip = build::Ip::new(
            addr("198.51.100.7", "2001:db8::7", v4),
            addr("192.0.2.10", "2001:db8::10", v4),
        );
        let mut buffer = std::vec![0; 128];
        let length = match tcp {
            true => build::tcp(&mut buffer, &ip, &build::Tcp::syn(40000, 80), payload),
            false => build::udp(&mut buffer, &ip, 40000, 53, payload),
        };
        buffer.truncate(length.unwrap().max(60));
        buffer
    }

    /// Makes the checksum of an IPv4 header true again, so that other fields are looked at.
    fn mend(bytes: &mut [u8]) {
        if bytes.len() >= 34 && bytes[12..15] == [8, 0, 0x45] {
            bytes[24..26].fill(0);
            let sum = checksum::full(&bytes[14..34]);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What is said of a frame is what the general parser says of it.
        #[test]
        fn as_the_general_parser(
            v4: bool,
            tcp: bool,
            payload in vec(any::<u8>(), 0..24),
            edits in vec((12..70_usize, any::<u8>()), 0..3),
            cut in 0..8_usize,
            mended: bool,
            segmented: bool,
        ) {
            let mut bytes = frame(v4, tcp, &payload);
            let original = bytes.clone();
            for (at, value) in edits {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            // Mostly, nothing is cut.
            bytes.truncate(bytes.len() - cut.saturating_sub(4));
            if mended {
                mend(&mut bytes);
            }
            let segmentation = segmented.then_some(Segmentation {
                kind: SegmentKind::Udp,
                size: 1000,
                header_len: 0,
                ecn: false,
            });
            let unedited = bytes == original;
            let length = bytes.len();
            let offload = Offload { segmentation, ..Offload::default() };
            let frame = Frame::new(&mut bytes, 0, length, offload);
            let mut flow = Flow::NONE;
            let plain = Plain::of(&frame, &mut flow);
            // A short datagram over IPv6 is not worth a way of its own.
            prop_assert!(plain.is_some() || !unedited || length < 74);
            match plain {
                Some(plain) => {
                    let packet = general(&frame).ok();
                    prop_assert_eq!(plain.packet(&frame, &flow), packet);
                    let said = (plain.ip_len(&frame).unwrap(), plain.tcp_flags(&frame));
                    prop_assert_eq!(said, packet.map(|one| (one.ip_len(), one.tcp_flags)).unwrap());
                }
                None => prop_assert_eq!(flow, Flow::NONE),
            }
        }
    }
}
