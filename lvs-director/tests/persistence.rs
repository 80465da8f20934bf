//! Clients that stay with their destination, and packets that begin and end a connection at once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{CLIENTS, SERVERS, Site, addr, endpoint, service};
use lvs_core::{
    DestinationSpec, DropReason, ForwardMethod, Persistence, Protocol, ServiceKey, ServiceSpec,
    Thresholds,
};
use lvs_director::{Setting, Verdict};
use lvs_packet::TcpFlags;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const VIP: &str = "10.0.0.1:80";

fn persistent(key: ServiceKey, timeout: u32) -> ServiceSpec<'static> {
    ServiceSpec {
        persistence: Some(Persistence {
            timeout,
            netmask: 0xffff_ff00,
        }),
        ..ServiceSpec::new(key, "rr")
    }
}

/// A service for groups of 256 clients, with servers 10.2.0.1 and 10.2.0.2.
fn site(vip: &str, port: u16, timeout: u32) -> Site {
    let site = Site::new();
    let key = service(Protocol::Tcp, vip);
    site.director
        .add_service(&persistent(key, timeout))
        .unwrap();
    for server in ["10.2.0.1", "10.2.0.2"] {
        let server = endpoint(&format!("{server}:{port}"));
        let spec = DestinationSpec::new(server, ForwardMethod::Masquerade);
        site.director.add_destination(&key, &spec).unwrap();
    }
    site
}

fn server(site: &mut Site, client: &str, vip: &str) -> String {
    let out = site.tcp(client, vip, SYN);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS), "{client}");
    out.packet().flow.dst.to_string()
}

/// The templates: client, VIP, server, state, seconds left.
fn templates(site: &Site) -> Vec<String> {
    let mut rows = Vec::new();
    site.director.connections(site.now, |found| {
        if found.template {
            rows.push(format!(
                "{} {} {} {} {}",
                found.client,
                found.virtual_endpoint,
                found.destination,
                found.state_name(),
                found.expires
            ));
        }
    });
    rows.sort();
    rows
}

#[test]
fn a_group_of_clients_stays_with_its_server() {
    let mut site = site(VIP, 80, 300);
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    let second = server(&mut site, "10.1.1.5:4000", VIP);
    assert_ne!(first, second);
    for client in ["10.1.0.5:4001", "10.1.0.6:4000", "10.1.0.255:1"] {
        assert_eq!(server(&mut site, client, VIP), first);
    }
    let key = service(Protocol::Tcp, VIP);
    let status = site.director.service(&key).unwrap();
    assert_eq!(status.counters.conns, 5, "templates are no connections");
    let persistent: Vec<u32> = status.destinations.iter().map(|d| d.persistent).collect();
    assert_eq!(persistent, [1, 1]);
}

/// A template is re-armed for 60 s while it has connections, and a new one refreshes it.
#[test]
fn a_template_outlives_its_timeout_with_its_connections_only() {
    let mut site = site(VIP, 80, 5);
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    assert_eq!(
        templates(&site),
        [format!("10.1.0.0:0 {VIP} {first} NONE 5")]
    );
    site.wait(6);
    assert_eq!(
        templates(&site),
        [format!("10.1.0.0:0 {VIP} {first} NONE 59")]
    );
    assert_eq!(server(&mut site, "10.1.0.9:4000", VIP), first);
    assert_eq!(
        templates(&site),
        [format!("10.1.0.0:0 {VIP} {first} NONE 60")]
    );
    site.wait(130);
    assert_eq!(site.director.table().len(), 0);
    let key = service(Protocol::Tcp, VIP);
    let status = site.director.service(&key).unwrap();
    assert!(status.destinations.iter().all(|d| d.persistent == 0));
}

#[test]
fn an_established_connection_assures_its_template() {
    let mut site = site(VIP, 80, 300);
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    let out = site.tcp(&first, "10.1.0.5:4000", TcpFlags(0x12));
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    assert!(templates(&site)[0].contains(" NONE "));
    site.tcp("10.1.0.5:4000", VIP, ACK);
    assert!(templates(&site)[0].contains(" ASSURED "));
}

