//! The published description is that of the types: every field of every type that goes over the socket is
//! in it, and nothing else.
//!
//! Each type is written out here field by field, so that a field that is added does not compile until it
//! stands here, and then fails until it stands in the description.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use lvs_api::{
    Connection, Destination, DestinationStatus, DropCount, Errno, Health, Info, MarkFamily,
    MarkRule, Method, Mode, Netmask, Operation, Persistence, Refusal, RefusalBody, Report, Service,
    ServiceStatus, SyncDaemon, SyncRole, SyncStart, Sysctl, Timeouts, Totals, Transaction, Tunnel,
    TunnelChecksum, key,
};
use lvs_core::{Counters, LocalAddresses, OnRemoval, Protocol, Rates, SchedFlags};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The description, and which properties of its schemas were seen.
struct Description {
    schemas: Value,
    seen: BTreeSet<String>,
}

impl Description {
    fn new() -> Self {
        let text = include_str!("../../docs/openapi.json");
        let whole: Value = serde_json::from_str(text).unwrap();
        Self {
            schemas: whole["components"]["schemas"].clone(),
            seen: BTreeSet::new(),
        }
    }

    /// A value of a type is what the schema of that name says.
    fn holds(&mut self, name: &str, value: &impl Serialize) {
        let value = serde_json::to_value(value).unwrap();
        let schema = self.schemas[name].clone();
        assert!(schema.is_object(), "there is no schema {name}");
        let place = name.to_owned();
        if let Err(why) = self.check(&schema, &value, &place) {
            panic!("{name}: {why}\n{value:#}");
        }
    }

    fn check(&mut self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            let schema = self.schemas[name].clone();
            return self.check(&schema, value, name);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = choices.iter().enumerate().filter(|(i, choice)| {
                let place = format!("{place}/{i}");
                self.check(choice, value, &place).is_ok()
            });
            return match fits.count() {
                1 => Ok(()),
                many => Err(format!("{place}: {many} choices fit {value}")),
            };
        }
        let wrong = |what: &str| Err(format!("{place}: {what}: {value}"));
        if let Some(constant) = schema.get("const")
            && constant != value
        {
            return wrong("another constant");
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            return wrong("not in the list");
        }
        if let (Some(number), Some(most)) = (value.as_u64(), schema["maximum"].as_u64())
            && number > most
        {
            return wrong("above the maximum");
        }
        let kind = schema["type"].as_str();
        let right = match kind {
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            _ => schema.get("const").is_some(),
        };
        if !right {
            return wrong("another type");
        }
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], item, place)?;
        }
        let Some(fields) = value.as_object() else {
            return Ok(());
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return wrong(&format!("without {name}"));
            }
        }
        for (name, value) in fields {
            let inner = &schema["properties"][name];
            if inner.is_null() {
                return wrong(&format!("the field `{name}` is not described"));
            }
            if inner["description"].as_str() == Some("") {
                return wrong(&format!("the field `{name}` has an empty description"));
            }
            let inside = format!("{place}.{name}");
            self.check(inner, value, &inside)?;
            self.seen.insert(inside);
        }
        Ok(())
    }

    /// Every property that is described was seen.
    fn is_whole(&self) {
        let mut missed = Vec::new();
        for (name, schema) in self.schemas.as_object().unwrap() {
            properties(name, schema, &mut missed);
        }
        missed.retain(|place| !self.seen.contains(place));
        assert!(missed.is_empty(), "described, and of no type: {missed:#?}");
    }
}

fn properties(place: &str, schema: &Value, all: &mut Vec<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let inside = format!("{place}.{name}");
        properties(&inside, inner, all);
        all.push(inside);
    }
    for (i, choice) in schema["oneOf"].as_array().into_iter().flatten().enumerate() {
        properties(&format!("{place}/{i}"), choice, all);
    }
}

fn locals() -> LocalAddresses {
    LocalAddresses::new(&["10.0.0.250".parse().unwrap()]).unwrap()
}

fn service() -> Service {
    Service {
        key: key::parse("tcp://192.0.2.10:80").unwrap(),
        scheduler: "sh".to_owned(),
        flags: SchedFlags {
            flag1: true,
            flag2: true,
            flag3: true,
        },
        persistence: Some(Persistence {
            timeout: 300,
            netmask: Some(Netmask::V4("255.255.255.0".parse().unwrap())),
        }),
        one_packet: true,
        engine: Some("sip".to_owned()),
        local: Some(locals()),
        toa: Some(true),
        on_removal: Some(OnRemoval::DrainFor(30)),
    }
}

