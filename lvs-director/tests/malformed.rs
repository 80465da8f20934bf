//! Frames that are not what they say: dropped, counted under their reason, left as they are; and
//! wrong transport checksums, which are not the director's business and stay as wrong as they were.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

mod common;

use common::{CLIENTS, SERVERS, Site, addr, endpoint, service, tcp, udp};
use lvs_core::{DestinationSpec, DropReason, ForwardMethod, Protocol, ServiceSpec};
use lvs_director::Verdict;
use lvs_packet::{Frame, Offload, TcpFlags, build, checksum, parse};
use proptest::prelude::*;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
/// Where the IP header starts.
const L3: usize = 14;
/// Where that of the transport starts, behind an IPv4 header without options.
const L4: usize = 34;

const CLIENT4: &str = "10.1.0.5:40000";
const CLIENT6: &str = "[fd01::5]:40000";
const VIP4: &str = "10.0.0.1:80";
const VIP6: &str = "[fd00::1]:80";
const SERVER4: &str = "10.2.0.1:8080";
const SERVER6: &str = "[fd02::1]:8080";

/// NAT of TCP and UDP, IPv4 and IPv6.
fn site() -> Site {
    let site = Site::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for (vip, server) in [(VIP4, SERVER4), (VIP6, SERVER6)] {
            let key = service(protocol, vip);
            let spec = DestinationSpec::new(endpoint(server), ForwardMethod::Masquerade);
            site.director
                .add_service(&ServiceSpec::new(key, "rr"))
                .unwrap();
            site.director.add_destination(&key, &spec).unwrap();
        }
    }
    site
}

/// The reason for which the frame is dropped: counted once, and the frame as it was.
fn reason(site: &mut Site, bytes: &[u8]) -> DropReason {
    let before: Vec<_> = site.director.drops().collect();
    let out = site.send(bytes);
    let Verdict::Drop(reason) = out.verdict else {
        panic!("{:?}: {bytes:02x?}", out.verdict);
    };
    assert_eq!(out.bytes, bytes);
    for ((name, before), (_, after)) in before.into_iter().zip(site.director.drops()) {
        assert_eq!(after - before, u64::from(name == reason), "{name}");
    }
    reason
}

