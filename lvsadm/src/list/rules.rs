//! Services and their destinations, in each of the six ways.

use super::numbers::{exact, scaled};
use super::text::{Text, addresses, cut, flags, protocol, removal};
use crate::request::{ListMode, Listing};
use lvs_api::{
    Destination, DestinationStatus, Method, Netmask, Service, ServiceStatus, Tunnel, TunnelChecksum,
};
use lvs_core::{Family, SchedFlags, ServiceKey};
use std::io::{self, Write};

/// The widest name of an IPv4 service and of an IPv4 destination.
const SERVICE: usize = 33;
const DESTINATION: usize = 28;

/// All of it, titles first.
pub(super) fn show(
    services: &[ServiceStatus],
    table_size: Option<u64>,
    listing: &Listing,
    text: &Text<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(size) = table_size {
        writeln!(out, "IP Virtual Server version 1.2.1 (size={size})")?;
    }
    title(listing.mode, out)?;
    for service in services {
        service_line(service, listing, text, out)?;
        for destination in &service.destinations {
            destination_line(service, destination, listing, text, out)?;
        }
    }
    Ok(())
}

fn title(mode: ListMode, out: &mut dyn Write) -> io::Result<()> {
    let name = "Prot LocalAddress:Port";
    let short = "  -> RemoteAddress:Port";
    match mode {
        ListMode::Stats => writeln!(
            out,
            "{name:<33} {:>8} {:>8} {:>8} {:>8} {:>8}\n{short}",
            "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
        ),
        ListMode::Rates => writeln!(
            out,
            "{name:<33} {:>8} {:>8} {:>8} {:>8} {:>8}\n{short}",
            "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"
        ),
        ListMode::Thresholds => writeln!(
            out,
            "{name:<33} {:<10} {:<10} {:<10} {:<10}\n{short}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        ListMode::Persistent => writeln!(
            out,
            "{name:<33} {:<9} {:<11} {:<10} {:<10}\n{short}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
        ListMode::Tunnels => writeln!(
            out,
            "{name} Scheduler Flags\n{short:<33} Forward TunnelInfo    Weight ActiveConn InActConn"
        ),
        _ => writeln!(
            out,
            "{name} Scheduler Flags\n{short:<33} Forward Weight ActiveConn InActConn"
        ),
    }
}

fn service_line(
    status: &ServiceStatus,
    listing: &Listing,
    text: &Text<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let service = &status.config;
    let name = name(&service.key, text);
    let number = if listing.exact { exact } else { scaled };
    match listing.mode {
        ListMode::Stats => {
            let c = &status.counters;
            let all = [
                c.conns,
                c.in_packets,
                c.out_packets,
                c.in_bytes,
                c.out_bytes,
            ];
            writeln!(out, "{name:<33}{}", all.map(number).concat())
        }
        ListMode::Rates => {
            let r = &status.rates;
            let all = [r.cps, r.in_pps, r.out_pps, r.in_bps, r.out_bps];
            writeln!(out, "{name:<33}{}", all.map(number).concat())
        }
        _ => writeln!(out, "{name} {}{}", service.scheduler, extras(service)),
    }
}

/// The name of a service in a listing.
fn name(key: &ServiceKey, text: &Text<'_>) -> String {
    let ServiceKey::Endpoint { protocol, vip } = key else {
        return key.to_string();
    };
    let name = format!("{:<4} {}", protocol.name(), text.endpoint(*vip, *protocol));
    match vip.addr.family() {
        Family::V4 => cut(&name, SERVICE),
        Family::V6 => name,
    }
}

/// What follows the scheduler.
fn extras(service: &Service) -> String {
    let mut extras = String::new();
    let flags = flags(&service.scheduler, service.flags);
    if service.flags != SchedFlags::default() {
        // Also where none of those that are set has a name.
        extras.push_str(&format!(" ({flags})"));
    }
    if let Some(persistence) = &service.persistence {
        extras.push_str(&format!(" persistent {}", persistence.timeout));
        let whole = Netmask::whole(service.key.family());
        match persistence.netmask.filter(|mask| *mask != whole) {
            Some(Netmask::V4(mask)) => extras.push_str(&format!(" mask {mask}")),
            Some(Netmask::V6(length)) => extras.push_str(&format!(" mask {length}")),
            None => {}
        }
        if let Some(engine) = &service.engine {
            extras.push_str(&format!(" pe {engine}"));
        }
    }
    if service.one_packet {
        extras.push_str(" ops");
    }
    // What ipvsadm does not have.
    if let Some(local) = service.local.filter(|local| !local.is_empty()) {
        extras.push_str(&format!(" local {}", addresses(&local)));
    }
    if service.toa == Some(true) {
        extras.push_str(" toa");
    }
    if let Some(policy) = service.on_removal {
        extras.push_str(&format!(" on-removal {}", removal(policy)));
    }
    extras
}

fn destination_line(
    service: &ServiceStatus,
    status: &DestinationStatus,
    listing: &Listing,
    text: &Text<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let d = &status.config;
    let mut name = text.endpoint(d.address, protocol(&service.config.key));
    if d.address.addr.family() == Family::V4 {
        name = cut(&name, DESTINATION);
    }
    write!(out, "  -> {name:<28}")?;
    let (active, inactive) = (status.active, status.inactive);
    let method = method(d.method);
    match listing.mode {
        ListMode::Stats => {
            let c = &status.counters;
            let all = [
                c.conns,
                c.in_packets,
                c.out_packets,
                c.in_bytes,
                c.out_bytes,
            ];
            let number = if listing.exact { exact } else { scaled };
            writeln!(out, "{}", all.map(number).concat())
        }
        ListMode::Rates => {
            let r = &status.rates;
            let number = if listing.exact { exact } else { scaled };
            let packets = [r.cps, r.in_pps, r.out_pps].map(exact).concat();
            writeln!(out, "{packets}{}{}", number(r.in_bps), number(r.out_bps))
        }
        ListMode::Thresholds => writeln!(
            out,
            " {:<10} {:<10} {active:<10} {inactive:<10}",
            d.upper_threshold, d.lower_threshold
        ),
        ListMode::Persistent => writeln!(
            out,
            " {:<9} {:<11} {active:<10} {inactive:<10}",
            d.weight, status.persistent
        ),
        ListMode::Tunnels => writeln!(
            out,
            " {method:<7} {:<13} {:<6} {active:<10} {inactive:<10}",
            tunnel(d),
            d.weight
        ),
        _ => writeln!(
            out,
            " {method:<7} {:<6} {active:<10} {inactive:<10}",
            d.weight
        ),
    }
}

const fn method(method: Method) -> &'static str {
    method.core().name()
}

fn tunnel(destination: &Destination) -> String {
    let sign = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match destination.tunnel {
        _ if destination.method != Method::Tun => "n/a".to_owned(),
        Tunnel::Ipip => "ipip".to_owned(),
        Tunnel::Gue { port, checksum } => format!("gue:{port}:{}", sign(checksum)),
        Tunnel::Gre { checksum } => format!("gre:{}", sign(checksum)),
    }
}
