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
use crate::packet::{Fragment, Kind, Packet, TcpFlags};
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
pub enum Plain {
    /// TCP over IPv4.
    Tcp4,
    /// UDP over IPv4.
    Udp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv6.
    Udp6,
}

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
        let bytes = frame.get()?;
        let head: &[u8; HEAD_V4] = bytes.first_chunk()?;
        match u16::from_ne_bytes(*array(head, 12)?) {
            V4 => ipv4(head, bytes.len(), flow),
            V6 => ipv6(bytes.first_chunk()?, bytes.len(), flow),
            _ => None,
        }
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

    /// What the general parser says of it. `frame` and `flow` are those that it was found with; of
    /// another frame the answer is of no meaning.
    #[inline]
    #[must_use]
    pub fn packet(self, frame: &Frame<'_>, flow: &Flow) -> Option<Packet> {
        let head: &[u8; HEAD_V4] = frame.get()?.first_chunk()?;
        let (kind, tcp) = match self {
            Self::Tcp4 | Self::Tcp6 => (Kind::Tcp, true),
            Self::Udp4 | Self::Udp6 => (Kind::Udp, false),
        };
        let family = self.family();
        let octet = |at| u8_at(head, ETHERNET_LEN + at);
        let word = |at| u16_at(head, ETHERNET_LEN + at);
        let (l4, length, ttl, tos, dont_fragment) = match family {
            Family::V4 => (L4_V4, word(2)?, octet(8)?, octet(1)?, octet(6)? & 0x40 != 0),
            Family::V6 => (
                L4_V6,
                word(4)?,
                octet(7)?,
                octet(0)? << 4 | octet(1)? >> 4,
                true,
            ),
        };
        // What the length of an IPv6 packet does not count is what precedes the transport header.
        let from = if family == Family::V4 {
            ETHERNET_LEN
        } else {
            L4_V6
        };
        let tcp_flags = match tcp {
            true => u8_at(frame.get()?, l4 + 13)?,
            false => 0,
        };
        Some(Packet {
            kind,
            flow: *flow,
            family,
            protocol: flow.protocol.number(),
            l3: u16::try_from(ETHERNET_LEN).ok()?,
            l4: u16::try_from(l4).ok()?,
            end: u32::try_from(from).ok()? + u32::from(length),
            tcp_flags: TcpFlags(tcp_flags),
            ttl,
            tos,
            dont_fragment,
            fragment: Fragment::None,
            sctp_chunk: 0,
        })
    }
}

/// The types of Ethernet as they lie in a frame.
const V4: u16 = ETHERTYPE_IPV4.to_be();
const V6: u16 = ETHERTYPE_IPV6.to_be();

#[inline(always)]
fn ipv4(head: &[u8; HEAD_V4], len: usize, flow: &mut Flow) -> Option<Plain> {
    /// Version 4, five words long; and of the word of the fragment nothing but DF.
    const FIXED: u64 = 0xff00_0000_0000_3fff_u64.to_be();
    const PLAIN: u64 = 0x4500_0000_0000_0000_u64.to_be();
    /// Multicast begins here, and the reserved block of which one address is refused.
    const UNUSUAL: u8 = 0xe0;

    let first = u64::from_ne_bytes(*array(head, ETHERNET_LEN)?);
    let second = u64::from_ne_bytes(*array(head, ETHERNET_LEN + 8)?);
    let last = u32::from_ne_bytes(*array(head, ETHERNET_LEN + 16)?);
    if first & FIXED != PLAIN
        || u8_at(head, ETHERNET_LEN + 12)? >= UNUSUAL
        || !checksum::header_is_true(first, second, last)
    {
        return None;
    }
    let total = usize::from(u16_at(head, ETHERNET_LEN + 2)?);
    if ETHERNET_LEN + total > len {
        return None;
    }
    let next = u8_at(head, ETHERNET_LEN + 9)?;
    let (plain, protocol) = if next == number::TCP {
        fits_tcp::<IPV4_LEN>(u8_at(head, L4_V4 + 12)?, total)?;
        (Plain::Tcp4, Protocol::Tcp)
    } else if next == number::UDP {
        fits_udp::<IPV4_LEN>(u16_at(head, L4_V4 + 4)?, total)?;
        (Plain::Udp4, Protocol::Udp)
    } else {
        return None;
    };
    let end = |address, port| {
        let address = Addr::from_v4_bits(u32_at(head, address)?);
        Some(Endpoint::new(address, u16_at(head, port)?))
    };
    *flow = Flow::new(
        protocol,
        end(ETHERNET_LEN + 12, L4_V4)?,
        end(ETHERNET_LEN + 16, L4_V4 + 2)?,
    );
    Some(plain)
}

#[inline(always)]
fn ipv6(head: &[u8; HEAD_V6], len: usize, flow: &mut Flow) -> Option<Plain> {
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
    let next = u8_at(head, ETHERNET_LEN + 6)?;
    let (plain, protocol) = if next == number::TCP {
        fits_tcp::<0>(u8_at(head, L4_V6 + 12)?, payload)?;
        (Plain::Tcp6, Protocol::Tcp)
    } else if next == number::UDP {
        fits_udp::<0>(u16_at(head, L4_V6 + 4)?, payload)?;
        (Plain::Udp6, Protocol::Udp)
    } else {
        return None;
    };
    *flow = Flow::new(
        protocol,
        Endpoint::new(src, u16_at(head, L4_V6)?),
        Endpoint::new(dst, u16_at(head, L4_V6 + 2)?),
    );
    Some(plain)
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
                    prop_assert_eq!(plain.packet(&frame, &flow), general(&frame).ok());
                }
                None => prop_assert_eq!(flow, Flow::NONE),
            }
        }
    }
}
