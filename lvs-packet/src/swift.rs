//! TTL and NAT at once, for the packets that nearly all are: TCP or UDP, whole, behind an IP header
//! without options or extension headers, nothing left to the hardware.
//!
//! The bytes come out as those of [`ttl::decrement`](crate::ttl::decrement) and of the rewriters of
//! [`nat`](crate::nat) in turn, for half of the instructions: each header is bounded once, and each
//! checksum is read, corrected for all that changes, and written once. Of every other packet nothing
//! is changed, and the answer says so.
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, parse, swift};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
//! let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40001, 80), b"")?;
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! assert!(swift::send_to(&mut frame, &packet, "10.2.0.1:8080".parse()?));
//! let packet = parse(&frame).unwrap();
//! assert_eq!((packet.flow.dst, packet.ttl), ("10.2.0.1:8080".parse()?, ip.ttl - 1));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::checksum::Delta;
use crate::frame::Frame;
use crate::packet::{Fragment, Kind, Packet};
use crate::parse::{IPV4_LEN, IPV6_LEN};
use lvs_core::{Endpoint, Family};

/// What stands of TCP until its checksum ends, and the whole of UDP's header, which does too.
const TCP: usize = 18;
const UDP: usize = 8;

/// Sends the packet on to `to`: a client's request on its way to a server. False, and nothing
/// changed, if the packet is none of those that are dealt with here, its TTL is used up, or `to` is
/// of the other family.
#[inline]
#[must_use]
pub fn send_to(frame: &mut Frame<'_>, packet: &Packet, to: Endpoint) -> bool {
    rewrite::<true>(frame, packet, None, Some(to)).is_some()
}

/// Lets the packet come from `from`: a server's reply on its way to the client. False as for
/// [`send_to`].
#[inline]
#[must_use]
pub fn send_from(frame: &mut Frame<'_>, packet: &Packet, from: Endpoint) -> bool {
    rewrite::<true>(frame, packet, Some(from), None).is_some()
}

/// Both at once: a packet of FULLNAT. False as for [`send_to`].
#[inline]
#[must_use]
pub fn send_between(frame: &mut Frame<'_>, packet: &Packet, from: Endpoint, to: Endpoint) -> bool {
    rewrite::<true>(frame, packet, Some(from), Some(to)).is_some()
}

/// With `TTL`, one less of it too.
#[inline(always)]
pub(crate) fn rewrite<const TTL: bool>(
    frame: &mut Frame<'_>,
    packet: &Packet,
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> Option<()> {
    let whole = packet.fragment == Fragment::None && (!TTL || packet.ttl > 1);
    let left = frame.offload.checksum.is_some() || frame.offload.segmentation.is_some();
    let fits = |new: Option<Endpoint>| new.is_none_or(|new| new.addr.family() == packet.family);
    if !whole || left || !fits(from) || !fits(to) {
        return None;
    }
    let headers = packet.transport() - packet.ip();
    let rest = frame.get_mut()?.get_mut(packet.ip()..)?;
    let (addresses, transport) = match packet.family {
        Family::V4 if headers == IPV4_LEN => {
            let (ip, rest) = rest.split_first_chunk_mut()?;
            let transport = Transport::of(rest, packet.kind)?;
            (ipv4::<TTL>(ip, from, to), transport)
        }
        Family::V6 if headers == IPV6_LEN => {
            let (ip, rest) = rest.split_first_chunk_mut()?;
            let transport = Transport::of(rest, packet.kind)?;
            (ipv6::<TTL>(ip, from, to), transport)
        }
        _ => return None,
    };
    let delta = ports(transport.ports, addresses, from, to);
    let updated = u16::from_ne_bytes(delta.native_apply(*transport.checksum));
    // That of UDP must not say that there is none.
    let absent = updated == 0 && packet.kind == Kind::Udp;
    *transport.checksum = if absent { u16::MAX } else { updated }.to_ne_bytes();
    Some(())
}

/// What is rewritten of a transport header.
struct Transport<'a> {
    ports: &'a mut [u8; 4],
    checksum: &'a mut [u8; 2],
}

impl<'a> Transport<'a> {
    /// In a header of TCP, or in one of UDP whose checksum is not absent.
    #[inline(always)]
    fn of(header: &'a mut [u8], kind: Kind) -> Option<Self> {
        let (ports, checksum) = match kind {
            Kind::Tcp => {
                let header: &mut [u8; TCP] = header.first_chunk_mut()?;
                let (ports, rest) = header.split_first_chunk_mut()?;
                (ports, rest.last_chunk_mut()?)
            }
            Kind::Udp => {
                let header: &mut [u8; UDP] = header.first_chunk_mut()?;
                let (ports, rest) = header.split_first_chunk_mut()?;
                (ports, rest.last_chunk_mut()?)
            }
            _ => return None,
        };
        let absent = kind == Kind::Udp && *checksum == [0, 0];
        (!absent).then_some(Self { ports, checksum })
    }
}

