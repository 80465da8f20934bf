//! What must hold for every packet: a rewrite gives what building the packet anew would have given,
//! its reverse gives the packet back, and a checksum that was true stays true.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may stop where something is not as it says"
)]

use lvs_core::{Addr, Endpoint, Family, TunnelChecksum, TunnelKind};
use lvs_packet::{
    Frame, Kind, Offload, PartialChecksum, SegmentKind, Segmentation, TcpFlags, build, checksum,
    icmp, nat, parse, parse_quoted, parse_quoted_tunnel, segment, ttl, tunnel,
};
use proptest::collection::vec;
use proptest::prelude::*;

const HEADROOM: usize = 128;

/// A packet as values.
#[derive(Clone, Debug)]
struct Sample {
    kind: Kind,
    src: Endpoint,
    dst: Endpoint,
    ttl: u8,
    tos: u8,
    ident: u16,
    dont_fragment: bool,
    tagged: bool,
    extended: bool,
    sequence: u32,
    flags: u8,
    payload: Vec<u8>,
}

impl Sample {
    /// The frame, without room before it.
    fn build(&self) -> Vec<u8> {
        let mut buffer = vec![0; 256 + self.payload.len()];
        let ip = build::Ip {
            tags: if self.tagged { &[(0x8100, 7)] } else { &[] },
            ttl: self.ttl,
            tos: self.tos,
            ident: self.ident,
            fragment: if self.dont_fragment { 0x4000 } else { 0 },
            ..build::Ip::new(self.src.addr, self.dst.addr)
        };
        let last = match self.kind {
            Kind::Tcp => 6,
            Kind::Udp => 17,
            _ => 132,
        };
        let extension = [last, 0, 1, 4, 0, 0, 0, 0];
        let ip = match (self.extended, self.src.addr.family()) {
            (false, _) => ip,
            (true, Family::V4) => build::Ip {
                options: &[1, 1, 1, 0],
                ..ip
            },
            (true, Family::V6) => build::Ip {
                options: &extension,
                first_extension: Some(60),
                ..ip
            },
        };
        let (src, dst) = (self.src.port, self.dst.port);
        let length = match self.kind {
            Kind::Tcp => {
                let tcp = build::Tcp {
                    sequence: self.sequence,
                    flags: TcpFlags(self.flags),
                    options: &[1, 1, 1, 1],
                    ..build::Tcp::syn(src, dst)
                };
                build::tcp(&mut buffer, &ip, &tcp, &self.payload)
            }
            Kind::Udp => build::udp(&mut buffer, &ip, src, dst, &self.payload),
            _ => {
                let mut chunk = vec![0, 3, 0, 0];
                chunk[2..4].copy_from_slice(&(self.payload.len() as u16 + 4).to_be_bytes());
                chunk.extend(&self.payload);
                build::sctp(&mut buffer, &ip, src, dst, self.sequence, &chunk)
            }
        };
        buffer.truncate(length.unwrap());
        buffer
    }

    /// Where the field of the checksum stands behind the transport header's start.
    fn field(&self) -> u16 {
        match self.kind {
            Kind::Tcp => 16,
            Kind::Udp => 6,
            _ => 8,
        }
    }

