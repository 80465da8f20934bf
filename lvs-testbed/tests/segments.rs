//! Frames that stand for several packets, cut by a kernel and by us: the same bytes.
//!
//! A packet socket hands a GSO frame to an interface that neither segments nor computes checksums, so that
//! the kernel has to do both; what comes out at the other end is compared with what `lvs_packet::segment`
//! makes of the same frame.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test needs fails by panicking"
)]

use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};

use lvs_core::{TunnelChecksum, TunnelKind};
use lvs_packet::build::{self, Ip, Tcp};
use lvs_packet::{
    Frame, Offload, PartialChecksum, SegmentKind, Segmentation, TcpFlags, checksum, parse, segment,
    tunnel,
};
use lvs_testbed::raw::{RawSocket, VNET_HEADER};
use lvs_testbed::test::networked;
use lvs_testbed::{Namespace, Veth};

/// A frame whose transport checksum is left to be finished, and what to cut it into.
struct Large {
    name: &'static str,
    bytes: Vec<u8>,
    offload: Offload,
}

fn large(
    name: &'static str,
    ip: &Ip<'_>,
    tcp: Option<&Tcp<'_>>,
    size: u16,
    length: usize,
) -> Large {
    let payload: Vec<u8> = (0..length)
        .map(|at| (at * 7 % 251).to_le_bytes()[0])
        .collect();
    let mut bytes = vec![0; 1 << 16];
    let built = match tcp {
        Some(tcp) => build::tcp(&mut bytes, ip, tcp, &payload),
        None => build::udp(&mut bytes, ip, 4000, 53, &payload),
    };
    bytes.truncate(built.unwrap());
    let whole = bytes.len();
    let packet = parse(&Frame::new(&mut bytes, 0, whole, Offload::default())).unwrap();
    let (offset, kind) = match (tcp, ip.src.is_v4()) {
        (Some(_), true) => (16, SegmentKind::TcpV4),
        (Some(_), false) => (16, SegmentKind::TcpV6),
        (None, _) => (6, SegmentKind::Udp),
    };
    let l4 = usize::from(packet.l4);
    let segment = u32::try_from(whole - l4).unwrap();
    let (src, dst) = (packet.flow.src.addr, packet.flow.dst.addr);
    let sum = checksum::pseudo_header(src, dst, packet.protocol, segment);
    let field = l4 + usize::from(offset);
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Large {
        name,
        bytes,
        offload: Offload {
            checksum: Some(PartialChecksum {
                start: packet.l4,
                offset,
            }),
            segmentation: Some(Segmentation {
                kind,
                size,
                header_len: u16::try_from(whole - length).unwrap(),
                ecn: tcp.is_some_and(|tcp| tcp.flags.contains(TcpFlags::CWR)),
            }),
        },
    }
}

/// The virtio-net header that says so (virtio 1.2, 5.1.6).
fn vnet(offload: &Offload) -> [u8; VNET_HEADER] {
    let sum = offload.checksum.unwrap();
    let cut = offload.segmentation.unwrap();
    let kind = match cut.kind {
        SegmentKind::TcpV4 => 1,
        SegmentKind::TcpV6 => 4,
        SegmentKind::Udp => 5,
    } | if cut.ecn { 0x80 } else { 0 };
    let [h0, h1] = cut.header_len.to_ne_bytes();
    let [s0, s1] = cut.size.to_ne_bytes();
    let [c0, c1] = sum.start.to_ne_bytes();
    let [o0, o1] = sum.offset.to_ne_bytes();
    [1, kind, h0, h1, s0, s1, c0, c1, o0, o1]
}

