//! Byte vectors of what the kernel puts on the wire for one datagram, by forwarding method (IPVS
//! 3.4): UDP 198.51.100.1:5555 to 192.0.2.10, "hello", TOS 0x2e, DF, id 7, arriving with TTL 33;
//! the director is 10.9.0.1, the server 10.1.0.1.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop where something is not as it says"
)]

use lvs_core::{Addr, TunnelChecksum, TunnelKind};
use lvs_packet::{Frame, Offload, Packet, build, nat, parse, ttl, tunnel};

const HEADROOM: usize = 64;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// The datagram to this port of the VIP, its TTL decremented, rewritten by `rewrite`; from its
/// outermost IP header on.
fn sent(port: u16, rewrite: impl FnOnce(&mut Frame<'_>, &Packet)) -> Vec<u8> {
    let mut buffer = [0; 256];
    let ip = build::Ip {
        ttl: 33,
        tos: 0x2e,
        ident: 7,
        ..build::Ip::new(addr("198.51.100.1"), addr("192.0.2.10"))
    };
    let length = build::udp(&mut buffer[HEADROOM..], &ip, 5555, port, b"hello").unwrap();
    let mut frame = Frame::new(&mut buffer, HEADROOM, length, Offload::default());
    let packet = parse(&frame).unwrap();
    ttl::decrement(&mut frame, &packet);
    rewrite(&mut frame, &packet);
    frame.bytes()[14..].to_vec()
}

fn tunnelled(port: u16, kind: TunnelKind) -> Vec<u8> {
    sent(port, |frame, packet| {
        let (director, server) = (addr("10.9.0.1"), addr("10.1.0.1"));
        let options = tunnel::Options {
            source_port: 0xdd45,
            ident: 0x1234,
            ..Default::default()
        };
        tunnel::encapsulate(frame, packet, kind, director, server, &options).unwrap();
    })
}

#[test]
fn nat_and_direct_routing() {
    let nat = sent(1009, |frame, packet| {
        nat::rewrite_destination(frame, packet, "10.1.0.1:1009".parse().unwrap());
    });
    assert_eq!(
        nat,
        hex("452e0021 00074000 2011 2661 c6336401 0a010001 15b3 03f1 000d 6e27 68656c6c6f")
    );
    let direct = sent(1010, |_, _| {});
    assert_eq!(
        direct[..28],
        hex("452e0021 00074000 2011 6e58 c6336401 c000020a 15b3 03f2 000d b61d")
    );
}

#[test]
fn outer_headers() {
    let gue = |checksum| TunnelKind::Gue {
        port: 6080,
        checksum,
    };
    let gre = |checksum| TunnelKind::Gre { checksum };
    let expected = [
        (
            TunnelKind::Ipip,
            "452e0035 00004000 2004 468c 0a090001 0a010001",
        ),
        (
            gue(TunnelChecksum::None),
            "452e0041 00004000 2011 4673 0a090001 0a010001 dd45 17c0 002d 0000 00040000",
        ),
        (
            gue(TunnelChecksum::Full),
            "452e0041 00004000 2011 4673 0a090001 0a010001 dd45 17c0 002d e2dc 00040000",
        ),
        (
            gue(TunnelChecksum::Remote),
            "452e0041 00004000 2011 4673 0a090001 0a010001 dd45 17c0 002d e2dc 00040000",
        ),
        (
            gre(TunnelChecksum::None),
            "452e0039 00004000 202f 465d 0a090001 0a010001 00000800",
        ),
        (
            gre(TunnelChecksum::Full),
            "452e003d 00004000 202f 4659 0a090001 0a010001 80000800 645d0000",
        ),
    ];
    for (kind, outer) in expected {
        let outer = hex(outer);
        let inner = sent(1010, |_, _| {});
        let whole = tunnelled(1010, kind);
        assert_eq!(whole[..outer.len()], outer, "{kind:?}");
        assert_eq!(whole[outer.len()..], inner, "{kind:?}");
    }
}

#[test]
fn congestion_experienced_inside_starts_as_capable_outside() {
    for (inner, outer) in [(0xff, 0xfe), (0xb8, 0xb8), (0xb9, 0xb9), (3, 2)] {
        for (src, dst) in [("198.51.100.1", "192.0.2.10"), ("fd01::5", "fd00::1")] {
            let ends = [("10.9.0.1", "10.1.0.1"), ("fd02::fe", "fd02::1")];
            for (director, server) in ends {
                let mut buffer = [0; 256];
                let ip = build::Ip {
                    tos: inner,
                    flow_label: 0xabcde,
                    ..build::Ip::new(addr(src), addr(dst))
                };
                let length = build::udp(&mut buffer[100..], &ip, 1, 2, b"hello").unwrap();
                let mut frame = Frame::new(&mut buffer, 100, length, Offload::default());
                let packet = parse(&frame).unwrap();
                let options = tunnel::Options::default();
                let (director, server) = (addr(director), addr(server));
                tunnel::encapsulate(
                    &mut frame,
                    &packet,
                    TunnelKind::Ipip,
                    director,
                    server,
                    &options,
                )
                .unwrap();
                let packet = parse(&frame).unwrap();
                assert_eq!((packet.tos, packet.ttl), (outer, 64));
                assert_eq!(packet.flow.dst.addr, server);
                if server.is_v4() {
                    // DF of an IPv6 packet is nothing to copy.
                    assert_eq!(packet.dont_fragment, ip.src.is_v4());
                } else {
                    assert_eq!(frame.bytes()[15] & 0x0f, 0, "flow label");
                    assert_eq!(frame.bytes()[16..18], [0, 0], "flow label");
                }
            }
        }
    }
}
