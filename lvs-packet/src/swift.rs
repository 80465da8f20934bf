//! TTL and NAT at once, for the packets that nearly all are: TCP or UDP, whole, behind an IP header
//! without options or extension headers, nothing left to the hardware.
//!
//! The bytes come out as those of [`ttl::decrement`](crate::ttl::decrement) and of the rewriters of
//! [`nat`](crate::nat) in turn, for a third of the instructions: all headers are bounded at once, and
//! each checksum is read, corrected for all that changes, and written once. Of every other packet
//! nothing is changed, and the answer says so.
//!
//! ```
//! use lvs_core::Flow;
//! use lvs_packet::swift::{Headers, HeadersV4};
//! use lvs_packet::{Frame, Offload, Plain, build, parse};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
//! let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40001, 80), b"")?;
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! assert_eq!(Plain::of(&frame, &mut { Flow::NONE }), Some(Plain::Tcp4));
//! let mut headers = HeadersV4::<true>::of(&mut frame).unwrap();
//! assert!(headers.send_to("10.2.0.1:8080".parse()?));
//! let packet = parse(&frame).unwrap();
//! assert_eq!((packet.flow.dst, packet.ttl), ("10.2.0.1:8080".parse()?, ip.ttl - 1));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array_mut, u8_at, u16_at, u64_at};
use crate::checksum::native;
use crate::frame::Frame;
use crate::packet::{Fragment, Kind, Packet, TcpFlags};
use crate::parse::{ETHERNET_LEN, HEAD_V4, HEAD_V6, IPV4_LEN, IPV6_LEN, L4_V4, L4_V6};
use lvs_core::{Endpoint, Family};

/// What stands of TCP until its checksum ends, and the whole of UDP's header, which does too.
const TCP: usize = 18;
const UDP: usize = 8;
/// Where the checksum stands in a UDP header.
const UDP_CHECKSUM: usize = 6;
/// Where the flags stand in a TCP header.
const FLAGS: usize = 13;

/// The headers of a frame that was found to be [`Plain`](crate::Plain): to be read, and to be changed
/// all at once. Of another frame what they say is of no meaning, and nothing worse.
///
/// What sends a packet on takes one from its TTL, which has to be above 1. Its answer is false, and
/// nothing is changed, if the checksum of UDP is absent. Endpoints have to be of the headers' family:
/// of others no more than the octets that fit would be written.
pub trait Headers: Sized {
    /// Of TCP; otherwise of UDP.
    const TCP: bool;

    /// Length of the IP packet.
    fn ip_len(&self) -> u32;

    /// TTL or hop limit.
    fn ttl(&self) -> u8;

    /// The flags of TCP; none of UDP.
    fn tcp_flags(&self) -> TcpFlags;

    /// Whether the source is a loopback address (`127.0.0.0/8`, `::1`).
    fn is_from_loopback(&self) -> bool;

    /// Whether there is a checksum of the transport header: always of TCP, and mostly of UDP.
    fn has_checksum(&self) -> bool;

    /// Takes one from the TTL, and no more.
    fn pass(&mut self);

    /// Sends the packet on from another endpoint, to another one, or both.
    fn rewrite(&mut self, from: Option<Endpoint>, to: Option<Endpoint>) -> bool;

    /// Sends the packet on to `to`: a client's request on its way to a server.
    #[inline(always)]
    fn send_to(&mut self, to: Endpoint) -> bool {
        self.rewrite(None, Some(to))
    }

    /// Lets the packet come from `from`: a server's reply on its way to the client.
    #[inline(always)]
    fn send_from(&mut self, from: Endpoint) -> bool {
        self.rewrite(Some(from), None)
    }

    /// Both at once: a packet of FULLNAT.
    #[inline(always)]
    fn send_between(&mut self, from: Endpoint, to: Endpoint) -> bool {
        self.rewrite(Some(from), Some(to))
    }
}

/// [`Headers`] of IPv4.
#[derive(Debug)]
pub struct HeadersV4<'a, const TCP: bool>(&'a mut [u8; HEAD_V4]);

