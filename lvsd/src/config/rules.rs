//! The tables `[[service]]` and `[[service.destination]]`, and what fits together.

use super::kinds::{self, Read};
use super::reader::{At, Fault, Section};
use super::schema::MAX_TIMEOUT;
use super::{Rule, SCHEDULERS};
use lvs_api::{Destination, Method, Netmask, Persistence, Service, Tunnel, flags, key};
use lvs_core::{Addr, Endpoint, Family, MAX_WEIGHT, Protocol, ServiceKey};
use std::net::Ipv4Addr;
use toml::de::DeValue;

const LATER_SERVICE: &[(&str, &str)] = &[
    ("persistence_engine", "persistence engines are"),
    ("check", "health checks are"),
    ("health", "health checks are"),
];

const LATER_DESTINATION: &[(&str, &str)] = &[
    ("check", "health checks are"),
    ("health", "health checks are"),
];

const METHODS: &[(&str, Method)] = &[
    ("nat", Method::Nat),
    ("dr", Method::Dr),
    ("tun", Method::Tun),
];

pub(super) fn rules(top: &mut Section<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for section in top.sections("service", "[[service]]") {
        if let Some(rule) = service(section, &rules) {
            rules.push(rule);
        }
    }
    rules
}

fn service(mut section: Section<'_>, earlier: &[Rule]) -> Option<Rule> {
    let listen = section.required("listen", r#"listen = "tcp://192.0.2.10:80""#, |value| {
        key::parse(&kinds::text(value)?)
            .map_err(|why| Fault::new(format!("names no service: {why}")))
    });
    let names: Vec<(&str, &str)> = SCHEDULERS.iter().map(|&name| (name, name)).collect();
    let scheduler = section.value("scheduler", kinds::one_of(&names));
    let scheduler_name = scheduler.as_ref().map_or("wlc", |at| at.value);
    let flags = section.value("flags", |value| {
        let names = kinds::texts(value)?;
        flags::parse(scheduler_name, names.iter().map(String::as_str))
            .map_err(|why| Fault::new(format!("do not fit `{scheduler_name}`: {why}")))
    });
    let persistence = section.value("persistence", persistence);
    let one_packet = section.value("one_packet", kinds::switch);
    let destinations = section.sections("destination", "[[service.destination]]");

    if let Some(listen) = &listen {
        check_service(
            &section,
            listen,
            earlier,
            persistence.as_ref(),
            one_packet.as_ref(),
        );
    }
    let mut all: Vec<Destination> = Vec::new();
    for place in destinations {
        if let Some(found) = destination(place, listen.as_ref().map(|at| &at.value), &all) {
            all.push(found);
        }
    }
    section.finish(LATER_SERVICE);
    let service = Service {
        flags: flags.map(|at| at.value).unwrap_or_default(),
        persistence: persistence.map(|at| at.value),
        one_packet: one_packet.is_some_and(|at| at.value),
        ..Service::new(listen?.value, scheduler_name)
    };
    Some(Rule {
        service,
        destinations: all,
    })
}

