//! Values that can be written in more than one way.

use super::kinds::{self, Read};
use super::reader::Fault;
use super::schema::MAX_TIMEOUT;
use lvs_api::{Netmask, Persistence, Tunnel, TunnelChecksum};
use lvs_core::{Addr, Endpoint, LocalAddresses, OnRemoval};
use std::net::Ipv4Addr;
use toml::de::{DeTable, DeValue};

/// `"5m"`, or `{ timeout = "5m", netmask = "255.255.255.0" }`.
pub(super) fn persistence(value: &DeValue<'_>) -> Read<Persistence> {
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

/// `10.0.0.2:8080`, or without a port: the service's.
pub(super) fn server(text: &str, port: u16) -> Read<Endpoint> {
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

/// `["10.2.0.250", "10.2.0.251"]`.
pub(super) fn local_addresses(value: &DeValue<'_>) -> Read<LocalAddresses> {
    const EXAMPLE: &str = r#"write ["10.2.0.250"]: addresses of this director and of nobody else"#;
    let addresses = kinds::texts(value)?
        .iter()
        .map(|text| {
            text.parse::<Addr>()
                .map_err(|_| Fault::new(format!("has `{text}`, which is no address")).help(EXAMPLE))
        })
        .collect::<Read<Vec<Addr>>>()?;
    LocalAddresses::new(&addresses)
        .map_err(|why| Fault::new(format!("has too many: {why}")).help("leave some out"))
}

/// `"drain"`, `"drain 30s"`, `"reset"`, `"reschedule"`.
pub(super) fn on_removal(value: &DeValue<'_>) -> Read<OnRemoval> {
    let text = kinds::text(value)?;
    if let Some(time) = text.strip_prefix("drain ") {
        let time = DeValue::String(time.trim().into());
        let read = kinds::duration(1, OnRemoval::MAX_DRAIN);
        let seconds = match text.parse() {
            Ok(OnRemoval::DrainFor(seconds)) => seconds,
            _ => read(&time)?,
        };
        return Ok(OnRemoval::DrainFor(seconds));
    }
    text.parse().map_err(|_| {
        Fault::new(format!("is `{text}`, which does not exist"))
            .help(r#"there are "drain", "drain 30s", "reset" and "reschedule""#)
    })
}

/// `"ipip"`, `{ type = "gre", checksum = "full" }`, `{ type = "gue", port = 6080 }`.
pub(super) fn tunnel(value: &DeValue<'_>) -> Read<Tunnel> {
    const EXAMPLE: &str =
        r#"write "ipip", { type = "gre", checksum = "full" } or { type = "gue", port = 6080 }"#;
    const CHECKSUMS: &[(&str, TunnelChecksum)] = &[
        ("none", TunnelChecksum::None),
        ("full", TunnelChecksum::Full),
        ("remote", TunnelChecksum::Remote),
    ];
    let fault = |message: String| Fault::new(message).help(EXAMPLE);
    let empty = DeTable::new();
    let (kind, table) = match value {
        DeValue::Table(table) => {
            let kind = table
                .get("type")
                .ok_or_else(|| fault("lacks its `type`".to_owned()))?;
            (kinds::text(kind.get_ref())?, table)
        }
        other => (kinds::text(other)?, &empty),
    };
    let known: &[&str] = match kind.as_str() {
        "ipip" => &["type"],
        "gre" => &["type", "checksum"],
        "gue" => &["type", "checksum", "port"],
        _ => return Err(fault(format!("is `{kind}`, which does not exist"))),
    };
    if let Some(other) = table
        .keys()
        .find(|key| !known.contains(&key.get_ref().as_ref()))
    {
        let name = other.get_ref();
        return Err(fault(format!("has a key `{name}`, which {kind} does not")));
    }
    let checksum = match table.get("checksum") {
        None => TunnelChecksum::None,
        Some(word) => kinds::one_of(CHECKSUMS)(word.get_ref()).map_err(|inner| Fault {
            message: format!("has a checksum that {}", inner.message),
            ..inner
        })?,
    };
    match kind.as_str() {
        "gue" => {
            let port = table
                .get("port")
                .ok_or_else(|| fault("lacks the `port` of gue".to_owned()))?;
            let port = kinds::number(1, 65535)(port.get_ref())
                .map_err(|inner| fault(format!("has a port that {}", inner.message)))?;
            Ok(Tunnel::Gue {
                port: u16::try_from(port).unwrap_or_default(),
                checksum,
            })
        }
        "gre" if checksum == TunnelChecksum::Remote => {
            Err(fault("has a checksum that only gue has".to_owned()))
        }
        "gre" => Ok(Tunnel::Gre { checksum }),
        _ => Ok(Tunnel::Ipip),
    }
}
