//! Services by firewall mark, what is bypassed, and what settings change about strangers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CLIENTS, SERVERS, Site, addr, endpoint, service, tcp, udp};
use lvs_core::{
    DestinationSpec, DropReason, Family, ForwardMethod, Protocol, ServiceKey, ServiceSpec,
};
use lvs_director::{MarkRule, Match, RuleError, Setting, Verdict};
use lvs_packet::{Kind, TcpFlags};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const MARK: ServiceKey = ServiceKey::FwMark {
    family: Family::V4,
    mark: 7,
};

/// What goes to 10.5.0.0/16 carries mark 7, which has this server.
fn site(server: &str, method: ForwardMethod) -> Site {
    let site = Site::new();
    site.director
        .add_service(&ServiceSpec::new(MARK, "rr"))
        .unwrap();
    let spec = DestinationSpec::new(endpoint(server), method);
    site.director.add_destination(&MARK, &spec).unwrap();
    let rule = MarkRule {
        destination: Match::parse(["10.5.0.0/16"]).unwrap(),
        ..MarkRule::new(7)
    };
    site.director.set_marks(&[rule]).unwrap();
    site
}

#[test]
fn a_mark_takes_all_ports_of_all_its_addresses() {
    let mut site = site("10.2.0.1:0", ForwardMethod::Masquerade);
    let out = site.tcp("10.1.0.1:4000", "10.5.0.9:8080", SYN);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(out.flow(), "10.1.0.1:4000 > 10.2.0.1:8080");
    let out = site.tcp("10.2.0.1:8080", "10.1.0.1:4000", SYN | ACK);
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    assert_eq!(out.flow(), "10.5.0.9:8080 > 10.1.0.1:4000");
    // Who is not marked is not asked for.
    let out = site.tcp("10.1.0.1:4000", "10.6.0.9:8080", SYN);
    assert_eq!(out.verdict, Verdict::Pass);
}

#[test]
fn connections_outlive_the_rule_of_their_mark() {
    let mut site = site("10.2.0.1:80", ForwardMethod::Masquerade);
    let flow = ("10.1.0.1:4000", "10.5.0.9:8080");
    site.tcp(flow.0, flow.1, SYN);
    site.director.set_marks(&[]).unwrap();
    assert_eq!(site.director.marks(), []);
    let out = site.tcp(flow.0, flow.1, ACK);
    assert_eq!(out.flow(), "10.1.0.1:4000 > 10.2.0.1:80");
    assert_eq!(site.tcp("10.1.0.2:1", flow.1, SYN).verdict, Verdict::Pass);
}

#[test]
fn what_belongs_to_no_connection_is_answered_unless_the_host_has_the_address() {
    let mut site = site("10.2.0.1:80", ForwardMethod::Masquerade);
    let out = site.tcp("10.1.0.1:4000", "10.5.0.9:80", ACK);
    assert_eq!(out.verdict, Verdict::Answer(None));
    assert!(out.packet().tcp_flags.contains(TcpFlags::RST));
    site.routes.local = vec![addr("10.5.0.9")];
    let out = site.tcp("10.1.0.1:4000", "10.5.0.9:80", ACK);
    assert_eq!(out.verdict, Verdict::ToHost);
}

#[test]
fn a_rule_for_the_hosts_addresses_leaves_others_alone() {
    let mut site = site("10.2.0.1:80", ForwardMethod::Masquerade);
    let mut rules = site.director.marks();
    rules.iter_mut().for_each(|rule| rule.local = true);
    site.director.set_marks(&rules).unwrap();
    site.routes.local = vec![addr("10.5.0.9")];
    let to = |site: &mut Site, vip| site.tcp("10.1.0.1:4000", vip, SYN).verdict;
    assert_eq!(to(&mut site, "10.5.0.9:80"), Verdict::Forward(SERVERS));
    assert_eq!(to(&mut site, "10.5.0.8:80"), Verdict::Pass);
}

#[test]
fn marks_that_cannot_be_change_nothing() {
    let site = site("10.2.0.1:80", ForwardMethod::Masquerade);
    let torn = MarkRule {
        source: Match::parse(["fd00::/8"]).unwrap(),
        destination: Match::parse(["10.5.0.0/16"]).unwrap(),
        ..MarkRule::new(9)
    };
    let before = site.director.marks();
    let refused = site.director.set_marks(&[MarkRule::new(1), torn]);
    assert_eq!(refused, Err(RuleError::MixedMark(9)));
    assert_eq!(site.director.marks(), before);
}