fn check_service(
    section: &Section<'_>,
    listen: &At<ServiceKey>,
    earlier: &[Rule],
    persistence: Option<&At<Persistence>>,
    one_packet: Option<&At<bool>>,
) {
    let word = key::format(&listen.value);
    if earlier.iter().any(|rule| rule.service.key == listen.value) {
        let fault = Fault::new(format!("the service {word} is defined twice"));
        section.fault(
            &listen.span,
            fault.help("give both sets of destinations to one"),
        );
    }
    if let ServiceKey::Endpoint { protocol, vip } = listen.value {
        if vip.port == 0 && persistence.is_none() {
            let fault = Fault::new("port 0 means every port, which only works with persistence");
            section.fault(
                &listen.span,
                fault.help(r#"name a port, or add persistence = "6m""#),
            );
        }
        if let Some(at) = one_packet
            && at.value
            && protocol != Protocol::Udp
        {
            let fault = Fault::new("`one_packet` is for UDP and firewall marks only");
            section.fault(&at.span, fault.help("remove it"));
        }
    }
    if let Some(at) = persistence
        && let Some(mask) = at.value.netmask
        && mask.family() != listen.value.family()
    {
        let fault = Fault::new(format!("the netmask does not fit the family of {word}"));
        section.fault(
            &at.span,
            fault.help(r#"for IPv4 it is a mask, "255.255.255.0"; for IPv6 a prefix length, 64"#),
        );
    }
}

/// `"5m"`, or `{ timeout = "5m", netmask = "255.255.255.0" }`.
fn persistence(value: &DeValue<'_>) -> Read<Persistence> {
    const EXAMPLE: &str = r#"write "6m", or { timeout = "6m", netmask = "255.255.255.0" }"#;
    let read_timeout = kinds::duration(1, MAX_TIMEOUT);
    let DeValue::Table(table) = value else {
        return Ok(Persistence {
            timeout: read_timeout(value)?,
            netmask: None,
        });
    };
    if let Some(other) = table
        .keys()
        .find(|key| !["timeout", "netmask"].contains(&key.get_ref().as_ref()))
    {
        let fault = Fault::new(format!("has an unknown key `{}`", other.get_ref()));
        return Err(fault.help(EXAMPLE));
    }
    let Some(timeout) = table.get("timeout") else {
        return Err(Fault::new("lacks its `timeout`").help(EXAMPLE));
    };
    let netmask = match table.get("netmask").map(toml::Spanned::get_ref) {
        None => None,
        Some(DeValue::String(mask)) => match mask.parse::<Ipv4Addr>() {
            Ok(mask) => Some(Netmask::V4(mask)),
            Err(_) => {
                let fault = Fault::new(format!("has the netmask `{mask}`, which is none"));
                return Err(fault.help(EXAMPLE));
            }
        },
        Some(length) => match kinds::number(1, 128)(length) {
            Ok(length) => Some(Netmask::V6(u8::try_from(length).unwrap_or(128))),
            Err(fault) => {
                return Err(Fault::new(format!("has a netmask that {}", fault.message))
                    .help("as a prefix length it can be 1 to 128"));
            }
        },
    };
    Ok(Persistence {
        timeout: read_timeout(timeout.get_ref())?,
        netmask,
    })
}

fn destination(
    mut section: Section<'_>,
    service: Option<&ServiceKey>,
    earlier: &[Destination],
) -> Option<Destination> {
    let service_port = match service {
        Some(ServiceKey::Endpoint { vip, .. }) => Some(vip.port),
        Some(ServiceKey::FwMark { .. }) => Some(0),
        None => None,
    };
    let address = section.required("address", r#"address = "10.0.0.2:80""#, |value| {
        server(&kinds::text(value)?, service_port.unwrap_or(0))
    });
    let method = section.required(
        "method",
        r#"method = "nat", "dr" or "tun""#,
        kinds::one_of(METHODS),
    );
    let weight = section.value("weight", kinds::number32(0, MAX_WEIGHT));
    let upper = section.value("upper_threshold", kinds::number32(0, MAX_WEIGHT));
    let lower = section.value("lower_threshold", kinds::number32(0, MAX_WEIGHT));
    let tunnel = section.value("tunnel", tunnel);

    if let (Some(address), Some(service)) = (&address, service) {
        check_destination(&section, service, address, method.as_ref(), earlier);
    }
    if let Some(lower) = &lower
        && lower.value > upper.as_ref().map_or(0, |at| at.value)
    {
        let fault = Fault::new("`lower_threshold` exceeds `upper_threshold`");
        section.fault(&lower.span, fault.help("raise upper_threshold"));
    }
    if let (Some(tunnel), Some(method)) = (&tunnel, &method)
        && method.value != Method::Tun
    {
        let fault = Fault::new("`tunnel` is for the method `tun` only");
        section.fault(
            &tunnel.span,
            fault.help(r#"remove it, or say method = "tun""#),
        );
    }
    section.finish(LATER_DESTINATION);
    Some(Destination {
        weight: weight.map_or(1, |at| at.value),
        upper_threshold: upper.map_or(0, |at| at.value),
        lower_threshold: lower.map_or(0, |at| at.value),
        tunnel: tunnel.map(|at| at.value).unwrap_or_default(),
        ..Destination::new(address?.value, method?.value)
    })
}

/// `10.0.0.2:8080`, or without a port: the service's.
fn server(text: &str, port: u16) -> Read<Endpoint> {
    if let Ok(endpoint) = text.parse() {
        return Ok(endpoint);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<Addr>() {
        Ok(addr) => Ok(Endpoint::new(addr, port)),
        Err(_) => Err(Fault::new(format!("is `{text}`, which is no address"))
            .help(r#"write "10.0.0.2:8080" or "[fd00::2]:8080"; without a port, the service's"#)),
    }
}

fn check_destination(
    section: &Section<'_>,
    service: &ServiceKey,
    address: &At<Endpoint>,
    method: Option<&At<Method>>,
    earlier: &[Destination],
) {
    let word = key::format(service);
    let found = address.value;
    if earlier.iter().any(|other| other.address == found) {
        section.fault(
            &address.span,
            Fault::new(format!("{word} has the destination {found} twice")).help("remove one"),
        );
    }
    let link_local = found.addr.family() == Family::V6 && found.addr.hi >> 54 == 0xfe80 >> 6;
    if !found.addr.is_unicast() || link_local {
        let fault = Fault::new(format!("{} is not the address of one host", found.addr));
        section.fault(&address.span, fault);
    }
    let Some(method) = method else {
        return;
    };
    if method.value != Method::Tun && found.addr.family() != service.family() {
        let fault = Fault::new(format!(
            "{found} and {word} are of different address families"
        ));
        section.fault(&address.span, fault.help("only a tunnel can join them"));
    }
    if let ServiceKey::Endpoint { vip, .. } = service
        && method.value != Method::Nat
        && found.port != vip.port
    {
        let fault = Fault::new(format!(
            "the port {} differs from the service's, and only `nat` can change ports",
            found.port
        ));
        let right = Endpoint::new(found.addr, vip.port);
        section.fault(
            &address.span,
            fault.help(format!(r#"write "{right}", or say method = "nat""#)),
        );
    }
}

/// `"ipip"`; the other kinds are known and refused.
fn tunnel(value: &DeValue<'_>) -> Read<Tunnel> {
    let kind = match value {
        DeValue::Table(table) => match table.get("type") {
            Some(kind) => kinds::text(kind.get_ref())?,
            None => return Err(Fault::new("lacks its `type`").help(r#"write "ipip""#)),
        },
        other => kinds::text(other)?,
    };
    match kind.as_str() {
        "ipip" => Ok(Tunnel::Ipip),
        "gue" | "gre" => Err(Fault::new(format!(
            "is `{kind}`, and of tunnels this version has only ipip"
        ))
        .help(r#"write "ipip""#)),
        _ => Err(Fault::new(format!("is `{kind}`, which does not exist")).help(r#"write "ipip""#)),
    }
}