/// TTL, addresses and checksum; answers what the addresses do to the sums that cover them.
#[inline(always)]
fn ipv4<const TTL: bool>(
    header: &mut [u8; IPV4_LEN],
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> Delta {
    /// What one less in the upper byte of a word does to a sum.
    const ONE_LESS: u16 = u16::from_ne_bytes([0xfe, 0xff]);

    let [
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        ttl,
        _,
        c0,
        c1,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = header;
    let mut addresses = Delta::NONE;
    if let Some(from) = from {
        let new = from.addr.v4_octets();
        addresses = addresses.native_long([*s0, *s1, *s2, *s3], new);
        [*s0, *s1, *s2, *s3] = new;
    }
    if let Some(to) = to {
        let new = to.addr.v4_octets();
        addresses = addresses.native_long([*d0, *d1, *d2, *d3], new);
        [*d0, *d1, *d2, *d3] = new;
    }
    let mut all = addresses;
    if TTL {
        *ttl = ttl.wrapping_sub(1);
        all = all.plus(ONE_LESS);
    }
    [*c0, *c1] = all.native_apply([*c0, *c1]);
    addresses
}

/// Hop limit and addresses; answers what the addresses do to the sums that cover them.
#[inline(always)]
fn ipv6<const TTL: bool>(
    header: &mut [u8; IPV6_LEN],
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> Delta {
    let mut addresses = Delta::NONE;
    let Some((_, ends)) = header.split_first_chunk_mut::<8>() else {
        return addresses;
    };
    let Some((src, dst)) = ends.split_first_chunk_mut::<16>() else {
        return addresses;
    };
    if let Some(from) = from {
        let new = from.addr.v6_octets();
        addresses = addresses.native_longest(*src, new);
        *src = new;
    }
    if let (Some(to), Some(dst)) = (to, dst.first_chunk_mut()) {
        let new = to.addr.v6_octets();
        addresses = addresses.native_longest(*dst, new);
        *dst = new;
    }
    if TTL {
        let [_, _, _, _, _, _, _, limit, ..] = header;
        *limit = limit.wrapping_sub(1);
    }
    addresses
}

/// Ports at the start of a transport header; answers what they and the addresses do to its sum.
#[inline(always)]
fn ports(
    ports: &mut [u8; 4],
    addresses: Delta,
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> Delta {
    let [s0, s1, d0, d1] = ports;
    let mut delta = addresses;
    if let Some(from) = from {
        let new = from.port.to_be_bytes();
        delta = delta.native_word([*s0, *s1], new);
        [*s0, *s1] = new;
    }
    if let Some(to) = to {
        let new = to.port.to_be_bytes();
        delta = delta.native_word([*d0, *d1], new);
        [*d0, *d1] = new;
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Offload, PartialChecksum};
    use crate::{build, nat, parse, ttl};
    use lvs_core::Addr;
    use proptest::prelude::*;

    fn endpoint() -> impl Strategy<Value = (u32, u128, u16)> {
        (any::<u32>(), any::<u128>(), any::<u16>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The bytes are those of the general rewriters in turn, also where a checksum was wrong.
        #[test]
        fn as_the_general_rewriters(
            v4: bool,
            tcp: bool,
            ends in prop::array::uniform4(endpoint()),
            rewritten in 0..3_u8,
            hops in 0..4_u8,
            options: bool,
            checksum in prop::option::of(any::<u16>()),
            partial: bool,
        ) {
            let [src, dst, from, to] = ends.map(|(short, long, port)| {
                // Any that a host can have.
                let addr = match v4 {
                    true => Addr::from_v4_bits(short >> 1),
                    false => Addr::from_v6_octets((long >> 2 | 1 << 120).to_be_bytes()),
                };
                Endpoint::new(addr, port)
            });
            let ip = build::Ip { ttl: hops, ..build::Ip::new(src.addr, dst.addr) };
            let ip = match options && v4 {
                true => build::Ip { options: &[1, 1, 1, 0], ..ip },
                false => ip,
            };
            let mut buffer = [0; 160];
            let length = match tcp {
                true => build::tcp(&mut buffer, &ip, &build::Tcp::syn(src.port, dst.port), b"1234567"),
                false => build::udp(&mut buffer, &ip, src.port, dst.port, b"123456789abcdef"),
            }
            .unwrap();
            let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
            let packet = parse(&frame).unwrap();
            let field = if tcp { 16 } else { 6 };
            if let Some(checksum) = checksum {
                let at = packet.transport() + field;
                frame.bytes_mut()[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            }
            let offload = Offload {
                checksum: partial.then_some(PartialChecksum {
                    start: packet.l4,
                    offset: u16::try_from(field).unwrap(),
                }),
                ..Offload::default()
            };
            let (from, to) = match rewritten {
                0 => (Some(from), None),
                1 => (None, Some(to)),
                _ => (Some(from), Some(to)),
            };

            let mut expected = buffer;
            let mut other = Frame::new(&mut expected, 0, length, offload);
            ttl::decrement(&mut other, &packet);
            let mut changed = packet;
            if let Some(from) = from {
                nat::rewrite_any(&mut other, &changed, from, nat::End::Source);
                changed.flow.src = from;
            }
            if let Some(to) = to {
                nat::rewrite_any(&mut other, &changed, to, nat::End::Destination);
            }

            let before = buffer;
            let mut frame = Frame::new(&mut buffer, 0, length, offload);
            let done = match (from, to) {
                (Some(from), Some(to)) => send_between(&mut frame, &packet, from, to),
                (Some(from), None) => send_from(&mut frame, &packet, from),
                (None, Some(to)) => send_to(&mut frame, &packet, to),
                (None, None) => false,
            };
            let absent = !tcp && checksum == Some(0);
            let left_alone = hops <= 1 || partial || absent || (options && v4);
            prop_assert_eq!(done, !left_alone);
            prop_assert_eq!(buffer, if done { expected } else { before });
        }
    }
}
