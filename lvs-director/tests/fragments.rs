//! Fragments, in whichever order they come: what leaves is what a kernel lets leave that makes them
//! whole, decides once and cuts again; bounded in memory and time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may fail"
)]

mod common;

use common::{CLIENTS, Out, SERVERS, Site, addr, endpoint, service, udp};
use lvs_core::{DropReason, ForwardMethod, Protocol};
use lvs_director::Verdict;
use lvs_packet::{Fragment, Frame, Offload, build, checksum, fragment, parse};
use proptest::prelude::*;

const METHODS: [ForwardMethod; 3] = [
    ForwardMethod::Masquerade,
    ForwardMethod::DirectRoute,
    ForwardMethod::Tunnel,
];

/// The pieces of a packet, their payloads of these sizes and what is left.
fn cut(whole: &[u8], ident: u16, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut whole = whole.to_vec();
    if whole[12..14] == [8, 0] {
        whole[18..20].copy_from_slice(&ident.to_be_bytes());
        whole[20] &= 0x40;
        whole[24..26].fill(0);
        let sum = checksum::full(&whole[14..34]);
        whole[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let len = whole.len();
    let frame = Frame::new(&mut whole, 0, len, Offload::default());
    let packet = parse(&frame).unwrap();
    let mut pieces = fragment::cut(&frame, &packet, 9000, u32::from(ident)).unwrap();
    let mut scratch = vec![0; 9000];
    let mut all = Vec::new();
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(8192));
    while let Some(piece) = pieces
        .next_of(sizes.next().unwrap(), &mut scratch, 0)
        .unwrap()
    {
        let mut piece = piece.bytes().to_vec();
        // The kernel's own pieces of a packet with DF have none.
        if packet.dont_fragment && packet.family == lvs_core::Family::V4 {
            piece[20] |= 0x40;
            piece[24..26].fill(0);
            let sum = checksum::full(&piece[14..34]);
            piece[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        all.push(piece);
    }
    all
}

/// A UDP datagram without DF.
fn datagram(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut whole = udp(from, to, payload);
    if whole[12..14] == [8, 0] {
        whole[20] = 0;
        whole[24..26].fill(0);
        let sum = checksum::full(&whole[14..34]);
        whole[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    whole
}

/// Makes pieces whole, in whichever order they are.
fn unite(pieces: &[Out]) -> Vec<u8> {
    let mut pieces: Vec<_> = pieces
        .iter()
        .map(|out| {
            let mut bytes = out.bytes.clone();
            let len = bytes.len();
            let frame = Frame::new(&mut bytes, 0, len, Offload::default());
            let packet = parse(&frame).unwrap();
            (
                fragment::piece(&frame, &packet).unwrap(),
                packet,
                out.bytes.clone(),
            )
        })
        .collect();
    pieces.sort_by_key(|(piece, ..)| piece.offset);
    let (_, first, mut whole) = pieces[0].clone();
    let mut end = pieces[0].0.end();
    for (piece, packet, bytes) in &pieces[1..] {
        assert_eq!(
            (u32::from(piece.offset), piece.identification),
            (end, pieces[0].0.identification)
        );
        end = piece.end();
        whole.extend(&bytes[usize::from(piece.start)..packet.end as usize]);
    }
    assert!(!pieces.last().unwrap().0.more);
    let len = whole.len();
    let mut frame = Frame::new(&mut whole, 0, len, Offload::default());
    fragment::reunite(&mut frame, &first, false).unwrap();
    frame.bytes().to_vec()
}

fn is_true(whole: &[u8]) -> bool {
    let mut bytes = whole.to_vec();
    let len = bytes.len();
    let frame = Frame::new(&mut bytes, 0, len, Offload::default());
    let packet = parse(&frame).unwrap();
    assert_eq!(packet.fragment, Fragment::None);
    checksum::verify(&frame, &packet) == Some(true)
}

/// The innermost packet of a tunnel's.
fn inner(whole: &[u8]) -> Vec<u8> {
    let header = if whole[12..14] == [8, 0] { 20 } else { 40 };
    [&whole[..14], &whole[14 + header..]].concat()
}

fn ends() -> [[&'static str; 3]; 2] {
    [
        ["10.1.0.5:40000", "10.0.0.1:53", "10.2.0.1:5353"],
        ["[fd01::5]:40000", "[fd00::1]:53", "[fd02::1]:5353"],
    ]
}

fn send_all(site: &mut Site, pieces: &[Vec<u8>]) -> Vec<Out> {
    pieces
        .iter()
        .flat_map(|piece| site.through(piece))
        .collect()
}

fn sizes_of(out: &[Out]) -> Vec<usize> {
    out.iter().map(|out| out.bytes.len() - 14).collect()
}

#[test]
fn whichever_order_the_same_leaves() {
    let orders = [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [1, 0, 3, 2],
        [2, 3, 0, 1],
        [3, 0, 1, 2],
        [1, 2, 3, 0],
    ];
    for [client, vip, server] in ends() {
        for method in METHODS {
            for order in orders {
                let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
                let payload: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
                let whole = datagram(client, vip, &payload);
                // The first datagram of a connection is made whole; the others follow their first piece.
                for ident in [1, 2] {
                    let pieces = cut(&whole, ident, &[1000, 480, 800]);
                    let pieces: Vec<_> = order.iter().map(|n| pieces[*n].clone()).collect();
                    let out = send_all(&mut site, &pieces);
                    let to = out
                        .iter()
                        .all(|out| out.verdict == Verdict::Forward(SERVERS));
                    assert!(to, "{method:?} {order:?}");
                    let whole = match method {
                        ForwardMethod::Tunnel => inner(&unite(&out)),
                        _ => unite(&out),
                    };
                    assert!(is_true(&whole), "{method:?} {order:?}");
                    let mut sizes = sizes_of(&out);
                    sizes.sort_unstable();
                    let mut came =
                        sizes_of(&pieces.iter().map(|piece| sent(piece)).collect::<Vec<_>>());
                    if method == ForwardMethod::Tunnel {
                        // The largest was the first: with the outer header it is longer than any that
                        // came, and all are cut anew.
                        let longest = came.iter().max().copied().max(Some(1280));
                        assert!(sizes.last().copied() <= longest);
                        continue;
                    }
                    came.sort_unstable();
                    assert_eq!(sizes, came);
                }
                let counters = site.director.totals();
                let length = (whole.len() - 14) as u64;
                assert_eq!(
                    (counters.conns, counters.in_packets, counters.in_bytes),
                    (1, 2, 2 * length),
                    "a datagram is a packet"
                );
            }
        }
    }
}

fn sent(bytes: &[u8]) -> Out {
    Out {
        verdict: Verdict::Pass,
        bytes: bytes.to_vec(),
        offload: Offload::default(),
    }
}

#[test]
fn pieces_that_have_room_for_an_outer_header_leave_as_they_came() {
    let [client, vip, server] = ends()[0];
    let method = ForwardMethod::Tunnel;
    let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
    // As the kernel: 620, 1420, 420 leave as 640, 1420, 420, but of 1420 and 1040 none can stay.
    for (sizes, lengths) in [
        (&[600, 1400, 400 - 8][..], &[640, 1420, 412][..]),
        (&[1400, 1020 - 8], &[1420, 1052]),
    ] {
        let total: usize = sizes.iter().sum();
        let whole = datagram(client, vip, &vec![9; total - 8]);
        let out = send_all(&mut site, &cut(&whole, 5, sizes));
        if sizes.len() == 3 {
            // 640 is no multiple of 8 behind 20: cut anew as well.
            assert!(sizes_of(&out).iter().all(|length| *length <= 1420));
        } else {
            assert_eq!(sizes_of(&out), lengths);
        }
        assert!(is_true(&inner(&unite(&out))));
    }
}

#[test]
fn replies_in_pieces_are_translated() {
    for [client, vip, server] in ends() {
        let method = ForwardMethod::Masquerade;
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
        assert_eq!(
            site.udp(client, vip, b"?").verdict,
            Verdict::Forward(SERVERS)
        );
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let pieces = cut(&datagram(server, client, &[7; 2500]), 9, &[1000, 1000]);
            let pieces: Vec<_> = order.iter().map(|n| pieces[*n].clone()).collect();
            let out = send_all(&mut site, &pieces);
            assert!(
                out.iter()
                    .all(|out| out.verdict == Verdict::Forward(CLIENTS))
            );
            let whole = unite(&out);
            assert!(is_true(&whole));
            assert_eq!(sent(&whole).flow(), format!("{vip} > {client}"));
        }
        let counters = site.director.totals();
        let length = datagram(server, client, &[7; 2500]).len() as u64 - 14;
        assert_eq!((counters.out_packets, counters.out_bytes), (3, 3 * length));
    }
}

#[test]
fn what_overlaps_ends_its_datagram_and_what_repeats_is_dropped() {
    for [client, vip, server] in ends() {
        let method = ForwardMethod::DirectRoute;
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
        assert_eq!(
            site.udp(client, vip, b"?").verdict,
            Verdict::Forward(SERVERS)
        );
        let whole = datagram(client, vip, &[1; 3000]);
        let pieces = cut(&whole, 1, &[1000, 1000]);
        let overlap = Verdict::Drop(DropReason::FragmentOverlap);
        assert_eq!(site.send(&pieces[0]).verdict, Verdict::Forward(SERVERS));
        assert_eq!(site.send(&pieces[0]).verdict, overlap, "again");
        assert_eq!(site.send(&pieces[1]).verdict, Verdict::Forward(SERVERS));
        let other = cut(&whole, 1, &[1000, 984, 1000]);
        assert_eq!(site.send(&other[2]).verdict, overlap, "over two");
        assert_eq!(site.send(&pieces[2]).verdict, overlap, "it is over");
        // A last piece that ends before others do, and one behind the end.
        let short = cut(&datagram(client, vip, &[1; 1500]), 2, &[1000]);
        let long = cut(&whole, 2, &[1504]);
        assert_eq!(site.send(&short[1]).verdict, Verdict::Held);
        assert_eq!(site.send(&long[1]).verdict, overlap);
        assert_eq!(site.send(&short[0]).verdict, overlap);
        assert!(site.through(&whole).is_empty() || site.dropped(DropReason::FragmentLost) == 1);
    }
}

#[test]
fn nobody_waits_for_ever() {
    for ([client, vip, server], seconds) in ends().into_iter().zip([30, 60]) {
        let method = ForwardMethod::Masquerade;
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
        let pieces = cut(&datagram(client, vip, &[1; 3000]), 1, &[1000, 1000]);
        assert_eq!(site.send(&pieces[2]).verdict, Verdict::Held);
        site.wait(seconds);
        assert_eq!(site.send(&pieces[1]).verdict, Verdict::Held, "in time");
        site.wait(1);
        assert!(
            site.through(&pieces[0]).is_empty(),
            "too late for the others"
        );
        assert_eq!(site.dropped(DropReason::FragmentLost), 2);
        // Now they wait for the others again, which come again.
        let out = send_all(&mut site, &pieces[1..]);
        assert!(is_true(&unite(&out)));
    }
}

#[test]
fn a_flood_of_pieces_without_a_first_displaces_the_oldest_only() {
    let [client, vip, server] = ends()[0];
    let method = ForwardMethod::Masquerade;
    let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
    let whole = datagram(client, vip, &[1; 2500]);
    let orphan = &cut(&whole, 1, &[1000, 1000])[1];
    for ident in 0..20_000_u16 {
        let mut piece = orphan.clone();
        piece[18..20].copy_from_slice(&ident.to_be_bytes());
        piece[24..26].fill(0);
        let sum = checksum::full(&piece[14..34]);
        piece[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(site.send(&piece).verdict, Verdict::Held);
        if ident % 64 == 0 {
            let pieces = cut(&whole, 40_000 + ident, &[1000, 1000]);
            let out = send_all(
                &mut site,
                &[pieces[2].clone(), pieces[0].clone(), pieces[1].clone()],
            );
            assert!(is_true(&unite(&out)), "{ident}");
        }
    }
    site.wait(40);
    assert!(site.through(&datagram(client, vip, b"")).len() == 1);
    assert_eq!(site.dropped(DropReason::FragmentLost), 20_000);
}

#[test]
fn a_datagram_of_64_kb_passes() {
    for [client, vip, server] in ends() {
        for method in METHODS {
            let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
            let whole = datagram(client, vip, &vec![3; 65_000]);
            let mut pieces = cut(&whole, 1, &[1400; 60]);
            pieces.reverse();
            let out = send_all(&mut site, &pieces);
            let united = unite(&out);
            match method {
                ForwardMethod::Tunnel => assert!(is_true(&inner(&united))),
                _ => assert!(is_true(&united)),
            }
        }
    }
}

#[test]
fn a_checksum_over_the_whole_is_made_over_the_whole() {
    // UDP without a checksum gets one behind NAT, in pieces too.
    let [client, vip, server] = ends()[0];
    let method = ForwardMethod::Masquerade;
    let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
    for ident in [1, 2] {
        let mut whole = datagram(client, vip, &[5; 2000]);
        whole[40..42].fill(0);
        let out = send_all(&mut site, &cut(&whole, ident, &[1000]));
        assert!(is_true(&unite(&out)));
    }
    // And SCTP's covers the ports.
    let (client, vip, server) = ("10.1.0.5:40000", "10.0.0.1:80", "10.2.0.1:8080");
    let mut site = Site::with(Protocol::Sctp, vip, "rr", method, &[server]);
    let chunk = |kind: u8| {
        let mut chunk = vec![9; 1404];
        chunk[..4].copy_from_slice(&[kind, 0, 5, 124]);
        chunk
    };
    for (kind, ident) in [(1, 1), (0, 2), (0, 3)] {
        let mut whole = vec![0; 2048];
        let ip = build::Ip {
            fragment: 0,
            ..build::Ip::new(endpoint(client).addr, endpoint(vip).addr)
        };
        let len = build::sctp(&mut whole, &ip, 40000, 80, 7, &chunk(kind)).unwrap();
        whole.truncate(len);
        let out = send_all(&mut site, &cut(&whole, ident, &[800]));
        assert!(is_true(&unite(&out)));
    }
}

#[test]
fn an_icmp_error_in_pieces_is_translated_and_leaves_in_pieces() {
    for [client, vip, server] in ends() {
        let method = ForwardMethod::Masquerade;
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
        assert_eq!(
            site.udp(client, vip, b"?").verdict,
            Verdict::Forward(SERVERS)
        );
        let v4 = endpoint(vip).addr.is_v4();
        let quote = &udp(vip, client, &[1; 1100])[14..];
        let ip = build::Ip {
            fragment: 0,
            ..build::Ip::new(endpoint(client).addr, endpoint(vip).addr)
        };
        let mut whole = vec![0; 2048];
        let what = if v4 { (3, 3) } else { (1, 4) };
        let len = build::icmp(&mut whole, &ip, what, 0, quote).unwrap();
        whole.truncate(len);
        let pieces = cut(&whole, 3, &[600]);
        let out = send_all(&mut site, &[pieces[1].clone(), pieces[0].clone()]);
        assert_eq!(out.len(), 2);
        let whole = unite(&out);
        assert!(is_true(&whole));
        assert_eq!(sent(&whole).packet().flow.dst.addr, endpoint(server).addr);
    }
}

#[test]
fn what_may_not_be_cut_is_measured_whole() {
    let [client, vip, server] = ends()[0];
    for method in METHODS {
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
        for ident in [1, 2] {
            let pieces = cut(&udp(client, vip, &[1; 2000]), ident, &[1000]);
            let out = send_all(&mut site, &pieces);
            assert_eq!(out.len(), 1, "{method:?}");
            assert_eq!(out[0].verdict, Verdict::Answer(Some(DropReason::TooBig)));
        }
    }
}

#[test]
fn what_is_longer_than_its_way_takes_is_cut() {
    for method in METHODS {
        let [client, vip, server] = ends()[0];
        let servers = match method {
            ForwardMethod::Tunnel => &[server, "[fd02::1]:5353"][..],
            _ => &[server],
        };
        for server in servers {
            let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[*server]);
            site.routes.server_mtu = 1400;
            let out = site.through(&datagram(client, vip, &[1; 1472]));
            let lengths = match (method, server.starts_with('[')) {
                (ForwardMethod::Tunnel, false) => [1396, 144],
                (ForwardMethod::Tunnel, true) => [1400, 196],
                _ => [1396, 124],
            };
            assert_eq!(sizes_of(&out), lengths);
            let whole = unite(&out);
            match method {
                ForwardMethod::Tunnel => {
                    let mut inner = inner(&whole);
                    inner[12..14].copy_from_slice(&[8, 0]);
                    assert!(is_true(&inner));
                }
                _ => assert!(is_true(&whole)),
            }
            // In pieces of which the first alone is too long: the same.
            let pieces = cut(&datagram(client, vip, &[1; 2000]), 4, &[1480]);
            let out = send_all(&mut site, &pieces);
            assert!(sizes_of(&out).iter().all(|length| *length <= 1400));
            unite(&out);
        }
    }
    // And on the way back.
    let [client, vip, server] = ends()[0];
    let mut site = Site::with(Protocol::Udp, vip, "rr", METHODS[0], &[server]);
    site.routes.client_mtu = 576;
    assert_eq!(
        site.udp(client, vip, b"?").verdict,
        Verdict::Forward(SERVERS)
    );
    let out = site.through(&datagram(server, client, &[1; 1000]));
    assert_eq!(sizes_of(&out), [572, 476]);
    assert!(is_true(&unite(&out)));
}

#[test]
fn the_fate_of_the_first_is_that_of_all() {
    for [client, vip, server] in ends() {
        let method = ForwardMethod::Masquerade;
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[]);
        // Nobody serves it: one answer.
        let pieces = cut(&datagram(client, vip, &[1; 2000]), 1, &[1000]);
        for order in [[0, 1], [1, 0]] {
            let pieces: Vec<_> = order.iter().map(|n| pieces[*n].clone()).collect();
            let out = send_all(&mut site, &pieces);
            assert_eq!(out.len(), 1);
            let reason = DropReason::NoDestination;
            assert_eq!(out[0].verdict, Verdict::Answer(Some(reason)));
        }
        // The host's own, and what passes by.
        site.routes.local = vec![endpoint(vip).addr];
        let other = format!("{vip}9");
        for to in [&other, server] {
            let pieces = cut(&datagram(client, to, &[1; 2000]), 7, &[1000]);
            for piece in &pieces {
                assert_eq!(site.send(piece).verdict, Verdict::Pass);
            }
        }
    }
}

#[test]
fn pieces_of_a_connection_that_ended_are_dropped() {
    let [client, vip, server] = ends()[0];
    let method = ForwardMethod::Masquerade;
    let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
    assert_eq!(
        site.udp(client, vip, b"?").verdict,
        Verdict::Forward(SERVERS)
    );
    let pieces = cut(&datagram(client, vip, &[1; 1000]), 1, &[512]);
    assert_eq!(site.send(&pieces[0]).verdict, Verdict::Forward(SERVERS));
    let key = service(Protocol::Udp, vip);
    site.director
        .delete_destination(&key, endpoint(server))
        .unwrap();
    let gone = Verdict::Drop(DropReason::DestinationGone);
    assert_eq!(site.send(&pieces[1]).verdict, gone);
    assert_eq!(addr("10.0.0.1"), endpoint(vip).addr);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any cut, any order, any of the methods, with repetitions: the datagram arrives once.
    #[test]
    fn any_cut_in_any_order_arrives(
        sizes in proptest::collection::vec(1_usize..180, 1..12),
        shuffle in proptest::collection::vec(any::<u32>(), 16),
        again in any::<u16>(),
        method in proptest::sample::select(&METHODS[..]),
        v6 in any::<bool>(),
        known in any::<bool>(),
        mtu in proptest::sample::select(&[1280_u32, 1400, 1500][..]),
    ) {
        let [client, vip, server] = ends()[usize::from(v6)];
        let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
        // A tunnel of IPv6 needs its room.
        site.routes.server_mtu = if v6 { 1500 } else { mtu };
        if known {
            site.udp(client, vip, b"?");
        }
        let sizes: Vec<usize> = sizes.iter().map(|size| (size * 8).min(1200)).collect();
        let total: usize = sizes.iter().sum::<usize>() + 5;
        let payload: Vec<u8> = (0..total - 8 + 8).map(|n| n as u8).collect();
        let pieces = cut(&datagram(client, vip, &payload), 77, &sizes);
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|n| shuffle[*n % 16]);
        let mut out = Vec::new();
        for (n, place) in order.iter().enumerate() {
            out.extend(site.through(&pieces[*place]));
            if n + 1 < order.len() && again >> (n % 16) & 1 == 1 {
                let repeated = site.send(&pieces[*place]).verdict;
                prop_assert_eq!(repeated, Verdict::Drop(DropReason::FragmentOverlap));
            }
        }
        let whole = match out.len() {
            1 => out[0].bytes.clone(),
            _ => unite(&out),
        };
        let whole = if method == ForwardMethod::Tunnel { inner(&whole) } else { whole };
        prop_assert!(is_true(&whole));
        prop_assert_eq!(&whole[whole.len() - payload.len()..], &payload[..]);
    }
}
