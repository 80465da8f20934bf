//! The tables of the file and their keys: this is the list of everything that can be configured.

use super::error::Problem;
use super::reader::{Fault, Problems, Section};
use super::{Config, Dataplane, LogLevel, control, kinds, marks, rules};
use lvs_api::Timeouts;
use lvs_io_afpacket::RingVersion;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use toml::de::DeTable;

/// The longest timeout, 31 days (IPVS 5.3).
pub(super) const MAX_TIMEOUT: u32 = 2_678_400;

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const RINGS: &[(&str, RingVersion)] = &[("v2", RingVersion::V2), ("v3", RingVersion::V3)];

/// What a later version will have: key, and the subject and verb of the refusal.
const LATER: &[(&str, &str)] = &[
    ("metrics", "metrics are"),
    ("sync", "connection synchronisation is"),
    ("health", "health checks are"),
    ("high_availability", "high availability is"),
];

pub(super) fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let syntax = |error: toml::de::Error| Problem {
            message: error.message().replace('\n', ", "),
            span: error.span().unwrap_or(0..0),
            help: None,
        };
        return Err(errors.into_iter().map(syntax).collect());
    }
    let problems = Problems::default();
    let top = Section::new(document.get_ref(), document.span(), "", &problems);
    let config = top_level(top);
    let problems = problems.into_list();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

fn top_level(mut top: Section<'_>) -> Config {
    let default = Config::default();
    let socket = top.value("socket", control::path);
    let control = control::control(top.section("control", "[control]"), socket, default.control);
    let log = top.value("log", kinds::one_of(LEVELS));
    let dataplane = match top.section("dataplane", "[dataplane]") {
        Some(section) => dataplane(section, default.dataplane),
        None => default.dataplane,
    };
    let (capacity, table) = match top.section("connections", "[connections]") {
        Some(section) => connections(section, default.capacity),
        None => (default.capacity, default.table),
    };
    let timeouts = match top.section("timeouts", "[timeouts]") {
        Some(section) => timeouts(section, default.timeouts),
        None => default.timeouts,
    };
    let sysctl = marks::sysctl(top.section("sysctl", "[sysctl]"));
    let marks = marks::rules(&mut top);
    let services = rules::rules(&mut top);
    top.finish(LATER);
    Config {
        control,
        log: log.map_or(default.log, |at| at.value),
        dataplane,
        capacity,
        table,
        timeouts,
        sysctl,
        marks,
        services,
    }
}

fn connections(mut section: Section<'_>, default: usize) -> (usize, Option<PathBuf>) {
    let most = lvs_conn::MAX_CONNECTIONS as u64;
    let capacity = section.value("capacity", kinds::number(1 << 10, most));
    let file = section.value("file", control::path);
    section.finish(&[]);
    let capacity = capacity.and_then(|at| usize::try_from(at.value).ok());
    (capacity.unwrap_or(default), file.map(|at| at.value.into()))
}

fn dataplane(mut section: Section<'_>, default: Dataplane) -> Dataplane {
    let interfaces = section.value("interfaces", kinds::texts);
    if let Some(names) = &interfaces {
        let fault = if names.value.is_empty() {
            Some(Fault::new("`interfaces` names none").help("leave it out to use all"))
        } else if let Some(long) = names.value.iter().find(|name| name.len() > 15) {
            Some(Fault::new(format!(
                "`{long}` is longer than the name of an interface can be"
            )))
        } else {
            twice(&names.value).map(|name| Fault::new(format!("`{name}` is named twice")))
        };
        if let Some(fault) = fault {
            section.fault(&names.span, fault);
        }
    }
    let workers = section.value("workers", kinds::number(1, 256));
    let receive_ring = section.value("receive_ring", kinds::bytes(64 << 10, 1 << 30));
    let ring_version = section.value("ring_version", kinds::one_of(RINGS));
    let transmit_ring = section.value("transmit_ring", kinds::bytes(64 << 10, 1 << 30));
    let claim = section.value("claim", kinds::switch);
    section.finish(&[]);
    Dataplane {
        interfaces: interfaces.map(|at| at.value).or(default.interfaces),
        workers: workers
            .and_then(|at| NonZeroUsize::new(usize::try_from(at.value).ok()?))
            .or(default.workers),
        ring_version: ring_version.map_or(default.ring_version, |at| at.value),
        receive_ring: receive_ring.map_or(default.receive_ring, |at| at.value),
        transmit_ring: transmit_ring.map_or(default.transmit_ring, |at| at.value),
        claim: claim.map_or(default.claim, |at| at.value),
    }
}

fn timeouts(mut section: Section<'_>, default: Timeouts) -> Timeouts {
    let mut read = |key, otherwise| {
        section
            .value(key, kinds::duration(1, MAX_TIMEOUT))
            .map_or(otherwise, |at| at.value)
    };
    let timeouts = Timeouts {
        tcp: read("tcp", default.tcp),
        tcp_fin: read("tcp_fin", default.tcp_fin),
        udp: read("udp", default.udp),
    };
    section.finish(&[]);
    timeouts
}

fn twice(names: &[String]) -> Option<&str> {
    let mut seen = names.iter().enumerate();
    seen.find(|(i, name)| names.iter().take(*i).any(|earlier| earlier == *name))
        .map(|(_, name)| name.as_str())
}
