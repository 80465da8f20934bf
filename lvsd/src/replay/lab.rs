//! The network that the recordings were made in, as the director sees it, and its host's stack.
//!
//! Clients are 10.1.0.0/16 and fd01::/64 behind 10.9.0.1, servers 10.2.0.0/24 and fd02::/64 behind
//! 10.2.0.254; everything in 10.0.0.0/24, 10.5.0.0/16, fd00::/64 and fd05::/64 is the host's own.
//! The MTU is 1500 on both sides. Nothing listens on the host: its stack answers what is left to it
//! as a Linux without SCTP does.

use super::trace::Side;
use lvs_core::{Addr, Family};
use lvs_director::{Route, Routes, Way};

const MTU: u32 = 1500;

/// The host's routes. A hop is the place of its address in `hops`.
#[derive(Debug, Default)]
pub(crate) struct Lab {
    hops: Vec<Addr>,
    /// From where the batch at hand came.
    pub(crate) from: Side,
    /// It came from the host itself.
    pub(crate) from_host: bool,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Clients,
    Servers,
    Host,
    Nowhere,
}

fn place(addr: Addr) -> Place {
    if addr.is_loopback() || host_addresses(addr.family()).contains(&addr) {
        return Place::Host;
    }
    match addr.family() {
        Family::V4 => match addr.v4_octets() {
            [10, 1, ..] => Place::Clients,
            [10, 2, 0, _] => Place::Servers,
            [10, 0, 0, _] | [10, 5, ..] => Place::Host,
            _ => Place::Nowhere,
        },
        // The subnet is the upper half.
        Family::V6 => match addr.hi {
            0xfd01_0000_0000_0000..=0xfd01_0000_ffff_ffff => Place::Clients,
            0xfd02_0000_0000_0000 => Place::Servers,
            0xfd00_0000_0000_0000 | 0xfd05_0000_0000_0000 => Place::Host,
            _ => Place::Nowhere,
        },
    }
}

/// Whether the host was given an address, as IPv6 asks: fd05::/64 it only takes.
fn has(addr: Addr) -> bool {
    place(addr) == Place::Host && addr.hi != 0xfd05 << 48
}

/// The host's own addresses, towards the clients and towards the servers.
fn host_addresses(family: Family) -> [Addr; 2] {
    match family {
        Family::V4 => [
            Addr::from_v4_octets([10, 9, 0, 1]),
            Addr::from_v4_octets([10, 2, 0, 254]),
        ],
        Family::V6 => [(0xfd09 << 48, 1), (0xfd02 << 48, 0xfe)].map(|(hi, lo)| Addr { hi, lo }),
    }
}

impl Lab {
    /// The address of a hop.
    pub(crate) fn hop(&self, hop: u32) -> Option<Addr> {
        self.hops.get(usize::try_from(hop).ok()?).copied()
    }

    /// Whether a server is there.
    pub(crate) fn is_server(addr: Addr) -> bool {
        place(addr) == Place::Servers
    }

    /// Whether a client is there.
    pub(crate) fn is_client(addr: Addr) -> bool {
        place(addr) == Place::Clients
    }

    /// The address that the host's errors about packets of clients to an address of its own come
    /// from: with IPv6 one that it was given.
    pub(crate) fn answers_from(addr: Addr) -> Addr {
        if has(addr) {
            return addr;
        }
        let [clients, _] = host_addresses(addr.family());
        clients
    }

    /// Whether the address is the host's own.
    pub(crate) fn is_host(addr: Addr) -> bool {
        place(addr) == Place::Host
    }

    fn number(&mut self, addr: Addr) -> u32 {
        let place = self.hops.iter().position(|&hop| hop == addr);
        let place = place.unwrap_or_else(|| {
            self.hops.push(addr);
            self.hops.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

impl Routes for Lab {
    fn way(&mut self, destination: Addr) -> Way {
        let [clients, servers] = host_addresses(destination.family());
        let source = match place(destination) {
            Place::Host => return Way::Local,
            Place::Nowhere => return Way::Unreachable,
            Place::Clients => clients,
            Place::Servers => servers,
        };
        Way::Forward(Route {
            hop: self.number(destination),
            mtu: MTU,
            source,
        })
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        let [clients, servers] = host_addresses(towards.family());
        Some(match self.from {
            Side::Server => servers,
            Side::Client => clients,
        })
    }

    fn has_address(&mut self, addr: Addr) -> bool {
        has(addr)
    }

    fn interface(&self) -> &str {
        match self.from {
            Side::Client => "d0",
            Side::Server => "d1",
        }
    }

    fn is_from_host(&self) -> bool {
        self.from_host
    }

    fn host_is_server(&self) -> bool {
        true
    }
}
