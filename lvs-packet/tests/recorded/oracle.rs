//! An independent parser as judge: wherever this one and etherparse both read a frame, they read
//! the same.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lvs_core::Addr;
use lvs_packet::{Frame, Kind, Offload, parse};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether both read the frame; panics where they differ.
fn agree(bytes: &[u8]) -> bool {
    let mut copy = bytes.to_vec();
    let length = copy.len();
    let Ok(packet) = parse(&Frame::new(&mut copy, 0, length, Offload::default())) else {
        return false;
    };
    let Ok(theirs) = SlicedPacket::from_ethernet(bytes) else {
        return false;
    };
    let ends = match theirs.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            assert_eq!(packet.ttl, header.ttl());
            assert_eq!(packet.dont_fragment, header.dont_fragment());
            // Their sum is over what they read, and the reserved flag is not.
            if header.slice()[6] & 0x80 == 0 {
                assert_eq!(
                    header.to_header().calc_header_checksum(),
                    header.header_checksum()
                );
            }
            assert_eq!(packet.ip_len(), u32::from(header.total_len()));
            [header.source_addr(), header.destination_addr()].map(Addr::from)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            assert_eq!(packet.ttl, header.hop_limit());
            assert_eq!(packet.tos, header.traffic_class());
            assert_eq!(packet.ip_len(), 40 + u32::from(header.payload_length()));
            [header.source_addr(), header.destination_addr()].map(Addr::from)
        }
        _ => {
            assert!(!packet.is_ip());
            return true;
        }
    };
    assert_eq!([packet.flow.src.addr, packet.flow.dst.addr], ends);
    let at = usize::from(packet.l4);
    let ports = (packet.flow.src.port, packet.flow.dst.port);
    match theirs.transport {
        // A destination that is not the last one: the ports are not ours to read.
        _ if packet.kind == Kind::OtherIp => {}
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(packet.kind, Kind::Tcp);
            assert_eq!(ports, (tcp.source_port(), tcp.destination_port()));
            assert!(bytes[at..].starts_with(tcp.header_slice()));
            assert_eq!(packet.tcp_flags.0 & 0x3f, bytes[at + 13] & 0x3f);
            assert_eq!(packet.tcp_flags.0 & 2 != 0, tcp.syn());
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(packet.kind, Kind::Udp);
            assert_eq!(ports, (udp.source_port(), udp.destination_port()));
            assert!(bytes[at..].starts_with(udp.header_slice()));
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let error = matches!(icmp.type_u8(), 3 | 4 | 11);
            assert_eq!(packet.kind == Kind::IcmpError, error);
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            assert_eq!(packet.kind == Kind::IcmpError, icmp.type_u8() < 128);
        }
        Some(TransportSlice::Igmp(_)) => assert_eq!(packet.kind, Kind::OtherIp),
        None => assert!(
            !packet.fragment.is_whole() || matches!(packet.kind, Kind::OtherIp | Kind::Sctp)
        ),
    }
    true
}

#[test]
fn on_what_was_recorded() {
    let mut read = 0;
    for case in super::support::cases() {
        for frame in &case.frames {
            assert!(agree(&frame.bytes), "{}", case.name);
            read += 1;
        }
    }
    assert!(read > 1000, "{read}");
}

/// Recorded frames with a few bytes changed, so that most of them still make sense.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<Vec<u8>> = super::support::cases()
        .into_iter()
        .flat_map(|case| case.frames)
        .map(|frame| frame.bytes)
        .collect();
    let changes = proptest::collection::vec((0..80_usize, any::<u8>()), 0..4);
    (proptest::sample::select(frames), changes).prop_map(|(mut frame, changes)| {
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        // An IPv4 header is refused for its checksum alone; not what is meant here.
        if frame[12..14] == [8, 0] && frame[14] == 0x45 {
            frame[24..26].fill(0);
            let sum = lvs_packet::checksum::full(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn on_what_was_damaged(frame in damaged()) {
        agree(&frame);
    }
}

#[test]
fn addresses_are_in_network_order() {
    let v4 = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(Addr::from(v4).v4_octets(), v4.octets());
    let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(Addr::from(v6).v6_octets(), v6.octets());
}
