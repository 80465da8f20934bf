//! Addresses, ports and services as listings and saved rules write them.

use crate::names::Names;
use lvs_core::{Addr, Endpoint, Family, Protocol, ServiceKey};
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
            None => addr.to_string(),
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
