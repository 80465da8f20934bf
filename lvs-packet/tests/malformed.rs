//! Every way in which a frame is not what it says has a name, and cutting a good frame anywhere is
//! one of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop where something is not as it says"
)]

use lvs_core::{Addr, DropReason, Protocol};
use lvs_packet::{
    Fragment, Frame, Kind, Offload, Packet, SegmentKind, Segmentation, TcpFlags, build, checksum,
    neighbour, parse, parse_quoted, segment,
};

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

fn v4() -> build::Ip<'static> {
    build::Ip::new(addr("198.51.100.7"), addr("192.0.2.10"))
}

fn v6() -> build::Ip<'static> {
    build::Ip::new(addr("fd01::5"), addr("fd00::1"))
}

fn made(make: impl FnOnce(&mut [u8]) -> Result<usize, build::TooLong>) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let length = make(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn read(bytes: &[u8]) -> Result<Packet, DropReason> {
    let mut bytes = bytes.to_vec();
    let length = bytes.len();
    parse(&Frame::new(&mut bytes, 0, length, Offload::default()))
}

/// What is done to a good frame, and how it is then refused.
type Damage = (DropReason, fn(&mut [u8]));

/// The frame with one change, and a true IPv4 header checksum again.
fn changed(frame: &[u8], change: impl FnOnce(&mut [u8])) -> Result<Packet, DropReason> {
    let mut frame = frame.to_vec();
    change(&mut frame);
    let header = 14..14 + usize::from(frame[14] & 0xf) * 4;
    if frame[14] >> 4 == 4 && frame.len() >= header.end && header.len() >= 20 {
        frame[24..26].fill(0);
        let sum = checksum::full(&frame[header]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    read(&frame)
}

#[test]
fn ipv4_headers() {
    let good = made(|b| build::tcp(b, &v4(), &build::Tcp::syn(1, 2), b"data"));
    let packet = read(&good).unwrap();
    assert_eq!((packet.kind, packet.ip_len()), (Kind::Tcp, 44));
    assert_eq!(packet.flow.protocol, Protocol::Tcp);
    assert_eq!(packet.tcp_flags, TcpFlags::SYN);
    let cases: [Damage; 9] = [
        (DropReason::BadVersion, |f| f[14] = 0x65),
        (DropReason::BadHeaderLength, |f| f[14] = 0x44),
        (DropReason::BadTotalLength, |f| f[17] = 19),
        (DropReason::BadTotalLength, |f| f[17] = 45),
        (DropReason::BadTotalLength, |f| f[16..18].fill(0)),
        (DropReason::BadAddress, |f| f[26] = 224),
        (DropReason::BadAddress, |f| f[26..30].fill(255)),
        (DropReason::BadTcpOffset, |f| f[46] = 0x40),
        (DropReason::BadTcpOffset, |f| f[46] = 0x70),
    ];
    for (reason, change) in cases {
        assert_eq!(changed(&good, change), Err(reason));
    }
    let mut wrong = good.clone();
    wrong[24] ^= 1;
    assert_eq!(read(&wrong), Err(DropReason::BadIpChecksum));
    // More options than packet.
    let short = changed(&good, |f| {
        f[14] = 0x4f;
        f[17] = 44;
    });
    assert_eq!(short, Err(DropReason::Truncated));
}

#[test]
fn ipv4_options() {
    let with = |options: &[u8]| {
        let ip = build::Ip { options, ..v4() };
        read(&made(|b| build::udp(b, &ip, 1, 2, b"x")))
    };
    // No operation, record route, end of list with rubbish behind.
    let good = with(&[1, 7, 7, 4, 0, 0, 0, 0, 0, 9, 9, 9]).unwrap();
    assert_eq!((good.kind, good.l4, good.flow.dst.port), (Kind::Udp, 46, 2));
    for bad in [&[7, 1, 0, 0], &[7, 0, 0, 0], &[7, 5, 0, 0], &[1, 1, 1, 7]] {
        assert_eq!(with(bad), Err(DropReason::BadIpOptions));
    }
    let ip = build::Ip {
        options: &[1, 1, 1, 1],
        ..v4()
    };
    let mut wrong = made(|b| build::udp(b, &ip, 1, 2, b"x"));
    wrong[25] ^= 0x10;
    assert_eq!(read(&wrong), Err(DropReason::BadIpChecksum));
}

#[test]
fn ipv4_fragments() {
    let piece = |fragment: u16, protocol: u8, payload: &[u8]| {
        let ip = build::Ip { fragment, ..v4() };
        read(&made(|b| build::ip(b, &ip, protocol, payload)))
    };
    let mut tcp = [0; 24];
    tcp[1] = 9;
    tcp[12] = 0x50;
    let first = piece(0x2000, 6, &tcp).unwrap();
    assert_eq!(first.fragment, Fragment::First);
    assert_eq!(first.flow.src.port, 9);
    let later = piece(0x2003, 6, &[0xff; 8]).unwrap();
    assert_eq!((later.fragment, later.kind), (Fragment::Later, Kind::Tcp));
    assert_eq!((later.flow.src.port, later.tcp_flags), (0, TcpFlags(0)));
    assert_eq!(piece(0x0003, 17, &[0xff; 3]).unwrap().kind, Kind::Udp);
    let last = piece(0x1fff, 17, &[1; 7]).unwrap();
    assert_eq!(last.fragment, Fragment::Later);
    for (fragment, protocol, length) in [
        (0x2000, 6, 8),   // without the flags (RFC 1858)
        (0x2000, 17, 0),  // empty
        (0x2000, 17, 12), // not in units of eight
        (0x1fff, 17, 8),  // one more than 65535
        (0x0001, 6, 8),   // over the first one's flags (RFC 1858)
    ] {
        let bad = piece(fragment, protocol, &[0; 24][..length]);
        assert_eq!(bad, Err(DropReason::BadFragment), "{fragment:x} {length}");
    }
}

#[test]
fn ipv6_chains() {
    let with = |first: u8, options: &[u8], protocol: u8, payload: &[u8]| {
        let ip = build::Ip {
            first_extension: Some(first),
            options,
            ..v6()
        };
        read(&made(|b| build::ip(b, &ip, protocol, payload)))
    };
    let udp = [0, 1, 0, 2, 0, 8, 0, 0];
    let options = |next: u8| [next, 0, 1, 0, 0, 0, 0, 0];
    let chain = [options(60), options(43), options(17)].concat();
    let packet = with(0, &chain, 17, &udp).unwrap();
    assert_eq!((packet.kind, packet.l4), (Kind::Udp, 14 + 40 + 24));
    // A routing header whose last stop is elsewhere: as IPVS has it, none of a director's business.
    let mut routed = options(17);
    routed[3] = 1;
    let packet = with(43, &routed, 17, &udp).unwrap();
    assert_eq!((packet.kind, packet.flow.dst.port), (Kind::Udp, 2));
    // Authentication header: units of four.
    let packet = with(
        51,
        &[[17, 4, 0, 0, 0, 0, 0, 0], [0; 8], [0; 8]].concat(),
        17,
        &udp,
    );
    assert_eq!(packet.unwrap().l4, 14 + 40 + 24);
    let packet = with(59, &[], 17, &udp).unwrap();
    assert_eq!((packet.kind, packet.protocol), (Kind::OtherIp, 59));
    let long: Vec<u8> = [options(60); 9].concat();
    let beyond = [60, 2, 1, 4, 0, 0, 0, 0];
    let twice = [[44, 0, 0, 0, 0, 0, 0, 1], [17, 0, 0, 0, 0, 0, 0, 1]].concat();
    for (first, chain) in [
        (60, &long[..]),
        (60, &options(0)), // hop-by-hop not first
        (60, &beyond),
        (44, &twice),
    ] {
        let bad = with(first, chain, 17, &udp);
        assert_eq!(
            bad,
            Err(DropReason::BadExtensionHeader),
            "{first} {chain:?}"
        );
    }
}

#[test]
fn ipv6_headers_and_fragments() {
    let good = made(|b| build::udp(b, &v6(), 1, 2, b"data"));
    let cases: [Damage; 5] = [
        (DropReason::BadVersion, |f| f[14] = 0x45),
        (DropReason::BadTotalLength, |f| f[19] += 1),
        (DropReason::BadAddress, |f| f[22] = 0xff),
        (DropReason::BadUdpLength, |f| f[59] = 7),
        (DropReason::BadUdpLength, |f| f[59] += 1),
    ];
    for (reason, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(read(&bad), Err(reason));
    }
    let mapped = build::Ip {
        dst: addr("fd00::1"),
        ..v6()
    };
    let mut bad = made(|b| build::udp(b, &mapped, 1, 2, b""));
    bad[22..34].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(read(&bad), Err(DropReason::BadAddress));

    let piece = |field: [u8; 2], payload: &[u8]| {
        let header = [17, 0, field[0], field[1], 0, 0, 0, 7];
        let ip = build::Ip {
            first_extension: Some(44),
            options: &header,
            ..v6()
        };
        read(&made(|b| build::ip(b, &ip, 17, payload)))
    };
    let udp = [0, 1, 0, 2, 0, 8, 0, 0];
    let fragment = |field| piece(field, &udp).unwrap();
    assert_eq!(fragment([0, 0]).fragment, Fragment::Atomic);
    assert_eq!(fragment([0, 1]).fragment, Fragment::First);
    assert_eq!(fragment([0, 1]).flow.dst.port, 2);
    assert_eq!(fragment([0, 8]).fragment, Fragment::Later);
    assert_eq!(fragment([0, 8]).flow.dst.port, 0);
    assert_eq!(piece([0, 1], &[0; 12]), Err(DropReason::BadFragment));
    assert_eq!(piece([0xff, 0xf8], &[0; 8]), Err(DropReason::BadFragment));
}

#[test]
fn transport_headers() {
    let udp = made(|b| build::udp(b, &v4(), 1, 2, b"data"));
    assert_eq!(changed(&udp, |f| f[39] = 7), Err(DropReason::BadUdpLength));
    assert_eq!(changed(&udp, |f| f[39] = 13), Err(DropReason::BadUdpLength));
    assert!(changed(&udp, |f| f[39] = 11).is_ok());
    let init = [1, 0, 0, 8, 1, 2, 3, 4];
    let sctp = made(|b| build::sctp(b, &v4(), 1, 2, 3, &init));
    assert_eq!(read(&sctp).unwrap().sctp_chunk, 1);
    assert_eq!(changed(&sctp, |f| f[49] = 3), Err(DropReason::BadSctpChunk));
    assert_eq!(changed(&sctp, |f| f[49] = 9), Err(DropReason::BadSctpChunk));
    // An ABORT right behind COOKIE ECHO or COOKIE ACK decides; chunks begin at multiples of four.
    for (first, second, seen) in [(10, 6, 6), (11, 6, 6), (10, 0, 10), (3, 6, 3)] {
        let chunks = [first, 0, 0, 5, 9, 0, 0, 0, second, 0, 0, 4];
        let bundle = made(|b| build::sctp(b, &v4(), 1, 2, 3, &chunks));
        assert_eq!(read(&bundle).unwrap().sctp_chunk, seen);
    }
    let bare = made(|b| build::sctp(b, &v4(), 1, 2, 3, &[]));
    assert_eq!(read(&bare), Err(DropReason::BadSctpChunk));
    for (family, icmp_type, kind) in [
        (v4(), 3, Kind::IcmpError),
        (v4(), 4, Kind::IcmpError),
        (v4(), 5, Kind::IcmpOther),
        (v4(), 8, Kind::IcmpEchoRequest),
        (v4(), 0, Kind::IcmpOther),
        (v4(), 11, Kind::IcmpError),
        (v4(), 12, Kind::IcmpOther),
        (v6(), 1, Kind::IcmpError),
        (v6(), 127, Kind::IcmpError),
        (v6(), 128, Kind::IcmpEchoRequest),
        (v6(), 129, Kind::IcmpOther),
        (v6(), 135, Kind::NeighbourSolicitation),
        (v6(), 136, Kind::IcmpOther),
    ] {
        let frame = made(|b| build::icmp(b, &family, (icmp_type, 0), 0, &[]));
        assert_eq!(read(&frame).unwrap().kind, kind, "{icmp_type}");
    }
}

#[test]
fn the_link_layer() {
    let tags = [(0x88a8, 5), (0x8100, 6)];
    let ip = build::Ip {
        tags: &tags,
        ..v4()
    };
    let tagged = made(|b| build::udp(b, &ip, 1, 2, b""));
    let packet = read(&tagged).unwrap();
    assert_eq!((packet.l3, packet.kind), (22, Kind::Udp));
    assert_eq!(read(&tagged[..17]), Err(DropReason::Truncated));
    let mut lldp = vec![0; 60];
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(read(&lldp).unwrap().kind, Kind::NotIp);
    let mut llc = vec![0; 60];
    llc[13] = 0x26;
    assert_eq!(read(&llc).unwrap().kind, Kind::NotIp);
    let many = [(0x8100, 1); 6];
    let ip = build::Ip {
        tags: &many,
        ..v4()
    };
    assert_eq!(
        read(&made(|b| build::udp(b, &ip, 1, 2, b""))).unwrap().kind,
        Kind::NotIp
    );
    let (asks, target) = (addr("192.0.2.1"), addr("192.0.2.10"));
    let mut request = made(|b| build::who_has(b, [2; 6], asks, target));
    assert_eq!(read(&request).unwrap().kind, Kind::ArpRequest);
    request[21] = 2;
    assert_eq!(read(&request).unwrap().kind, Kind::NotIp);
}

#[test]
fn big_tcp_is_as_long_as_its_frame() {
    let payload = vec![0x55; 100_000];
    let mut buffer = vec![0; 100_200];
    for (ip, l4, kind) in [
        (v4(), 34, SegmentKind::TcpV4),
        (v6(), 54, SegmentKind::TcpV6),
    ] {
        let head = build::tcp(&mut buffer, &ip, &build::Tcp::syn(1, 2), b"").unwrap();
        buffer[head..head + payload.len()].copy_from_slice(&payload);
        let at = if l4 == 34 { 16 } else { 18 };
        buffer[at..at + 2].fill(0);
        if l4 == 34 {
            buffer[24..26].fill(0);
            let sum = checksum::full(&buffer[14..34]);
            buffer[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let length = head + payload.len();
        let segmentation = Some(Segmentation {
            kind,
            size: 1400,
            header_len: 0,
            ecn: false,
        });
        let offload = Offload {
            checksum: None,
            segmentation,
        };
        let frame = Frame::new(&mut buffer, 0, length, offload);
        let packet = parse(&frame).unwrap();
        assert_eq!(packet.end as usize, length);
        assert_eq!(packet.ip_len() as usize, length - 14);
        let frame = Frame::new(&mut buffer, 0, length, Offload::default());
        assert!(parse(&frame).is_err());
    }
}

#[test]
fn a_jumbo_header_goes_when_big_tcp_is_cut() {
    let jumbo = [6, 0, 0xc2, 4, 0, 1, 0x86, 0xa0];
    let ip = build::Ip {
        options: &jumbo,
        first_extension: Some(0),
        ..v6()
    };
    let tcp = build::Tcp {
        flags: TcpFlags::ACK | TcpFlags::PSH,
        ..build::Tcp::syn(1, 2)
    };
    let mut buffer = vec![0; 80_000];
    let head = build::tcp(&mut buffer, &ip, &tcp, b"").unwrap();
    buffer[18..20].fill(0);
    let payload = 70_000;
    let segmentation = Some(Segmentation {
        kind: SegmentKind::TcpV6,
        size: 1400,
        header_len: 0,
        ecn: false,
    });
    let offload = Offload {
        checksum: None,
        segmentation,
    };
    let frame = Frame::new(&mut buffer, 0, head + payload, offload);
    let packet = parse(&frame).unwrap();
    assert_eq!((packet.kind, packet.l4), (Kind::Tcp, 62));
    let mut segments = segment::segments(&frame, &packet).unwrap();
    assert_eq!(segments.len(), 50);
    let mut scratch = [0; 2048];
    let mut sequence = 1000;
    while let Some(piece) = segments.next_into(&mut scratch, 64).unwrap() {
        let parsed = parse(&piece).unwrap();
        assert_eq!((parsed.l4, parsed.ip_len()), (54, 1460));
        assert_eq!(checksum::verify(&piece, &parsed), Some(true));
        assert_eq!(
            parsed.tcp_flags.contains(TcpFlags::PSH),
            segments.is_empty()
        );
        assert_eq!(piece.bytes()[58..62], u32::to_be_bytes(sequence));
        sequence += 1400;
    }
    assert_eq!(sequence, 71_000);
}

/// Frames of every kind.
fn samples() -> Vec<Vec<u8>> {
    let quoted = made(|b| build::tcp(b, &v4(), &build::Tcp::syn(1, 2), b"data"));
    let quoted6 = made(|b| build::udp(b, &v6(), 1, 2, b"data"));
    let extended = build::Ip {
        first_extension: Some(0),
        options: &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0],
        ..v6()
    };
    let tagged = build::Ip {
        tags: &[(0x8100, 1)],
        options: &[1, 1, 1, 0],
        ..v4()
    };
    vec![
        made(|b| build::tcp(b, &v4(), &build::Tcp::syn(1, 2), b"data")),
        made(|b| build::tcp(b, &v6(), &build::Tcp::syn(1, 2), b"data")),
        made(|b| build::udp(b, &tagged, 1, 2, b"data")),
        made(|b| build::udp(b, &extended, 1, 2, b"data")),
        made(|b| build::sctp(b, &v4(), 1, 2, 3, &[1, 0, 0, 8, 1, 2, 3, 4])),
        made(|b| build::icmp(b, &v4(), (3, 3), 0, &quoted[14..])),
        made(|b| build::icmp(b, &v6(), (1, 4), 0, &quoted6[14..])),
        made(|b| build::who_has(b, [2; 6], addr("192.0.2.1"), addr("192.0.2.2"))),
        made(|b| build::who_has(b, [2; 6], addr("fd00::2"), addr("fd00::3"))),
    ]
}

#[test]
fn a_cut_anywhere_has_a_name() {
    for frame in samples() {
        assert!(read(&frame).is_ok());
        for length in 0..frame.len() {
            assert!(read(&frame[..length]).is_err(), "{length} of {frame:02x?}");
        }
        // Padding is no part of the packet.
        let mut padded = frame.clone();
        padded.extend([0; 9]);
        assert_eq!(read(&padded), read(&frame));
    }
}

#[test]
fn a_quote_cut_anywhere_has_ports_or_not() {
    let quotes = [
        (
            v4(),
            made(|b| build::tcp(b, &v4(), &build::Tcp::syn(7, 9), b"data")),
        ),
        (v6(), made(|b| build::udp(b, &v6(), 7, 9, b"data"))),
    ];
    for (ip, quote) in quotes {
        let header = if ip.src.is_v4() { 20 } else { 40 };
        for length in 0..quote.len() - 14 {
            let kind = if ip.src.is_v4() { (3, 4) } else { (2, 0) };
            let mut frame = made(|b| build::icmp(b, &ip, kind, 1400, &quote[14..14 + length]));
            let whole = frame.len();
            let frame = Frame::new(&mut frame, 0, whole, Offload::default());
            let packet = parse(&frame).unwrap();
            let quoted = parse_quoted(&frame, &packet);
            if length < header {
                assert_eq!(quoted, Err(DropReason::BadIcmpQuote));
                continue;
            }
            let quoted = quoted.unwrap();
            assert_eq!(quoted.has_ports, length >= header + 4);
            assert_eq!(quoted.flow.dst.port == 9, quoted.has_ports);
            assert_eq!(quoted.flow.src.addr, ip.src);
            assert_eq!(quoted.mtu(), Some(1400));
        }
    }
}

#[test]
fn only_true_solicitations_have_a_target() {
    let (asks, target) = (addr("fd00::2"), addr("fd00::3"));
    let good = made(|b| build::who_has(b, [2; 6], asks, target));
    let target_of = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let length = bytes.len();
        let frame = Frame::new(&mut bytes, 0, length, Offload::default());
        let packet = parse(&frame).unwrap();
        neighbour::solicitation_target(&frame, &packet)
    };
    assert_eq!(target_of(&good), Some(target));
    // From beyond a router; of another code; with a wrong checksum; for a group.
    for (at, value) in [(21, 254), (55, 1), (56, 0x77), (62, 0xff)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(target_of(&bad), None, "{at}");
    }
}
