//! What the control plane's requests do to a director.

use super::*;
use lvs_api::{Destination, Service, key};
use lvs_director::DirectorConfig;

fn rules() -> Rules {
    let config = DirectorConfig {
        connections: 1024,
        workers: 1,
    };
    Rules::new(Director::new(&config).unwrap(), || {})
}

fn add(word: &str, engine: Option<&str>) -> Operation {
    let mut config = Service::new(key::parse(word).unwrap(), "rr");
    config.engine = engine.map(str::to_owned);
    Operation::AddService { config }
}

/// The first operation that is wrong is the one that is reported, whoever finds it wrong.
#[test]
fn refusals_come_in_the_order_of_the_operations() {
    let rules = rules();
    let refused = |operations: &[Operation]| {
        let (place, refusal) = rules.transaction(operations).unwrap_err();
        assert!(rules.services().is_empty());
        (place, refusal.errno)
    };
    let service = || add("udp://192.0.2.1:53", None);
    let unknown = || add("udp://192.0.2.2:53", Some("bogus"));
    let delete = Operation::DeleteService {
        service: key::parse("udp://192.0.2.9:53").unwrap(),
    };
    assert_eq!(refused(&[service(), unknown()]), (1, Errno::NotFound));
    assert_eq!(refused(&[delete, unknown()]), (0, Errno::NoService));
    assert_eq!(
        refused(&[service(), service(), unknown()]),
        (1, Errno::Exists)
    );
    // A service of this transaction counts: it exists before its engine is looked for.
    let again = add("udp://192.0.2.1:53", Some("bogus"));
    assert_eq!(refused(&[service(), again]), (1, Errno::Exists));
    let setting = Operation::SetSysctl {
        name: "nosuch".to_owned(),
        value: 1,
    };
    assert_eq!(refused(&[service(), setting.clone()]).0, 1);
    assert_eq!(refused(&[service(), service(), setting]).0, 1);
}

#[test]
fn broadcast_addresses_of_the_host_are_no_servers() {
    let rules = rules().with_broadcasts(|| vec!["10.9.0.255".parse().unwrap()]);
    let service = key::parse("udp://192.0.2.1:53").unwrap();
    rules.apply(&add("udp://192.0.2.1:53", None)).unwrap();
    let server = |address: &str| {
        let config = Destination::new(address.parse().unwrap(), lvs_api::Method::Nat);
        rules.apply(&Operation::AddDestination { service, config })
    };
    assert_eq!(server("10.9.0.255:53").unwrap_err().errno, Errno::Invalid);
    server("10.9.1.255:53").unwrap();
}

/// What a health check would post, and what it then reads.
#[test]
fn a_destination_fails_and_comes_back_by_a_transaction() {
    let rules = rules();
    let post = |json: &str| {
        let transaction: lvs_api::Transaction = serde_json::from_str(json).unwrap();
        rules.transaction(&transaction.operations)
    };
    let add = r#"{"operations": [
        {"op": "add_service", "config": {"service": "tcp://192.0.2.10:80", "scheduler": "rr"}},
        {"op": "add_destination", "service": "tcp://192.0.2.10:80",
         "config": {"address": "10.0.0.1:80", "method": "nat", "weight": 3}}]}"#;
    post(add).unwrap();
    let say = |address: &str, health: &str| {
        post(&format!(
            r#"{{"operations": [{{"op": "set_health", "service": "tcp://192.0.2.10:80",
            "address": "{address}", "health": "{health}"}}]}}"#
        ))
    };
    for health in ["failed", "up"] {
        say("10.0.0.1:80", health).unwrap();
        let listed = serde_json::to_value(rules.services()).unwrap();
        let listed = listed.pointer("/0/destinations/0").unwrap();
        assert_eq!(listed.get("health").unwrap(), health);
        assert_eq!(listed.pointer("/config/weight").unwrap(), 3);
    }
    let (_, refusal) = say("10.0.0.2:80", "failed").unwrap_err();
    assert_eq!(refusal.errno, Errno::NotFound);
}

/// Whoever reads a refusal knows which rule is meant, and what would be right.
#[test]
fn a_refusal_names_the_rule_and_the_cure() {
    let rules = rules();
    let service = |word: &str, more: &str| {
        format!(
            r#"{{"op": "add_service", "config": {{"service": "{word}", "scheduler": "rr"{more}}}}}"#
        )
    };
    let server = |word: &str, address: &str, more: &str| {
        format!(
            r#"{{"op": "add_destination", "service": "{word}", "config": {{"address": "{address}"{more}}}}}"#
        )
    };
    let post = |json: &str| {
        let operation: Operation = serde_json::from_str(json).unwrap();
        rules
            .apply(&operation)
            .map_err(|refusal| refusal.to_string())
    };
    const WEB: &str = "tcp://192.0.2.10:80";
    const OTHER: &str = "tcp://192.0.2.11:80";
    const NAT: &str = r#", "method": "nat""#;
    post(&service(WEB, r#", "local": ["10.0.0.250"]"#)).unwrap();
    post(&server(WEB, "10.0.0.1:80", NAT)).unwrap();
    for (operation, rule, cure) in [
        (
            service(OTHER, r#", "persistence": {"timeout": 0}"#),
            OTHER,
            "is 1 to 2678400 seconds",
        ),
        (
            server(
                WEB,
                "10.0.0.2:80",
                r#", "method": "nat", "upper_threshold": 2, "lower_threshold": 3"#,
            ),
            "10.0.0.2:80 of tcp://192.0.2.10:80",
            "raise that",
        ),
        (
            server(WEB, "[fd00::1]:80", NAT),
            "[fd00::1]:80 of tcp://192.0.2.10:80",
            "only be reached through a tunnel",
        ),
        (
            server(WEB, "10.0.0.1:80", NAT),
            "10.0.0.1:80",
            "edit it, or delete it first",
        ),
        (
            service(OTHER, "").replace("rr", "wrong"),
            "wrong",
            "there are rr, wrr",
        ),
        (
            service(OTHER, r#", "local": ["10.0.0.251", "10.0.0.251"]"#),
            "10.0.0.251",
            "leave one out",
        ),
        (
            service(OTHER, r#", "local": ["10.0.0.1"]"#),
            "10.0.0.1",
            "give FULLNAT one of its own",
        ),
        (
            server(WEB, "10.0.0.250:80", NAT),
            "10.0.0.250:80",
            "give it another",
        ),
        (
            service("tcp://10.0.0.250:80", ""),
            "10.0.0.250:80",
            "give it another",
        ),
    ] {
        let said = post(&operation).unwrap_err();
        assert!(
            said.contains(rule) && said.contains(cure),
            "{operation}: {said}"
        );
    }
}