/// [`Headers`] of IPv6.
#[derive(Debug)]
pub struct HeadersV6<'a, const TCP: bool>(&'a mut [u8; HEAD_V6]);

impl<'a, const TCP: bool> HeadersV4<'a, TCP> {
    /// Those of a plain frame; `None` of one that is too short to be one.
    #[inline(always)]
    pub fn of(frame: &'a mut Frame<'_>) -> Option<Self> {
        frame.head_mut().map(Self)
    }
}

impl<'a, const TCP: bool> HeadersV6<'a, TCP> {
    /// Those of a plain frame; `None` of one that is too short to be one.
    #[inline(always)]
    pub fn of(frame: &'a mut Frame<'_>) -> Option<Self> {
        frame.head_mut().map(Self)
    }
}

impl<const TCP: bool> Headers for HeadersV4<'_, TCP> {
    const TCP: bool = TCP;

    #[inline(always)]
    fn ip_len(&self) -> u32 {
        u16_at(self.0, ETHERNET_LEN + 2).map_or(0, u32::from)
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        u8_at(self.0, ETHERNET_LEN + 8).unwrap_or(0)
    }

    #[inline(always)]
    fn tcp_flags(&self) -> TcpFlags {
        TcpFlags(u8_at(self.0, L4_V4 + FLAGS).filter(|_| TCP).unwrap_or(0))
    }

    #[inline(always)]
    fn is_from_loopback(&self) -> bool {
        u8_at(self.0, ETHERNET_LEN + 12) == Some(127)
    }

    #[inline(always)]
    fn has_checksum(&self) -> bool {
        TCP || u16_at(self.0, L4_V4 + UDP_CHECKSUM) != Some(0)
    }

    #[inline(always)]
    fn pass(&mut self) {
        if let Some(ip) = array_mut(self.0, ETHERNET_LEN) {
            ipv4::<true>(ip, None, None);
        }
    }

    #[inline(always)]
    fn rewrite(&mut self, from: Option<Endpoint>, to: Option<Endpoint>) -> bool {
        debug_assert!(ends(from, to).all(|end| end.addr.is_v4()));
        let (ip, rest) = self.0.split_at_mut(L4_V4);
        let (Some(ip), Some(transport)) = (ip.last_chunk_mut(), Transport::of(rest, kind(TCP)))
        else {
            return false;
        };
        let addresses = ipv4::<true>(ip, from, to);
        transport.rewrite(kind(TCP), addresses, from, to);
        true
    }
}

impl<const TCP: bool> Headers for HeadersV6<'_, TCP> {
    const TCP: bool = TCP;

    #[inline(always)]
    fn ip_len(&self) -> u32 {
        u16_at(self.0, ETHERNET_LEN + 4).map_or(0, |payload| u32::from(payload) + 40)
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        u8_at(self.0, ETHERNET_LEN + 7).unwrap_or(0)
    }

    #[inline(always)]
    fn tcp_flags(&self) -> TcpFlags {
        TcpFlags(u8_at(self.0, L4_V6 + FLAGS).filter(|_| TCP).unwrap_or(0))
    }

    #[inline(always)]
    fn is_from_loopback(&self) -> bool {
        u64_at(self.0, ETHERNET_LEN + 8) == Some(0) && u64_at(self.0, ETHERNET_LEN + 16) == Some(1)
    }

    #[inline(always)]
    fn has_checksum(&self) -> bool {
        TCP || u16_at(self.0, L4_V6 + UDP_CHECKSUM) != Some(0)
    }

    #[inline(always)]
    fn pass(&mut self) {
        if let Some(ip) = array_mut(self.0, ETHERNET_LEN) {
            ipv6::<true>(ip, None, None);
        }
    }

    #[inline(always)]
    fn rewrite(&mut self, from: Option<Endpoint>, to: Option<Endpoint>) -> bool {
        debug_assert!(ends(from, to).all(|end| !end.addr.is_v4()));
        let (ip, rest) = self.0.split_at_mut(L4_V6);
        let (Some(ip), Some(transport)) = (ip.last_chunk_mut(), Transport::of(rest, kind(TCP)))
        else {
            return false;
        };
        let addresses = ipv6::<true>(ip, from, to);
        transport.rewrite(kind(TCP), addresses, from, to);
        true
    }
}

