//! What becomes of connections when their destination is removed, fails, or gets weight 0: each of the
//! operator's choices, on the very next packet.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{CLIENTS, SERVERS, Site, endpoint, service, tcp};
use lvs_core::{
    DestinationSpec, DropReason, ForwardMethod, Health, LocalAddresses, OnRemoval, Persistence,
    Protocol, ServiceKey, ServiceSpec,
};
use lvs_director::{Rule, RuleError, Verdict};
use lvs_packet::{Frame, Offload, TcpFlags, checksum, parse};

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const VIP: &str = "10.0.0.1:80";
const CLIENT: &str = "10.1.0.5:40000";
const LEFT: Verdict = Verdict::Answer(Some(DropReason::DestinationLeft));

/// How a destination leaves.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Deleted,
    Quiesced,
    Failed,
}

const WAYS: [Leave; 3] = [Leave::Deleted, Leave::Quiesced, Leave::Failed];

/// A site with a connection to 10.2.0.1, which then leaves; 10.2.0.2 takes its place.
fn left(protocol: Protocol, policy: OnRemoval, leave: Leave) -> (Site, ServiceKey) {
    let mut site = Site::new();
    let key = service(protocol, VIP);
    let spec = ServiceSpec {
        on_removal: policy,
        ..ServiceSpec::new(key, "rr")
    };
    site.director.add_service(&spec).unwrap();
    let first = DestinationSpec::new(endpoint("10.2.0.1:80"), ForwardMethod::Masquerade);
    let second = DestinationSpec::new(endpoint("10.2.0.2:80"), ForwardMethod::Masquerade);
    site.director.add_destination(&key, &first).unwrap();
    site.wait(1);
    if protocol == Protocol::Tcp {
        site.tcp(CLIENT, VIP, SYN);
        site.tcp("10.2.0.1:80", CLIENT, SYN | ACK);
        site.tcp(CLIENT, VIP, ACK);
    } else {
        site.udp(CLIENT, VIP, b"");
    }
    site.director.add_destination(&key, &second).unwrap();
    match leave {
        Leave::Deleted => site
            .director
            .delete_destination(&key, first.endpoint)
            .unwrap(),
        Leave::Quiesced => {
            let quiesced = DestinationSpec { weight: 0, ..first };
            site.director.edit_destination(&key, &quiesced).unwrap();
        }
        Leave::Failed => fail(&site, &key, Health::Failed),
    }
    (site, key)
}

/// Says what became of 10.2.0.1.
fn fail(site: &Site, key: &ServiceKey, health: Health) {
    let failed = site
        .director
        .set_health(key, endpoint("10.2.0.1:80"), health);
    failed.unwrap();
}

fn served_by(site: &mut Site, bytes: &[u8]) -> String {
    let out = site.send(bytes);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    out.packet().flow.dst.to_string()
}

fn data() -> Vec<u8> {
    tcp(CLIENT, VIP, ACK, b"more")
}

#[test]
fn drain_is_what_ipvs_does() {
    for leave in [Leave::Quiesced, Leave::Failed] {
        let (mut site, _) = left(Protocol::Tcp, OnRemoval::Drain, leave);
        assert_eq!(served_by(&mut site, &data()), "10.2.0.1:80");
    }
    let (mut site, _) = left(Protocol::Tcp, OnRemoval::Drain, Leave::Deleted);
    assert_eq!(
        site.send(&data()).verdict,
        Verdict::Drop(DropReason::DestinationGone)
    );
}

#[test]
fn a_drain_with_a_deadline_serves_until_then_and_resets_after() {
    for leave in WAYS {
        let (mut site, _) = left(Protocol::Tcp, OnRemoval::DrainFor(30), leave);
        site.wait(29);
        assert_eq!(served_by(&mut site, &data()), "10.2.0.1:80");
        let reply = site.send(&tcp("10.2.0.1:80", CLIENT, ACK, b"data"));
        assert_eq!(reply.verdict, Verdict::Forward(CLIENTS), "{leave:?}");
        site.wait(2);
        let out = site.send(&data());
        assert_eq!(out.verdict, LEFT);
        assert_eq!(out.flow(), format!("{VIP} > {CLIENT}"));
        assert!(out.packet().tcp_flags.contains(TcpFlags::RST));
    }
}

