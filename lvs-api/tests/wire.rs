//! The JSON of every request, as a person would write it by hand, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use lvs_api::{Connection, Tunnel, TunnelChecksum, flags, key};
use lvs_api::{Destination, Method, Mode, Netmask, Operation, Persistence, Service, Transaction};
use lvs_core::{LocalAddresses, OnRemoval};

fn there_and_back(json: &str) -> Operation {
    let operation: Operation = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&operation).unwrap(), json);
    operation
}

#[test]
fn every_operation_has_one_spelling() {
    let operation = there_and_back(
        r#"{"op":"edit_service","config":{"service":"udp://[2001:db8::10]:53","scheduler":"sh","flags":["sh-fallback","sh-port"],"persistence":{"timeout":300,"netmask":64},"one_packet":true,"persistence_engine":"sip","local":["2001:db8::250"],"toa":true,"on_removal":"drain 30"}}"#,
    );
    let expected = Service {
        flags: flags::parse("sh", ["sh-port", "sh-fallback"]).unwrap(),
        persistence: Some(Persistence {
            timeout: 300,
            netmask: Some(Netmask::V6(64)),
        }),
        one_packet: true,
        engine: Some("sip".to_owned()),
        local: Some(LocalAddresses::new(&["2001:db8::250".parse().unwrap()]).unwrap()),
        toa: Some(true),
        on_removal: Some(OnRemoval::DrainFor(30)),
        ..Service::new(key::parse("udp://[2001:db8::10]:53").unwrap(), "sh")
    };
    assert_eq!(operation, Operation::EditService { config: expected });

    let operation = there_and_back(
        r#"{"op":"add_destination","service":"fwmark6://7","config":{"address":"10.0.0.2:0","method":"tun","weight":3,"upper_threshold":100,"tunnel":{"type":"gue","port":6080,"checksum":"remote"}}}"#,
    );
    let expected = Destination {
        weight: 3,
        upper_threshold: 100,
        tunnel: Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Remote,
        },
        ..Destination::new("10.0.0.2:0".parse().unwrap(), Method::Tun)
    };
    assert_eq!(
        operation,
        Operation::AddDestination {
            service: key::parse("fwmark6://7").unwrap(),
            config: expected
        }
    );
    for json in [
        r#"{"op":"delete_service","service":"sctp://192.0.2.1:9899"}"#,
        r#"{"op":"delete_destination","service":"tcp://192.0.2.1:80","address":"[fd00::1]:80"}"#,
        r#"{"op":"flush"}"#,
        r#"{"op":"zero"}"#,
        r#"{"op":"zero","service":"tcp://192.0.2.1:80"}"#,
        r#"{"op":"set_timeouts","timeouts":{"tcp":900,"tcp_fin":120,"udp":300}}"#,
        r#"{"op":"start_daemon","config":{"role":"master","interface":"eth0","syncid":5}}"#,
        r#"{"op":"stop_daemon","role":"backup"}"#,
    ] {
        there_and_back(json);
    }
}

#[test]
fn defaults_are_the_careful_ones() {
    let transaction: Transaction = serde_json::from_str(r#"{"operations":[]}"#).unwrap();
    assert_eq!(transaction.mode, Mode::AllOrNothing);
    let destination: Destination =
        serde_json::from_str(r#"{"address":"10.0.0.2:80","method":"nat"}"#).unwrap();
    assert_eq!(destination.weight, 1);
    assert_eq!(destination.tunnel, Tunnel::Ipip);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refused = |json: &str| {
        serde_json::from_str::<Operation>(json)
            .unwrap_err()
            .to_string()
    };
    let service = |more: &str| {
        refused(&format!(
            r#"{{"op":"add_service","config":{{"service":"tcp://192.0.2.1:80","scheduler":"rr"{more}}}}}"#
        ))
    };
    assert!(refused(r#"{"op":"add_sevice"}"#).contains("add_sevice"));
    assert!(service(r#","weight":1"#).contains("unknown field `weight`"));
    assert!(service(r#","flags":["sh-port"]"#).contains("belongs to another scheduler"));
    assert!(
        service(r#","persistence":{"timeout":1,"netmask":64}"#).contains("prefix length for IPv6")
    );
    assert!(
        refused(r#"{"op":"delete_service","service":"192.0.2.1:80"}"#)
            .contains("protocol://address:port")
    );
    assert!(
        refused(
            r#"{"op":"delete_destination","service":"tcp://192.0.2.1:80","address":"10.0.0.1"}"#
        )
        .contains("`10.0.0.1`: not an address and port")
    );
    assert!(
        refused(r#"{"op":"zero","services":"tcp://192.0.2.1:80"}"#)
            .contains("unknown field `services`")
    );
}

#[test]
fn a_connection_is_one_line() {
    let json = r#"{"protocol":"tcp","client":"198.51.100.1:50000","virtual":"192.0.2.10:80","destination":"10.0.0.11:80","method":"nat","state":"ESTABLISHED","expires":899}"#;
    let connection: Connection = serde_json::from_str(json).unwrap();
    assert_eq!(connection.expires, 899);
    assert_eq!(serde_json::to_string(&connection).unwrap(), json);
}
