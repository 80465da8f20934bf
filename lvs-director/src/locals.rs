//! FULLNAT's local endpoints: which addresses a destination is spoken to from, and which of their
//! ports are taken.
//!
//! The control plane says which addresses; ports are counted for each pair of a local address and a
//! server, so that services which share both never give the same port twice, and each pair has some
//! 64 thousand. A worker takes a port without a lock; the collector gives it back when the connection
//! has ended.

use crate::shards::Shards;
use arc_swap::ArcSwap;
use lvs_conn::LocalPorts;
use lvs_core::{Addr, Endpoint, LocalAddresses};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The ports of local addresses that FULLNAT gives out; lower ones are those of services.
pub const LOCAL_PORTS: RangeInclusive<u16> = FIRST_PORT..=u16::MAX;
const FIRST_PORT: u16 = 1024;
/// Where the first ones are taken: above what servers listen at, so that a lookup's first guess at which
/// end of a packet is the server's is right.
const BEGIN: u16 = 1 << 15;

/// A local address towards one server.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) addr: Addr,
    ports: Arc<LocalPorts>,
}

impl Local {
    /// The port is free again.
    pub(crate) fn give_back(&self, port: u16) {
        self.ports.give_back(port);
    }
}

/// All pairs of local address and server that there are, or that connections still hold.
#[derive(Clone, Debug)]
pub(crate) struct Pairs(Shards<(Addr, Addr), Arc<LocalPorts>>);

impl Pairs {
    /// A destination's ways to be spoken to.
    pub(crate) fn towards(&mut self, server: Addr, addresses: &LocalAddresses) -> Arc<[Local]> {
        let locals = addresses.iter().map(|addr| {
            let ports = self.ports(addr, server);
            Local { addr, ports }
        });
        locals.collect()
    }

    fn ports(&mut self, local: Addr, server: Addr) -> Arc<LocalPorts> {
        let new = || Arc::new(LocalPorts::new(FIRST_PORT));
        self.0.get_or_insert_with((local, server), new)
    }
}

/// The ports of all pairs.
#[derive(Debug)]
pub(crate) struct Locals(ArcSwap<Pairs>);

impl Default for Locals {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(Pairs(Shards::new())))
    }
}

impl Locals {
    /// All pairs, to be added to. By the control plane, one at a time.
    pub(crate) fn pairs(&self) -> Pairs {
        Pairs::clone(&self.0.load())
    }

    /// These are the pairs from now on.
    pub(crate) fn publish(&self, pairs: Pairs) {
        self.0.store(Arc::new(pairs));
    }

    /// Ports that connections have which were made before this director: of local endpoints towards
    /// servers. By the control plane, before there are workers.
    pub(crate) fn claim(&self, taken: &[(Endpoint, Addr)]) {
        let mut pairs = Pairs::clone(&self.0.load());
        for (local, server) in taken {
            pairs.ports(local.addr, *server).claim(local.port);
        }
        self.publish(pairs);
    }

    /// A connection has ended: its port is free.
    pub(crate) fn give_back(&self, local: Endpoint, server: Addr) {
        if let Some(ports) = self.0.load().0.get(&(local.addr, server)) {
            ports.give_back(local.port);
        }
    }

    /// Forgets pairs that neither a rule nor a connection has. By the control plane.
    pub(crate) fn tidy(&self) {
        let idle = |ports: &Arc<LocalPorts>| Arc::strong_count(ports) == 1 && ports.taken() == 0;
        let pairs = self.0.load();
        let entries = pairs.0.entries().filter(|(_, ports)| idle(ports));
        let gone: Vec<_> = entries.map(|(pair, _)| *pair).collect();
        if gone.is_empty() {
            return;
        }
        let mut left = Pairs::clone(&pairs);
        for pair in gone {
            left.0.put(pair, None);
        }
        self.publish(left);
    }
}

/// Where a worker begins to look for the next port: each address and each port in turn, so that one
/// that came free rests as long as possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor(u32);

impl Cursor {
    /// Workers begin apart from each other.
    pub(crate) fn new(worker: usize) -> Self {
        let worker = u32::try_from(worker).unwrap_or(0);
        Self(worker.wrapping_mul(0x9e37_79b9))
    }

    /// A local endpoint of one of these addresses; `None` if all their ports are taken.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a place to begin, of any bits"
    )]
    pub(crate) fn take(&mut self, locals: &[Local]) -> Option<Endpoint> {
        if locals.is_empty() {
            return None;
        }
        self.0 = self.0.wrapping_add(1);
        let count = locals.len();
        let first = self.0 as usize % count;
        let start = (self.0 / count as u32) as u16 ^ BEGIN;
        let (before, from) = locals.split_at_checked(first)?;
        from.iter().chain(before).find_map(|local| {
            let port = local.ports.take(start.max(FIRST_PORT))?;
            Some(Endpoint::new(local.addr, port))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_ports_of_all_addresses_once_and_again_after_their_return() {
        let locals = Locals::default();
        let [one, two, server]: [Addr; 3] =
            ["10.2.0.250", "10.2.0.251", "10.2.0.1"].map(|text| text.parse().unwrap());
        let both = LocalAddresses::new(&[one, two]).unwrap();
        let mut pairs = locals.pairs();
        let towards = pairs.towards(server, &both);
        // Another service with the same server shares its ports.
        let shared = pairs.towards(server, &LocalAddresses::new(&[two]).unwrap());
        locals.publish(pairs);
        let mut cursor = Cursor::new(0);
        let total = 2 * (65_536 - 1024);
        let taken: HashSet<Endpoint> = (0..total).map(|_| cursor.take(&towards).unwrap()).collect();
        assert_eq!(taken.len(), total);
        assert_eq!(cursor.take(&towards), None);
        assert_eq!(cursor.take(&shared), None);
        let back = Endpoint::new(two, 5000);
        locals.give_back(back, server);
        assert_eq!(cursor.take(&shared), Some(back));
    }

    #[test]
    fn pairs_stay_as_long_as_a_rule_or_a_connection_has_them() {
        let locals = Locals::default();
        let [local, server]: [Addr; 2] = ["10.2.0.250", "10.2.0.1"].map(|t| t.parse().unwrap());
        let mut pairs = locals.pairs();
        let towards = pairs.towards(server, &LocalAddresses::new(&[local]).unwrap());
        locals.publish(pairs);
        let port = Cursor::new(0).take(&towards).unwrap();
        drop(towards);
        locals.tidy();
        assert_eq!(locals.0.load().0.keys().count(), 1);
        locals.give_back(port, server);
        locals.tidy();
        assert_eq!(locals.0.load().0.keys().count(), 0);
    }
}