#[test]
fn a_reset_tells_whoever_sends() {
    for leave in WAYS {
        let (mut site, key) = left(Protocol::Tcp, OnRemoval::Reset, leave);
        let to_client = site.send(&data());
        assert_eq!(to_client.verdict, LEFT);
        assert!(to_client.packet().tcp_flags.contains(TcpFlags::RST));
        let to_server = site.send(&tcp("10.2.0.1:80", CLIENT, ACK, b"data"));
        assert_eq!(to_server.verdict, LEFT);
        assert_eq!(to_server.flow(), format!("{CLIENT} > 10.2.0.1:80"));
        assert!(to_server.packet().tcp_flags.contains(TcpFlags::RST));
        // It is closed, and soon gone. A new connection is another server's.
        site.wait(12);
        assert!(
            site.counts(&key)
                .iter()
                .all(|(_, active, inactive)| active + inactive == 0)
        );
        assert_eq!(
            served_by(&mut site, &tcp(CLIENT, VIP, SYN, b"")),
            "10.2.0.2:80"
        );
    }
}

/// Both sides hear of the end at once, with the sequence numbers that each waits for.
#[test]
fn a_reset_goes_both_ways_whatever_the_method() {
    const SERVER: &str = "10.2.0.1:80";
    let methods = [
        (ForwardMethod::Masquerade, format!("{CLIENT} > {SERVER}")),
        (ForwardMethod::FullNat, format!("10.2.0.250:* > {SERVER}")),
        (ForwardMethod::DirectRoute, format!("{CLIENT} > {VIP}")),
        (ForwardMethod::Tunnel, format!("{CLIENT} > {VIP}")),
    ];
    for (method, expected) in methods {
        let mut site = Site::new();
        let key = service(Protocol::Tcp, VIP);
        let local = LocalAddresses::new(&["10.2.0.250".parse().unwrap()]).unwrap();
        let spec = ServiceSpec {
            on_removal: OnRemoval::Reset,
            local,
            ..ServiceSpec::new(key, "rr")
        };
        site.director.add_service(&spec).unwrap();
        let server = DestinationSpec::new(endpoint(SERVER), method);
        site.director.add_destination(&key, &server).unwrap();
        let syn = site.tcp(CLIENT, VIP, SYN);
        let seen_as = syn.packet().flow.src.to_string();
        if method.rewrites_replies() {
            site.tcp(SERVER, &seen_as, SYN | ACK);
        }
        site.tcp(CLIENT, VIP, ACK);
        site.director
            .delete_destination(&key, server.endpoint)
            .unwrap();

        let sent = site.through(&data());
        let [to_client, to_server] = &sent[..] else {
            panic!("{method:?}: {} frames", sent.len());
        };
        assert_eq!(to_client.verdict, LEFT);
        assert_eq!(to_client.flow(), format!("{VIP} > {CLIENT}"));
        assert_eq!(to_server.verdict, Verdict::Forward(SERVERS));
        let mut inner = to_server.bytes.clone();
        if method == ForwardMethod::Tunnel {
            // Behind the Ethernet header, an IPv4 one.
            inner.drain(14..34);
        }
        let length = inner.len();
        let frame = Frame::new(&mut inner, 0, length, Offload::default());
        let packet = parse(&frame).unwrap();
        let expected = expected.replace("10.2.0.250:*", &seen_as);
        assert_eq!(
            format!("{} > {}", packet.flow.src, packet.flow.dst),
            expected
        );
        assert!(packet.tcp_flags.contains(TcpFlags::RST | ACK));
        assert_eq!(checksum::verify(&frame, &packet), Some(true));
        let numbers = |bytes: &[u8]| bytes[14 + 20 + 4..14 + 20 + 12].to_vec();
        assert_eq!(numbers(frame.bytes()), numbers(&data()), "{method:?}");

        if method.rewrites_replies() {
            let sent = site.through(&tcp(SERVER, &seen_as, ACK, b"late"));
            let flows: Vec<String> = sent.iter().map(common::Out::flow).collect();
            let back = [format!("{seen_as} > {SERVER}"), format!("{VIP} > {CLIENT}")];
            assert_eq!(flows, back, "{method:?}");
        }
        // A reset is not answered by another.
        assert!(
            site.through(&tcp(CLIENT, VIP, TcpFlags::RST, b""))
                .is_empty()
        );
    }
}

