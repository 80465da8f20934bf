//! FULLNAT: both sides translated, the client told, ports given out once and back, by IPv4 and IPv6;
//! and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{
    CLIENTS, HEADROOM, Out, SERVERS, Site, addr, checksums_are_right, endpoint, service, tcp,
};
use lvs_core::{
    DestinationSpec, DropReason, ForwardMethod, LocalAddresses, Protocol, ServiceKey, ServiceSpec,
};
use lvs_director::{Operation, RuleError, Verdict};
use lvs_packet::{Frame, TcpFlags, build, parse, parse_quoted, toa, uoa};
use std::collections::HashSet;

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;

fn locals(addresses: &[&str]) -> LocalAddresses {
    let list: Vec<_> = addresses.iter().map(|text| addr(text)).collect();
    LocalAddresses::new(&list).unwrap()
}

fn site(
    protocol: Protocol,
    vip: &str,
    local: &[&str],
    server: &str,
    tell: bool,
) -> (Site, ServiceKey) {
    let site = Site::new();
    let key = service(protocol, vip);
    let spec = ServiceSpec {
        local: locals(local),
        tell_client: tell,
        ..ServiceSpec::new(key, "rr")
    };
    site.director.add_service(&spec).unwrap();
    let server = DestinationSpec::new(endpoint(server), ForwardMethod::FullNat);
    site.director.add_destination(&key, &server).unwrap();
    (site, key)
}

