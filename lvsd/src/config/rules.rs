//! The tables `[[service]]` and `[[service.destination]]`, and what fits together.

use super::Rule;
use super::forms::{local_addresses, on_removal, persistence, server, tunnel};
use super::kinds;
use super::reader::{At, Fault, Section};
use lvs_api::{Destination, Method, Persistence, Service, flags, key};
use lvs_core::{Endpoint, Engine, MAX_WEIGHT, Protocol, ServiceKey};
use lvs_director::{Director, DirectorConfig, RuleError};
use std::ops::Range;
use std::sync::Arc;

const LATER_SERVICE: &[(&str, &str)] = &[
    ("check", "health checks are"),
    ("health", "health checks are"),
];

const LATER_DESTINATION: &[(&str, &str)] = &[
    ("check", "health checks are"),
    ("health", "health checks are"),
];

const ENGINES: &[(&str, Engine)] = &[("sip", Engine::Sip)];

const METHODS: &[(&str, Method)] = &[
    ("nat", Method::Nat),
    ("dr", Method::Dr),
    ("tun", Method::Tun),
    ("fullnat", Method::FullNat),
];

pub(super) fn rules(top: &mut Section<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let director = Director::new(&DirectorConfig {
        connections: 1,
        workers: 1,
    });
    let trial = Trial(director.ok());
    for section in top.sections("service", "[[service]]") {
        if let Some(rule) = service(section, &rules, &trial) {
            rules.push(rule);
        }
    }
    rules
}

/// A director that has no packets, to hear what it refuses.
struct Trial(Option<Arc<Director>>);

impl Trial {
    /// What it refuses about a service that is not wrong in itself.
    fn service(&self, service: &Service) -> Option<Fault> {
        let director = self.0.as_ref()?;
        fault_of(director.add_service(&service.spec()).err()?)
    }

    fn destination(&self, service: &ServiceKey, destination: &Destination) -> Option<Fault> {
        let director = self.0.as_ref()?;
        let refused = director.add_destination(service, &destination.spec());
        fault_of(refused.err()?)
    }
}

/// What exists twice or not at all is found, and reported with its place, before the trial.
fn fault_of(error: RuleError) -> Option<Fault> {
    match error {
        RuleError::ServiceExists(_)
        | RuleError::NoSuchService(_)
        | RuleError::DestinationExists(..)
        | RuleError::NoSuchDestination(..) => None,
        RuleError::Unsupported(_) => {
            Some(Fault::new(format!("{error} in this version")).help("remove it"))
        }
        other => Some(Fault::new(other.to_string())),
    }
}

fn service(mut section: Section<'_>, earlier: &[Rule], trial: &Trial) -> Option<Rule> {
    let listen = section.required("listen", r#"listen = "tcp://192.0.2.10:80""#, |value| {
        key::parse(&kinds::text(value)?)
            .map_err(|why| Fault::new(format!("names no service: {why}")))
    });
    let names: Vec<(&str, &str)> = lvs_sched::NAMES.iter().map(|&name| (name, name)).collect();
    let scheduler = section.value("scheduler", kinds::one_of(&names));
    let scheduler_name = scheduler.as_ref().map_or("wlc", |at| at.value);
    let flags = section.value("flags", |value| {
        let names = kinds::texts(value)?;
        flags::parse(scheduler_name, names.iter().map(String::as_str))
            .map_err(|why| Fault::new(format!("do not fit `{scheduler_name}`: {why}")))
    });
    let persistence = section.value("persistence", persistence);
    let engine = section.value("persistence_engine", kinds::one_of(ENGINES));
    let one_packet = section.value("one_packet", kinds::switch);
    let local = section.value("local", local_addresses);
    let toa = section.value("toa", kinds::switch);
    let on_removal = section.value("on_removal", on_removal);
    let destinations = section.sections("destination", "[[service.destination]]");

    let service = listen.as_ref().map(|listen| Service {
        flags: flags.map(|at| at.value).unwrap_or_default(),
        persistence: persistence.as_ref().map(|at| at.value),
        one_packet: one_packet.as_ref().is_some_and(|at| at.value),
        engine: engine.as_ref().map(|at| at.value.to_string()),
        // Said or not, the file's word is the whole: a reload goes back to it.
        local: Some(local.as_ref().map(|at| at.value).unwrap_or_default()),
        toa: Some(toa.as_ref().is_some_and(|at| at.value)),
        on_removal: Some(on_removal.as_ref().map(|at| at.value).unwrap_or_default()),
        ..Service::new(listen.value, scheduler_name)
    });
    if let (Some(engine), Some(listen)) = (&engine, &listen) {
        check_engine(&section, engine, listen, persistence.is_some());
    }
    if let (Some(listen), Some(service)) = (&listen, &service) {
        let sound = check_service(
            &section,
            listen,
            earlier,
            persistence.as_ref(),
            one_packet.as_ref(),
        );
        if sound && let Some(fault) = trial.service(service) {
            let span = match &fault.message {
                text if text.contains("local address") => local.map(|at| at.span),
                text if text.starts_with("persist") => persistence.map(|at| at.span),
                _ => None,
            };
            section.fault(&span.unwrap_or_else(|| listen.span.clone()), fault);
        }
    }
    let mut all: Vec<Destination> = Vec::new();
    for place in destinations {
        let key = listen.as_ref().map(|at| &at.value);
        if let Some(found) = destination(place, key, &all, trial) {
            all.push(found);
        }
    }
    section.finish(LATER_SERVICE);
    Some(Rule {
        service: service?,
        destinations: all,
    })
}