    /// The frame as a kernel that leaves the checksum to the hardware gives it.
    fn build_partial(&self) -> (Vec<u8>, Offload) {
        let mut bytes = self.build();
        let packet = read(&mut bytes);
        let at = usize::from(packet.l4);
        let field = at + usize::from(self.field());
        if self.kind == Kind::Sctp {
            bytes[field..field + 4].fill(0);
        } else {
            let length = packet.end - u32::from(packet.l4);
            let (src, dst) = (self.src.addr, self.dst.addr);
            let sum = checksum::pseudo_header(src, dst, packet.protocol, length);
            bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let checksum = Some(PartialChecksum {
            start: packet.l4,
            offset: self.field(),
        });
        let offload = Offload {
            checksum,
            segmentation: None,
        };
        (bytes, offload)
    }
}

fn read(bytes: &mut [u8]) -> lvs_packet::Packet {
    let length = bytes.len();
    parse(&Frame::new(bytes, 0, length, Offload::default())).unwrap()
}

/// What `rewrite` makes of the frame.
fn rewritten(
    bytes: &[u8],
    offload: Offload,
    rewrite: impl FnOnce(&mut Frame<'_>, &lvs_packet::Packet),
) -> (Vec<u8>, Offload) {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend(bytes);
    let mut frame = Frame::new(&mut buffer, HEADROOM, bytes.len(), offload);
    let packet = parse(&frame).unwrap();
    rewrite(&mut frame, &packet);
    (frame.bytes().to_vec(), frame.offload)
}

fn v4() -> impl Strategy<Value = Addr> {
    (1_u32..0xe000_0000)
        .prop_map(Addr::from_v4_bits)
        .prop_filter("unicast", |addr| addr.is_unicast())
}

fn v6() -> impl Strategy<Value = Addr> {
    any::<(u64, u64)>().prop_map(|(hi, lo)| Addr {
        hi: hi & !(0xff << 56) | 0xfd << 56,
        lo,
    })
}

/// Three addresses of one family.
fn addresses() -> impl Strategy<Value = [Addr; 3]> {
    prop_oneof![[v4(), v4(), v4()], [v6(), v6(), v6()]]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    // Zeros and ones are where ones' complement has its corners.
    prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(prop_oneof![Just(0), Just(0xff)], 0..40),
    ]
}

/// A packet and another endpoint of its family.
fn samples() -> impl Strategy<Value = (Sample, Endpoint)> {
    let kind = prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::Sctp)];
    let fixed = any::<(u8, u8, u16, bool, bool, bool, u32, u8)>();
    (kind, addresses(), any::<[u16; 3]>(), fixed, payload()).prop_map(
        |(kind, [src, dst, new], ports, fixed, payload)| {
            let (ttl, tos, ident, dont_fragment, tagged, extended, sequence, flags) = fixed;
            let sample = Sample {
                kind,
                src: Endpoint::new(src, ports[0]),
                dst: Endpoint::new(dst, ports[1]),
                ttl,
                tos,
                ident,
                dont_fragment,
                tagged,
                extended,
                sequence,
                flags,
                payload,
            };
            (sample, Endpoint::new(new, ports[2]))
        },
    )
}

fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

