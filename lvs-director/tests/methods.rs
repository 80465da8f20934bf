//! What a client's packets become by each forwarding method, and what the servers' replies do.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test needs fails by panicking"
)]

mod common;

use common::{CLIENTS, SERVERS, Site, checksums_are_right, service};
use lvs_core::{DropReason, ForwardMethod, Protocol};
use lvs_director::Verdict;
use lvs_packet::{TcpFlags, build};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags(0x11);
const SYN_ACK: TcpFlags = TcpFlags(0x12);

fn nat_conversation(client: &str, vip: &str, servers: [&str; 2]) {
    let mut site = Site::with(
        Protocol::Tcp,
        vip,
        "rr",
        ForwardMethod::Masquerade,
        &servers,
    );
    let key = service(Protocol::Tcp, vip);
    let server = servers[1];

    let out = site.tcp(client, vip, SYN);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(
        out.flow(),
        format!("{client} > {server}"),
        "the newest server is the first"
    );
    assert_eq!(out.packet().ttl, 63);
    assert!(checksums_are_right(&out.bytes));
    assert_eq!(
        site.counts(&key)[0],
        (server.to_owned(), 1, 0),
        "SYN_RECV counts as active"
    );

    let out = site.tcp(server, client, SYN_ACK);
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    assert_eq!(out.flow(), format!("{vip} > {client}"));
    assert!(checksums_are_right(&out.bytes));

    assert_eq!(
        site.tcp(client, vip, ACK).flow(),
        format!("{client} > {server}")
    );
    assert_eq!(
        site.tcp(client, vip, FIN).verdict,
        Verdict::Forward(SERVERS)
    );
    assert_eq!(
        site.counts(&key)[0],
        (server.to_owned(), 0, 1),
        "CLOSE_WAIT is inactive"
    );

    let status = site.director.service(&key).unwrap();
    let counters = status.destinations[0].counters;
    assert_eq!(
        (counters.conns, counters.in_packets, counters.out_packets),
        (1, 3, 1)
    );
    assert_eq!(
        status.counters, counters,
        "the service sums its destinations"
    );

    site.wait(61);
    assert_eq!(
        site.counts(&key)[0],
        (server.to_owned(), 0, 0),
        "CLOSE_WAIT ends after a minute"
    );
    assert_eq!(site.director.table().len(), 0);
}

#[test]
fn nat_translates_both_ways_ipv4() {
    nat_conversation(
        "10.1.0.5:40000",
        "10.0.0.1:80",
        ["10.2.0.1:8080", "10.2.0.2:8080"],
    );
}

#[test]
fn nat_translates_both_ways_ipv6() {
    nat_conversation(
        "[fd01::5]:40000",
        "[fd00::1]:80",
        ["[fd02::1]:8080", "[fd02::2]:8080"],
    );
}

#[test]
fn direct_routing_changes_only_the_ttl() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:80",
        "rr",
        ForwardMethod::DirectRoute,
        &["10.2.0.1:80"],
    );
    let before = common::tcp("10.1.0.5:40000", "10.0.0.1:80", SYN, b"");
    let out = site.send(&before);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(out.flow(), "10.1.0.5:40000 > 10.0.0.1:80");
    assert_eq!(out.bytes.len(), before.len());
    let changed: Vec<_> = (14..before.len())
        .filter(|i| before[*i] != out.bytes[*i])
        .collect();
    assert!(
        changed.iter().all(|i| [22, 24, 25].contains(i)),
        "TTL and checksum, not {changed:?}"
    );
    assert!(checksums_are_right(&out.bytes));
}

