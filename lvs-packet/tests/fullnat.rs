//! FULLNAT and what tells servers their client: the rewritten packet is the one that would have been
//! built, the reverse gives it back, checksums that were true stay true, also those still to be
//! finished, and whatever has no room is left byte for byte as it was.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop where something is not as it says"
)]

use lvs_core::Endpoint;
use lvs_packet::{
    Fragment, Frame, Kind, Offload, Packet, PartialChecksum, SegmentKind, Segmentation, TcpFlags,
    build, checksum, fullnat, parse, parse_quoted, segment, toa, uoa,
};
use proptest::collection::vec;
use proptest::prelude::*;

const HEADROOM: usize = 64;

fn endpoint(v6: bool) -> impl Strategy<Value = Endpoint> {
    (any::<[u8; 4]>(), 1_u16..).prop_map(move |([_, b, c, d], port)| {
        let text = match v6 {
            false => format!("10.{b}.{c}.{d}:{port}"),
            true => format!("[fd00::{b:x}{c:02x}:{d:x}]:{port}"),
        };
        text.parse().unwrap()
    })
}

/// Four endpoints of one family: client, VIP, local, server.
fn ends() -> impl Strategy<Value = [Endpoint; 4]> {
    any::<bool>().prop_flat_map(|v6| std::array::from_fn(|_| endpoint(v6)))
}

fn build_one(kind: Kind, src: Endpoint, dst: Endpoint, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 300 + payload.len()];
    let ip = build::Ip::new(src.addr, dst.addr);
    let length = match kind {
        Kind::Tcp => {
            let tcp = build::Tcp {
                flags: TcpFlags::PSH | TcpFlags::ACK,
                options,
                ..build::Tcp::syn(src.port, dst.port)
            };
            build::tcp(&mut buffer, &ip, &tcp, payload)
        }
        Kind::Udp => build::udp(&mut buffer, &ip, src.port, dst.port, payload),
        _ => build::sctp(&mut buffer, &ip, src.port, dst.port, 7, &[0, 0, 0, 4]),
    };
    buffer.truncate(length.unwrap());
    buffer
}

/// The bytes in a buffer with room before them.
fn roomy(bytes: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(bytes);
    buffer
}

fn frame(buffer: &mut [u8]) -> Frame<'_> {
    let length = buffer.len() - HEADROOM;
    Frame::new(buffer, HEADROOM, length, Offload::default())
}

/// TCP options that are whole: nothing, an MSS, a time stamp, at even and odd places.
fn options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![2, 4, 5, 180]),
        Just(vec![1, 2, 4, 5, 180, 1, 1, 0]),
        Just(vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
        Just(vec![1; 40]),
        Just(vec![1; 32]),
    ]
}

proptest! {
    #[test]
    fn both_ends_change_as_if_built_so_and_back(
        [client, vip, local, server] in ends(),
        kind in prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::Sctp)],
        payload in vec(any::<u8>(), 0..64),
    ) {
        let before = build_one(kind, client, vip, &[], &payload);
        let mut buffer = roomy(&before);
        let mut frame = frame(&mut buffer);
        let packet = parse(&frame).unwrap();
        fullnat::rewrite(&mut frame, &packet, local, server);
        let expected = build_one(kind, local, server, &[], &payload);
        prop_assert_eq!(frame.bytes(), &*expected);
        let packet = parse(&frame).unwrap();
        fullnat::rewrite(&mut frame, &packet, client, vip);
        prop_assert_eq!(frame.bytes(), &*before);
    }

    #[test]
    fn toa_is_read_back_and_keeps_the_checksum(
        [client, vip, ..] in ends(),
        options in options(),
        payload in vec(any::<u8>(), 0..64),
        mtu in 60_u32..1500,
    ) {
        let before = build_one(Kind::Tcp, client, vip, &options, &payload);
        let mut buffer = roomy(&before);
        let mut frame = frame(&mut buffer);
        let packet = parse(&frame).unwrap();
        let length = toa::length(packet.family);
        let room = options.len() + usize::from(length) <= 40
            && packet.ip_len() + u32::from(length) <= mtu;
        match toa::insert(&mut frame, &packet, client, mtu) {
            Ok(told) => {
                prop_assert!(room);
                let parsed = parse(&frame).unwrap();
                prop_assert_eq!(parsed, told);
                prop_assert_eq!(toa::read(&frame, &parsed), Some(client));
                prop_assert_eq!(checksum::verify(&frame, &parsed), Some(true));
                prop_assert!(frame.bytes().ends_with(&payload));
            }
            Err(toa::NoRoom) => {
                prop_assert!(!room);
                prop_assert_eq!(frame.bytes(), &*before);
            }
        }
    }

    #[test]
    fn uoa_is_read_back_and_keeps_both_checksums(
        client in endpoint(false),
        vip in endpoint(false),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let before = build_one(Kind::Udp, client, vip, &[], &payload);
        let mut buffer = roomy(&before);
        let mut frame = frame(&mut buffer);
        let packet = parse(&frame).unwrap();
        let told = uoa::insert(&mut frame, &packet, client, 1500).unwrap();
        let parsed = parse(&frame).unwrap();
        prop_assert_eq!(parsed, told);
        prop_assert_eq!(uoa::read(&frame, &parsed), Some(client));
        prop_assert_eq!(checksum::verify(&frame, &parsed), Some(true));
        prop_assert!(frame.bytes().ends_with(&payload));
    }

    #[test]
    fn a_lower_mss_keeps_the_checksum([client, vip, ..] in ends(), options in options(), by: u8) {
        let mut buffer = roomy(&build_one(Kind::Tcp, client, vip, &options, &[]));
        let mut frame = frame(&mut buffer);
        let packet = parse(&frame).unwrap();
        let lowered = toa::lower_mss(&mut frame, &packet, by);
        prop_assert_eq!(lowered, options.contains(&180));
        let packet = parse(&frame).unwrap();
        prop_assert_eq!(checksum::verify(&frame, &packet), Some(true));
        let mss = (1460 - u16::from(by)).to_be_bytes();
        prop_assert!(!lowered || frame.bytes().windows(4).any(|four| four == [2, 4, mss[0], mss[1]]));
    }

    /// Whatever the bytes: nothing panics, and what is refused is unchanged.
    #[test]
    fn anything_is_survived(bytes in vec(any::<u8>(), 0..200), client in endpoint(false)) {
        let mut buffer = roomy(&bytes);
        let mut frame = frame(&mut buffer);
        let Ok(packet) = parse(&frame) else { return Ok(()) };
        let _ = toa::read(&frame, &packet);
        let _ = uoa::read(&frame, &packet);
        if toa::insert(&mut frame, &packet, client, 1500).is_err()
            && uoa::insert(&mut frame, &packet, client, 1500).is_err()
        {
            prop_assert_eq!(frame.bytes(), &*bytes);
        }
    }
}