proptest! {
    #[test]
    fn parsing_gives_what_was_built((sample, _) in samples()) {
        let mut bytes = sample.build();
        let packet = read(&mut bytes);
        prop_assert_eq!(packet.kind, sample.kind);
        prop_assert_eq!((packet.flow.src, packet.flow.dst), (sample.src, sample.dst));
        prop_assert_eq!((packet.ttl, packet.tos), (sample.ttl, sample.tos));
        prop_assert_eq!(packet.end as usize, bytes.len());
        let v6 = sample.src.addr.family() == Family::V6;
        prop_assert_eq!(packet.dont_fragment, v6 || sample.dont_fragment);
        if sample.kind == Kind::Tcp {
            prop_assert_eq!(packet.tcp_flags.0, sample.flags);
        }
        let length = bytes.len();
        let frame = Frame::new(&mut bytes, 0, length, Offload::default());
        prop_assert_eq!(checksum::verify(&frame, &packet), Some(true));
    }

    #[test]
    fn nat_gives_what_building_anew_gives((sample, new) in samples(), source in any::<bool>()) {
        let rewrite = |frame: &mut Frame<'_>, packet: &lvs_packet::Packet| match source {
            true => nat::rewrite_source(frame, packet, new),
            false => nat::rewrite_destination(frame, packet, new),
        };
        let mut expected = sample.clone();
        match source {
            true => expected.src = new,
            false => expected.dst = new,
        }
        let (bytes, _) = rewritten(&sample.build(), Offload::default(), rewrite);
        prop_assert_eq!(&bytes, &expected.build());

        // What is left to the hardware, and then finished.
        let (partial, offload) = sample.build_partial();
        let (bytes, offload) = rewritten(&partial, offload, rewrite);
        if sample.kind == Kind::Sctp {
            prop_assert_eq!(offload.checksum, None);
        }
        let finish = |frame: &mut Frame<'_>, _: &_| checksum::finish_partial(frame).unwrap();
        let (bytes, offload) = rewritten(&bytes, offload, finish);
        prop_assert_eq!(offload, Offload::default());
        prop_assert_eq!(&bytes, &expected.build());
    }

    #[test]
    fn nat_there_and_back_is_nothing((sample, new) in samples(), wrong in 1_u16..0xffff) {
        let mut bytes = sample.build();
        if sample.kind != Kind::Sctp {
            // As wrong as it was: the one value that 0xffff and 0 share aside.
            let at = usize::from(read(&mut bytes).l4 + sample.field());
            bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
        }
        let (there, _) = rewritten(&bytes, Offload::default(), |frame, packet| {
            nat::rewrite_destination(frame, packet, new);
            nat::rewrite_source(frame, packet, sample.dst);
        });
        let (back, _) = rewritten(&there, Offload::default(), |frame, packet| {
            nat::rewrite_source(frame, packet, sample.src);
            nat::rewrite_destination(frame, packet, sample.dst);
        });
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn an_absent_udp_checksum_is_filled_in((mut sample, new) in samples(), padding in 0..9_usize) {
        sample.kind = Kind::Udp;
        let mut bytes = sample.build();
        let at = usize::from(read(&mut bytes).l4) + 6;
        bytes[at..at + 2].fill(0);
        let length = bytes.len();
        bytes.extend(vec![0xee; padding]);
        let (bytes, _) = rewritten(&bytes, Offload::default(), |frame, packet| {
            nat::rewrite_destination(frame, packet, new);
        });
        sample.dst = new;
        prop_assert_eq!(&bytes[..length], &sample.build());
    }

    #[test]
    fn one_less_ttl((mut sample, _) in samples()) {
        let (bytes, _) = rewritten(&sample.build(), Offload::default(), ttl::decrement);
        sample.ttl = sample.ttl.saturating_sub(1);
        prop_assert_eq!(bytes, sample.build());
    }

    #[test]
    fn tunnels_carry_the_packet_as_it_is(
        (sample, _) in samples(),
        ends in addresses(),
        options in any::<(u16, bool, u16)>(),
        padding in 0..9_usize,
        partial in any::<bool>(),
    ) {
        let options = tunnel::Options {
            ident: options.0,
            copy_df: options.1,
            source_port: options.2,
        };
        let inner = sample.build();
        let l3 = if sample.tagged { 18 } else { 14 };
        let port = 6080;
        let checksums = [TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote];
        let gue = checksums.map(|checksum| TunnelKind::Gue { port, checksum });
        let gre = [TunnelChecksum::None, TunnelChecksum::Full]
            .map(|checksum| TunnelKind::Gre { checksum });
        for kind in gue.into_iter().chain(gre).chain([TunnelKind::Ipip]) {
            let (mut start, mut offload) = (inner.clone(), Offload::default());
            if partial {
                (start, offload) = sample.build_partial();
            } else {
                start.extend(vec![0xee; padding]);
            }
            let [source, destination, _] = ends;
            let (mut bytes, offload) = rewritten(&start, offload, |frame, packet| {
                tunnel::encapsulate(frame, packet, kind, source, destination, &options).unwrap();
            });
            prop_assert_eq!(offload, Offload::default());
            let remote = TunnelKind::Gue { port, checksum: TunnelChecksum::Remote };
            let remote = partial && kind == remote && sample.kind != Kind::Sctp;
            let overhead = tunnel::overhead(kind, source.family()) + if remote { 8 } else { 0 };
            prop_assert_eq!(bytes.len(), inner.len() + overhead);
            let mut carried = bytes[l3 + overhead..].to_vec();
            if remote {
                // What the receiver is asked to do: GUE with private flags, of which one is set.
                let gue = &bytes[l3 + overhead - 12..l3 + overhead];
                prop_assert_eq!(&gue[..8], &[2, if sample.src.addr.is_v4() { 4 } else { 41 }, 0, 1, 0x80, 0, 0, 0]);
                let word = |at: usize| usize::from(u16::from_be_bytes([gue[at], gue[at + 1]]));
                let (start, field) = (word(8), word(10));
                let sum = match checksum::full(&carried[start..]) {
                    0 if sample.kind == Kind::Udp => 0xffff,
                    sum => sum,
                };
                carried[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            }
            prop_assert_eq!(&carried, &inner[l3..]);
            prop_assert_eq!(&bytes[..l3 - 2], &inner[..l3 - 2]);
            let outer = read(&mut bytes);
            prop_assert_eq!((outer.flow.src.addr, outer.flow.dst.addr), (source, destination));
            prop_assert_eq!(outer.ttl, sample.ttl);
            let between = &bytes[usize::from(outer.l4)..];
            if matches!(kind, TunnelKind::Gre { checksum: TunnelChecksum::Full }) {
                prop_assert_eq!(checksum::full(between), 0);
            }
            if let TunnelKind::Gue { checksum, .. } = kind {
                prop_assert_eq!(outer.flow.dst.port, port);
                let frame = Frame::new(&mut bytes, 0, inner.len() + overhead, Offload::default());
                let covered = (checksum != TunnelChecksum::None).then_some(true);
                prop_assert_eq!(checksum::verify(&frame, &outer), covered);
            }
        }
    }

    #[test]
    fn quoted_tunnels_are_seen_through((mut sample, _) in samples(), ends in addresses()) {
        sample.extended = false;
        let mut buffer = vec![0; 1024];
        let port = 6080;
        let kinds = [
            TunnelKind::Ipip,
            TunnelKind::Gre { checksum: TunnelChecksum::Full },
            TunnelKind::Gue { port, checksum: TunnelChecksum::None },
        ];
        for kind in kinds {
            let (sent, _) = rewritten(&sample.build(), Offload::default(), |frame, packet| {
                let options = tunnel::Options::default();
                tunnel::encapsulate(frame, packet, kind, ends[0], ends[1], &options).unwrap();
            });
            let l3 = if sample.tagged { 18 } else { 14 };
            let ip = build::Ip::new(ends[2], ends[0]);
            let what = if ends[0].is_v4() { (3, 1) } else { (1, 0) };
            let length = build::icmp(&mut buffer, &ip, what, 0, &sent[l3..]).unwrap();
            let frame = Frame::new(&mut buffer, 0, length, Offload::default());
            let packet = parse(&frame).unwrap();
            let outer = parse_quoted(&frame, &packet).unwrap();
            let inner = parse_quoted_tunnel(&frame, &outer).unwrap();
            prop_assert_eq!((inner.flow.src, inner.flow.dst), (sample.src, sample.dst));
        }
    }

    #[test]
    fn errors_are_translated_as_if_they_had_quoted_the_other(
        (mut sample, server) in samples(),
        router in addresses(),
        cut in 0..100_usize,
    ) {
        sample.tagged = false;
        sample.extended = false;
        let router = router.into_iter().find(|addr| addr.family() == server.addr.family());
        let Some(router) = router else { return Ok(()) };
        // The sample is a reply from the VIP; someone outside complains about it.
        let error = |reply: &Sample, from: Addr, to: Addr| {
            let mut buffer = vec![0; 1024];
            let mut quoted = reply.build()[14..].to_vec();
            quoted.truncate(quoted.len().saturating_sub(cut).max(48));
            // Quoted transport checksums stay as they were.
            let field = if to.is_v4() { 20 } else { 40 } + usize::from(reply.field());
            let length = if reply.kind == Kind::Sctp { 4 } else { 2 };
            let end = quoted.len().min(field + length);
            if field < end {
                quoted[field..end].fill(0xab);
            }
            let what = if to.is_v4() { (3, 4) } else { (2, 0) };
            let ip = build::Ip::new(from, to);
            let length = build::icmp(&mut buffer, &ip, what, 1400, &quoted).unwrap();
            buffer.truncate(length);
            buffer
        };
        let vip = sample.dst;
        let reply = Sample { src: vip, dst: sample.src, ..sample.clone() };
        let original = Sample { src: server, ..reply.clone() };
        let outside = error(&reply, router, vip.addr);
        let (inside, _) = rewritten(&outside, Offload::default(), |frame, packet| {
            let quoted = parse_quoted(frame, packet).unwrap();
            icmp::translate_to_server(frame, packet, &quoted, server).unwrap();
        });
        prop_assert_eq!(&inside, &error(&original, router, server.addr));

        // And a router inside complains about a request.
        let request = Sample { dst: server, ..sample.clone() };
        let inside = error(&request, router, sample.src.addr);
        let (outside, _) = rewritten(&inside, Offload::default(), |frame, packet| {
            let quoted = parse_quoted(frame, packet).unwrap();
            icmp::translate_to_client(frame, packet, &quoted, vip).unwrap();
        });
        prop_assert_eq!(&outside, &error(&sample, vip.addr, sample.src.addr));

        let mut wrong = inside;
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        rewritten(&wrong, Offload::default(), |frame, packet| {
            let quoted = parse_quoted(frame, packet).unwrap();
            let refused = icmp::translate_to_client(frame, packet, &quoted, vip);
            assert_eq!(refused, Err(lvs_core::DropReason::BadIcmpChecksum));
        });
    }

    #[test]
    fn segments_are_what_would_have_been_sent_one_by_one(
        (mut sample, _) in samples(),
        size in 1..200_u16,
        partial in any::<bool>(),
    ) {
        if sample.kind == Kind::Sctp {
            return Ok(());
        }
        let v4 = sample.src.addr.is_v4();
        let kind = match (sample.kind, v4) {
            (Kind::Tcp, true) => SegmentKind::TcpV4,
            (Kind::Tcp, false) => SegmentKind::TcpV6,
            _ => SegmentKind::Udp,
        };
        let (mut bytes, mut offload) = (sample.build(), Offload::default());
        if partial {
            (bytes, offload) = sample.build_partial();
        }
        offload.segmentation = Some(Segmentation { kind, size, header_len: 0, ecn: false });
        let length = bytes.len();
        let frame = Frame::new(&mut bytes, 0, length, offload);
        let packet = parse(&frame).unwrap();
        let mut segments = segment::segments(&frame, &packet).unwrap();
        let payload = std::mem::take(&mut sample.payload);
        let mut pieces: Vec<&[u8]> = payload.chunks(usize::from(size)).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        prop_assert_eq!(segments.len(), pieces.len());
        let mut scratch = vec![0xcc; HEADROOM + segments.frame_len()];
        for (index, piece) in pieces.iter().enumerate() {
            let mut expected = sample.clone();
            expected.payload = piece.to_vec();
            expected.ident = sample.ident.wrapping_add(index as u16);
            expected.sequence = sample.sequence.wrapping_add(index as u32 * u32::from(size));
            if index + 1 < pieces.len() {
                expected.flags &= !0x09;
            }
            if index > 0 {
                expected.flags &= !0x80;
            }
            let frame = segments.next_into(&mut scratch, HEADROOM).unwrap().unwrap();
            prop_assert_eq!(frame.headroom(), HEADROOM);
            prop_assert_eq!(frame.offload, Offload::default());
            prop_assert_eq!(frame.bytes(), &expected.build()[..]);
        }
        prop_assert!(segments.next_into(&mut scratch, HEADROOM).unwrap().is_none());
    }

    #[test]
    fn sums_are_those_of_the_plain_loop(bytes in vec(any::<u8>(), 0..2000), all_ones in any::<bool>()) {
        let bytes = if all_ones { vec![0xff; bytes.len()] } else { bytes };
        prop_assert_eq!(checksum::sum(&bytes), naive_sum(&bytes));
    }

    #[test]
    fn a_difference_is_as_good_as_a_sum(
        mut words in vec(prop_oneof![Just(0), Just(0xffff), any::<u16>()], 2..20),
        new in prop_oneof![Just(0), Just(0xffff), any::<u16>()],
    ) {
        // A first word that is not 0, as every header and pseudo header has one.
        words[0] |= 0x4000;
        let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
        let before = checksum::full(&bytes(&words));
        let old = std::mem::replace(&mut words[1], new);
        prop_assert_eq!(checksum::update(before, old, new), checksum::full(&bytes(&words)));
    }
}

#[test]
fn a_long_sum_of_ones_does_not_overflow() {
    let ones = vec![0xff; 1 << 20];
    assert_eq!(checksum::sum(&ones), 0xffff);
    assert_eq!(checksum::sum(&vec![0; 1 << 20]), 0);
    assert_eq!(checksum::sum(&[]), 0);
    // RFC 1071, section 3.
    let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::sum(&example), 0xddf2);
}