#[test]
fn udp_is_reset_by_an_icmp_error() {
    for leave in WAYS {
        let (mut site, _) = left(Protocol::Udp, OnRemoval::Reset, leave);
        let out = site.udp(CLIENT, VIP, b"more");
        assert_eq!(out.verdict, LEFT);
        assert_eq!(out.packet().flow.dst.addr, endpoint(CLIENT).addr);
    }
}

#[test]
fn what_can_be_rescheduled_is_with_the_packet_that_finds_out() {
    for leave in WAYS {
        let (mut site, _) = left(Protocol::Udp, OnRemoval::Reschedule, leave);
        assert_eq!(
            served_by(&mut site, &common::udp(CLIENT, VIP, b"more")),
            "10.2.0.2:80"
        );
        let (mut site, _) = left(Protocol::Tcp, OnRemoval::Reschedule, leave);
        assert_eq!(
            served_by(&mut site, &tcp(CLIENT, VIP, SYN, b"")),
            "10.2.0.2:80"
        );
        let (mut site, _) = left(Protocol::Tcp, OnRemoval::Reschedule, leave);
        assert_eq!(site.send(&data()).verdict, LEFT);
    }
}

/// A client that persistence keeps with its server goes to another one too.
#[test]
fn persistence_does_not_hold_a_client_that_is_rescheduled() {
    let (mut site, key) = left(Protocol::Udp, OnRemoval::Reschedule, Leave::Quiesced);
    let persistent = ServiceSpec {
        on_removal: OnRemoval::Reschedule,
        persistence: Some(Persistence {
            timeout: 300,
            netmask: u32::MAX,
        }),
        ..ServiceSpec::new(key, "rr")
    };
    site.director.edit_service(&persistent).unwrap();
    let third = DestinationSpec::new(endpoint("10.2.0.3:80"), ForwardMethod::Masquerade);
    let other = "10.1.0.9:40000";
    let before = served_by(&mut site, &common::udp(other, VIP, b""));
    assert_eq!(before, "10.2.0.2:80");
    site.director.add_destination(&key, &third).unwrap();
    let quiesced = DestinationSpec {
        weight: 0,
        ..DestinationSpec::new(endpoint("10.2.0.2:80"), ForwardMethod::Masquerade)
    };
    site.director.edit_destination(&key, &quiesced).unwrap();
    assert_eq!(
        served_by(&mut site, &common::udp(other, VIP, b"")),
        "10.2.0.3:80"
    );
}

/// A destination's own word counts more than its service's, and a weight above 0 takes it back.
#[test]
fn a_destination_has_the_last_word_and_may_come_back() {
    let (mut site, key) = left(Protocol::Tcp, OnRemoval::Drain, Leave::Quiesced);
    let mut spec = DestinationSpec {
        weight: 0,
        on_removal: Some(OnRemoval::Reset),
        ..DestinationSpec::new(endpoint("10.2.0.1:80"), ForwardMethod::Masquerade)
    };
    site.director.edit_destination(&key, &spec).unwrap();
    spec.weight = 1;
    site.director.edit_destination(&key, &spec).unwrap();
    assert_eq!(served_by(&mut site, &data()), "10.2.0.1:80");
    spec.weight = 0;
    site.director.edit_destination(&key, &spec).unwrap();
    assert_eq!(site.send(&data()).verdict, LEFT);
}

/// Who gets new connections from these ports.
fn newcomers(site: &mut Site, ports: core::ops::Range<u16>) -> Vec<String> {
    let syn = |port| tcp(&format!("10.1.0.7:{port}"), VIP, SYN, b"");
    ports.map(|port| served_by(site, &syn(port))).collect()
}