#[test]
fn a_tunnel_puts_the_packet_behind_another_header() {
    for (client, vip, server, source, overhead) in [
        (
            "10.1.0.5:40000",
            "10.0.0.1:80",
            "10.2.0.1:80",
            "10.2.0.254",
            20,
        ),
        (
            "[fd01::5]:40000",
            "[fd00::1]:80",
            "[fd02::1]:80",
            "fd02::fe",
            40,
        ),
        (
            "10.1.0.5:40000",
            "10.0.0.1:80",
            "[fd02::1]:80",
            "fd02::fe",
            40,
        ),
        (
            "[fd01::5]:40000",
            "[fd00::1]:80",
            "10.2.0.1:80",
            "10.2.0.254",
            20,
        ),
    ] {
        let mut site = Site::with(Protocol::Tcp, vip, "rr", ForwardMethod::Tunnel, &[server]);
        let before = common::tcp(client, vip, SYN, b"");
        let out = site.send(&before);
        assert_eq!(out.verdict, Verdict::Forward(SERVERS));
        assert_eq!(
            out.bytes.len(),
            before.len() + overhead,
            "{vip} to {server}"
        );
        let packet = out.packet();
        assert_eq!(packet.flow.src.addr.to_string(), source);
        assert_eq!(packet.flow.dst.addr, common::endpoint(server).addr);
        assert_eq!(packet.ttl, 63);
    }
}

#[test]
fn a_local_node_gets_the_packet_as_it_is() {
    let mut site = Site::with(
        Protocol::Udp,
        "10.0.0.1:53",
        "rr",
        ForwardMethod::DirectRoute,
        &["10.2.0.9:53"],
    );
    site.routes.local.push(common::addr("10.2.0.9"));
    let before = common::udp("10.1.0.5:5000", "10.0.0.1:53", b"query");
    let out = site.send(&before);
    assert_eq!(out.verdict, Verdict::ToHost);
    assert_eq!(out.bytes, before);
}

#[test]
fn without_a_server_the_client_is_told() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:80",
        "rr",
        ForwardMethod::Masquerade,
        &[],
    );
    let out = site.tcp("10.1.0.5:40000", "10.0.0.1:80", SYN);
    assert_eq!(
        out.verdict,
        Verdict::Answer(Some(DropReason::NoDestination))
    );
    assert_eq!(out.packet().flow.src.addr, common::addr("10.0.0.1"));
    assert_eq!(out.bytes[34..36], [3, 3], "port unreachable");
    assert_eq!(site.dropped(DropReason::NoDestination), 1);
}

#[test]
fn packets_of_nobody_are_the_hosts() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:80",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:80"],
    );
    // A VIP that the host has: its stack answers an ACK without a connection.
    site.routes.local.push(common::addr("10.0.0.1"));
    assert_eq!(
        site.tcp("10.1.0.5:4000", "10.0.0.1:80", ACK).verdict,
        Verdict::ToHost
    );
    assert_eq!(
        site.tcp("10.1.0.5:4000", "10.0.0.1:22", SYN).verdict,
        Verdict::Pass
    );
    // A VIP that it has not: the director answers.
    site.routes.local.clear();
    let out = site.tcp("10.1.0.5:4000", "10.0.0.1:80", ACK);
    assert_eq!(out.verdict, Verdict::Answer(None));
    assert_eq!(out.packet().tcp_flags, TcpFlags::RST);
    let out = site.udp("10.1.0.5:4000", "10.0.0.1:53", b"?");
    assert_eq!(out.verdict, Verdict::Answer(None));
    // Not to what was damaged on its way: whose packet it was is not known.
    let damaged = DropReason::BadTransportChecksum;
    for (mut bytes, checksum) in [
        (
            common::tcp("10.1.0.5:4000", "10.0.0.1:80", ACK, b""),
            14 + 20 + 16,
        ),
        (
            common::udp("10.1.0.5:4000", "10.0.0.1:53", b"?"),
            14 + 20 + 6,
        ),
    ] {
        bytes[checksum] ^= 1;
        assert_eq!(site.send(&bytes).verdict, Verdict::Drop(damaged));
    }
    assert_eq!(site.dropped(damaged), 2);
    // A server's packet that no connection explains goes its way by the host's own forwarding.
    assert_eq!(
        site.tcp("10.2.0.1:80", "10.1.0.5:4000", ACK).verdict,
        Verdict::ToHost
    );
    assert_eq!(
        site.tcp("10.2.0.1:22", "10.1.0.5:4000", ACK).verdict,
        Verdict::Pass
    );
}

