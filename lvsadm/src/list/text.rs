//! Addresses, ports and services as listings and saved rules write them.

use crate::names::Names;
use lvs_core::{
    Addr, Endpoint, Family, LocalAddresses, OnRemoval, Protocol, SchedFlags, ServiceKey,
};
use std::cell::RefCell;
use std::collections::HashMap;

/// Writes values, as numbers or by name. Each address is looked up once.
pub(crate) struct Text<'a> {
    names: &'a dyn Names,
    numeric: bool,
    hosts: RefCell<HashMap<Addr, Option<String>>>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(names: &'a dyn Names, numeric: bool) -> Self {
        Self {
            names,
            numeric,
            hosts: RefCell::default(),
        }
    }

    /// `10.0.0.1:80`, `[fd00::1]:80`, `localhost:http`; each part that has no name is a number.
    pub(crate) fn endpoint(&self, endpoint: Endpoint, protocol: Protocol) -> String {
        let Endpoint { addr, port } = endpoint;
        let host = match self.host(addr) {
            Some(name) => name,
            None => number(addr),
        };
        let port = if self.numeric {
            None
        } else {
            self.names.service(port, protocol)
        }
        .unwrap_or_else(|| port.to_string());
        match addr.family() {
            Family::V4 => format!("{host}:{port}"),
            Family::V6 => format!("[{host}]:{port}"),
        }
    }

    fn host(&self, addr: Addr) -> Option<String> {
        if self.numeric {
            return None;
        }
        let mut hosts = self.hosts.borrow_mut();
        let known = hosts.entry(addr);
        known.or_insert_with(|| self.names.host(addr)).clone()
    }
}

/// An address as `inet_ntop` writes it: as everybody does, but for `::10.0.0.9`.
fn number(addr: Addr) -> String {
    match addr.family() {
        Family::V6 if addr.hi == 0 && addr.lo >> 16 != 0 && addr.lo >> 32 == 0 => {
            let [.., a, b, c, d] = addr.lo.to_be_bytes();
            format!("::{a}.{b}.{c}.{d}")
        }
        _ => addr.to_string(),
    }
}

/// The names of a service's scheduler flags; the third of `sh` and `mh` is not shown.
pub(crate) fn flags(scheduler: &str, flags: SchedFlags) -> String {
    let flag3 = flags.flag3 && !matches!(scheduler, "sh" | "mh");
    lvs_api::flags::names(scheduler, SchedFlags { flag3, ..flags }).join(",")
}

/// Local addresses of FULLNAT, as `--local` takes them.
pub(crate) fn addresses(local: &LocalAddresses) -> String {
    let all: Vec<String> = local.iter().map(|addr| addr.to_string()).collect();
    all.join(",")
}

/// What becomes of connections, as `--on-removal` takes it.
pub(crate) fn removal(policy: OnRemoval) -> String {
    policy.to_string().replace(' ', ":")
}

/// The protocol by which a service's ports are named.
pub(crate) const fn protocol(key: &ServiceKey) -> Protocol {
    match key {
        ServiceKey::Endpoint { protocol, .. } => *protocol,
        ServiceKey::FwMark { .. } => Protocol::Ip,
    }
}

/// The first `length` characters.
pub(super) fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}