fn destination(method: Method, tunnel: Tunnel) -> Destination {
    Destination {
        address: "10.0.0.2:80".parse().unwrap(),
        method,
        weight: 7,
        upper_threshold: 10,
        lower_threshold: 5,
        tunnel,
        local: Some(locals()),
        on_removal: Some(OnRemoval::Reset),
    }
}

const COUNTERS: Counters = Counters {
    conns: 1,
    in_packets: 2,
    out_packets: 3,
    in_bytes: 4,
    out_bytes: u64::MAX,
};

const RATES: Rates = Rates {
    cps: 1,
    in_pps: 2,
    out_pps: 3,
    in_bps: 4,
    out_bps: 5,
};

fn mark() -> MarkRule {
    let some = || vec!["80".to_owned()];
    MarkRule {
        mark: u32::MAX,
        family: Some(MarkFamily::Ipv6),
        interface: some(),
        protocol: some(),
        source: some(),
        destination: some(),
        source_port: some(),
        destination_port: some(),
        local: true,
    }
}

fn start() -> SyncStart {
    SyncStart {
        role: SyncRole::Master,
        interface: "eth0".to_owned(),
        syncid: 255,
        maxlen: Some(1472),
        group: Some("224.0.0.81".parse().unwrap()),
        port: Some(8848),
        ttl: Some(1),
    }
}

/// One of each; the match makes sure that none is forgotten.
fn operations() -> Vec<Operation> {
    let key = key::parse("fwmark6://7").unwrap();
    let timeouts = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    };
    let dr = || destination(Method::Dr, Tunnel::Ipip);
    let all = vec![
        Operation::AddService { config: service() },
        Operation::EditService { config: service() },
        Operation::DeleteService { service: key },
        Operation::AddDestination {
            service: key,
            config: dr(),
        },
        Operation::EditDestination {
            service: key,
            config: dr(),
        },
        Operation::DeleteDestination {
            service: key,
            address: "[fd00::1]:80".parse().unwrap(),
        },
        Operation::SetHealth {
            service: key,
            address: "[fd00::1]:80".parse().unwrap(),
            health: Health::Failed,
        },
        Operation::Flush {},
        Operation::Zero { service: Some(key) },
        Operation::SetTimeouts { timeouts },
        Operation::SetSysctl {
            name: "pmtu_disc".to_owned(),
            value: 1,
        },
        Operation::SetMarks {
            rules: vec![mark()],
        },
        Operation::StartDaemon { config: start() },
        Operation::StopDaemon {
            role: SyncRole::Backup,
        },
    ];
    for operation in &all {
        match operation {
            Operation::AddService { config: _ }
            | Operation::EditService { config: _ }
            | Operation::DeleteService { service: _ }
            | Operation::AddDestination {
                service: _,
                config: _,
            }
            | Operation::EditDestination {
                service: _,
                config: _,
            }
            | Operation::DeleteDestination {
                service: _,
                address: _,
            }
            | Operation::SetHealth {
                service: _,
                address: _,
                health: _,
            }
            | Operation::Flush {}
            | Operation::Zero { service: _ }
            | Operation::SetTimeouts { timeouts: _ }
            | Operation::SetSysctl { name: _, value: _ }
            | Operation::SetMarks { rules: _ }
            | Operation::StartDaemon { config: _ }
            | Operation::StopDaemon { role: _ } => {}
        }
    }
    all
}