/// As the kernel was recorded to: the connection has no destination and counts with nobody, and
/// goes on when there is one.
#[test]
fn what_has_no_server_goes_to_where_it_was_sent() {
    let mut site = site("10.2.0.1:0", ForwardMethod::DirectRoute);
    let rule = MarkRule {
        destination: Match::parse(["10.2.0.7"]).unwrap(),
        ..MarkRule::new(7)
    };
    site.director.set_marks(&[rule]).unwrap();
    site.director
        .delete_destination(&MARK, endpoint("10.2.0.1:0"))
        .unwrap();
    let flow = ("10.1.0.1:4000", "10.2.0.7:80");
    let out = site.tcp(flow.0, flow.1, SYN);
    assert_eq!(out.packet().kind, Kind::IcmpError);
    let bypass = Setting::CacheBypass;
    site.director.settings().set(bypass, 1).unwrap();
    let out = site.tcp(flow.0, flow.1, SYN);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(
        (out.flow().as_str(), out.packet().ttl),
        ("10.1.0.1:4000 > 10.2.0.7:80", 63)
    );
    assert_eq!(site.tcp(flow.1, flow.0, SYN | ACK).verdict, Verdict::Pass);
    let spec = DestinationSpec::new(endpoint("10.2.0.2:0"), ForwardMethod::DirectRoute);
    site.director.add_destination(&MARK, &spec).unwrap();
    let out = site.tcp(flow.0, flow.1, ACK);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    let mut rows = Vec::new();
    site.director.connections(site.now, |found| {
        rows.push((found.state_name(), found.destination.to_string()));
    });
    assert_eq!(rows, [("ESTABLISHED", "0.0.0.0:0".to_owned())]);
    assert_eq!(site.director.totals().conns, 0);
    site.wait(901);
    assert!(site.director.table().is_empty());
    assert_eq!(site.counts(&MARK), [("10.2.0.2:0".to_owned(), 0, 0)]);
}

#[test]
fn an_icmp_error_may_begin_a_connection() {
    let mut site = Site::with(
        Protocol::Udp,
        "10.0.0.1:53",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:5353"],
    );
    site.routes.local = vec![addr("10.0.0.1")];
    // The client could not take what the service is said to have sent.
    let mut reply = udp("10.0.0.1:53", "10.1.0.1:4000", b"answer");
    let length = reply.len();
    reply.resize(length + 128, 0);
    let mut buffer = vec![0; 64];
    buffer.extend_from_slice(&reply);
    let offload = lvs_packet::Offload::default();
    let mut frame = lvs_packet::Frame::new(&mut buffer, 64, length, offload);
    let packet = lvs_packet::parse(&frame).unwrap();
    let problem = lvs_packet::answer::IcmpProblem::PortUnreachable;
    lvs_packet::answer::icmp_error(&mut frame, &packet, problem, addr("10.1.0.1")).unwrap();
    let error = frame.bytes().to_vec();

    assert_eq!(site.send(&error).verdict, Verdict::Pass);
    let setting = Setting::ScheduleIcmp;
    site.director.settings().set(setting, 1).unwrap();
    let out = site.send(&error);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(out.packet().flow.dst.addr, addr("10.2.0.1"));
    let key = service(Protocol::Udp, "10.0.0.1:53");
    let mut row = Vec::new();
    site.director.connections(site.now, |found| {
        row.push((found.client.to_string(), found.expires));
    });
    assert_eq!(row, [("10.1.0.1:4000".to_owned(), 3)]);
    assert_eq!(site.counts(&key), [("10.2.0.1:5353".to_owned(), 0, 1)]);
}

#[test]
fn a_server_is_told_of_what_belongs_to_no_connection() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:80",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:8080"],
    );
    let stray =
        |site: &mut Site, from, flags| site.send(&tcp(from, "10.1.0.9:4000", flags, b"")).verdict;
    assert_eq!(stray(&mut site, "10.2.0.1:8080", ACK), Verdict::ToHost);
    let setting = Setting::NatIcmpSend;
    site.director.settings().set(setting, 1).unwrap();
    let told = Verdict::Answer(Some(DropReason::UnknownReply));
    assert_eq!(stray(&mut site, "10.2.0.1:8080", ACK), told);
    assert_eq!(
        stray(&mut site, "10.2.0.1:8080", TcpFlags::RST),
        Verdict::ToHost
    );
    assert_eq!(stray(&mut site, "10.2.0.1:8081", ACK), Verdict::Pass);
    assert_eq!(site.dropped(DropReason::UnknownReply), 1);
}

/// Templates without an assured client, half-open connections, and of the silent one in so many.
#[test]
fn connections_that_are_not_worth_it_end_early() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:80",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:80"],
    );
    for n in 0..200 {
        site.tcp(&format!("10.1.0.{n}:4000"), "10.0.0.1:80", SYN);
    }
    for n in 0..10 {
        let client = format!("10.1.0.{n}:4000");
        site.tcp("10.2.0.1:80", &client, SYN | ACK);
        site.tcp(&client, "10.0.0.1:80", ACK);
    }
    let defended = |site: &mut Site, free| {
        for _ in 0..40 {
            site.director.defend(free, site.now);
        }
        site.wait(1);
        site.director.table().len()
    };
    assert_eq!(defended(&mut site, 0), 200);
    let setting = Setting::DropEntry;
    site.director.settings().set(setting, 1).unwrap();
    assert_eq!(defended(&mut site, 5000), 200);
    assert_eq!(defended(&mut site, 5), 10);
    assert_eq!(site.director.settings().get(setting), 2);
    assert_eq!(defended(&mut site, 5000), 10);
    assert_eq!(site.director.settings().get(setting), 1);
    let key = service(Protocol::Tcp, "10.0.0.1:80");
    assert_eq!(site.counts(&key), [("10.2.0.1:80".to_owned(), 10, 0)]);
}
