//! `-S`: the rules as command lines that `-R` reads; ipvsadm reads them too unless they have what
//! it has not.

use crate::errors::Failure;
use crate::list::{self, Text};
use crate::names::Names;
use crate::run::written;
use lvs_api::{Client, Destination, Method, Netmask, Service, Tunnel, TunnelChecksum};
use lvs_core::{Family, Protocol, SchedFlags, ServiceKey};
use std::io::{self, Write};

pub(crate) fn show(
    client: &mut Client,
    numeric: bool,
    names: &dyn Names,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let services = client
        .services(None)
        .map_err(|error| Failure::listing(&error))?;
    let text = Text::new(names, numeric);
    for service in list::sorted(services) {
        let word = service_word(&service.config.key, &text);
        let lines = save_service(&service.config, &word, out).and_then(|()| {
            let protocol = protocol(&service.config.key);
            service.destinations.iter().try_for_each(|destination| {
                let config = &destination.config;
                let address = text.endpoint(config.address, protocol);
                save_destination(config, &word, &address, out)
            })
        });
        lines.or_else(written)?;
    }
    Ok(())
}

fn protocol(key: &ServiceKey) -> Protocol {
    match key {
        ServiceKey::Endpoint { protocol, .. } => *protocol,
        ServiceKey::FwMark { .. } => Protocol::Ip,
    }
}

/// The option that names a service.
fn service_word(key: &ServiceKey, text: &Text<'_>) -> String {
    match *key {
        ServiceKey::Endpoint { protocol, vip } => {
            let option = match protocol {
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
                _ => "-t",
            };
            format!("{option} {}", text.endpoint(vip, protocol))
        }
        // Marks from 2^31 on come out negative and are not read again: ipvsadm's loss, and ours.
        ServiceKey::FwMark { family, mark } => match family {
            Family::V4 => format!("-f {}", mark.cast_signed()),
            Family::V6 => format!("-f {} -6", mark.cast_signed()),
        },
    }
}

fn save_service(service: &Service, word: &str, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "-A {word} -s {}", service.scheduler)?;
    if let Some(persistence) = &service.persistence {
        write!(out, " -p {}", persistence.timeout)?;
        let whole = Netmask::whole(service.key.family());
        match persistence.netmask.filter(|mask| *mask != whole) {
            Some(Netmask::V4(mask)) => write!(out, " -M {mask}")?,
            Some(Netmask::V6(length)) => write!(out, " -M {length}")?,
            None => {}
        }
    }
    if let Some(engine) = &service.engine {
        write!(out, " --pe {engine}")?;
    }
    if service.one_packet {
        out.write_all(b" -o")?;
    }
    let flags = list::flags(&service.scheduler, service.flags);
    if service.flags != SchedFlags::default() {
        write!(out, " -b {flags}")?;
    }
    if let Some(local) = service.local.filter(|local| !local.is_empty()) {
        write!(out, " --local {}", list::addresses(&local))?;
    }
    if service.toa == Some(true) {
        out.write_all(b" --toa")?;
    }
    if let Some(policy) = service.on_removal {
        write!(out, " --on-removal {}", list::removal(policy))?;
    }
    writeln!(out)
}

fn save_destination(
    destination: &Destination,
    word: &str,
    address: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let method = match destination.method {
        Method::Nat => "-m",
        Method::FullNat => "--fullnat",
        Method::Tun => "-i",
        Method::Dr | Method::Local | Method::Bypass => "-g",
    };
    let weight = destination.weight;
    write!(out, "-a {word} -r {address} {method} -w {weight}")?;
    if destination.method == Method::Tun {
        let checksum = |checksum| match checksum {
            TunnelChecksum::None => "--tun-nocsum",
            TunnelChecksum::Full => "--tun-csum",
            TunnelChecksum::Remote => "--tun-remcsum",
        };
        match destination.tunnel {
            Tunnel::Ipip => out.write_all(b" --tun-type ipip")?,
            Tunnel::Gue {
                port,
                checksum: sum,
            } => {
                write!(out, " --tun-type gue --tun-port {port} {}", checksum(sum))?;
            }
            Tunnel::Gre { checksum: sum } => {
                write!(out, " --tun-type gre {}", checksum(sum))?;
            }
        }
    }
    if let Some(local) = destination.local.filter(|local| !local.is_empty()) {
        write!(out, " --local {}", list::addresses(&local))?;
    }
    if let Some(policy) = destination.on_removal {
        write!(out, " --on-removal {}", list::removal(policy))?;
    }
    writeln!(out)
}