#[inline(always)]
const fn kind(tcp: bool) -> Kind {
    if tcp { Kind::Tcp } else { Kind::Udp }
}

fn ends(from: Option<Endpoint>, to: Option<Endpoint>) -> impl Iterator<Item = Endpoint> {
    from.into_iter().chain(to)
}

/// A packet that was parsed, wherever its headers stand; its TTL stays. Nothing is changed if it is
/// none of those that are dealt with here, or an endpoint is of the other family.
#[inline(always)]
pub(crate) fn rewrite(
    frame: &mut Frame<'_>,
    packet: &Packet,
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> Option<()> {
    let whole = packet.fragment == Fragment::None;
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
            (ipv4::<false>(ip, from, to), transport)
        }
        Family::V6 if headers == IPV6_LEN => {
            let (ip, rest) = rest.split_first_chunk_mut()?;
            let transport = Transport::of(rest, packet.kind)?;
            (ipv6::<false>(ip, from, to), transport)
        }
        _ => return None,
    };
    transport.rewrite(packet.kind, addresses, from, to);
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

    /// Ports, and the checksum that covers them and the addresses.
    #[inline(always)]
    fn rewrite(self, kind: Kind, addresses: u32, from: Option<Endpoint>, to: Option<Endpoint>) {
        let [s0, s1, d0, d1] = self.ports;
        let mut words = 0;
        if let Some(from) = from {
            let new = from.port.to_be_bytes();
            words += native::word([*s0, *s1], new);
            [*s0, *s1] = new;
        }
        if let Some(to) = to {
            let new = to.port.to_be_bytes();
            words += native::word([*d0, *d1], new);
            [*d0, *d1] = new;
        }
        let updated = native::apply(*self.checksum, words, addresses);
        // That of UDP must not say that there is none.
        let absent = updated == [0, 0] && kind == Kind::Udp;
        *self.checksum = if absent { [0xff; 2] } else { updated };
    }
}

