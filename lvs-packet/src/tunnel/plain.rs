//! TTL and tunnel at once, for the packets that nearly all are: those of [`Plain`](crate::Plain) frames,
//! behind a header whose checksum, if it has one of its own, covers no payload.
//!
//! The bytes come out as those of [`ttl::decrement`](crate::ttl::decrement) and of
//! [`encapsulate`](super::encapsulate) in turn, for a small part of the instructions: the length of what
//! is written is known to the compiler. Of every other packet nothing is changed, and the answer says
//! so.

use super::{GRE_LEN, GUE_LEN, Inner, Options, UDP_LEN, gre, gue, outer_v4, outer_v6};
use crate::bytes::{set_u16, u16_at};
use crate::frame::{Frame, Front};
use crate::parse::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_LEN, IPV6_LEN, number};
use crate::swift;
use lvs_core::{Addr, Family, TunnelChecksum, TunnelKind};

const GUE: usize = UDP_LEN + GUE_LEN;

/// Takes one from the TTL of a plain frame, which has to be above 1, and puts the packet behind an outer
/// header from `source` to `destination`. `inner` is the frame's own family. False, and nothing changed, if
/// that is not so plain: a checksum over the payload, something left to the hardware, addresses of two
/// families, no room before the frame.
///
/// ```
/// use lvs_core::{Family, Flow, TunnelKind};
/// use lvs_packet::{Frame, Offload, Plain, build, parse, tunnel};
/// let mut buffer = [0; 160];
/// let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
/// let length = build::udp(&mut buffer[64..], &ip, 40001, 80, b"hello, hello, hello")?;
/// let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
/// assert_eq!(Plain::of(&frame, &mut { Flow::NONE }), Some(Plain::Udp4));
/// let ends = ("10.2.0.254".parse()?, "10.2.0.1".parse()?);
/// let options = tunnel::Options::default();
/// assert!(tunnel::send_plain(&mut frame, Family::V4, TunnelKind::Ipip, ends, &options));
/// let packet = parse(&frame).unwrap();
/// assert_eq!((packet.flow.dst.addr, packet.ttl), (ends.1, ip.ttl - 1));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[inline(always)]
pub fn send_plain(
    frame: &mut Frame<'_>,
    inner: Family,
    kind: TunnelKind,
    ends: (Addr, Addr),
    options: &Options,
) -> bool {
    const NONE: TunnelChecksum = TunnelChecksum::None;
    let (source, destination) = ends;
    let outer = destination.family();
    if source.family() != outer {
        return false;
    }
    let ports = |port| (options.source_port, port);
    let done = match (kind, outer) {
        (TunnelKind::Ipip, Family::V4) => {
            over_v4::<IPV4_LEN>(frame, inner, None, ends, options, |_, _, _| ())
        }
        (TunnelKind::Ipip, Family::V6) => {
            over_v6::<IPV6_LEN>(frame, inner, None, ends, |_, _, _| ())
        }
        (TunnelKind::Gre { checksum: NONE }, Family::V4) => {
            let between = |header: &mut [u8], _, inner: &Inner| gre(header, inner, false);
            over_v4::<{ IPV4_LEN + GRE_LEN }>(
                frame,
                inner,
                Some(number::GRE),
                ends,
                options,
                between,
            )
        }
        (TunnelKind::Gre { checksum: NONE }, Family::V6) => {
            let between = |header: &mut [u8], _, inner: &Inner| gre(header, inner, false);
            over_v6::<{ IPV6_LEN + GRE_LEN }>(frame, inner, Some(number::GRE), ends, between)
        }
        (
            TunnelKind::Gue {
                port,
                checksum: NONE,
            },
            Family::V4,
        ) => {
            let between =
                |header: &mut [u8], length, inner: &Inner| gue(header, length, inner, ports(port));
            over_v4::<{ IPV4_LEN + GUE }>(frame, inner, Some(number::UDP), ends, options, between)
        }
        (
            TunnelKind::Gue {
                port,
                checksum: NONE,
            },
            Family::V6,
        ) => {
            let between =
                |header: &mut [u8], length, inner: &Inner| gue(header, length, inner, ports(port));
            over_v6::<{ IPV6_LEN + GUE }>(frame, inner, Some(number::UDP), ends, between)
        }
        _ => None,
    };
    done.is_some()
}

/// Length of the packet in a plain frame.
#[inline(always)]
fn inner_length(frame: &Frame<'_>, inner: Family) -> Option<u16> {
    let head: &[u8; ETHERNET_LEN + IPV4_LEN] = frame.head()?;
    match inner {
        Family::V4 => u16_at(head, ETHERNET_LEN + 2),
        Family::V6 => u16_at(head, ETHERNET_LEN + 4)?.checked_add(40),
    }
}

/// Takes one from the TTL, or the hop limit.
#[inline(always)]
fn pass(header: &mut [u8; IPV4_LEN], inner: Family) -> Inner {
    match inner {
        Family::V4 => {
            swift::ipv4::<true>(header, None, None);
        }
        Family::V6 => {
            let [_, _, _, _, _, _, _, limit, ..] = header;
            *limit = limit.wrapping_sub(1);
        }
    }
    Inner::of(header, inner)
}