fn cases() -> Vec<Large> {
    const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7];
    let v4 = Ip {
        ident: 0xfffe,
        ..Ip::new("10.1.0.5".parse().unwrap(), "10.0.0.1".parse().unwrap())
    };
    let v6 = Ip::new("fd01::5".parse().unwrap(), "fd00::1".parse().unwrap());
    let data = |flags| Tcp {
        flags,
        sequence: 0xffff_fc00,
        acknowledged: 77,
        ..Tcp::syn(40001, 80)
    };
    let ack = data(TcpFlags::ACK);
    let last = data(TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN);
    let marked = data(TcpFlags::ACK | TcpFlags::CWR | TcpFlags::ECE);
    let stamped = Tcp {
        options: &STAMPS,
        ..last
    };
    let urgent = data(TcpFlags::ACK | TcpFlags::URG);
    let classes = Ip {
        tos: 0xb9,
        ttl: 3,
        fragment: 0,
        ..v4
    };
    let labelled = Ip {
        tos: 0xb9,
        ttl: 3,
        flow_label: 0x54321,
        ..v6
    };
    let options = Ip {
        options: &[148, 4, 0, 0],
        ..v4
    };
    let mut cases = vec![
        large("TCP over IPv4", &v4, Some(&ack), 1448, 20_000),
        large(
            "TCP over IPv4, the last byte alone",
            &v4,
            Some(&last),
            1000,
            3001,
        ),
        large("TCP over IPv4, no rest", &v4, Some(&last), 1000, 3000),
        large("TCP over IPv4, CWR", &v4, Some(&marked), 1200, 5000),
        large(
            "TCP over IPv4, options of TCP",
            &v4,
            Some(&stamped),
            1436,
            60_000,
        ),
        large("TCP over IPv4, URG", &v4, Some(&urgent), 1400, 5000),
        large(
            "TCP over IPv4, no DF, DSCP, TTL 3",
            &classes,
            Some(&last),
            700,
            5000,
        ),
        large(
            "TCP over IPv4, options of IPv4",
            &options,
            Some(&last),
            1000,
            5000,
        ),
        large("TCP over IPv6", &v6, Some(&ack), 1428, 20_000),
        large("TCP over IPv6, CWR", &v6, Some(&marked), 1200, 5000),
        large(
            "TCP over IPv6, options of TCP",
            &v6,
            Some(&stamped),
            999,
            60_000,
        ),
        large(
            "TCP over IPv6, class, label, hop limit 3",
            &labelled,
            Some(&last),
            700,
            5001,
        ),
        large("UDP over IPv4", &v4, None, 1472, 20_000),
        large(
            "UDP over IPv4, odd pieces, no DF",
            &classes,
            None,
            333,
            5000,
        ),
        large("UDP over IPv6", &v6, None, 1452, 20_000),
        large("UDP over IPv6, odd pieces", &labelled, None, 333, 5001),
    ];
    // Bytes of pieces that sum up to nothing: the checksum of UDP may not be 0.
    cases.extend((0..8_usize).map(|more| large("UDP", &v4, None, 2, 64 + more)));
    cases
}

/// What we make of it.
fn ours(large: &Large) -> Vec<Vec<u8>> {
    let mut bytes = large.bytes.clone();
    let length = bytes.len();
    let frame = Frame::new(&mut bytes, 0, length, large.offload);
    let packet = parse(&frame).unwrap();
    let mut segments = segment::segments(&frame, &packet).unwrap();
    let mut scratch = vec![0; 4096];
    let mut all = Vec::new();
    while let Some(segment) = segments.next_into(&mut scratch, 64).unwrap() {
        all.push(segment.bytes().to_vec());
    }
    all
}

/// Waits until what one end sends comes out at the other: a pair that was just made loses its first frames.
fn await_link(near: &Namespace, receiver: &RawSocket) {
    let probe = [&[2; 12], &[0x88, 0xb5][..], &[0; 46]].concat();
    let sender = near.run(|| RawSocket::open("eth0")).unwrap().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    receiver
        .set_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut buffer = vec![0; 1 << 16];
    loop {
        assert!(Instant::now() < until, "nothing passes");
        sender.send(&[0; VNET_HEADER], &probe).unwrap();
        while let Ok((_, length)) = receiver.receive(&mut buffer) {
            if buffer[..length] == probe {
                receiver.set_timeout(Some(Duration::from_secs(5))).unwrap();
                return;
            }
        }
    }
}

#[test]
fn a_kernel_cuts_as_we_do() {
    networked(&[], || {
        let (near, far) = (
            Namespace::new("near").unwrap(),
            Namespace::new("far").unwrap(),
        );
        Veth::connect(&near, "eth0", &far, "eth0").unwrap();
        near.set_offloads("eth0", false).unwrap();
        let open = |namespace: &Namespace, offloads| {
            let open = || match offloads {
                true => RawSocket::open_with_offloads("eth0"),
                false => RawSocket::open("eth0"),
            };
            namespace.run(open).unwrap().unwrap()
        };
        let (sender, receiver) = (open(&near, true), open(&far, false));
        await_link(&near, &receiver);
        let mut buffer = vec![0; 1 << 16];
        let mut compared = 0;
        for large in cases() {
            match sender.send(&vnet(&large.offload), &large.bytes) {
                Ok(()) => {}
                // Kernels before 6.2 know no such datagrams in this header.
                Err(error) if error.kind() == ErrorKind::InvalidInput => continue,
                Err(error) => panic!("{}: {error}", large.name),
            }
            for (at, expected) in ours(&large).iter().enumerate() {
                let theirs = loop {
                    let (_, length) = receiver.receive(&mut buffer).unwrap();
                    // The hosts at both ends talk as well, of neighbours and groups.
                    if buffer[..12] == expected[..12] {
                        break buffer[..length].to_vec();
                    }
                };
                assert_eq!(&theirs, expected, "{}, piece {at}", large.name);
            }
            compared += 1;
        }
        assert!(compared >= 12, "{compared}");
    });
}

/// The tunnels of a kernel that are those of a director: their names, of which family outside and inside.
const TUNNELS: [(&str, TunnelKind, bool, &[bool]); 5] = [
    ("ipip", TunnelKind::Ipip, true, &[true]),
    ("sit", TunnelKind::Ipip, true, &[false]),
    (
        "ip6tnl mode any encaplimit none",
        TunnelKind::Ipip,
        false,
        &[true, false],
    ),
    ("gre", gre(TunnelChecksum::None), true, &[true, false]),
    ("gre csum", gre(TunnelChecksum::Full), true, &[true, false]),
];

