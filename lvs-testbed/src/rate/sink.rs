//! A UDP socket that counts and keeps nothing.
//!
//! Its filter refuses every packet, after the kernel has looked it up and checked its checksum. The
//! kernel counts it as an error of input; wrong checksums are counted apart.

use std::fs;
use std::net::SocketAddr;

use socket2::{Domain, SockFilter, Socket, Type};

use crate::{Error, Namespace, Result};

/// The socket. It is the only one of its namespace that may receive UDP.
#[derive(Debug)]
pub struct Sink {
    _socket: Socket,
    namespace: Namespace,
    ipv6: bool,
}

impl Sink {
    /// Binds `address`.
    ///
    /// # Errors
    ///
    /// When it is not there or taken.
    pub fn open(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace
            .run(|| {
                let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
                socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
                socket.bind(&address.into())?;
                Ok(socket)
            })?
            .map_err(Error::io(format!("open a sink on {address}")))?;
        Ok(Self {
            _socket: socket,
            namespace: namespace.duplicate()?,
            ipv6: address.is_ipv6(),
        })
    }

    /// Packets that have come in whole, for this address or another of the namespace.
    ///
    /// # Errors
    ///
    /// Without `/proc`.
    pub fn delivered(&self) -> Result<u64> {
        let [refused, damaged] = self.counters(["InErrors", "InCsumErrors"])?;
        Ok(refused - damaged)
    }

    /// Packets that have come in with a wrong checksum.
    ///
    /// # Errors
    ///
    /// Without `/proc`.
    pub fn damaged(&self) -> Result<u64> {
        let [damaged] = self.counters(["InCsumErrors"])?;
        Ok(damaged)
    }

    fn counters<const N: usize>(&self, names: [&str; N]) -> Result<[u64; N]> {
        let (file, find): (_, fn(&str, &str) -> u64) = if self.ipv6 {
            ("snmp6", v6_counter)
        } else {
            ("snmp", v4_counter)
        };
        let text = self
            .namespace
            .run(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")))?
            .map_err(Error::io("read the UDP counters"))?;
        Ok(names.map(|name| find(&text, name)))
    }
}

/// `Udp: name name ...` and then `Udp: value value ...`.
fn v4_counter(text: &str, name: &str) -> u64 {
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (rows.next(), rows.next()) else {
        return 0;
    };
    names
        .split(' ')
        .zip(values.split(' '))
        .find_map(|(n, value)| (n == name).then(|| value.parse().ok())?)
        .unwrap_or(0)
}

/// `Udp6Name   value`.
fn v6_counter(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            let (n, value) = line.strip_prefix("Udp6")?.split_once(char::is_whitespace)?;
            (n == name).then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0)
}