/// Whether there is something that an engine can work on.
fn check_engine(
    section: &Section<'_>,
    engine: &At<Engine>,
    listen: &At<ServiceKey>,
    persistent: bool,
) {
    let other =
        matches!(listen.value, ServiceKey::Endpoint { protocol, .. } if protocol != Protocol::Udp);
    if other {
        let fault = Fault::new(format!(
            "the engine `{}` is for UDP: it would drop every packet of {}",
            engine.value,
            key::format(&listen.value)
        ));
        section.fault(&engine.span, fault.help("remove it"));
    } else if !persistent {
        let fault = Fault::new("`persistence_engine` without `persistence` does nothing");
        section.fault(&engine.span, fault.help(r#"add persistence = "6m""#));
    }
}

/// Whether the parts of a service fit together.
fn check_service(
    section: &Section<'_>,
    listen: &At<ServiceKey>,
    earlier: &[Rule],
    persistence: Option<&At<Persistence>>,
    one_packet: Option<&At<bool>>,
) -> bool {
    let mut sound = true;
    let mut report = |span: &Range<usize>, fault: Fault| {
        sound = false;
        section.fault(span, fault);
    };
    let word = key::format(&listen.value);
    if earlier.iter().any(|rule| rule.service.key == listen.value) {
        let fault = Fault::new(format!("the service {word} is defined twice"));
        report(
            &listen.span,
            fault.help("give both sets of destinations to one"),
        );
    }
    if let ServiceKey::Endpoint { protocol, vip } = listen.value {
        if vip.port == 0 && persistence.is_none() {
            let fault = Fault::new("port 0 means every port, which only works with persistence");
            report(
                &listen.span,
                fault.help(r#"name a port, or add persistence = "6m""#),
            );
        }
        if let Some(at) = one_packet
            && at.value
            && protocol != Protocol::Udp
        {
            let fault = Fault::new("`one_packet` is for UDP and firewall marks only");
            report(&at.span, fault.help("remove it"));
        }
    }
    if let Some(at) = persistence
        && let Some(mask) = at.value.netmask
        && mask.family() != listen.value.family()
    {
        let fault = Fault::new(format!("the netmask does not fit the family of {word}"));
        report(
            &at.span,
            fault.help(r#"for IPv4 it is a mask, "255.255.255.0"; for IPv6 a prefix length, 64"#),
        );
    }
    sound
}

fn destination(
    mut section: Section<'_>,
    service: Option<&ServiceKey>,
    earlier: &[Destination],
    trial: &Trial,
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
        r#"method = "nat", "dr", "tun" or "fullnat""#,
        kinds::one_of(METHODS),
    );
    let weight = section.value("weight", kinds::number32(0, MAX_WEIGHT));
    let upper = section.value("upper_threshold", kinds::number32(0, MAX_WEIGHT));
    let lower = section.value("lower_threshold", kinds::number32(0, MAX_WEIGHT));
    let tunnel = section.value("tunnel", tunnel);
    let local = section.value("local", local_addresses);
    let on_removal = section.value("on_removal", on_removal);

    let mut sound = match (&address, service) {
        (Some(address), Some(service)) => {
            check_destination(&section, service, address, method.as_ref(), earlier)
        }
        _ => false,
    };
    if let Some(lower) = &lower
        && lower.value > upper.as_ref().map_or(0, |at| at.value)
    {
        let fault = Fault::new("`lower_threshold` exceeds `upper_threshold`");
        section.fault(&lower.span, fault.help("raise upper_threshold"));
        sound = false;
    }
    if let (Some(tunnel), Some(method)) = (&tunnel, &method)
        && method.value != Method::Tun
    {
        let fault = Fault::new("`tunnel` is for the method `tun` only");
        section.fault(
            &tunnel.span,
            fault.help(r#"remove it, or say method = "tun""#),
        );
        sound = false;
    }
    if let (Some(local), Some(method)) = (&local, &method)
        && method.value != Method::FullNat
    {
        let fault = Fault::new("`local` is for the method `fullnat` only");
        section.fault(
            &local.span,
            fault.help(r#"remove it, or say method = "fullnat""#),
        );
        sound = false;
    }
    // Where the director's refusal points: at what is most particular.
    let span = [
        tunnel.as_ref().map(|at| &at.span),
        local.as_ref().map(|at| &at.span),
        method.as_ref().map(|at| &at.span),
    ];
    let span = span.into_iter().flatten().next().cloned();
    let found = match (address, method) {
        (Some(address), Some(method)) => Some(Destination {
            weight: weight.map_or(1, |at| at.value),
            upper_threshold: upper.map_or(0, |at| at.value),
            lower_threshold: lower.map_or(0, |at| at.value),
            tunnel: tunnel.map(|at| at.value).unwrap_or_default(),
            local: Some(local.as_ref().map(|at| at.value).unwrap_or_default()),
            on_removal: on_removal.map(|at| at.value),
            ..Destination::new(address.value, method.value)
        }),
        _ => None,
    };
    if let (true, Some(service), Some(found)) = (sound, service, &found)
        && let Some(fault) = trial.destination(service, found)
    {
        section.fault(&span.unwrap_or_else(|| section.span.clone()), fault);
    }
    section.finish(LATER_DESTINATION);
    found
}

/// Whether a destination fits its service.
fn check_destination(
    section: &Section<'_>,
    service: &ServiceKey,
    address: &At<Endpoint>,
    method: Option<&At<Method>>,
    earlier: &[Destination],
) -> bool {
    let mut sound = true;
    let mut report = |fault: Fault| {
        sound = false;
        section.fault(&address.span, fault);
    };
    let word = key::format(service);
    let found = address.value;
    if earlier.iter().any(|other| other.address == found) {
        let fault = Fault::new(format!("{word} has the destination {found} twice"));
        report(fault.help("remove one"));
    }
    if !found.addr.may_be_server() {
        report(Fault::new(format!(
            "{} is not the address of one host",
            found.addr
        )));
    }
    let Some(method) = method else {
        return false;
    };
    if method.value != Method::Tun && found.addr.family() != service.family() {
        let fault = Fault::new(format!(
            "{found} and {word} are of different address families"
        ));
        report(fault.help("only a tunnel can join them"));
    }
    if let ServiceKey::Endpoint { vip, .. } = service
        && !matches!(method.value, Method::Nat | Method::FullNat)
        && found.port != vip.port
    {
        let right = Endpoint::new(found.addr, vip.port);
        let fault = Fault::new(format!(
            "the port {} differs from the service's, and only `nat` and `fullnat` change ports",
            found.port
        ));
        report(fault.help(format!(r#"write "{right}", or say method = "nat""#)));
    }
    sound
}
