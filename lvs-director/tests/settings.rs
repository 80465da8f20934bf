//! What the kernel's settings change, and SCTP's way through a director.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use common::{CLIENTS, SERVERS, Site, addr, checksums_are_right, endpoint, service};
use lvs_core::{DropReason, ForwardMethod, Protocol};
use lvs_director::{Setting, Verdict};
use lvs_packet::{TcpFlags, build};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const RST: TcpFlags = TcpFlags::RST;
const CLIENT: &str = "10.1.0.5:4000";
const VIP: &str = "10.0.0.1:80";
const SERVERS_OF_VIP: [&str; 2] = ["10.2.0.1:80", "10.2.0.2:80"];

fn site(method: ForwardMethod) -> Site {
    Site::with(Protocol::Tcp, VIP, "rr", method, &SERVERS_OF_VIP)
}

/// The server of a client's packet.
fn server(site: &mut Site, client: &str, flags: TcpFlags) -> Option<String> {
    let out = site.tcp(client, VIP, flags);
    (out.verdict == Verdict::Forward(SERVERS)).then(|| out.packet().flow.dst.to_string())
}

fn delete(site: &Site, server: &str) {
    let key = service(Protocol::Tcp, VIP);
    site.director
        .delete_destination(&key, endpoint(server))
        .unwrap();
}

#[test]
fn with_conn_reuse_mode_0_a_closed_connection_keeps_its_server() {
    let mut site = site(ForwardMethod::Masquerade);
    let first = server(&mut site, CLIENT, SYN);
    server(&mut site, CLIENT, ACK);
    server(&mut site, CLIENT, RST);
    site.director
        .settings()
        .set(Setting::ConnReuseMode, 0)
        .unwrap();
    assert_eq!(server(&mut site, CLIENT, SYN), first);
    server(&mut site, CLIENT, ACK);
    server(&mut site, CLIENT, RST);
    site.director
        .settings()
        .set(Setting::ConnReuseMode, 1)
        .unwrap();
    assert_ne!(server(&mut site, CLIENT, SYN), first);
}

/// With direct routing a client's FIN leads to FIN_WAIT (IPVS 2.8), where a new SYN is scheduled
/// with bit 2 only.
#[test]
fn conn_reuse_mode_2_takes_fin_wait_too() {
    let connections = |site: &Site| site.director.table().len();
    for (mode, after) in [(1, 1), (2, 2), (3, 2)] {
        let mut site = site(ForwardMethod::DirectRoute);
        site.director
            .settings()
            .set(Setting::ConnReuseMode, mode)
            .unwrap();
        for flags in [SYN, ACK, TcpFlags(0x11), SYN] {
            assert_eq!(
                site.tcp(CLIENT, VIP, flags).verdict,
                Verdict::Forward(SERVERS)
            );
        }
        assert_eq!(connections(&site), after, "mode {mode}");
    }
}

#[test]
fn without_expire_nodest_conn_packets_of_a_deleted_server_are_dropped() {
    let mut site = site(ForwardMethod::Masquerade);
    let first = server(&mut site, CLIENT, SYN).unwrap();
    delete(&site, &first);
    site.wait(1);
    let out = site.tcp(CLIENT, VIP, ACK);
    assert_eq!(out.verdict, Verdict::Drop(DropReason::DestinationGone));
    assert_eq!(
        site.tcp(&first, CLIENT, ACK).verdict,
        Verdict::Forward(CLIENTS),
        "its replies are still translated"
    );
}

#[test]
fn expire_nodest_conn_ends_the_connections_of_a_deleted_server() {
    let mut site = site(ForwardMethod::Masquerade);
    site.director
        .settings()
        .set(Setting::ExpireNodestConn, 1)
        .unwrap();
    let first = server(&mut site, CLIENT, SYN).unwrap();
    let second = server(&mut site, "10.1.0.6:4000", SYN).unwrap();
    delete(&site, &first);
    site.wait(1);
    let clients = || {
        let mut clients = Vec::new();
        let now = site.now;
        site.director
            .connections(now, |found| clients.push(found.client.to_string()));
        clients
    };
    assert_eq!(clients(), ["10.1.0.6:4000"], "nobody has to send a packet");
    assert_eq!(server(&mut site, CLIENT, ACK), None, "the host answers");
    assert_eq!(server(&mut site, CLIENT, SYN).as_ref(), Some(&second));
}

/// Before the collector has come by, a packet finds the connection: it ends it (IPVS 2.12).
#[test]
fn with_expire_nodest_conn_a_syn_goes_to_another_server_at_once() {
    let mut site = site(ForwardMethod::Masquerade);
    site.director
        .settings()
        .set(Setting::ExpireNodestConn, 1)
        .unwrap();
    let first = server(&mut site, CLIENT, SYN).unwrap();
    delete(&site, &first);
    let now = server(&mut site, CLIENT, SYN).unwrap();
    assert_ne!(now, first);
}