const fn gre(checksum: TunnelChecksum) -> TunnelKind {
    TunnelKind::Gre { checksum }
}

fn ip(namespace: &Namespace, arguments: &str) -> bool {
    let run = || {
        Command::new("ip")
            .args(arguments.split_whitespace())
            .output()
    };
    namespace.run(run).unwrap().unwrap().status.success()
}

/// Our segments, each in the tunnel, without Ethernet.
fn tunnelled(large: &Large, kind: TunnelKind, v4: bool) -> Vec<Vec<u8>> {
    let (source, destination) = match v4 {
        true => ("10.9.0.1", "10.9.0.2"),
        false => ("fd09::1", "fd09::2"),
    };
    let ends = (source.parse().unwrap(), destination.parse().unwrap());
    let wrap = |segment: Vec<u8>| {
        let mut buffer = [vec![0; 64], segment].concat();
        let length = buffer.len() - 64;
        let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
        let packet = parse(&frame).unwrap();
        let options = tunnel::Options::default();
        tunnel::encapsulate(&mut frame, &packet, kind, ends.0, ends.1, &options).unwrap();
        frame.bytes()[14..].to_vec()
    };
    ours(large).into_iter().map(wrap).collect()
}

/// The identification of an outer IPv4 header is drawn, DF is up to the device, and the checksum covers both;
/// so is the label of an outer IPv6 header.
fn without_drawn(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[4..7].fill(0);
        packet[10..12].fill(0);
    } else {
        packet[1..4].fill(0);
    }
    packet
}

/// Whether a tunnel's device makes of the frame what a director does: with the usual TTL, DF and class, and
/// pieces that fit.
fn is_for_tunnels(large: &Large) -> bool {
    let size = large.offload.segmentation.unwrap().size;
    let usual = matches!(
        large.bytes[14..22],
        [0x45, 0, _, _, _, _, 0x40, _] | [0x60, 0, ..]
    );
    usual && (500..=1420).contains(&size)
}

#[test]
fn a_kernel_puts_the_same_into_its_tunnels() {
    networked(&["ip"], || {
        let (near, far) = (
            Namespace::new("near").unwrap(),
            Namespace::new("far").unwrap(),
        );
        Veth::connect(&near, "eth0", &far, "eth0").unwrap();
        near.set_offloads("eth0", false).unwrap();
        near.add_address("eth0", "10.9.0.1".parse().unwrap(), 24)
            .unwrap();
        near.add_address("eth0", "fd09::1".parse().unwrap(), 64)
            .unwrap();
        for other in ["10.9.0.2", "fd09::2"] {
            let known =
                format!("neigh add {other} lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
            assert!(ip(&near, &known));
        }
        let receiver = far.run(|| RawSocket::open("eth0")).unwrap().unwrap();
        await_link(&near, &receiver);
        let mut buffer = vec![0; 1 << 16];
        let mut compared = 0;
        for (kind_name, kind, v4, inner) in TUNNELS {
            let ends = match v4 {
                true => "local 10.9.0.1 remote 10.9.0.2 ttl inherit tos inherit",
                false => "local fd09::1 remote fd09::2 hoplimit 64 tclass inherit",
            };
            if !ip(&near, &format!("link add t0 type {kind_name} {ends}")) {
                // Not a matter of rights or programs, so that nobody can require it.
                eprintln!("left out: {kind_name}, because this kernel has no such tunnel");
                continue;
            }
            near.set_up("t0", true).unwrap();
            let sender = near
                .run(|| RawSocket::open_with_offloads("t0"))
                .unwrap()
                .unwrap();
            for large in cases() {
                if !inner.contains(&(large.bytes[12] == 8)) || !is_for_tunnels(&large) {
                    continue;
                }
                let mut offload = large.offload;
                if let Some(sum) = &mut offload.checksum {
                    sum.start -= 14;
                }
                if let Some(cut) = &mut offload.segmentation {
                    cut.header_len -= 14;
                }
                match sender.send(&vnet(&offload), &large.bytes[14..]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::InvalidInput => continue,
                    Err(error) => panic!("{}: {error}", large.name),
                }
                for (at, expected) in tunnelled(&large, kind, v4).iter().enumerate() {
                    let expected = without_drawn(expected);
                    let theirs = loop {
                        let (_, length) = receiver.receive(&mut buffer).unwrap();
                        let ends = if v4 { 9..20 } else { 8..40 };
                        let found = without_drawn(&buffer[14..length]);
                        let is_it = found.get(ends.clone()) == expected.get(ends);
                        if is_it {
                            break found;
                        }
                    };
                    assert_eq!(theirs, expected, "{kind_name}: {}, piece {at}", large.name);
                }
                compared += 1;
            }
            near.delete_link("t0").unwrap();
        }
        // None where the kernel has no tunnels at all.
        eprintln!("{compared} frames compared");
    });
}
