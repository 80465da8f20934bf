//! Replacing all rules at once: what stands in the old and the new set goes on as if nothing had
//! happened, and a set that cannot be leaves everything as it is.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use common::{SERVERS, Site, endpoint, service};
use lvs_core::{
    Counters, DestinationSpec, ForwardMethod, Health, LocalAddresses, OnRemoval, Protocol,
    ServiceSpec,
};
use lvs_director::{Operation, Rule, RuleError, Verdict};
use lvs_packet::TcpFlags;
use std::collections::HashSet;

const VIP: &str = "10.0.0.1:80";
const OTHER: &str = "10.0.0.2:80";
const THREE: [&str; 3] = ["10.2.0.1:80", "10.2.0.2:80", "10.2.0.3:80"];

fn rule(vip: &str, scheduler: &'static str, servers: &[(&str, u32)]) -> Rule<'static> {
    let destination = |&(server, weight): &(&str, u32)| DestinationSpec {
        weight,
        ..DestinationSpec::new(endpoint(server), ForwardMethod::Masquerade)
    };
    Rule {
        service: ServiceSpec::new(service(Protocol::Tcp, vip), scheduler),
        destinations: servers.iter().map(destination).collect(),
    }
}

fn equal(servers: &[&'static str]) -> Vec<(&'static str, u32)> {
    servers.iter().map(|server| (*server, 1)).collect()
}

fn site() -> Site {
    Site::with(Protocol::Tcp, VIP, "rr", ForwardMethod::Masquerade, &THREE)
}

/// The server of a client's packet.
fn server(site: &mut Site, client: &str, flags: TcpFlags) -> Option<String> {
    let out = site.tcp(client, VIP, flags);
    (out.verdict == Verdict::Forward(SERVERS)).then(|| out.packet().flow.dst.to_string())
}

fn counters(site: &Site) -> (Counters, Vec<Counters>) {
    let status = site.director.service(&service(Protocol::Tcp, VIP)).unwrap();
    let destinations = status.destinations.iter().map(|found| found.counters);
    (status.counters, destinations.collect())
}

#[test]
fn what_did_not_change_goes_on() {
    let mut site = site();
    let first = server(&mut site, "10.1.0.5:4000", TcpFlags::SYN);
    assert_eq!(first.as_deref(), Some(THREE[2]));
    let before = counters(&site);
    assert_eq!(before.0.in_packets, 1);
    let rules = [
        rule(OTHER, "wlc", &equal(&["10.2.0.9:80"])),
        rule(VIP, "rr", &equal(&THREE)),
    ];
    site.director.replace(&rules).unwrap();
    assert_eq!(counters(&site), before, "counters");
    // The cursor of rr stands where it stood.
    let next = server(&mut site, "10.1.0.6:4000", TcpFlags::SYN);
    assert_eq!(next.as_deref(), Some(THREE[1]), "the scheduler's state");
    let again = server(&mut site, "10.1.0.5:4000", TcpFlags::ACK);
    assert_eq!(again, first, "the connection");
    assert_eq!(site.director.services().len(), 2);
}

#[test]
fn a_change_beside_it_is_no_change_of_it() {
    let mut site = site();
    let first = server(&mut site, "10.1.0.5:4000", TcpFlags::SYN);
    let rules = [rule(
        VIP,
        "rr",
        &[(THREE[0], 7), (THREE[1], 1), (THREE[2], 1)],
    )];
    site.director.replace(&rules).unwrap();
    let again = server(&mut site, "10.1.0.5:4000", TcpFlags::ACK);
    assert_eq!(again, first);
    // A server that is gone takes its connections with it, and no others.
    let second = server(&mut site, "10.1.0.6:4000", TcpFlags::SYN);
    assert_eq!(second.as_deref(), Some(THREE[1]));
    let rules = [rule(VIP, "rr", &equal(&[THREE[0], THREE[1]]))];
    site.director.replace(&rules).unwrap();
    assert_eq!(server(&mut site, "10.1.0.5:4000", TcpFlags::ACK), None);
    assert_eq!(server(&mut site, "10.1.0.6:4000", TcpFlags::ACK), second);
}

#[test]
fn a_set_that_cannot_be_changes_nothing() {
    let mut site = site();
    let first = server(&mut site, "10.1.0.5:4000", TcpFlags::SYN);
    let before = (site.director.services(), counters(&site));
    let key = service(Protocol::Tcp, OTHER);
    let twice = rule(OTHER, "rr", &equal(&["10.2.0.9:80", "10.2.0.9:80"]));
    let many: Vec<String> = (1..60).map(|n| format!("10.2.1.{n}:80")).collect();
    let mut many: Vec<(&str, u32)> = many.iter().map(|server| (server.as_str(), 1)).collect();
    many.push(many[50]);
    let many_twice = rule(OTHER, "rr", &many);
    let unknown = rule(OTHER, "best", &[]);
    let heavy = rule(OTHER, "rr", &[("10.2.0.9:80", u32::MAX)]);
    let good = rule(VIP, "wrr", &[(THREE[0], 9)]);
    for (bad, error) in [
        (
            twice,
            RuleError::DestinationExists(key, endpoint("10.2.0.9:80")),
        ),
        (
            many_twice,
            RuleError::DestinationExists(key, endpoint("10.2.1.51:80")),
        ),
        (unknown, RuleError::UnknownScheduler("best".into())),
        (heavy, RuleError::OutOfRange("a weight is 0 to 2147483647")),
        (
            good.clone(),
            RuleError::ServiceExists(service(Protocol::Tcp, VIP)),
        ),
    ] {
        let refused = site.director.replace(&[good.clone(), bad]);
        let refused = refused.unwrap_err();
        assert_eq!(*refused.error, error);
        let named = refused.to_string();
        assert!(named.contains(&refused.service.to_string()), "{named}");
        assert!(named.ends_with(&error.to_string()), "{named}");
        assert_eq!((site.director.services(), counters(&site)), before);
    }
    // One that is there twice, and one that is not.
    for server in [THREE[0], "10.2.0.9:80"] {
        let twice = rule(VIP, "rr", &equal(&[THREE[1], server, THREE[2], server]));
        let refused = site.director.replace(&[twice]).unwrap_err();
        assert_eq!(refused.destination, Some(endpoint(server)));
        assert!(matches!(*refused.error, RuleError::DestinationExists(..)));
        assert_eq!((site.director.services(), counters(&site)), before);
    }
    let again = server(&mut site, "10.1.0.5:4000", TcpFlags::ACK);
    assert_eq!(again, first);
}

/// One after the other and all at once lead to the same choices.
#[test]
fn a_list_of_operations_is_its_operations() {
    let (mut one, mut all) = (site(), site());
    let key = service(Protocol::Tcp, VIP);
    let weigh = |server: &str, weight| DestinationSpec {
        weight,
        ..DestinationSpec::new(endpoint(server), ForwardMethod::Masquerade)
    };
    use lvs_director::Operation::{
        AddDestination, AddService, DeleteDestination, EditDestination, EditService,
    };
    let operations = [
        EditService(ServiceSpec::new(key, "wrr")),
        AddDestination(key, weigh("10.2.0.4:80", 6)),
        AddService(ServiceSpec::new(service(Protocol::Tcp, OTHER), "rr")),
        AddDestination(key, weigh("10.2.0.5:80", 4)),
        EditDestination(key, weigh(THREE[0], 8)),
        AddDestination(key, weigh("10.2.0.6:80", 2)),
        DeleteDestination(key, endpoint(THREE[1])),
        AddDestination(key, weigh(THREE[1], 2)),
    ];
    for operation in &operations {
        one.director.apply(std::slice::from_ref(operation)).unwrap();
    }
    all.director.apply(&operations).unwrap();
    for n in 0..60 {
        let client = format!("10.1.1.{}:4000", n + 1);
        let chosen = server(&mut one, &client, TcpFlags::SYN);
        assert!(chosen.is_some());
        assert_eq!(server(&mut all, &client, TcpFlags::SYN), chosen, "{n}");
    }
}

/// `mh` has room for 4093 destinations: it is the last of thousands of changes that cannot be made.
#[test]
fn a_refusal_at_the_last_change_leaves_no_trace_of_those_before() {
    let mut site = site();
    let first = server(&mut site, "10.1.0.5:4000", TcpFlags::SYN);
    let before = (site.director.services(), counters(&site));
    let key = service(Protocol::Tcp, VIP);
    let heavy = DestinationSpec {
        weight: 9,
        ..DestinationSpec::new(endpoint(THREE[0]), ForwardMethod::Masquerade)
    };
    let many: Vec<String> = (0..4094)
        .map(|n| format!("10.3.{}.{}:80", n / 250, n % 250 + 1))
        .collect();
    let many: Vec<(&str, u32)> = many.iter().map(|server| (server.as_str(), 1)).collect();
    let crowd = rule(OTHER, "mh", &many);
    let mut changes = vec![
        Operation::Zero(None),
        Operation::EditDestination(key, heavy),
        Operation::DeleteDestination(key, endpoint(THREE[1])),
        Operation::EditService(ServiceSpec::new(key, "wrr")),
        Operation::AddService(crowd.service),
    ];
    let other = crowd.service.key;
    let all = crowd.destinations.iter();
    changes.extend(all.map(|spec| Operation::AddDestination(other, *spec)));
    let (place, error) = site.director.apply(&changes).unwrap_err();
    assert_eq!(place, changes.len() - 1);
    assert!(error.to_string().contains("4093"), "{error}");
    let wanted = [rule(VIP, "wrr", &[(THREE[0], 9)]), crowd];
    let refused = site.director.replace(&wanted).unwrap_err();
    assert_eq!(refused.destination, Some(endpoint(many[4093].0)));
    assert_eq!((site.director.services(), counters(&site)), before);
    // The cursor of rr, the weights and the connection are what they were.
    let next = server(&mut site, "10.1.0.6:4000", TcpFlags::SYN);
    assert_eq!(next.as_deref(), Some(THREE[1]));
    let last = server(&mut site, "10.1.0.7:4000", TcpFlags::SYN);
    assert_eq!(last.as_deref(), Some(THREE[0]));
    let around = server(&mut site, "10.1.0.8:4000", TcpFlags::SYN);
    assert_eq!(around, first);
    assert_eq!(server(&mut site, "10.1.0.5:4000", TcpFlags::ACK), first);
    site.director.apply(&changes[1..changes.len() - 1]).unwrap();
}

/// A service loses its local addresses, which its destinations need no more.
#[test]
fn fullnat_gives_way_to_nat() {
    let site = Site::new();
    let local = LocalAddresses::new(&["10.2.0.250".parse().unwrap()]).unwrap();
    let mut by_fullnat = rule(VIP, "rr", &equal(&THREE));
    by_fullnat.service.local = local;
    for spec in &mut by_fullnat.destinations {
        spec.method = ForwardMethod::FullNat;
    }
    let by_nat = rule(VIP, "rr", &equal(&THREE[1..]));
    // One that stays as it was still needs an address.
    let mut half = by_fullnat.clone();
    half.service.local = LocalAddresses::NONE;
    half.destinations[1] = by_nat.destinations[0];
    site.director.replace(&[by_fullnat.clone()]).unwrap();
    let key = service(Protocol::Tcp, VIP);
    let refused = site.director.replace(&[half]).unwrap_err();
    assert!(matches!(*refused.error, RuleError::NoLocalAddress(about, _) if about == key));
    site.director.replace(&[by_nat]).unwrap();
    let methods = |site: &Site| -> Vec<_> {
        let status = site.director.service(&key).unwrap();
        status
            .destinations
            .iter()
            .map(|found| found.spec.method)
            .collect()
    };
    assert_eq!(methods(&site), [ForwardMethod::Masquerade; 2]);
    site.director.replace(&[by_fullnat]).unwrap();
    assert_eq!(methods(&site), [ForwardMethod::FullNat; 3]);
}

/// Weights and thresholds are edited in place; what else hangs on them follows all the same.
#[test]
fn weights_of_a_whole_set() {
    let mut site = site();
    let key = service(Protocol::Tcp, VIP);
    let first = server(&mut site, "10.1.0.5:4000", TcpFlags::SYN);
    assert_eq!(first.as_deref(), Some(THREE[2]));
    site.director
        .set_health(&key, endpoint(THREE[1]), Health::Failed)
        .unwrap();
    let mut heavier = rule(VIP, "rr", &[(THREE[0], 3), (THREE[1], 5), (THREE[2], 7)]);
    heavier.destinations[0].thresholds.upper = 9;
    site.director
        .replace(std::slice::from_ref(&heavier))
        .unwrap();
    let specs = |site: &Site| -> Vec<DestinationSpec> {
        let status = site.director.service(&key).unwrap();
        status
            .destinations
            .iter()
            .rev()
            .map(|found| found.spec)
            .collect()
    };
    assert_eq!(specs(&site), heavier.destinations);
    // The failed one has its new weight once it is up.
    let chosen = |site: &mut Site, net: u8| -> HashSet<String> {
        let clients = (0..9).map(|n| format!("10.1.{net}.{n}:4000"));
        clients
            .filter_map(|client| server(site, &client, TcpFlags::SYN))
            .collect()
    };
    let two = HashSet::from([THREE[0], THREE[2]].map(str::to_owned));
    assert_eq!(chosen(&mut site, 1), two);
    site.director
        .set_health(&key, endpoint(THREE[1]), Health::Up)
        .unwrap();
    assert_eq!(chosen(&mut site, 2).len(), 3);
    // Weight 0 where connections are reset: that of the first client, at its next packet.
    for spec in &mut heavier.destinations {
        spec.weight = 0;
        spec.on_removal = Some(OnRemoval::Reset);
    }
    site.director
        .replace(std::slice::from_ref(&heavier))
        .unwrap();
    let status = site.director.service(&key).unwrap();
    assert!(
        status
            .destinations
            .iter()
            .all(|found| found.spec.weight == 0)
    );
    assert_eq!(server(&mut site, "10.1.0.5:4000", TcpFlags::ACK), None);
    for spec in &mut heavier.destinations {
        spec.weight = 1;
    }
    site.director.replace(&[heavier]).unwrap();
    let again = server(&mut site, "10.1.9.9:4000", TcpFlags::SYN).unwrap();
    let out = site.tcp("10.1.9.9:4000", VIP, TcpFlags::ACK);
    assert_eq!(out.packet().flow.dst.to_string(), again);
}