/// A deleted server keeps its connections, but is no real server any more: what else it sends is not
/// refused (IPVS 4.3). Added again, it is one.
#[test]
fn a_deleted_server_is_not_told_that_nobody_wants_its_packets() {
    let mut site = site(ForwardMethod::Masquerade);
    let settings = site.director.settings();
    settings.set(Setting::NatIcmpSend, 1).unwrap();
    let first = server(&mut site, CLIENT, SYN).unwrap();
    let stray = |site: &mut Site| site.tcp(&first, "10.1.0.99:4000", ACK).verdict;
    let told = Verdict::Answer(Some(DropReason::UnknownReply));
    assert_eq!(stray(&mut site), told);
    let key = service(Protocol::Tcp, VIP);
    let spec = site.director.service(&key).unwrap().destinations;
    let spec = spec.iter().map(|found| found.spec);
    let spec = spec
        .into_iter()
        .find(|spec| spec.endpoint == endpoint(&first));
    delete(&site, &first);
    assert_eq!(stray(&mut site), Verdict::ToHost);
    site.director.add_destination(&key, &spec.unwrap()).unwrap();
    assert_eq!(stray(&mut site), told);
    // Deleted for good, and out of the trash.
    delete(&site, &first);
    site.wait(1200);
    assert_eq!(site.director.table().len(), 0);
    assert_eq!(stray(&mut site), Verdict::Pass);
}

#[test]
fn with_expire_nodest_conn_a_syn_leaves_a_quiesced_server() {
    let key = service(Protocol::Tcp, VIP);
    let mut site = site(ForwardMethod::Masquerade);
    let first = server(&mut site, CLIENT, SYN).unwrap();
    let mut spec = site.director.service(&key).unwrap().destinations[0].spec;
    assert_eq!(spec.endpoint.to_string(), first);
    spec.weight = 0;
    site.director.edit_destination(&key, &spec).unwrap();
    assert_eq!(server(&mut site, CLIENT, SYN).as_ref(), Some(&first));
    site.director
        .settings()
        .set(Setting::ExpireNodestConn, 1)
        .unwrap();
    assert_eq!(server(&mut site, CLIENT, ACK).as_ref(), Some(&first));
    assert_ne!(server(&mut site, CLIENT, SYN).as_ref(), Some(&first));
}

#[test]
fn sloppy_tcp_takes_everything_but_a_reset() {
    let mut site = site(ForwardMethod::Masquerade);
    assert_eq!(server(&mut site, CLIENT, ACK), None);
    site.director.settings().set(Setting::SloppyTcp, 1).unwrap();
    assert_eq!(server(&mut site, CLIENT, RST), None);
    assert!(server(&mut site, CLIENT, ACK).is_some());
}

fn sctp(from: &str, to: &str, chunk: u8) -> Vec<u8> {
    let (from, to) = (endpoint(from), endpoint(to));
    let mut buffer = vec![0; 128];
    let mut chunks = [0; 20];
    (chunks[0], chunks[3]) = (chunk, 20);
    let ip = build::Ip::new(from.addr, to.addr);
    let length = build::sctp(&mut buffer, &ip, from.port, to.port, 7, &chunks).unwrap();
    buffer.truncate(length);
    buffer
}

/// INIT, INIT ACK, COOKIE ECHO, COOKIE ACK: the handshake of RFC 9260, 5.1, translated both ways.
#[test]
fn sctp_is_translated_and_established() {
    const MAPPED: &str = "10.2.0.1:9899";
    let mut site = Site::with(
        Protocol::Sctp,
        VIP,
        "rr",
        ForwardMethod::Masquerade,
        &[MAPPED],
    );
    let key = service(Protocol::Sctp, VIP);
    for (from_client, chunk) in [(true, 1), (false, 2), (true, 10), (false, 11)] {
        let out = if from_client {
            site.send(&sctp(CLIENT, VIP, chunk))
        } else {
            site.send(&sctp(MAPPED, CLIENT, chunk))
        };
        let (hop, flow) = if from_client {
            (SERVERS, format!("{CLIENT} > {MAPPED}"))
        } else {
            (CLIENTS, format!("{VIP} > {CLIENT}"))
        };
        assert_eq!((out.verdict, out.flow()), (Verdict::Forward(hop), flow));
        assert!(checksums_are_right(&out.bytes), "chunk {chunk}");
    }
    assert_eq!(site.counts(&key), [(MAPPED.to_owned(), 1, 0)]);
}

#[test]
fn sctp_begins_with_init() {
    let vip = addr("10.0.0.1");
    let mut site = Site::with(
        Protocol::Sctp,
        VIP,
        "rr",
        ForwardMethod::Masquerade,
        &SERVERS_OF_VIP,
    );
    site.routes.local = vec![vip];
    assert_eq!(site.send(&sctp(CLIENT, VIP, 0)).verdict, Verdict::ToHost);
    site.director
        .settings()
        .set(Setting::SloppySctp, 1)
        .unwrap();
    assert_eq!(site.send(&sctp(CLIENT, VIP, 6)).verdict, Verdict::ToHost);
    let data = site.send(&sctp(CLIENT, VIP, 0)).verdict;
    assert_eq!(data, Verdict::Forward(SERVERS));
}
