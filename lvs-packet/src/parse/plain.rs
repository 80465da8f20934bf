//! The frames that nearly all are: TCP or UDP, whole, over IPv4 without options or IPv6 without
//! extension headers, no VLAN tag, nothing wrong.
//!
//! Says of them what the general parser says, in half of its instructions: the length of all headers
//! is compared once, every offset is a constant, and fields are cut out of a few wide loads. Of all
//! other frames it says nothing, and never why.

use super::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_LEN, IPV6_LEN};
use super::{TCP_LEN, UDP_LEN, number};
use crate::bytes::{u8_at, u16_at, u32_at, u64_at};
use crate::checksum;
use crate::packet::{Fragment, Kind, Packet, TcpFlags};
use lvs_core::{Addr, Endpoint, Family, Flow, Protocol};

/// What an IP header says.
struct Ip {
    family: Family,
    src: Addr,
    dst: Addr,
    protocol: u8,
    ttl: u8,
    tos: u8,
    dont_fragment: bool,
    /// Length with all that follows.
    total: usize,
}

/// The packet of a plain frame; `None` of any other.
#[inline(always)]
pub(super) fn parse(bytes: &[u8]) -> Option<Packet> {
    // No shorter one is worth a way of its own: Ethernet pads to 60.
    let head: &[u8; ETHERNET_LEN + IPV4_LEN + TCP_LEN] = bytes.first_chunk()?;
    match u16_at(head, 12)? {
        ETHERTYPE_IPV4 => transport::<IPV4_LEN, { ETHERNET_LEN + IPV4_LEN }>(bytes, &ipv4(head)?),
        ETHERTYPE_IPV6 => transport::<IPV6_LEN, { ETHERNET_LEN + IPV6_LEN }>(bytes, &ipv6(head)?),
        _ => None,
    }
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are cut out of wider words"
)]
fn ipv4(head: &[u8; 54]) -> Option<Ip> {
    /// Version 4, five words long; and of the word of the fragment nothing but DF.
    const FIXED: u64 = 0xff00_0000_0000_3fff;
    const PLAIN: u64 = 0x4500_0000_0000_0000;
    const DONT_FRAGMENT: u64 = 0x4000;

    let first = u64_at(head, ETHERNET_LEN)?;
    let second = u64_at(head, ETHERNET_LEN + 8)?;
    let dst = u32_at(head, ETHERNET_LEN + 16)?;
    let src = second as u32;
    // Multicast, and the reserved block of which one address is refused.
    let unusual = src >> 29 == 7;
    if first & FIXED != PLAIN || unusual || !checksum::header_is_true(first, second, dst) {
        return None;
    }
    Some(Ip {
        family: Family::V4,
        src: Addr::from_v4_bits(src),
        dst: Addr::from_v4_bits(dst),
        protocol: (second >> 48) as u8,
        ttl: (second >> 56) as u8,
        tos: (first >> 48) as u8,
        dont_fragment: first & DONT_FRAGMENT != 0,
        total: usize::from((first >> 32) as u16),
    })
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are cut out of wider words"
)]
fn ipv6(head: &[u8; 54]) -> Option<Ip> {
    let first = u64_at(head, ETHERNET_LEN)?;
    let addr = |at| {
        Some(Addr {
            hi: u64_at(head, at)?,
            lo: u64_at(head, at + 8)?,
        })
    };
    let (src, dst) = (addr(ETHERNET_LEN + 8)?, addr(ETHERNET_LEN + 24)?);
    // Of what is refused, mapped IPv4 addresses begin with zeros, and multicast is the last.
    let usual = src.hi != 0 && src.hi < 0xff00_0000_0000_0000 && dst.hi != 0;
    if first >> 60 != 6 || !usual {
        return None;
    }
    Some(Ip {
        family: Family::V6,
        src,
        dst,
        protocol: (first >> 8) as u8,
        ttl: first as u8,
        tos: (first >> 52) as u8,
        dont_fragment: true,
        total: IPV6_LEN + usize::from((first >> 16) as u16),
    })
}

/// Completes the packet whose IP header is `LENGTH` bytes long and ends at `L4`.
#[inline(always)]
fn transport<const LENGTH: usize, const L4: usize>(bytes: &[u8], ip: &Ip) -> Option<Packet> {
    const { assert!(L4 < 256) };
    let end = ETHERNET_LEN + ip.total;
    if end > bytes.len() {
        return None;
    }
    let (kind, named, length, tcp_flags) = match ip.protocol {
        number::TCP => {
            let data = u8_at(bytes, L4 + 12)?;
            if data < 0x50 {
                return None;
            }
            let length = usize::from(data >> 4) * 4;
            (Kind::Tcp, Protocol::Tcp, length, u8_at(bytes, L4 + 13)?)
        }
        number::UDP => {
            let length = usize::from(u16_at(bytes, L4 + 4)?);
            if length < UDP_LEN {
                return None;
            }
            (Kind::Udp, Protocol::Udp, length, 0)
        }
        _ => return None,
    };
    if LENGTH + length > ip.total {
        return None;
    }
    let [s0, s1, d0, d1] = u32_at(bytes, L4)?.to_be_bytes();
    Some(Packet {
        kind,
        flow: Flow::new(
            named,
            Endpoint::new(ip.src, u16::from_be_bytes([s0, s1])),
            Endpoint::new(ip.dst, u16::from_be_bytes([d0, d1])),
        ),
        family: ip.family,
        protocol: ip.protocol,
        l3: u16::try_from(ETHERNET_LEN).ok()?,
        l4: u16::try_from(L4).ok()?,
        end: u32::try_from(end).ok()?,
        tcp_flags: TcpFlags(tcp_flags),
        ttl: ip.ttl,
        tos: ip.tos,
        dont_fragment: ip.dont_fragment,
        fragment: Fragment::None,
        sctp_chunk: 0,
    })
}

#[cfg(test)]
mod tests {
    use crate::frame::{Frame, Offload, SegmentKind, Segmentation};
    use crate::{build, checksum, parse::general};
    use lvs_core::Addr;
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
            let plain = super::parse(&bytes);
            // A short datagram over IPv6 is not worth a way of its own.
            prop_assert!(plain.is_some() || bytes != original || bytes.len() < 74);
            if plain.is_some() {
                let length = bytes.len();
                let offload = Offload { segmentation, ..Offload::default() };
                let general = general(&Frame::new(&mut bytes, 0, length, offload));
                prop_assert_eq!(plain, general.ok());
            }
        }
    }
}