/// Puts the checksum of an IPv4 header right.
fn seal(bytes: &mut [u8]) {
    let length = usize::from(bytes[L3] & 0xf) * 4;
    bytes[L3 + 10..L3 + 12].fill(0);
    let sum = checksum::full(&bytes[L3..L3 + length]);
    bytes[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
}

fn built(make: impl FnOnce(&mut [u8]) -> Result<usize, build::TooLong>) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let length = make(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn ip(v4: bool) -> build::Ip<'static> {
    let (client, vip) = if v4 { (CLIENT4, VIP4) } else { (CLIENT6, VIP6) };
    build::Ip::new(endpoint(client).addr, endpoint(vip).addr)
}

#[test]
fn cut_at_any_byte() {
    let mut site = site();
    let tagged = build::Ip {
        tags: &[(0x88a8, 7), (0x8100, 8)],
        ..ip(true)
    };
    let whole = [
        tcp(CLIENT4, VIP4, SYN, b"data"),
        udp(CLIENT4, VIP4, b"data"),
        tcp(CLIENT6, VIP6, SYN, b"data"),
        udp(CLIENT6, VIP6, b"data"),
        built(|b| build::udp(b, &tagged, 40000, 80, b"data")),
    ];
    for frame in whole {
        for length in 0..frame.len() {
            let found = reason(&mut site, &frame[..length]);
            let expected = [DropReason::Truncated, DropReason::BadTotalLength];
            assert!(expected.contains(&found), "{length}: {found}");
        }
        assert_eq!(site.send(&frame).verdict, Verdict::Forward(SERVERS));
    }
}

#[test]
fn lengths_that_lie() {
    let mut site = site();
    let frame = tcp(CLIENT4, VIP4, SYN, b"data");
    let total = u16::try_from(frame.len() - L3).unwrap();
    for lie in (0..20).chain([total + 1, u16::MAX]) {
        let mut frame = frame.clone();
        frame[L3 + 2..L3 + 4].copy_from_slice(&lie.to_be_bytes());
        seal(&mut frame);
        assert_eq!(reason(&mut site, &frame), DropReason::BadTotalLength);
    }
    for lie in 20..40_u16 {
        let mut frame = frame.clone();
        frame[L3 + 2..L3 + 4].copy_from_slice(&lie.to_be_bytes());
        seal(&mut frame);
        assert_eq!(reason(&mut site, &frame), DropReason::Truncated);
    }
    for words in 0..5 {
        let mut frame = frame.clone();
        frame[L3] = 0x40 | words;
        assert_eq!(reason(&mut site, &frame), DropReason::BadHeaderLength);
        frame[L4 + 12] = words << 4;
        frame[L3] = 0x45;
        assert_eq!(reason(&mut site, &frame), DropReason::BadTcpOffset);
    }
    for words in 7..16 {
        let mut frame = frame.clone();
        frame[L4 + 12] = words << 4;
        assert_eq!(reason(&mut site, &frame), DropReason::BadTcpOffset);
    }
    for version in (0..16).filter(|version| *version != 4) {
        let mut frame = frame.clone();
        frame[L3] = version << 4 | 5;
        assert_eq!(reason(&mut site, &frame), DropReason::BadVersion);
    }
    for (frame, at) in [
        (udp(CLIENT4, VIP4, b"data"), L4 + 4),
        (udp(CLIENT6, VIP6, b"data"), L3 + 44),
    ] {
        for lie in (0..8).chain([13, 1000, u16::MAX]) {
            let mut frame = frame.clone();
            frame[at..at + 2].copy_from_slice(&lie.to_be_bytes());
            assert_eq!(reason(&mut site, &frame), DropReason::BadUdpLength);
        }
    }
    let mut frame = tcp(CLIENT6, VIP6, SYN, b"data");
    for lie in [25, 1000, u16::MAX] {
        frame[L3 + 4..L3 + 6].copy_from_slice(&lie.to_be_bytes());
        assert_eq!(reason(&mut site, &frame), DropReason::BadTotalLength);
    }
    assert_eq!(site.director.table().len(), 0);
}

#[test]
fn any_wrong_bit_of_an_ipv4_header() {
    let mut site = site();
    let frame = tcp(CLIENT4, VIP4, SYN, b"data");
    for bit in 0..20 * 8 {
        let mut frame = frame.clone();
        frame[L3 + bit / 8] ^= 1 << (bit % 8);
        let expected = match bit {
            0 | 2 => DropReason::BadHeaderLength,
            3 => DropReason::Truncated,
            4..8 => DropReason::BadVersion,
            _ => DropReason::BadIpChecksum,
        };
        assert_eq!(reason(&mut site, &frame), expected, "bit {bit}");
    }
}

#[test]
fn addresses_that_cannot_be() {
    let mut site = site();
    for wrong in ["224.0.0.1", "239.1.2.3", "255.255.255.255"] {
        let header = build::Ip::new(addr(wrong), addr("10.0.0.1"));
        let frame = built(|b| build::udp(b, &header, 1, 80, b""));
        assert_eq!(reason(&mut site, &frame), DropReason::BadAddress);
    }
    let mut frame = tcp(CLIENT6, VIP6, SYN, b"");
    frame[L3 + 8] = 0xff;
    assert_eq!(reason(&mut site, &frame), DropReason::BadAddress);
    // An IPv4 address in its IPv6 form never stands on the wire.
    frame[L3 + 8..L3 + 24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 0, 5]);
    assert_eq!(reason(&mut site, &frame), DropReason::BadAddress);
}

#[test]
fn absurd_options() {
    let mut site = site();
    for options in [
        &[7, 0, 0, 0][..],
        &[7, 1, 0, 0],
        &[7, 5, 0, 0],
        &[1, 1, 1, 7],
        &[7, 255, 1, 1, 1, 1, 1, 1],
        &[131, 3, 4, 131],
        &[7, 4, 0, 0],
    ] {
        let header = build::Ip {
            options,
            ..ip(true)
        };
        // The host does not see packets for a service, and cannot say what is wrong with them.
        let frame = built(|b| build::udp(b, &header, 40000, 80, b""));
        let out = site.send(&frame);
        assert_eq!(out.verdict, Verdict::Answer(Some(DropReason::BadIpOptions)));
        assert!(common::checksums_are_right(&out.bytes));
        assert_eq!(out.bytes[L3 + 20..L3 + 22], [12, 0]);
    }
    for options in [&[1, 1, 1, 0][..], &[0, 9, 9, 9], &[7, 3, 4, 0], &[1; 40]] {
        let header = build::Ip {
            options,
            ..ip(true)
        };
        let frame = built(|b| build::udp(b, &header, 40000, 80, b"data"));
        let out = site.send(&frame);
        assert_eq!(out.verdict, Verdict::Forward(SERVERS));
        assert!(common::checksums_are_right(&out.bytes));
        assert_eq!(out.flow(), format!("{CLIENT4} > {SERVER4}"));
    }
}