/// A failed destination is passed over, whatever its weight and whatever edits and replacements say of
/// it, until it is said to be up; then it has its weight again, and its connections go on.
#[test]
fn a_failed_destination_stays_failed_until_it_is_up() {
    let (mut site, key) = left(Protocol::Tcp, OnRemoval::Reset, Leave::Failed);
    let only_second = vec!["10.2.0.2:80"; 4];
    assert_eq!(newcomers(&mut site, 1000..1004), only_second);
    let first = DestinationSpec {
        weight: 7,
        ..DestinationSpec::new(endpoint("10.2.0.1:80"), ForwardMethod::Masquerade)
    };
    let second = DestinationSpec::new(endpoint("10.2.0.2:80"), ForwardMethod::Masquerade);
    site.director.edit_destination(&key, &first).unwrap();
    let rules = [Rule {
        service: ServiceSpec {
            on_removal: OnRemoval::Reset,
            ..ServiceSpec::new(key, "wrr")
        },
        destinations: vec![first, second],
    }];
    site.director.replace(&rules).unwrap();
    assert_eq!(newcomers(&mut site, 2000..2004), only_second);
    let status = site.director.service(&key).unwrap();
    let shown = status
        .destinations
        .iter()
        .map(|found| (found.spec.weight, found.health));
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown, [(1, Health::Up), (7, Health::Failed)]);

    fail(&site, &key, Health::Up);
    assert_eq!(served_by(&mut site, &data()), "10.2.0.1:80");
    assert!(newcomers(&mut site, 3000..3008).contains(&"10.2.0.1:80".to_owned()));
    fail(&site, &key, Health::Failed);
    assert_eq!(site.send(&data()).verdict, LEFT);
    // What is added is up.
    site.director
        .delete_destination(&key, first.endpoint)
        .unwrap();
    site.director.add_destination(&key, &first).unwrap();
    assert!(newcomers(&mut site, 4000..4008).contains(&"10.2.0.1:80".to_owned()));
}

/// Persistence sends no client to a failed destination, also where quiesced ones keep theirs.
#[test]
fn persistence_does_not_hold_a_client_to_a_failed_destination() {
    for (leave, next) in [
        (Leave::Quiesced, "10.2.0.1:80"),
        (Leave::Failed, "10.2.0.2:80"),
    ] {
        let mut site = Site::new();
        let key = service(Protocol::Tcp, VIP);
        let spec = ServiceSpec {
            persistence: Some(Persistence {
                timeout: 300,
                netmask: u32::MAX,
            }),
            ..ServiceSpec::new(key, "rr")
        };
        site.director.add_service(&spec).unwrap();
        let [first, second] = ["10.2.0.1:80", "10.2.0.2:80"]
            .map(|server| DestinationSpec::new(endpoint(server), ForwardMethod::Masquerade));
        site.director.add_destination(&key, &first).unwrap();
        site.wait(1);
        let syn = |port| tcp(&format!("10.1.0.5:{port}"), VIP, SYN, b"");
        assert_eq!(served_by(&mut site, &syn(40_000)), "10.2.0.1:80");
        site.director.add_destination(&key, &second).unwrap();
        if matches!(leave, Leave::Failed) {
            fail(&site, &key, Health::Failed);
        } else {
            let quiesced = DestinationSpec { weight: 0, ..first };
            site.director.edit_destination(&key, &quiesced).unwrap();
        }
        assert_eq!(served_by(&mut site, &syn(40_001)), next, "{leave:?}");
    }
}

#[test]
fn only_what_there_is_can_fail() {
    let site = Site::new();
    let key = service(Protocol::Tcp, VIP);
    let server = endpoint("10.2.0.1:80");
    let failed = || site.director.set_health(&key, server, Health::Failed);
    assert_eq!(failed(), Err(RuleError::NoSuchService(key)));
    site.director
        .add_service(&ServiceSpec::new(key, "rr"))
        .unwrap();
    assert_eq!(failed(), Err(RuleError::NoSuchDestination(key, server)));
}