#[test]
fn a_deleted_server_invalidates_its_templates() {
    let mut site = site(VIP, 80, 300);
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    let key = service(Protocol::Tcp, VIP);
    site.director
        .delete_destination(&key, endpoint(&first))
        .unwrap();
    let second = server(&mut site, "10.1.0.5:4001", VIP);
    assert_ne!(first, second);
    let gone = first.replace(":80", ":65535");
    assert_eq!(
        templates(&site),
        [
            format!("10.1.0.0:0 10.0.0.1:65535 {gone} NONE 300"),
            format!("10.1.0.0:0 {VIP} {second} NONE 300"),
        ]
    );
    assert_eq!(server(&mut site, "10.1.0.5:4002", VIP), second);
}

#[test]
fn expire_quiescent_template_moves_clients_from_weight_0() {
    let mut site = site(VIP, 80, 300);
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    let key = service(Protocol::Tcp, VIP);
    let mut spec = DestinationSpec::new(endpoint(&first), ForwardMethod::Masquerade);
    spec.weight = 0;
    site.director.edit_destination(&key, &spec).unwrap();
    assert_eq!(server(&mut site, "10.1.0.5:4001", VIP), first);
    let settings = site.director.settings();
    settings.set(Setting::ExpireQuiescentTemplate, 1).unwrap();
    assert_ne!(server(&mut site, "10.1.0.5:4002", VIP), first);
}

#[test]
fn thresholds_do_not_stop_a_persistent_client() {
    let mut site = site(VIP, 80, 300);
    let key = service(Protocol::Tcp, VIP);
    for server in ["10.2.0.1:80", "10.2.0.2:80"] {
        let mut spec = DestinationSpec::new(endpoint(server), ForwardMethod::Masquerade);
        spec.thresholds = Thresholds { upper: 1, lower: 0 };
        site.director.edit_destination(&key, &spec).unwrap();
    }
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    server(&mut site, "10.1.1.5:4000", VIP);
    assert_eq!(server(&mut site, "10.1.0.5:4001", VIP), first);
    let out = site.tcp("10.1.2.5:4000", VIP, SYN);
    assert_eq!(
        out.verdict,
        Verdict::Answer(Some(DropReason::NoDestination))
    );
}

/// One template for all ports, which are kept; and the replies of all ports are translated.
#[test]
fn a_service_of_all_ports_keeps_them() {
    const CLIENT: &str = "10.1.0.5:4000";
    let mut site = site("10.0.0.1:0", 0, 300);
    site.routes.local = vec![addr("10.0.0.1")];
    assert_eq!(server(&mut site, CLIENT, VIP), "10.2.0.2:80");
    assert_eq!(server(&mut site, CLIENT, "10.0.0.1:443"), "10.2.0.2:443");
    let out = site.tcp("10.2.0.2:443", CLIENT, TcpFlags(0x12));
    assert_eq!(out.flow(), format!("10.0.0.1:443 > {CLIENT}"));
    assert_eq!(
        templates(&site),
        ["10.1.0.0:0 10.0.0.1:0 10.2.0.2:0 NONE 300"]
    );
    // All ports are kept from the host; so it gets back what begins nothing.
    assert_eq!(
        site.tcp(CLIENT, "10.0.0.1:22", ACK).verdict,
        Verdict::ToHost
    );
    let out = site.tcp("10.2.0.1:22", "10.1.0.7:1", ACK);
    assert_eq!(out.verdict, Verdict::ToHost);
    let claims = site.director.claims();
    assert_eq!(claims.services, [(Protocol::Tcp, endpoint("10.0.0.1:0"))]);
    assert_eq!(
        claims.replies,
        ["10.2.0.1:0", "10.2.0.2:0"].map(|server| (Protocol::Tcp, endpoint(server)))
    );
}

#[test]
fn a_service_of_its_port_goes_before_one_of_all() {
    let mut site = site("10.0.0.1:0", 0, 300);
    let key = service(Protocol::Tcp, VIP);
    site.director
        .add_service(&ServiceSpec::new(key, "rr"))
        .unwrap();
    let spec = DestinationSpec::new(endpoint("10.2.0.9:8080"), ForwardMethod::Masquerade);
    site.director.add_destination(&key, &spec).unwrap();
    assert_eq!(server(&mut site, "10.1.0.5:1", VIP), "10.2.0.9:8080");
    assert_eq!(
        server(&mut site, "10.1.0.5:1", "10.0.0.1:81"),
        "10.2.0.2:81"
    );
}