/// A UDP datagram behind these extension headers: numbers and lengths in units of 8 bytes.
fn chained(chain: &[(u8, u8)]) -> Vec<u8> {
    let mut options = Vec::new();
    for (place, (_, units)) in chain.iter().enumerate() {
        let next = chain.get(place + 1).map_or(17, |(number, _)| *number);
        options.extend([next, *units, 0, 0, 0, 0, 0, 0]);
        options.extend([0].repeat(usize::from(*units) * 8));
    }
    let header = build::Ip {
        options: &options,
        first_extension: chain.first().map(|(number, _)| *number),
        ..ip(false)
    };
    built(|b| build::udp(b, &header, 40000, 80, b"data"))
}

#[test]
fn chains_of_extension_headers() {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let mut site = site();
    for chain in [
        &[(DESTINATION, 0); 33][..],
        &[(DESTINATION, 0), (HOP_BY_HOP, 0)],
        &[(FRAGMENT, 0), (FRAGMENT, 0)],
    ] {
        let frame = chained(chain);
        assert_eq!(reason(&mut site, &frame), DropReason::BadExtensionHeader);
    }
    let good = [
        &[(HOP_BY_HOP, 0)][..],
        &[(DESTINATION, 0); 32],
        &[
            (HOP_BY_HOP, 0),
            (ROUTING, 2),
            (FRAGMENT, 0),
            (DESTINATION, 9),
        ],
    ];
    for chain in good {
        let frame = chained(chain);
        let out = site.send(&frame);
        assert_eq!(out.verdict, Verdict::Forward(SERVERS), "{chain:?}");
        assert_eq!(out.flow(), format!("{CLIENT6} > {SERVER6}"));
        assert!(common::checksums_are_right(&out.bytes));
        for length in L3 + 40..frame.len() {
            let mut frame = frame[..length].to_vec();
            let payload = u16::try_from(length - L3 - 40).unwrap();
            frame[L3 + 4..L3 + 6].copy_from_slice(&payload.to_be_bytes());
            let found = reason(&mut site, &frame);
            let expected = [
                DropReason::BadExtensionHeader,
                DropReason::Truncated,
                DropReason::BadUdpLength,
            ];
            assert!(expected.contains(&found), "{chain:?} {length}: {found}");
        }
    }
    // The first header says that it is longer than all that follows.
    let mut frame = chained(&[(DESTINATION, 0)]);
    frame[L3 + 41] = 200;
    assert_eq!(reason(&mut site, &frame), DropReason::BadExtensionHeader);
}

#[test]
fn fragments_that_cannot_be() {
    let mut site = site();
    let piece = |fragment, protocol, payload: &[u8]| {
        let header = build::Ip {
            fragment,
            ..ip(true)
        };
        built(|b| build::ip(b, &header, protocol, payload))
    };
    let (more, tcp, udp) = (0x2000, 6, 17);
    // Uneven, empty, beyond the end of any packet, a header in two pieces, the flags replaced.
    for frame in [
        piece(more, udp, &[0; 17]),
        piece(more | 1, udp, &[0; 9]),
        piece(1, udp, &[]),
        piece(0x1fff, udp, &[0; 16]),
        piece(more, tcp, &[0; 16]),
        piece(1, tcp, &[0; 32]),
        piece(more | 1, tcp, &[0; 32]),
    ] {
        assert_eq!(reason(&mut site, &frame), DropReason::BadFragment);
    }
    // Later ones whose first nobody has seen wait for it, and then no longer.
    for frame in [piece(3, udp, &[0; 5]), piece(more | 3, tcp, &[0; 32])] {
        assert_eq!(site.send(&frame).verdict, Verdict::Held);
        assert_eq!(reason(&mut site, &frame), DropReason::FragmentOverlap);
    }
    site.wait(31);
    assert!(site.through(&[0; 60]).len() == 1);
    assert_eq!(site.dropped(DropReason::FragmentLost), 2);
    assert_eq!(site.director.table().len(), 0);
}

#[test]
fn errors_that_quote_nonsense() {
    let mut site = site();
    for (client, vip, router) in [(CLIENT4, VIP4, "10.1.0.254"), (CLIENT6, VIP6, "fd01::fe")] {
        assert_eq!(
            site.tcp(client, vip, SYN).verdict,
            Verdict::Forward(SERVERS)
        );
        let header = build::Ip::new(addr(router), endpoint(vip).addr);
        let what = if header.src.is_v4() { (3, 4) } else { (2, 0) };
        let reply = tcp(vip, client, ACK, b"data");
        let quote = &reply[L3..];
        let network = if header.src.is_v4() { 20 } else { 40 };
        for length in 0..network {
            let frame = built(|b| build::icmp(b, &header, what, 1400, &quote[..length]));
            assert_eq!(reason(&mut site, &frame), DropReason::BadIcmpQuote);
        }
        // Without ports nobody can be told, and the host sees its own copy.
        for length in network..network + 4 {
            let frame = built(|b| build::icmp(b, &header, what, 1400, &quote[..length]));
            assert_eq!(site.send(&frame).verdict, Verdict::Pass);
        }
        for length in network + 8..quote.len() {
            let mut frame = built(|b| build::icmp(b, &header, what, 1400, &quote[..length]));
            let out = site.send(&frame);
            assert_eq!(out.verdict, Verdict::Forward(SERVERS), "{length}");
            assert!(common::checksums_are_right(&out.bytes));
            frame[L3 + network + 2] ^= 0x10;
            let out = site.send(&frame);
            assert_eq!(out.verdict, Verdict::Drop(DropReason::BadIcmpChecksum));
        }
    }
}

