//! Answers in the corners that no capture shows: options and extension headers, VLAN tags, partial
//! checksums, packets that may not be answered; ARP and neighbour discovery.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop where something is not as it says"
)]

use lvs_core::{Addr, DropReason};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::{
    Frame, Kind, Offload, Packet, PartialChecksum, TcpFlags, build, checksum, ethernet, neighbour,
    parse, parse_quoted,
};

const HEADROOM: usize = 64;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

fn v4() -> build::Ip<'static> {
    build::Ip::new(addr("198.51.100.7"), addr("192.0.2.10"))
}

fn v6() -> build::Ip<'static> {
    build::Ip::new(addr("fd01::5"), addr("fd00::1"))
}

/// A frame with room before it and none behind it.
fn framed(make: impl FnOnce(&mut [u8]) -> Result<usize, build::TooLong>) -> (Vec<u8>, usize) {
    let mut buffer = vec![0; 8192];
    let length = make(&mut buffer[HEADROOM..]).unwrap();
    buffer.truncate(HEADROOM + length);
    (buffer, length)
}

/// What `answer` makes of what `make` makes.
fn answered<T>(
    make: impl FnOnce(&mut [u8]) -> Result<usize, build::TooLong>,
    answer: impl FnOnce(&mut Frame<'_>, &Packet) -> T,
) -> (Vec<u8>, T) {
    let (mut buffer, length) = framed(make);
    let mut frame = Frame::new(&mut buffer, HEADROOM, length, Offload::default());
    let packet = parse(&frame).unwrap();
    let result = answer(&mut frame, &packet);
    (frame.bytes().to_vec(), result)
}

fn read(bytes: &mut [u8]) -> (Packet, Option<bool>) {
    let length = bytes.len();
    let frame = Frame::new(bytes, 0, length, Offload::default());
    let packet = parse(&frame).unwrap();
    (packet, checksum::verify(&frame, &packet))
}

#[test]
fn an_error_quotes_no_more_than_fits() {
    let tags = [(0x8100, 7)];
    for (ip, limit) in [(v4(), 576), (v6(), 1280)] {
        let ip = build::Ip { tags: &tags, ..ip };
        for length in [0, 400, 540, 541, 1180, 1190, 1240, 4000] {
            let payload = vec![b'x'; length];
            let problem = IcmpProblem::TooBig { mtu: 1400 };
            let (mut error, result) = answered(
                |b| build::udp(b, &ip, 1, 2, &payload),
                |frame, packet| answer::icmp_error(frame, packet, problem, ip.dst),
            );
            result.unwrap();
            let (packet, verified) = read(&mut error);
            let header = if ip.src.is_v4() { 20 } else { 40 };
            let expected = (header + 8 + header + 8 + length).min(limit);
            assert_eq!(packet.ip_len() as usize, expected);
            assert_eq!(error.len(), 18 + expected);
            assert_eq!((packet.kind, verified), (Kind::IcmpError, Some(true)));
            assert_eq!(
                (packet.flow.src.addr, packet.flow.dst.addr),
                (ip.dst, ip.src)
            );
            assert_eq!(packet.ttl, 64);
            let whole = error.len();
            let frame = Frame::new(&mut error, 0, whole, Offload::default());
            assert_eq!(ethernet::destination(&frame), Some(ip.from));
            assert_eq!(ethernet::source(&frame), Some(ip.to));
            let quoted = parse_quoted(&frame, &packet).unwrap();
            assert_eq!(quoted.mtu(), Some(1400));
            assert_eq!(quoted.flow.dst.port, 2);
        }
    }
}

#[test]
fn what_may_not_be_answered_is_not() {
    let port = IcmpProblem::PortUnreachable;
    let refused = |make: &dyn Fn(&mut [u8]) -> Result<usize, build::TooLong>, source: Addr| {
        let before = framed(make).0[HEADROOM..].to_vec();
        let (after, result) = answered(make, |frame, packet| {
            answer::icmp_error(frame, packet, port, source)
        });
        assert_eq!(after, before, "unchanged");
        result.unwrap_err()
    };
    let vip = v4().dst;
    let error = |b: &mut [u8]| build::icmp(b, &v4(), (3, 3), 0, &[0; 28]);
    assert_eq!(refused(&error, vip), DropReason::BadIcmpQuote);
    // A redirect is an error as well, and what a type that nobody knows says may be one.
    for kind in [(5, 1), (42, 0)] {
        let other = |b: &mut [u8]| build::icmp(b, &v4(), kind, 0, &[0; 28]);
        assert_eq!(refused(&other, vip), DropReason::BadIcmpQuote);
    }
    let later = build::Ip {
        fragment: 5,
        ..v4()
    };
    let later = |b: &mut [u8]| build::ip(b, &later, 17, &[0; 8]);
    assert_eq!(refused(&later, vip), DropReason::FragmentUnknown);
    for (src, dst) in [
        ("0.0.0.0", "192.0.2.10"),
        ("127.0.0.1", "192.0.2.10"),
        ("198.51.100.7", "224.0.0.1"),
        ("198.51.100.7", "255.255.255.255"),
    ] {
        let ip = build::Ip::new(addr(src), addr(dst));
        let udp = |b: &mut [u8]| build::udp(b, &ip, 1, 2, b"");
        assert_eq!(refused(&udp, vip), DropReason::BadAddress);
    }
    let udp = |b: &mut [u8]| build::udp(b, &v4(), 1, 2, b"");
    assert_eq!(refused(&udp, v6().dst), DropReason::BadAddress);
}

#[test]
fn a_quoted_checksum_is_finished() {
    let (mut buffer, length) = framed(|b| build::udp(b, &v4(), 1, 2, b"data"));
    let finished = buffer[HEADROOM + 14..].to_vec();
    let sum = checksum::pseudo_header(v4().src, v4().dst, 17, 12);
    buffer[HEADROOM + 40..HEADROOM + 42].copy_from_slice(&sum.to_be_bytes());
    let offload = Offload {
        checksum: Some(PartialChecksum {
            start: 34,
            offset: 6,
        }),
        segmentation: None,
    };
    let mut frame = Frame::new(&mut buffer, HEADROOM, length, offload);
    let packet = parse(&frame).unwrap();
    answer::icmp_error(&mut frame, &packet, IcmpProblem::HostUnreachable, v4().dst).unwrap();
    assert_eq!(frame.offload, Offload::default());
    assert_eq!(frame.bytes()[42..], finished);
}

#[test]
fn without_room_the_frame_stays() {
    let mut buffer = vec![0; 256];
    let length = build::udp(&mut buffer[27..], &v4(), 1, 2, b"data").unwrap();
    let before = buffer[27..27 + length].to_vec();
    let mut frame = Frame::new(&mut buffer, 27, length, Offload::default());
    let packet = parse(&frame).unwrap();
    let result = answer::icmp_error(&mut frame, &packet, IcmpProblem::TimeExceeded, v4().dst);
    assert_eq!(result, Err(DropReason::NoHeadroom));
    assert_eq!(frame.bytes(), before);
}

#[test]
fn resets_answer_what_was_sent() {
    let ip4 = build::Ip {
        options: &[1, 1, 1, 0],
        tos: 0x2f,
        ..v4()
    };
    let ip6 = build::Ip {
        options: &[6, 0, 1, 4, 0, 0, 0, 0],
        first_extension: Some(60),
        tos: 0x2f,
        ..v6()
    };
    for ip in [ip4, ip6] {
        let tcp = build::Tcp {
            sequence: u32::MAX,
            flags: TcpFlags::SYN | TcpFlags::FIN,
            options: &[1, 1, 1, 1],
            ..build::Tcp::syn(40000, 80)
        };
        let (mut reset, result) =
            answered(|b| build::tcp(b, &ip, &tcp, b"data"), answer::tcp_reset);
        result.unwrap();
        let (packet, verified) = read(&mut reset);
        assert_eq!(verified, Some(true));
        assert_eq!(packet.tcp_flags, TcpFlags::RST | TcpFlags::ACK);
        assert_eq!((packet.flow.src.port, packet.flow.dst.port), (80, 40000));
        assert_eq!(
            (packet.tos, packet.ttl, packet.dont_fragment),
            (0x2c, 64, true)
        );
        let at = usize::from(packet.l4);
        assert_eq!(packet.end as usize, at + 20);
        // SYN, FIN and four bytes, from the last number on.
        assert_eq!(reset[at + 4..at + 12], [0, 0, 0, 0, 0, 0, 0, 5]);

        let tcp = build::Tcp {
            acknowledged: 0x0102_0304,
            flags: TcpFlags::ACK | TcpFlags::FIN,
            ..tcp
        };
        let (mut reset, result) =
            answered(|b| build::tcp(b, &ip, &tcp, b"data"), answer::tcp_reset);
        result.unwrap();
        let (packet, _) = read(&mut reset);
        assert_eq!(packet.tcp_flags, TcpFlags::RST);
        assert_eq!(reset[at + 4..at + 12], [1, 2, 3, 4, 0, 0, 0, 0]);
        let tcp = build::Tcp {
            flags: TcpFlags::RST,
            ..tcp
        };
        let (_, result) = answered(|b| build::tcp(b, &ip, &tcp, b""), answer::tcp_reset);
        assert!(result.is_err());
    }
}

#[test]
fn echo_replies_come_without_options() {
    let ip4 = build::Ip {
        options: &[7, 4, 4, 0],
        ttl: 3,
        tos: 0x2f,
        ..v4()
    };
    let ip6 = build::Ip {
        options: &[58, 0, 1, 4, 0, 0, 0, 0],
        first_extension: Some(0),
        ..v6()
    };
    for (ip, request, reply) in [(ip4, 8, 0), (ip6, 128, 129)] {
        let (mut echoed, result) = answered(
            |b| build::icmp(b, &ip, (request, 0), 0x1234_0001, b"hello"),
            answer::echo_reply,
        );
        result.unwrap();
        let (packet, verified) = read(&mut echoed);
        assert_eq!((packet.kind, verified), (Kind::IcmpOther, Some(true)));
        assert_eq!(
            (packet.flow.src.addr, packet.flow.dst.addr),
            (ip.dst, ip.src)
        );
        assert_eq!((packet.ttl, packet.tos), (64, ip.tos));
        assert_eq!(packet.dont_fragment, !ip.src.is_v4());
        let message = &echoed[usize::from(packet.l4)..];
        assert_eq!(message[0], reply);
        assert_eq!(message[4..], *b"\x12\x34\x00\x01hello");
        assert_eq!(usize::from(packet.l4), if ip.src.is_v4() { 34 } else { 54 });
    }
}

#[test]
fn arp_requests_are_answered() {
    let (asks, target) = (addr("192.0.2.1"), addr("192.0.2.10"));
    let (reply, found) = answered(
        |b| build::who_has(b, [2; 6], asks, target),
        |frame, packet| {
            let target = neighbour::arp_request_target(frame, packet);
            neighbour::answer_arp(frame, packet, MAC).unwrap();
            target
        },
    );
    assert_eq!(found, Some(target));
    let expected = [
        &[2; 6][..],
        &MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        &MAC,
        &[192, 0, 2, 10],
        &[2; 6],
        &[192, 0, 2, 1],
    ]
    .concat();
    assert_eq!(reply, expected);
}

#[test]
fn neighbour_solicitations_are_answered() {
    let target = addr("fd00::3");
    for (asks, to, flags) in [
        ("fd00::2", ([2; 6], "fd00::2"), 0x60),
        ("::", ([0x33, 0x33, 0, 0, 0, 1], "ff02::1"), 0x20),
    ] {
        let (mut reply, found) = answered(
            |b| build::who_has(b, [2; 6], addr(asks), target),
            |frame, packet| {
                let target = neighbour::solicitation_target(frame, packet);
                neighbour::answer_solicitation(frame, packet, MAC).unwrap();
                target
            },
        );
        assert_eq!(found, Some(target));
        let (packet, verified) = read(&mut reply);
        assert_eq!((verified, packet.ttl), (Some(true), 255));
        assert_eq!(
            (packet.flow.src.addr, packet.flow.dst.addr),
            (target, addr(to.1))
        );
        assert_eq!(reply[..6], to.0);
        assert_eq!(reply[6..12], MAC);
        assert_eq!(reply[54..56], [136, 0]);
        assert_eq!(reply[58], flags);
        assert_eq!(reply[62..78], target.v6_octets());
        assert_eq!(reply[78..], [&[2, 1][..], &MAC].concat());
    }
}

#[test]
fn a_solicitation_without_option_has_room_made() {
    let (asks, target) = (addr("fd00::2"), addr("fd00::3"));
    let (buffer, length) = framed(|b| build::who_has(b, [2; 6], asks, target));
    // The same without its source link-layer address.
    let ip = build::Ip {
        ttl: 255,
        ..build::Ip::new(asks, target)
    };
    let body = &buffer[HEADROOM + 62..HEADROOM + length - 8];
    let (reply, ()) = answered(
        |b| build::icmp(b, &ip, (135, 0), 0, body),
        |frame, packet| neighbour::answer_solicitation(frame, packet, MAC).unwrap(),
    );
    assert_eq!(reply.len(), length);
    assert_eq!(reply[78..], [&[2, 1][..], &MAC].concat());
}
