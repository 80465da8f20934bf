use super::*;
use crate::{Kind, build, parse};
use lvs_core::Addr;
use std::vec;
use std::vec::Vec;

const HOP_BY_HOP: [u8; 8] = [43, 0, 1, 4, 0, 0, 0, 0];
const ROUTING: [u8; 8] = [60, 0, 4, 0, 0, 0, 0, 0];
const DESTINATION: [u8; 8] = [17, 0, 1, 4, 0, 0, 0, 0];

fn ends(v6: bool) -> (Addr, Addr) {
    let [a, b] = if v6 {
        ["fd01::5", "fd00::1"]
    } else {
        ["10.1.0.5", "10.0.0.1"]
    };
    (a.parse().unwrap(), b.parse().unwrap())
}

fn datagram(v6: bool, options: &[u8], first_extension: Option<u8>, payload: usize) -> Vec<u8> {
    let (src, dst) = ends(v6);
    let ip = build::Ip {
        fragment: 0,
        ident: 0x1234,
        options,
        first_extension,
        ..build::Ip::new(src, dst)
    };
    let mut buffer = vec![0; payload + 256];
    let data: Vec<u8> = (0..=250).cycle().take(payload).collect();
    let length = build::udp(&mut buffer, &ip, 1, 53, &data).unwrap();
    buffer.truncate(length);
    buffer
}

fn frame(bytes: &mut [u8]) -> Frame<'_> {
    let length = bytes.len();
    Frame::new(bytes, 0, length, Offload::default())
}

fn cut_all(bytes: &[u8], limit: u32) -> Vec<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let frame = frame(&mut bytes);
    let packet = parse(&frame).unwrap();
    let mut pieces = cut(&frame, &packet, limit, 7).unwrap();
    let mut scratch = vec![0; 65_000];
    let mut all = Vec::new();
    while let Some(piece) = pieces.next_into(&mut scratch, 5).unwrap() {
        assert_eq!(piece.headroom(), 5);
        all.push(piece.bytes().to_vec());
    }
    all
}

/// Puts pieces together as a director does.
fn unite(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = pieces[0].clone();
    let first = parse(&frame(&mut whole.clone())).unwrap();
    for bytes in &pieces[1..] {
        let mut bytes = bytes.clone();
        let frame = frame(&mut bytes);
        let packet = parse(&frame).unwrap();
        let place = piece(&frame, &packet).unwrap();
        whole.extend(&frame.bytes()[usize::from(place.start)..packet.tail()]);
    }
    let mut frame = frame(&mut whole);
    reunite(&mut frame, &first, false).unwrap();
    frame.bytes().to_vec()
}

#[test]
fn cut_and_made_one_again_is_the_packet() {
    let chain = [HOP_BY_HOP, ROUTING, DESTINATION].concat();
    for (v6, options, first) in [
        (false, &[][..], None),
        (false, &[1, 0x94, 4, 0, 0, 7, 3, 4][..], None),
        (true, &[][..], None),
        (true, &chain[..], Some(0)),
    ] {
        for payload in [1, 100, 1000, 1473, 4000] {
            let whole = datagram(v6, options, first, payload);
            for limit in [100 + u32::from(v6) * 48, 576, 1280, 1281, 1287, 1400] {
                let pieces = cut_all(&whole, limit);
                let ip_len = |bytes: &Vec<u8>| bytes.len() - 14;
                assert!(pieces.iter().all(|piece| ip_len(piece) <= limit as usize));
                let lengths = pieces.iter().rev().skip(1).map(ip_len);
                assert!(lengths.clone().all(|length| length + 8 > limit as usize));
                if pieces.len() > 1 {
                    assert_eq!(unite(&pieces), whole, "{v6} {payload} {limit}");
                }
            }
        }
    }
}

#[test]
fn only_the_options_that_are_to_be_copied_are() {
    // Timestamp (not copied), router alert (copied), and the end.
    let options = [68, 4, 5, 0, 148, 4, 0, 0, 7, 3, 4, 0];
    let pieces = cut_all(&datagram(false, &options, None, 1000), 500);
    assert_eq!(pieces[0][34..46], options);
    for piece in &pieces[1..] {
        assert_eq!(piece[34..46], [1, 1, 1, 1, 148, 4, 0, 0, 1, 1, 1, 0]);
    }
}