/// A checksum that is left to the hardware is finished to the same value as if it had not been.
#[test]
fn toa_keeps_a_partial_checksum_true() {
    let (client, vip): (Endpoint, Endpoint) = (
        "198.51.100.7:40000".parse().unwrap(),
        "192.0.2.10:80".parse().unwrap(),
    );
    let mut buffer = roomy(&build_one(Kind::Tcp, client, vip, &[], b"some data"));
    let mut frame = frame(&mut buffer);
    let packet = parse(&frame).unwrap();
    leave_to_hardware(&mut frame, &packet);
    let packet = toa::insert(&mut frame, &packet, client, 1500).unwrap();
    fullnat::rewrite(
        &mut frame,
        &packet,
        "10.2.0.250:1024".parse().unwrap(),
        "10.2.0.1:8080".parse().unwrap(),
    );
    checksum::finish_partial(&mut frame).unwrap();
    let packet = parse(&frame).unwrap();
    assert_eq!(checksum::verify(&frame, &packet), Some(true));
    assert_eq!(toa::read(&frame, &packet), Some(client));
}

fn leave_to_hardware(frame: &mut Frame<'_>, packet: &Packet) {
    let length = packet.end - u32::from(packet.l4);
    let sum = checksum::pseudo_header(packet.flow.src.addr, packet.flow.dst.addr, 6, length);
    let at = usize::from(packet.l4) + 16;
    frame.bytes_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame.offload.checksum = Some(PartialChecksum {
        start: packet.l4,
        offset: 16,
    });
}

/// A frame that stands for several segments carries the option in each, and each stays as long as it
/// was.
#[test]
fn every_segment_of_a_large_frame_tells_the_client() {
    let (client, vip): (Endpoint, Endpoint) = (
        "198.51.100.7:40000".parse().unwrap(),
        "192.0.2.10:80".parse().unwrap(),
    );
    let data: Vec<u8> = (0..3000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut buffer = roomy(&build_one(Kind::Tcp, client, vip, &[], &data));
    let mut frame = frame(&mut buffer);
    let packet = parse(&frame).unwrap();
    leave_to_hardware(&mut frame, &packet);
    frame.offload.segmentation = Some(Segmentation {
        kind: SegmentKind::TcpV4,
        size: 1000,
        header_len: 54,
        ecn: false,
    });
    let packet = toa::insert(&mut frame, &packet, client, 1500).unwrap();
    assert_eq!(frame.offload.segmentation.unwrap().size, 992);
    let mut carried = Vec::new();
    let mut segments = segment::segments(&frame, &packet).unwrap();
    let mut room = [0; 2048];
    while let Some(one) = segments.next_into(&mut room, 0).unwrap() {
        let packet = parse(&one).unwrap();
        assert!(packet.ip_len() <= 1040);
        assert_eq!(toa::read(&one, &packet), Some(client));
        assert_eq!(checksum::verify(&one, &packet), Some(true));
        carried.extend_from_slice(&one.bytes()[usize::from(packet.l4) + 28..]);
    }
    assert_eq!(carried, data);
}

/// An error from the servers' side goes to the client as if the client had caused it.
#[test]
fn an_error_goes_through_both_translations() {
    let [client, vip, local, server]: [Endpoint; 4] = [
        "198.51.100.7:40000",
        "192.0.2.10:80",
        "10.2.0.250:1024",
        "10.2.0.1:8080",
    ]
    .map(|text| text.parse().unwrap());
    let sent = build_one(Kind::Udp, local, server, &[], b"query");
    let mut buffer = vec![0; 256];
    let ip = build::Ip::new("10.2.0.1".parse().unwrap(), local.addr);
    let length = build::icmp(&mut buffer, &ip, (3, 3), 0, &sent[14..]).unwrap();
    let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
    let packet = parse(&frame).unwrap();
    let quoted = parse_quoted(&frame, &packet).unwrap();
    fullnat::translate_error(&mut frame, &packet, &quoted, vip, client).unwrap();
    let packet = parse(&frame).unwrap();
    assert_eq!(
        (packet.flow.src.addr, packet.flow.dst.addr),
        (vip.addr, client.addr)
    );
    assert_eq!(packet.fragment, Fragment::None);
    assert_eq!(checksum::verify(&frame, &packet), Some(true));
    let quoted = parse_quoted(&frame, &packet).unwrap();
    assert_eq!((quoted.flow.src, quoted.flow.dst), (client, vip));
}