#[test]
fn a_removed_server_is_noticed_and_taken_back() {
    let vip = "10.0.0.1:80";
    let client = "10.1.0.5:40000";
    let server = "10.2.0.1:80";
    let mut site = Site::with(
        Protocol::Tcp,
        vip,
        "rr",
        ForwardMethod::Masquerade,
        &[server],
    );
    let key = service(Protocol::Tcp, vip);
    site.tcp(client, vip, SYN);
    site.tcp(client, vip, ACK);
    site.director
        .delete_destination(&key, common::endpoint(server))
        .unwrap();
    assert_eq!(
        site.tcp(client, vip, ACK).verdict,
        Verdict::Drop(DropReason::DestinationGone)
    );
    let out = site.tcp(server, client, ACK);
    assert_eq!(
        out.flow(),
        format!("{vip} > {client}"),
        "replies are still translated"
    );
    let spec = lvs_core::DestinationSpec::new(common::endpoint(server), ForwardMethod::Masquerade);
    site.director.add_destination(&key, &spec).unwrap();
    assert_eq!(
        site.counts(&key),
        [(server.to_owned(), 1, 0)],
        "its connections are its own again"
    );
    assert_eq!(
        site.tcp(client, vip, ACK).verdict,
        Verdict::Forward(SERVERS)
    );
}

#[test]
fn what_is_too_long_or_too_old_is_answered_from_the_vip() {
    let vip = "10.0.0.1:80";
    let mut site = Site::with(
        Protocol::Udp,
        vip,
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:80"],
    );
    site.routes.server_mtu = 900;
    let out = site.udp("10.1.0.5:5000", vip, &[0; 1000]);
    assert_eq!(out.verdict, Verdict::Answer(Some(DropReason::TooBig)));
    assert_eq!(out.packet().flow.src.addr, common::addr("10.0.0.1"));
    assert_eq!(out.bytes[34..36], [3, 4], "fragmentation needed");
    assert_eq!(out.bytes[40..42], 900_u16.to_be_bytes());
    assert_eq!(
        site.udp("10.1.0.5:5000", vip, &[0; 872]).verdict,
        Verdict::Forward(SERVERS)
    );

    let out = site.send(&common::udp_with_ttl("10.1.0.5:5000", vip, 1));
    assert_eq!(out.verdict, Verdict::Answer(Some(DropReason::TtlExpired)));
    assert_eq!(out.bytes[34..36], [11, 0], "time exceeded");
    let out = site.send(&common::udp_with_ttl("10.2.0.1:80", "10.1.0.5:5000", 1));
    assert_eq!(out.verdict, Verdict::Answer(Some(DropReason::TtlExpired)));
    assert_eq!(
        out.packet().flow.src.addr,
        common::addr("10.2.0.254"),
        "as a router would"
    );
    assert_eq!(site.dropped(DropReason::TtlExpired), 2);
}

#[test]
fn esp_follows_isakmp_and_is_otherwise_given_back() {
    let (client, vip, server) = ("10.1.0.5:500", "10.0.0.1:500", "10.2.0.1:500");
    let esp = |from: &str, to: &str| {
        let mut bytes = vec![0; 128];
        let ip = build::Ip::new(common::addr(from), common::addr(to));
        let length = build::ip(&mut bytes, &ip, 50, &[7; 40]).unwrap();
        bytes.truncate(length);
        bytes
    };
    let mut site = Site::with(
        Protocol::Udp,
        vip,
        "rr",
        ForwardMethod::Masquerade,
        &[server],
    );
    site.routes.local.push(common::addr("10.0.0.1"));
    let (request, reply) = (esp("10.1.0.5", "10.0.0.1"), esp("10.2.0.1", "10.1.0.5"));
    assert_eq!(site.send(&request).verdict, Verdict::ToHost);
    assert_eq!(site.send(&reply).verdict, Verdict::ToHost);
    let elsewhere = site.send(&esp("10.1.0.5", "10.2.0.9"));
    assert_eq!(elsewhere.verdict, Verdict::Pass, "not claimed either");

    assert_eq!(
        site.udp(client, vip, b"isakmp").verdict,
        Verdict::Forward(SERVERS)
    );
    let out = site.send(&request);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(out.flow(), "10.1.0.5:0 > 10.2.0.1:0");
    let out = site.send(&reply);
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    assert_eq!(out.flow(), "10.0.0.1:0 > 10.1.0.5:0");
    let other = site.send(&esp("10.1.0.6", "10.0.0.1"));
    assert_eq!(other.verdict, Verdict::ToHost, "another client");
}