#[test]
fn the_fragment_header_stands_behind_what_routers_look_at() {
    let chain = [HOP_BY_HOP, ROUTING, DESTINATION].concat();
    let pieces = cut_all(&datagram(true, &chain, Some(0), 3000), 1400);
    for (n, bytes) in pieces.iter().enumerate() {
        // Hop-by-hop, routing, fragment; the destination options are the datagram's.
        assert_eq!((bytes[20], bytes[54], bytes[62]), (0, 43, 44));
        assert_eq!(bytes[70], 60);
        let mut bytes = bytes.clone();
        let frame = frame(&mut bytes);
        let packet = parse(&frame).unwrap();
        let place = piece(&frame, &packet).unwrap();
        assert_eq!(place.identification, 7);
        assert_eq!((place.unfragmentable, place.start), (70, 78));
        let expected = if n == 0 {
            Fragment::First
        } else {
            Fragment::Later
        };
        assert_eq!(packet.fragment, expected);
    }
}

#[test]
fn a_piece_of_ipv4_is_cut_again_and_keeps_its_place() {
    let whole = datagram(false, &[], None, 4000);
    let pieces = cut_all(&whole, 1500);
    let again: Vec<Vec<u8>> = pieces
        .iter()
        .flat_map(|piece| cut_all(piece, 600))
        .collect();
    assert!(again.len() > pieces.len());
    assert_eq!(unite(&again), whole);
}

#[test]
fn what_came_in_pieces_leaves_in_pieces_of_any_sizes() {
    let mut whole = datagram(false, &[], None, 2492);
    let frame = frame(&mut whole);
    let packet = parse(&frame).unwrap();
    let mut scratch = [0; 2048];
    let mut pieces = cut(&frame, &packet, 1420, 0).unwrap();
    let mut lengths = Vec::new();
    for size in [600, 1400, 500] {
        let piece = pieces.next_of(size, &mut scratch, 0).unwrap().unwrap();
        lengths.push(piece.len() - 14);
    }
    assert_eq!(lengths, [620, 1420, 520]);
    assert!(pieces.next_into(&mut scratch, 0).unwrap().is_none());
    let mut pieces = cut(&frame, &packet, 1420, 0).unwrap();
    for size in [0, 7, 601] {
        let refused = pieces.next_of(size, &mut scratch, 0).map(|_| ());
        assert_eq!(refused, Err(DropReason::BadFragment));
    }
    let short = pieces.next_into(&mut scratch[..1000], 0).map(|_| ());
    assert_eq!(short, Err(DropReason::BadFragment));
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let mut whole = datagram(true, &[], None, 3000);
    let packet = parse(&frame(&mut whole)).unwrap();
    let refused = cut(&frame(&mut whole), &packet, 55, 0).map(|_| ());
    assert_eq!(refused, Err(DropReason::TooBig));
    let mut piece = cut_all(&whole, 1400).swap_remove(1);
    let packet = parse(&frame(&mut piece)).unwrap();
    let refused = cut(&frame(&mut piece), &packet, 600, 0).map(|_| ());
    assert_eq!(refused, Err(DropReason::BadFragment));
    let mut buffer = [0; 60];
    let (src, dst) = ends(false);
    let length = build::who_has(&mut buffer, [2; 6], src, dst).unwrap();
    let mut buffer = buffer[..length].to_vec();
    let arp = parse(&frame(&mut buffer)).unwrap();
    assert_eq!(arp.kind, Kind::ArpRequest);
    assert!(cut(&frame(&mut buffer), &arp, 600, 0).is_err());
}

#[test]
fn congestion_of_a_piece_is_that_of_the_whole() {
    for v6 in [false, true] {
        let whole = datagram(v6, &[], None, 1000);
        let mut bytes = cut_all(&whole, 800)[0].clone();
        let first = parse(&frame(&mut bytes)).unwrap();
        let end = whole.len() - (bytes.len() - usize::from(v6) * HEADER_LEN);
        bytes.extend(&whole[whole.len() - end..]);
        let mut frame = frame(&mut bytes);
        reunite(&mut frame, &first, true).unwrap();
        let packet = parse(&frame).unwrap();
        assert_eq!((packet.tos, packet.fragment), (3, Fragment::None));
        assert_eq!(frame.len(), whole.len());
    }
}