/// It can never take a packet (IPVS 2.6), so that nothing may be kept from the host for it.
#[test]
fn a_service_of_all_ports_without_persistence_claims_nothing() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:0",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:0"],
    );
    site.routes.local = vec![addr("10.0.0.1")];
    assert_eq!(site.director.claims().services, []);
    assert_eq!(site.tcp("10.1.0.5:1", VIP, SYN).verdict, Verdict::Pass);
}

#[test]
fn ftps_data_goes_where_its_commands_went() {
    let mut site = site("10.0.0.1:21", 21, 300);
    let to = |site: &mut Site, client: &str, port: u16| {
        let vip = format!("10.0.0.1:{port}");
        let out = site.tcp(&format!("{client}:4000"), &vip, SYN);
        matches!(out.verdict, Verdict::Forward(_)).then(|| out.packet().flow.dst.to_string())
    };
    assert_eq!(to(&mut site, "10.1.0.1", 21).unwrap(), "10.2.0.2:21");
    assert_eq!(to(&mut site, "10.1.1.1", 2000).unwrap(), "10.2.0.1:2000");
    assert_eq!(to(&mut site, "10.1.0.2", 20).unwrap(), "10.2.0.2:20");
    assert_eq!(to(&mut site, "10.1.1.2", 21).unwrap(), "10.2.0.1:21");
    assert_eq!(to(&mut site, "10.1.0.1", 1023), None);
}

#[test]
fn expire_nodest_conn_ends_assured_templates_too() {
    let mut site = site(VIP, 80, 300);
    site.director
        .settings()
        .set(Setting::ExpireNodestConn, 1)
        .unwrap();
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    site.tcp("10.1.0.5:4000", VIP, ACK);
    assert!(templates(&site)[0].contains(" ASSURED "));
    let key = service(Protocol::Tcp, VIP);
    site.director
        .delete_destination(&key, endpoint(&first))
        .unwrap();
    site.wait(1);
    assert_eq!(site.director.table().len(), 0);
}

/// A packet has ended the connection of a deleted server, and the collector has not come by: the template
/// does not wait for it.
#[test]
fn expire_nodest_conn_ends_a_template_whose_connection_a_packet_has_ended() {
    let mut site = site(VIP, 80, 300);
    site.director
        .settings()
        .set(Setting::ExpireNodestConn, 1)
        .unwrap();
    let first = server(&mut site, "10.1.0.5:4000", VIP);
    let key = service(Protocol::Tcp, VIP);
    site.director
        .delete_destination(&key, endpoint(&first))
        .unwrap();
    site.tcp("10.1.0.5:4000", VIP, ACK);
    site.director.collect(site.now + 1, usize::MAX);
    assert!(templates(&site).is_empty());
}

/// Every packet is scheduled, no connection is left, and the host routes the replies.
#[test]
fn one_packet_scheduling_leaves_no_connection() {
    const DNS: &str = "10.0.0.1:53";
    let mut site = Site::new();
    let key = service(Protocol::Udp, DNS);
    let spec = ServiceSpec {
        one_packet: true,
        ..ServiceSpec::new(key, "rr")
    };
    site.director.add_service(&spec).unwrap();
    for server in ["10.2.0.1:53", "10.2.0.2:53"] {
        let spec = DestinationSpec::new(endpoint(server), ForwardMethod::Masquerade);
        site.director.add_destination(&key, &spec).unwrap();
    }
    for server in ["10.2.0.2:53", "10.2.0.1:53", "10.2.0.2:53"] {
        let out = site.udp("10.1.0.5:4000", DNS, b"query");
        assert_eq!(out.verdict, Verdict::Forward(SERVERS));
        assert_eq!(out.flow(), format!("10.1.0.5:4000 > {server}"));
    }
    assert_eq!(site.director.table().len(), 0);
    let status = site.director.service(&key).unwrap();
    assert_eq!((status.counters.conns, status.counters.in_packets), (3, 3));
    let reply = site.udp("10.2.0.2:53", "10.1.0.5:4000", b"answer");
    assert_eq!(reply.verdict, Verdict::ToHost);
    let counts = site.counts(&key);
    assert!(
        counts
            .iter()
            .all(|(_, active, inactive)| active + inactive == 0)
    );
}