/// How far the transport checksum is from the right one, in the arithmetic of checksums.
fn wrongness(bytes: &[u8]) -> u32 {
    let mut copy = bytes.to_vec();
    let length = copy.len();
    let packet = parse(&Frame::new(&mut copy, 0, length, Offload::default())).unwrap();
    let segment = &bytes[usize::from(packet.l4)..];
    let (src, dst) = (packet.flow.src.addr, packet.flow.dst.addr);
    let size = u32::try_from(segment.len()).unwrap();
    let pseudo = checksum::pseudo_header(src, dst, packet.protocol, size);
    u32::from(checksum::add(checksum::sum(segment), pseudo)) % 0xffff
}

proptest! {
    /// NAT keeps a wrong checksum exactly as wrong, both ways.
    #[test]
    fn a_wrong_checksum_stays_as_wrong(by in 1..0xffff_u16, v6: bool, is_udp: bool) {
        let mut site = site();
        let (client, vip, server) =
            if v6 { (CLIENT6, VIP6, SERVER6) } else { (CLIENT4, VIP4, SERVER4) };
        let l4 = if v6 { L3 + 40 } else { L4 };
        let field = if is_udp { 6 } else { 16 };
        for (from, to, hop) in [(client, vip, SERVERS), (server, client, CLIENTS)] {
            let mut frame =
                if is_udp { udp(from, to, b"data") } else { tcp(from, to, SYN, b"data") };
            prop_assert_eq!(wrongness(&frame), 0);
            let at = l4 + field;
            let right = u16::from_be_bytes([frame[at], frame[at + 1]]);
            let wrong = checksum::add(right, by);
            // 0 would mean that a datagram has none.
            prop_assume!(wrong != 0);
            frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
            prop_assert_eq!(wrongness(&frame), u32::from(by));
            let out = site.send(&frame);
            prop_assert_eq!(out.verdict, Verdict::Forward(hop));
            prop_assert_eq!(wrongness(&out.bytes), u32::from(by));
        }
    }

    /// Whatever is done to a frame: what is forwarded can be read, what is dropped is counted.
    #[test]
    fn any_damage(
        which in 0..10_usize,
        damage in prop::collection::vec((0..160_usize, any::<u8>()), 1..8),
        cut in 0..200_usize,
        sealed: bool,
    ) {
        let mut site = site();
        for (client, vip) in [(CLIENT4, VIP4), (CLIENT6, VIP6)] {
            site.tcp(client, vip, SYN);
            site.udp(client, vip, b"");
        }
        let quoted = tcp(VIP4, CLIENT4, ACK, b"data");
        let router = build::Ip::new(addr("10.1.0.254"), addr("10.0.0.1"));
        let mut frame = match which {
            0 => tcp(CLIENT4, VIP4, SYN, b"data"),
            1 => tcp(CLIENT6, VIP6, ACK, b"data"),
            2 => udp(CLIENT4, VIP4, b"data"),
            3 => udp(CLIENT6, VIP6, b"data"),
            4 => tcp(SERVER4, CLIENT4, ACK, b"data"),
            5 => udp(SERVER6, CLIENT6, b"data"),
            6 => chained(&[(0, 1), (60, 0)]),
            7 => built(|b| build::icmp(b, &ip(false), (128, 0), 1, b"ping")),
            8 => tcp(CLIENT4, "10.0.0.1:9", SYN, b""),
            _ => built(|b| build::icmp(b, &router, (3, 4), 1400, &quoted[L3..])),
        };
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.max(1));
        if sealed && frame.len() > L3 + 60 && frame[12..14] == [8, 0] {
            seal(&mut frame);
        }
        let before: u64 = site.director.drops().map(|(_, count)| count).sum();
        let out = site.send(&frame);
        let after: u64 = site.director.drops().map(|(_, count)| count).sum();
        match out.verdict {
            Verdict::Forward(hop) => {
                prop_assert!(hop == SERVERS || hop == CLIENTS);
                out.packet();
            }
            Verdict::Drop(_) | Verdict::Answer(Some(_)) => prop_assert_eq!(after, before + 1),
            _ => prop_assert_eq!(after, before),
        }
    }
}
