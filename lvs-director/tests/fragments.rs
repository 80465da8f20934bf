//! Fragments follow the first piece of their datagram, by each method and in both directions; none
//! is held, so that one without its first goes nowhere.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{CLIENTS, Out, SERVERS, Site, endpoint, service, udp};
use lvs_core::{DropReason, ForwardMethod, Protocol};
use lvs_director::Verdict;
use lvs_packet::{Frame, Offload, build, checksum, parse};

const UDP: u8 = 17;

/// The pieces of a UDP datagram, cut every `size` bytes.
fn pieces(from: &str, to: &str, ident: u16, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let whole = udp(from, to, payload);
    let (from, to) = (endpoint(from).addr, endpoint(to).addr);
    let datagram = &whole[if from.is_v4() { 34 } else { 54 }..];
    let count = datagram.len().div_ceil(size);
    let cut = datagram.chunks(size).enumerate();
    cut.map(|(n, bytes)| {
        let more = u16::from(n + 1 < count);
        let offset = u16::try_from(n * size / 8).unwrap();
        let [i0, i1] = ident.to_be_bytes();
        let [o0, o1] = (offset << 3 | more).to_be_bytes();
        let extension = [UDP, 0, o0, o1, 0, 0, i0, i1];
        let mut header = build::Ip {
            ident,
            fragment: more << 13 | offset,
            ..build::Ip::new(from, to)
        };
        if !from.is_v4() {
            header.options = &extension;
            header.first_extension = Some(44);
        }
        let mut buffer = vec![0; 2048];
        let length = build::ip(&mut buffer, &header, UDP, bytes).unwrap();
        buffer.truncate(length);
        buffer
    })
    .collect()
}

/// The checksum of the datagram that these pieces make is right.
fn whole_is_right(pieces: &[Out]) -> bool {
    let mut datagram = Vec::new();
    let mut ends = None;
    for piece in pieces {
        let mut bytes = piece.bytes.clone();
        let length = bytes.len();
        let packet = parse(&Frame::new(&mut bytes, 0, length, Offload::default())).unwrap();
        let flow = packet.flow;
        assert!(ends.is_none_or(|ends| ends == (flow.src.addr, flow.dst.addr)));
        ends = Some((flow.src.addr, flow.dst.addr));
        datagram.extend(&piece.bytes[usize::from(packet.l4)..]);
    }
    let (src, dst) = ends.unwrap();
    let length = u32::try_from(datagram.len()).unwrap();
    let pseudo = checksum::pseudo_header(src, dst, UDP, length);
    checksum::add(checksum::sum(&datagram), pseudo) == 0xffff
}

fn families() -> [(&'static str, &'static str, &'static str); 2] {
    [
        ("10.1.0.5:40000", "10.0.0.1:53", "10.2.0.1:5353"),
        ("[fd01::5]:40000", "[fd00::1]:53", "[fd02::1]:5353"),
    ]
}

#[test]
fn nat_translates_all_pieces_both_ways() {
    for (client, vip, server) in families() {
        let mut site = Site::with(
            Protocol::Udp,
            vip,
            "rr",
            ForwardMethod::Masquerade,
            &[server],
        );
        for (from, to, hop, ends) in [
            (client, vip, SERVERS, format!("{client} > {server}")),
            (server, client, CLIENTS, format!("{vip} > {client}")),
        ] {
            let out: Vec<Out> = pieces(from, to, 7, &[0x5a; 2500], 1024)
                .iter()
                .map(|piece| site.send(piece))
                .collect();
            assert_eq!(out.len(), 3);
            assert!(out.iter().all(|out| out.verdict == Verdict::Forward(hop)));
            assert_eq!(out[0].flow(), ends);
            assert!(whole_is_right(&out));
        }
        let counters = site.director.totals();
        assert_eq!(
            (counters.conns, counters.in_packets, counters.out_packets),
            (1, 3, 3)
        );
        let key = service(Protocol::Udp, vip);
        assert_eq!(site.counts(&key), [(server.to_owned(), 0, 1)]);
    }
}

#[test]
fn direct_routing_and_tunnels_send_all_pieces_to_one_server() {
    for method in [ForwardMethod::DirectRoute, ForwardMethod::Tunnel] {
        for (client, vip, server) in families() {
            let other = server.replace("::1]", "::2]").replace(".0.1:", ".0.2:");
            let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server, &other]);
            for (n, ident) in [(1, 7), (0, 8)] {
                for piece in pieces(client, vip, ident, &[n; 1500], 512) {
                    let out = site.send(&piece);
                    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
                    let overhead = match (method, endpoint(vip).addr.is_v4()) {
                        (ForwardMethod::Tunnel, true) => 20,
                        (ForwardMethod::Tunnel, false) => 40,
                        _ => 0,
                    };
                    assert_eq!(out.bytes.len(), piece.len() + overhead);
                }
            }
            let key = service(Protocol::Udp, vip);
            let status = site.director.service(&key).unwrap();
            let packets = |n: usize| status.destinations[n].counters.in_packets;
            assert_eq!((packets(0), packets(1)), (6, 0), "one connection");
        }
    }
}

#[test]
fn a_piece_without_its_first_goes_nowhere() {
    for (client, vip, server) in families() {
        let mut site = Site::with(
            Protocol::Udp,
            vip,
            "rr",
            ForwardMethod::Masquerade,
            &[server],
        );
        let unknown = Verdict::Drop(DropReason::FragmentUnknown);
        let first = pieces(client, vip, 1, &[1; 1000], 512);
        let second = pieces(client, vip, 2, &[2; 1000], 512);
        assert_eq!(site.send(&first[1]).verdict, unknown, "before its first");
        assert_eq!(site.send(&first[0]).verdict, Verdict::Forward(SERVERS));
        assert_eq!(site.send(&first[1]).verdict, Verdict::Forward(SERVERS));
        assert_eq!(
            site.send(&second[1]).verdict,
            unknown,
            "of another datagram"
        );
        site.wait(31);
        assert_eq!(site.send(&first[1]).verdict, unknown, "too late");
        assert_eq!(site.dropped(DropReason::FragmentUnknown), 3);
        // Nobody's: the host's own business.
        let others = pieces(client, server, 1, &[1; 1000], 512);
        assert_eq!(site.send(&others[1]).verdict, Verdict::Pass);
    }
}

#[test]
fn pieces_of_a_connection_that_ended_are_dropped() {
    let (client, vip, server) = families()[0];
    let method = ForwardMethod::Masquerade;
    let mut site = Site::with(Protocol::Udp, vip, "rr", method, &[server]);
    let cut = pieces(client, vip, 1, &[1; 1000], 512);
    assert_eq!(site.send(&cut[0]).verdict, Verdict::Forward(SERVERS));
    let key = service(Protocol::Udp, vip);
    site.director
        .delete_destination(&key, endpoint(server))
        .unwrap();
    assert_eq!(
        site.send(&cut[1]).verdict,
        Verdict::Drop(DropReason::DestinationGone)
    );
}