#[test]
fn every_field_of_every_type_is_described_and_nothing_else() {
    let mut api = Description::new();
    api.holds("Service", &service());
    let methods = [
        Method::Nat,
        Method::Dr,
        Method::Tun,
        Method::Local,
        Method::Bypass,
        Method::FullNat,
    ];
    for method in methods {
        api.holds("Destination", &destination(method, Tunnel::Ipip));
    }
    let sums = [
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ];
    for checksum in sums {
        let gue = Tunnel::Gue {
            port: 6080,
            checksum,
        };
        api.holds("Destination", &destination(Method::Tun, gue));
        let gre = Tunnel::Gre { checksum };
        api.holds("Destination", &destination(Method::Tun, gre));
    }
    let status = DestinationStatus {
        config: destination(Method::Nat, Tunnel::Ipip),
        active: 1,
        inactive: 2,
        persistent: 3,
        health: Health::Failed,
        overloaded: true,
        counters: COUNTERS,
        rates: RATES,
    };
    let service_status = ServiceStatus {
        config: service(),
        counters: COUNTERS,
        rates: RATES,
        destinations: vec![status],
    };
    api.holds("ServiceStatus", &service_status);
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Ip] {
        let connection = Connection {
            protocol,
            client: "198.51.100.1:4000".parse().unwrap(),
            virtual_: "192.0.2.10:80".parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
            local: Some("10.0.0.250:1024".parse().unwrap()),
            method: Method::FullNat,
            state: "ESTABLISHED".into(),
            expires: 900,
            engine: Some("sip".to_owned()),
            engine_data: Some("call".to_owned()),
        };
        api.holds("Connection", &connection);
    }
    let info = Info {
        version: "0".to_owned(),
        pid: 1,
        table_size: 4096,
        capacity: 1 << 20,
        connections: 0,
    };
    api.holds("Info", &info);
    let totals = Totals {
        counters: COUNTERS,
        rates: RATES,
    };
    api.holds("Totals", &totals);
    let drop = DropCount {
        reason: "no_route".into(),
        packets: 1,
        description: "Nowhere.".into(),
    };
    api.holds("DropCount", &drop);
    let daemon = SyncDaemon {
        role: SyncRole::Backup,
        interface: "eth0".to_owned(),
        syncid: 1,
        maxlen: 1472,
        group: "ff02::81".parse().unwrap(),
        port: 8848,
        ttl: 1,
    };
    api.holds("SyncDaemon", &daemon);
    let sysctl = Sysctl {
        name: "pmtu_disc".to_owned(),
        value: 1,
        default: 1,
        maximum: u32::MAX,
        description: "A switch.".to_owned(),
    };
    api.holds("Sysctl", &sysctl);
    api.holds("MarkRule", &mark());
    api.holds("SyncStart", &start());
    for mode in [Mode::AllOrNothing, Mode::OneByOne] {
        let operations = operations();
        api.holds("Transaction", &Transaction { mode, operations });
    }
    for errno in [
        Errno::Exists,
        Errno::NotFound,
        Errno::NoService,
        Errno::Invalid,
        Errno::Range,
        Errno::Permission,
        Errno::Memory,
        Errno::NoDevice,
        Errno::NotAvailable,
        Errno::Family,
        Errno::Address,
        Errno::Failed,
    ] {
        let refusal = Refusal {
            errno,
            message: "No.".to_owned(),
        };
        let report = Report {
            results: vec![None, Some(refusal.clone())],
        };
        api.holds("Report", &report);
        let body = RefusalBody {
            error: refusal,
            operation: Some(3),
        };
        api.holds("RefusalBody", &body);
    }
    api.is_whole();
}

/// What the description refuses the daemon refuses: unknown fields of requests, wrong words.
#[test]
fn the_description_is_as_strict_as_the_daemon() {
    let mut api = Description::new();
    for (schema, wrong) in [
        (
            "Service",
            json!({"service": "tcp://192.0.2.1:80", "scheduler": "rr", "weight": 1}),
        ),
        ("Service", json!({"service": "tcp://192.0.2.1:80"})),
        (
            "Destination",
            json!({"address": "10.0.0.2:80", "method": "fullnt"}),
        ),
        (
            "Destination",
            json!({"address": "10.0.0.2:80", "method": "nat", "wieght": 1}),
        ),
        ("MarkRule", json!({"mark": 1, "ports": []})),
        ("MarkRule", json!({"family": "ipv4"})),
        ("Operation", json!({"op": "destroy"})),
        ("Operation", json!({"op": "flush", "all": true})),
    ] {
        let rules = api.schemas[schema].clone();
        let strict = rules["oneOf"].is_array() || rules["additionalProperties"] == json!(false);
        assert!(strict, "{schema}");
        assert!(api.check(&rules, &wrong, schema).is_err(), "{wrong}");
        let refused = match schema {
            "Service" => serde_json::from_value::<Service>(wrong.clone()).is_err(),
            "Destination" => serde_json::from_value::<Destination>(wrong.clone()).is_err(),
            "MarkRule" => serde_json::from_value::<MarkRule>(wrong.clone()).is_err(),
            _ => serde_json::from_value::<Operation>(wrong.clone()).is_err(),
        };
        assert!(refused, "{wrong}");
    }
}