/// TTL, addresses and checksum; answers what the addresses do to the sums that cover them.
#[inline(always)]
pub(crate) fn ipv4<const TTL: bool>(
    header: &mut [u8; IPV4_LEN],
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> u32 {
    /// What one less in the upper byte of a word does to a sum.
    const ONE_LESS: u32 = u16::from_ne_bytes([0xfe, 0xff]) as u32;

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
    let mut addresses = 0;
    if let Some(from) = from {
        let new = from.addr.v4_octets();
        addresses = native::long([*s0, *s1, *s2, *s3], new);
        [*s0, *s1, *s2, *s3] = new;
    }
    if let Some(to) = to {
        let new = to.addr.v4_octets();
        addresses = native::add(addresses, native::long([*d0, *d1, *d2, *d3], new));
        [*d0, *d1, *d2, *d3] = new;
    }
    if TTL {
        *ttl = ttl.wrapping_sub(1);
    }
    [*c0, *c1] = native::apply([*c0, *c1], if TTL { ONE_LESS } else { 0 }, addresses);
    addresses
}

/// Hop limit and addresses; answers what the addresses do to the sums that cover them.
#[inline(always)]
fn ipv6<const TTL: bool>(
    header: &mut [u8; IPV6_LEN],
    from: Option<Endpoint>,
    to: Option<Endpoint>,
) -> u32 {
    let mut addresses = 0;
    let Some((_, ends)) = header.split_first_chunk_mut::<8>() else {
        return addresses;
    };
    let Some((src, dst)) = ends.split_first_chunk_mut::<16>() else {
        return addresses;
    };
    if let Some(from) = from {
        let new = from.addr.v6_octets();
        addresses = native::longest(*src, new);
        *src = new;
    }
    if let (Some(to), Some(dst)) = (to, dst.first_chunk_mut()) {
        let new = to.addr.v6_octets();
        addresses = native::add(addresses, native::longest(*dst, new));
        *dst = new;
    }
    if TTL {
        let [_, _, _, _, _, _, _, limit, ..] = header;
        *limit = limit.wrapping_sub(1);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Offload, PartialChecksum};
    use crate::{Plain, build, nat, parse, ttl};
    use lvs_core::{Addr, Flow};
    use proptest::prelude::*;

    fn endpoint() -> impl Strategy<Value = (u32, u128, u16)> {
        (any::<u32>(), any::<u128>(), any::<u16>())
    }

    /// Sends a packet on, whose headers say of it what was parsed.
    fn send<H: Headers>(
        headers: Option<H>,
        packet: &Packet,
        from: Option<Endpoint>,
        to: Option<Endpoint>,
    ) -> bool {
        let mut headers = headers.unwrap();
        let said = (headers.ip_len(), headers.ttl(), headers.tcp_flags());
        assert_eq!(said, (packet.ip_len(), packet.ttl, packet.tcp_flags));
        assert_eq!(
            headers.is_from_loopback(),
            packet.flow.src.addr.is_loopback()
        );
        assert_eq!(H::TCP, packet.kind == Kind::Tcp);
        match (from, to) {
            (Some(from), Some(to)) => headers.send_between(from, to),
            (Some(from), None) => headers.send_from(from),
            (None, Some(to)) => headers.send_to(to),
            (None, None) => false,
        }
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
                    true => Addr::from_v4_bits(short >> 1 | 1 << 24),
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
            let plain = Plain::of(&frame, &mut { Flow::NONE });
            prop_assert_eq!(plain.is_none(), options && v4 || !v4 && length < 74);
            let done = match plain {
                _ if partial || hops <= 1 => false,
                None => false,
                Some(Plain::Tcp4) => send(HeadersV4::<true>::of(&mut frame), &packet, from, to),
                Some(Plain::Udp4) => send(HeadersV4::<false>::of(&mut frame), &packet, from, to),
                Some(Plain::Tcp6) => send(HeadersV6::<true>::of(&mut frame), &packet, from, to),
                Some(Plain::Udp6) => send(HeadersV6::<false>::of(&mut frame), &packet, from, to),
            };
            let absent = !tcp && checksum == Some(0);
            let left_alone = plain.is_none() || hops <= 1 || partial || absent;
            prop_assert_eq!(done, !left_alone);
            prop_assert_eq!(buffer, if done { expected } else { before });

            // The TTL alone; and a packet wherever it stands, without it.
            let (mut expected, mut one) = (before, before);
            let mut other = Frame::new(&mut expected, 0, length, offload);
            ttl::decrement(&mut other, &packet);
            let mut frame = Frame::new(&mut one, 0, length, offload);
            match plain {
                _ if hops == 0 => ttl::decrement(&mut frame, &packet),
                None => ttl::decrement(&mut frame, &packet),
                Some(plain) if plain.family() == Family::V4 => {
                    HeadersV4::<true>::of(&mut frame).unwrap().pass();
                }
                Some(_) => HeadersV6::<true>::of(&mut frame).unwrap().pass(),
            }
            prop_assert_eq!(one, expected);
            let mut parsed = before;
            let mut frame = Frame::new(&mut parsed, 0, length, offload);
            let done = rewrite(&mut frame, &packet, from, to).is_some();
            prop_assert_eq!(done, !(partial || absent || (options && v4)));
            let mut expected = before;
            if done {
                let mut frame = Frame::new(&mut expected, 0, length, offload);
                let mut changed = packet;
                if let Some(from) = from {
                    nat::rewrite_any(&mut frame, &changed, from, nat::End::Source);
                    changed.flow.src = from;
                }
                if let Some(to) = to {
                    nat::rewrite_any(&mut frame, &changed, to, nat::End::Destination);
                }
            }
            prop_assert_eq!(parsed, expected);
        }
    }
}