/// Behind `LENGTH` octets that begin with a header of IPv4, and of which `between` writes the rest.
/// `protocol`: what that is; `None`: the packet itself follows.
#[inline(always)]
fn over_v4<const LENGTH: usize>(
    frame: &mut Frame<'_>,
    inner: Family,
    protocol: Option<u8>,
    ends: (Addr, Addr),
    options: &Options,
    between: impl FnOnce(&mut [u8], u16, &Inner),
) -> Option<()> {
    let length = inner_length(frame, inner)?;
    let behind = length.checked_add(const { constant(LENGTH - IPV4_LEN) })?;
    let total = behind.checked_add(const { constant(IPV4_LEN) })?;
    let Front {
        ethernet,
        room,
        inner: header,
    } = frame.open_front::<LENGTH>(ETHERNET_LEN + usize::from(length))?;
    let inner = pass(header, inner);
    set_u16(ethernet, ETHERNET_LEN - 2, ETHERTYPE_IPV4);
    let (ip, rest) = room.split_first_chunk_mut()?;
    let protocol = protocol.unwrap_or_else(|| inner.protocol());
    outer_v4(ip, total, protocol, &inner, ends, options);
    between(rest, behind, &inner);
    Some(())
}

/// The same with a header of IPv6.
#[inline(always)]
fn over_v6<const LENGTH: usize>(
    frame: &mut Frame<'_>,
    inner: Family,
    protocol: Option<u8>,
    ends: (Addr, Addr),
    between: impl FnOnce(&mut [u8], u16, &Inner),
) -> Option<()> {
    let length = inner_length(frame, inner)?;
    let behind = length.checked_add(const { constant(LENGTH - IPV6_LEN) })?;
    let Front {
        ethernet,
        room,
        inner: header,
    } = frame.open_front::<LENGTH>(ETHERNET_LEN + usize::from(length))?;
    let inner = pass(header, inner);
    set_u16(ethernet, ETHERNET_LEN - 2, ETHERTYPE_IPV6);
    let (ip, rest) = room.split_first_chunk_mut()?;
    let protocol = protocol.unwrap_or_else(|| inner.protocol());
    outer_v6(ip, behind, protocol, &inner, ends);
    between(rest, behind, &inner);
    Some(())
}

/// The length of a header.
#[expect(clippy::cast_possible_truncation, reason = "below 256, as is checked")]
const fn constant(length: usize) -> u16 {
    assert!(length < 256);
    length as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Offload;
    use crate::{Plain, build, parse, ttl, tunnel};
    use lvs_core::Flow;
    use proptest::prelude::*;
    use std::vec::Vec;

    const CHECKSUMS: [TunnelChecksum; 3] = [
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ];

    fn addr(v4: bool, host: u8) -> Addr {
        match v4 {
            true => Addr::from_v4_octets([10, 2, 0, host]),
            false => Addr {
                hi: 0xfd02 << 48,
                lo: host.into(),
            },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The bytes are those of the general way, or nothing is changed.
        #[test]
        fn as_the_general_tunnel(
            inner_v4: bool,
            outer_v4: bool,
            mixed: bool,
            tcp: bool,
            kind in 0..3_u8,
            checksum in prop::sample::select(&CHECKSUMS),
            hops in 2..=255_u8,
            tos: u8,
            fragment in prop::sample::select(&[0_u16, 0x4000]),
            copy_df: bool,
            (ident, source_port) in any::<(u16, u16)>(),
            room in 0..60_usize,
            padding in 0..4_usize,
        ) {
            let kind = match kind {
                0 => TunnelKind::Ipip,
                1 => TunnelKind::Gre { checksum },
                _ => TunnelKind::Gue { port: 6080, checksum },
            };
            let ip = build::Ip {
                ttl: hops,
                tos,
                fragment: if inner_v4 { fragment } else { 0 },
                ..build::Ip::new(addr(inner_v4, 5), addr(inner_v4, 1))
            };
            let mut buffer = [0; 220];
            let built = match tcp {
                true => build::tcp(&mut buffer[room..], &ip, &build::Tcp::syn(4000, 80), &[7; 20]),
                false => build::udp(&mut buffer[room..], &ip, 4000, 80, &[7; 20]),
            };
            let length = built.unwrap() + padding;
            let ends = (addr(outer_v4 ^ mixed, 9), addr(outer_v4, 8));
            let options = Options { ident, copy_df, source_port };

            let mut expected = buffer;
            let mut general = Frame::new(&mut expected, room, length, Offload::default());
            let packet = parse(&general).unwrap();
            ttl::decrement(&mut general, &packet);
            let result = tunnel::encapsulate(&mut general, &packet, kind, ends.0, ends.1, &options);
            let general: Vec<u8> = general.bytes().to_vec();

            let before = buffer;
            let mut frame = Frame::new(&mut buffer, room, length, Offload::default());
            let plain = Plain::of(&frame, &mut { Flow::NONE }).unwrap();
            let done = send_plain(&mut frame, plain.family(), kind, ends, &options);
            let easy = match kind {
                TunnelKind::Ipip => true,
                TunnelKind::Gre { checksum } | TunnelKind::Gue { checksum, .. } => {
                    checksum == TunnelChecksum::None
                }
            };
            prop_assert_eq!(done, easy && result.is_ok());
            if done {
                prop_assert_eq!(frame.bytes(), &general[..]);
            } else {
                prop_assert_eq!(frame.len(), length);
                prop_assert_eq!(buffer, before);
            }
        }
    }
}