fn with<T>(out: &Out, look: impl FnOnce(&Frame<'_>) -> T) -> T {
    let mut bytes = out.bytes.clone();
    let length = bytes.len();
    look(&Frame::new(&mut bytes, 0, length, out.offload))
}

fn told(out: &Out) -> Option<lvs_core::Endpoint> {
    with(out, |frame| {
        let packet = parse(frame).unwrap();
        toa::read(frame, &packet).or_else(|| uoa::read(frame, &packet))
    })
}

#[test]
fn a_connection_is_translated_on_both_sides() {
    for (vip, local, server, client) in [
        (
            "10.0.0.1:80",
            "10.2.0.250",
            "10.2.0.1:8080",
            "10.1.0.5:40000",
        ),
        (
            "[fd00::1]:80",
            "fd02::fa",
            "[fd02::1]:8080",
            "[fd01::5]:40000",
        ),
    ] {
        let (mut site, _) = site(Protocol::Tcp, vip, &[local], server, false);
        let out = site.tcp(client, vip, SYN);
        assert_eq!(out.verdict, Verdict::Forward(SERVERS));
        let seen = out.packet().flow;
        assert_eq!((seen.src.addr, seen.dst), (addr(local), endpoint(server)));
        assert!(checksums_are_right(&out.bytes));
        let back = site.tcp(server, &seen.src.to_string(), SYN | ACK);
        assert_eq!(back.verdict, Verdict::Forward(CLIENTS));
        assert_eq!(back.flow(), format!("{vip} > {client}"));
        assert!(checksums_are_right(&back.bytes));
        // The established connection, by the straight way.
        site.tcp(client, vip, ACK);
        let data = site.send(&tcp(client, vip, ACK, b"GET /"));
        assert_eq!(data.packet().flow, seen);
        assert!(checksums_are_right(&data.bytes));
        let answer = site.send(&tcp(server, &seen.src.to_string(), ACK, b"200 OK"));
        assert_eq!(answer.flow(), format!("{vip} > {client}"));
        assert!(checksums_are_right(&answer.bytes));
    }
}

#[test]
fn a_server_is_told_its_client_until_it_has_answered() {
    let (vip, client) = ("10.0.0.1:80", "10.1.0.5:40000");
    let (mut site, _) = site(Protocol::Tcp, vip, &["10.2.0.250"], "10.2.0.1:80", true);
    let syn = site.tcp(client, vip, SYN);
    assert_eq!(told(&syn), None);
    let local = syn.packet().flow.src.to_string();
    // The server announces 1460 bytes; the client hears of 8 less.
    let mut buffer = vec![0; 128];
    let ip = build::Ip::new(addr("10.2.0.1"), syn.packet().flow.src.addr);
    let header = build::Tcp {
        flags: SYN | ACK,
        options: &[2, 4, 5, 180],
        ..build::Tcp::syn(80, syn.packet().flow.src.port)
    };
    let length = build::tcp(&mut buffer, &ip, &header, b"").unwrap();
    let answer = site.send(&buffer[..length]);
    assert!(answer.bytes.ends_with(&[2, 4, 5, 172]));
    assert!(checksums_are_right(&answer.bytes));
    // The last segment of the handshake, and data while the server has not answered it.
    for payload in [&b""[..], b"GET /", b"GET /"] {
        let out = site.send(&tcp(client, vip, ACK, payload));
        assert_eq!(told(&out), Some(endpoint(client)));
        assert!(checksums_are_right(&out.bytes));
    }
    site.tcp("10.2.0.1:80", &local, ACK);
    let out = site.send(&tcp(client, vip, ACK, b"GET /"));
    assert_eq!(told(&out), None);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(site.dropped(DropReason::ClientUntold), 0);
}

#[test]
fn without_room_the_packet_goes_on_untold_and_is_counted() {
    let (vip, client) = ("10.0.0.1:80", "10.1.0.5:40000");
    let (mut site, _) = site(Protocol::Tcp, vip, &["10.2.0.250"], "10.2.0.1:80", true);
    site.tcp(client, vip, SYN);
    let out = site.send(&tcp(client, vip, ACK, &[7; 1460]));
    assert_eq!((out.verdict, told(&out)), (Verdict::Forward(SERVERS), None));
    assert!(checksums_are_right(&out.bytes));
    assert_eq!(site.dropped(DropReason::ClientUntold), 1);
}

#[test]
fn udp_is_told_by_an_option_of_the_ip_header() {
    let (vip, client) = ("10.0.0.1:53", "10.1.0.5:5000");
    let (mut site, _) = site(Protocol::Udp, vip, &["10.2.0.250"], "10.2.0.1:53", true);
    let out = site.udp(client, vip, b"query");
    assert_eq!(told(&out), Some(endpoint(client)));
    assert!(checksums_are_right(&out.bytes));
    let local = out.packet().flow.src.to_string();
    let back = site.udp("10.2.0.1:53", &local, b"answer");
    assert_eq!(back.flow(), format!("{vip} > {client}"));
    assert_eq!(told(&site.udp(client, vip, b"query")), None);
}

#[test]
fn reply_and_request_of_one_batch_know_each_other() {
    let (vip, client) = ("10.0.0.1:53", "10.1.0.5:5000");
    let (mut site, _) = site(Protocol::Udp, vip, &["10.2.0.250"], "10.2.0.1:53", false);
    let first = site.udp(client, vip, b"query").packet().flow.src;
    let frames = [
        common::udp("10.1.0.6:5000", vip, b"query"),
        common::udp("10.2.0.1:53", &first.to_string(), b"answer"),
        common::udp("10.1.0.6:5000", vip, b"query"),
    ];
    let mut buffers: Vec<Vec<u8>> = frames
        .iter()
        .map(|bytes| [&[0; HEADROOM][..], bytes, &[0; 64]].concat())
        .collect();
    let mut frames: Vec<Frame<'_>> = buffers
        .iter_mut()
        .zip(&frames)
        .map(|(buffer, bytes)| Frame::new(buffer, HEADROOM, bytes.len(), Default::default()))
        .collect();
    let mut verdicts = [Verdict::Pass; 3];
    site.worker
        .process(site.now, &mut site.routes, &mut frames, &mut verdicts);
    assert_eq!(
        verdicts,
        [
            Verdict::Forward(SERVERS),
            Verdict::Forward(CLIENTS),
            Verdict::Forward(SERVERS)
        ]
    );
    let sources: Vec<_> = [0, 2].map(|n| parse(&frames[n]).unwrap().flow.src).into();
    assert_eq!(sources[0], sources[1]);
}

/// Every connection of the pool has a port of its own; one more is refused aloud; ports come back
/// when connections have ended.
#[test]
fn ports_are_given_once_refused_when_used_up_and_given_again() {
    let (vip, server) = ("10.0.0.1:53", "10.2.0.1:53");
    let director = lvs_director::Director::new(&lvs_director::DirectorConfig {
        connections: 1 << 17,
        workers: 1,
    })
    .unwrap();
    let (small, key) = site(Protocol::Udp, vip, &["10.2.0.250"], server, false);
    let mut site = Site {
        worker: director.worker().unwrap(),
        director,
        ..small
    };
    let spec = ServiceSpec {
        local: locals(&["10.2.0.250"]),
        ..ServiceSpec::new(key, "rr")
    };
    site.director.add_service(&spec).unwrap();
    let server = DestinationSpec::new(endpoint(server), ForwardMethod::FullNat);
    site.director.add_destination(&key, &server).unwrap();

    let all = 65_536 - 1024;
    let mut ports = HashSet::new();
    let client = |n: u32| format!("10.1.{}.{}:{}", n >> 8 & 0xff, n & 0xff, 1024 + (n >> 16));
    for n in 0..all {
        let out = site.udp(&client(n), vip, b"");
        assert!(ports.insert(out.packet().flow.src.port), "connection {n}");
    }
    let out = site.udp("10.1.0.1:60000", vip, b"");
    assert_eq!(
        out.verdict,
        Verdict::Answer(Some(DropReason::LocalPortsUsedUp))
    );
    assert_eq!(site.dropped(DropReason::LocalPortsUsedUp), 1);
    assert_eq!(out.packet().flow.dst.addr, addr("10.1.0.1"));
    site.wait(305);
    assert_eq!(
        site.udp("10.1.0.1:60000", vip, b"").verdict,
        Verdict::Forward(SERVERS)
    );
}

#[test]
fn an_error_of_the_servers_side_reaches_the_client_as_its_own() {
    let (vip, client) = ("10.0.0.1:53", "10.1.0.5:5000");
    let (mut site, _) = site(Protocol::Udp, vip, &["10.2.0.250"], "10.2.0.1:53", false);
    let sent = site.udp(client, vip, b"query");
    let mut buffer = vec![0; 256];
    let ip = build::Ip::new(addr("10.2.0.1"), addr("10.2.0.250"));
    let length = build::icmp(&mut buffer, &ip, (3, 3), 0, &sent.bytes[14..]).unwrap();
    let out = site.send(&buffer[..length]);
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    let packet = out.packet();
    assert_eq!(
        (packet.flow.src.addr, packet.flow.dst.addr),
        (addr("10.0.0.1"), addr("10.1.0.5"))
    );
    let quoted = with(&out, |frame| parse_quoted(frame, &packet).unwrap());
    assert_eq!(
        (quoted.flow.src, quoted.flow.dst),
        (endpoint(client), endpoint(vip))
    );
    assert!(checksums_are_right(&out.bytes));
}

const SERVERS_TOO: &str = "is a server's address too; give FULLNAT one of its own";

#[test]
fn rules_that_cannot_be_are_refused_and_change_nothing() {
    let (site, key) = site(
        Protocol::Tcp,
        "10.0.0.1:80",
        &["10.2.0.250"],
        "10.2.0.1:80",
        false,
    );
    let director = &site.director;
    let before = director.services();
    let spec = |local: &[&str]| ServiceSpec {
        local: locals(local),
        ..ServiceSpec::new(key, "rr")
    };
    let wrong = |result: Result<(), RuleError>| result.unwrap_err().to_string();
    for (local, words) in [
        (&["fd02::fa"][..], "other address family"),
        (&["10.2.0.250", "10.2.0.250"], "given twice"),
        (&["224.0.0.1"], "unicast"),
        (&["10.0.0.1"], "is a service's address too"),
    ] {
        let told = wrong(director.edit_service(&spec(local)));
        assert!(told.contains(words), "{told}");
    }
    let told = wrong(director.edit_service(&spec(&[])));
    assert!(told.contains("needs a local address"), "{told}");
    let other = service(Protocol::Tcp, "10.2.0.250:80");
    let told = wrong(director.add_service(&ServiceSpec::new(other, "rr")));
    assert!(told.contains("10.2.0.250:80 listens at a local"), "{told}");
    // Nor may one be a server's, whichever comes first, and whosever it is.
    let told = wrong(director.edit_service(&spec(&["10.2.0.1"])));
    assert!(told.contains("10.2.0.1 of service"), "{told}");
    assert!(told.contains("is a server's address too"), "{told}");
    let server = DestinationSpec::new(endpoint("10.2.0.250:8080"), ForwardMethod::DirectRoute);
    let told = wrong(director.add_destination(&key, &server));
    assert!(
        told.contains("destination 10.2.0.250:8080 of service"),
        "{told}"
    );
    // Also one of a pool that no destination uses yet.
    let idle = service(Protocol::Tcp, "10.0.0.8:80");
    let spec = ServiceSpec {
        local: locals(&["10.2.0.251"]),
        ..ServiceSpec::new(idle, "rr")
    };
    director.add_service(&spec).unwrap();
    let server = DestinationSpec::new(endpoint("10.2.0.251:80"), ForwardMethod::FullNat);
    let told = wrong(director.add_destination(&idle, &server));
    assert!(told.contains("has a local address of fullnat"), "{told}");
    let told = wrong(director.add_service(&ServiceSpec::new(
        service(Protocol::Udp, "10.2.0.251:53"),
        "rr",
    )));
    assert!(told.contains("listens at a local address"), "{told}");
    director.delete_service(&idle).unwrap();
    let new = service(Protocol::Udp, "10.0.0.9:53");
    let server = DestinationSpec::new(endpoint("10.2.0.9:53"), ForwardMethod::Masquerade);
    let rule = |local: &[&str]| {
        let service = ServiceSpec {
            local: locals(local),
            ..ServiceSpec::new(new, "rr")
        };
        [
            Operation::AddService(ServiceSpec::new(new, "rr")),
            Operation::AddDestination(new, server),
            Operation::EditService(service),
        ]
    };
    let (place, told) = director.apply(&rule(&["10.2.0.9"])).unwrap_err();
    assert_eq!(
        (place, told),
        (
            2,
            RuleError::LocalAddress(new, addr("10.2.0.9"), SERVERS_TOO)
        )
    );
    let [add, server, edit] = rule(&["10.2.0.9"]);
    let told = director.apply(&[add, edit, server]).unwrap_err();
    assert_eq!(
        told,
        (2, RuleError::LocalServer(new, endpoint("10.2.0.9:53")))
    );
    assert_eq!(director.services(), before);
}

/// A destination with addresses of its own is spoken to from those.
#[test]
fn a_destination_may_have_its_own_pool() {
    let (mut site, key) = site(
        Protocol::Udp,
        "10.0.0.1:53",
        &["10.2.0.250"],
        "10.2.0.1:53",
        false,
    );
    let own = DestinationSpec {
        local: locals(&["10.2.0.251"]),
        ..DestinationSpec::new(endpoint("10.2.0.2:53"), ForwardMethod::FullNat)
    };
    site.director.add_destination(&key, &own).unwrap();
    let flows: HashSet<String> = (0..4)
        .map(|n| {
            let flow = site
                .udp(&format!("10.1.0.{n}:5000"), "10.0.0.1:53", b"")
                .packet()
                .flow;
            format!("{} > {}", flow.src.addr, flow.dst)
        })
        .collect();
    let expected = ["10.2.0.250 > 10.2.0.1:53", "10.2.0.251 > 10.2.0.2:53"];
    assert_eq!(flows, expected.map(str::to_owned).into());
    assert_eq!(
        site.director.claims().locals,
        [addr("10.2.0.250"), addr("10.2.0.251")]
    );
}

/// A host that speaks from a local address itself hears its servers' answers: what belongs to no
/// connection and could be FULLNAT's has been kept from it, and is handed back.
#[test]
fn a_host_hears_answers_to_an_address_that_it_shares_with_fullnat() {
    let (mut site, _) = site(
        Protocol::Tcp,
        "10.0.0.1:80",
        &["10.2.0.250"],
        "10.2.0.1:80",
        false,
    );
    site.routes.local.push(addr("10.2.0.250"));
    let out = site.tcp("10.1.0.5:40000", "10.0.0.1:80", SYN);
    let ours = out.packet().flow.src.to_string();
    let back = site.tcp("10.2.0.1:80", &ours, SYN | ACK);
    assert_eq!(back.verdict, Verdict::Forward(CLIENTS));
    for (from, to, verdict) in [
        ("10.2.0.1:80", "10.2.0.250:2000", Verdict::ToHost),
        // Never kept from the host: a port below FULLNAT's, somebody who is no server, another port.
        ("10.2.0.1:80", "10.2.0.250:1000", Verdict::Pass),
        ("10.2.0.7:80", "10.2.0.250:2000", Verdict::Pass),
        ("10.2.0.1:22", "10.2.0.250:2000", Verdict::Pass),
    ] {
        let out = site.tcp(from, to, SYN | ACK);
        assert_eq!(out.verdict, verdict, "{from} > {to}");
    }
}
