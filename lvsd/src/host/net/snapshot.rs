//! One moment of the kernel's interfaces, routes and neighbours.
//!
//! In: what the watcher has read. Out: answers. Never: an allocation, a lock or a system call in an
//! answer; a worker may ask for each packet, though it will rather remember the answer for as long
//! as the generation is the same.

use super::interface::{Interface, Vlan};
use super::neighbours::Hop;
use super::routes::{RouteTable, Target};
use super::source;
use lvs_core::Addr;
use std::sync::Arc;

/// What the kernel knew at one moment. The default knows nothing.
#[derive(Clone, Debug, Default)]
pub struct NetSnapshot {
    pub(super) generation: u64,
    pub(super) interfaces: Arc<[Interface]>,
    pub(super) routes: Arc<RouteTable>,
    pub(super) neighbours: Arc<[Neighbour]>,
}

/// A neighbour; ordered by interface and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) ifindex: u32,
    pub(super) addr: Addr,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) state: NeighbourState,
}

/// What the kernel thinks of a neighbour's link-layer address (RFC 4861, 7.3.2, and Linux's own).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NeighbourState {
    /// Being asked for; not known yet.
    Incomplete,
    /// Known and lately confirmed.
    Reachable,
    /// Known, not lately confirmed.
    Stale,
    /// Known, in use, soon to be asked again.
    Delay,
    /// Known, being asked again.
    Probe,
    /// It did not answer.
    Failed,
    /// There is nothing to ask for on this link.
    NoArp,
    /// Set by the administrator.
    Permanent,
    /// No state yet.
    None,
}

impl NeighbourState {
    /// From `NUD_` bits.
    pub(super) const fn from_bits(bits: u16) -> Self {
        match bits {
            0x01 => Self::Incomplete,
            0x02 => Self::Reachable,
            0x04 => Self::Stale,
            0x08 => Self::Delay,
            0x10 => Self::Probe,
            0x20 => Self::Failed,
            0x40 => Self::NoArp,
            0x80 => Self::Permanent,
            _ => Self::None,
        }
    }

    /// Whether the link-layer address may be used (`NUD_VALID`).
    #[must_use]
    pub const fn is_valid(self) -> bool {
        !matches!(self, Self::Incomplete | Self::Failed | Self::None)
    }
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAnswer {
    /// To the host itself (an address of its own, a local route, an IPv6 anycast address).
    Local,
    /// To a next hop.
    Unicast {
        /// The interface by which they leave.
        ifindex: u32,
        /// The gateway, or the destination itself where it is on the link. May be of the other
        /// family than the destination (RFC 5549).
        next_hop: Addr,
        /// The largest packet in bytes: of the route or the interface, whichever is smaller.
        mtu: u32,
        /// The host's address for packets of its own on this way; unspecified if it has none.
        source: Addr,
    },
    /// Nowhere: no route, one that forbids it, or not a unicast address.
    Unreachable,
}

impl NetSnapshot {
    /// Counts the snapshots of one watcher; 0 is the default's.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The way to an address.
    ///
    /// Among the next hops of a multipath route the address decides, by weight, so that all packets
    /// to one address take one way.
    #[must_use]
    pub fn route(&self, to: Addr) -> RouteAnswer {
        if to.is_multicast() {
            return RouteAnswer::Unreachable;
        }
        let Some(route) = self.routes.get(to) else {
            return RouteAnswer::Unreachable;
        };
        if route.target == Target::Local {
            return RouteAnswer::Local;
        }
        let Some(hop) = route.target.hop(to) else {
            return RouteAnswer::Unreachable;
        };
        let Some(interface) = self.interface(hop.ifindex) else {
            return RouteAnswer::Unreachable;
        };
        let device = if to.is_v4() {
            interface.mtu
        } else {
            interface.mtu_v6
        };
        let mtu = if route.mtu == 0 {
            device
        } else {
            device.min(route.mtu)
        };
        let source = route.source.unwrap_or_else(|| {
            source::best(&self.interfaces, hop.ifindex, hop.gateway, route.scope, to)
        });
        RouteAnswer::Unicast {
            ifindex: hop.ifindex,
            next_hop: hop.gateway.unwrap_or(to),
            mtu,
            source,
        }
    }

    /// The neighbour to which packets to an address are handed; `None` if they stay here or have no
    /// way.
    #[must_use]
    pub fn hop(&self, to: Addr) -> Option<Hop> {
        match self.route(to) {
            RouteAnswer::Unicast {
                ifindex, next_hop, ..
            } => Some(Hop {
                ifindex,
                addr: next_hop,
            }),
            RouteAnswer::Local | RouteAnswer::Unreachable => None,
        }
    }

    /// The Ethernet address of a neighbour, if the kernel has one that may be used.
    #[must_use]
    pub fn neighbour(&self, ifindex: u32, addr: Addr) -> Option<[u8; 6]> {
        self.find(ifindex, addr)
            .filter(|n| n.state.is_valid())
            .and_then(|n| n.mac)
    }

    /// What the kernel thinks of a neighbour; `None` if it has no entry for it.
    #[must_use]
    pub fn neighbour_state(&self, ifindex: u32, addr: Addr) -> Option<NeighbourState> {
        self.find(ifindex, addr).map(|n| n.state)
    }

    /// The VLANs of an interface that have interfaces of their own: frames with their tags are
    /// theirs, not its.
    pub fn vlans(&self, ifindex: u32) -> impl Iterator<Item = u16> + '_ {
        let of = move |vlan: &Vlan| vlan.parent == ifindex;
        let all = self.interfaces.iter().filter_map(|i| i.vlan);
        all.filter(of).map(|vlan| vlan.id)
    }

    /// Whether the host takes packets to this address for its own: it has a local route for it, or
    /// the address on an interface that is up.
    #[must_use]
    pub fn is_local(&self, addr: Addr) -> bool {
        self.routes
            .get(addr)
            .is_some_and(|route| route.target == Target::Local)
            || self.has_address(addr)
    }

    /// Whether an interface that is up has this address. Only for such an IPv6 address does the
    /// host answer neighbour solicitations.
    #[must_use]
    pub fn has_address(&self, addr: Addr) -> bool {
        self.addresses().any(|own| own == addr)
    }

    /// The interface of that number.
    #[must_use]
    pub fn interface(&self, ifindex: u32) -> Option<&Interface> {
        let at = self.interfaces.binary_search_by_key(&ifindex, |i| i.index);
        self.interfaces.get(at.ok()?)
    }

    /// The interface of that name.
    #[must_use]
    pub fn interface_named(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| &*i.name == name)
    }

    /// All interfaces, in ascending order of their numbers.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The broadcast addresses of the networks that interfaces are on, as the kernel has them for every
    /// IPv4 network of more than two addresses.
    #[must_use]
    pub fn broadcasts(&self) -> Vec<Addr> {
        let addresses = self.interfaces.iter().flat_map(|found| &found.addresses);
        let wide = addresses.filter(|found| found.prefix_len < 31);
        wide.filter_map(|found| {
            let bits = found.subnet.v4_bits()?;
            let broadcast = bits | u32::MAX.checked_shr(found.prefix_len.into())?;
            Some(std::net::Ipv4Addr::from_bits(broadcast).into())
        })
        .collect()
    }

    /// The host's own addresses on interfaces that are up, with repetitions.
    pub fn addresses(&self) -> impl Iterator<Item = Addr> {
        let up = self.interfaces.iter().filter(|i| i.up);
        up.flat_map(|i| i.addresses.iter().map(|a| a.addr))
    }

    fn find(&self, ifindex: u32, addr: Addr) -> Option<&Neighbour> {
        let key = (ifindex, addr);
        let at = self
            .neighbours
            .binary_search_by_key(&key, |n| (n.ifindex, n.addr));
        self.neighbours.get(at.ok()?)
    }
}

#[cfg(test)]
impl NetSnapshot {
    /// A snapshot that knows neighbours and nothing else.
    pub(crate) fn for_test(generation: u64, neighbours: &[(Hop, [u8; 6])]) -> Self {
        let mut list: Vec<Neighbour> = neighbours
            .iter()
            .map(|&(hop, mac)| Neighbour {
                ifindex: hop.ifindex,
                addr: hop.addr,
                mac: Some(mac),
                state: NeighbourState::Reachable,
            })
            .collect();
        list.sort_by_key(|n| (n.ifindex, n.addr));
        Self {
            generation,
            neighbours: list.into(),
            ..Self::default()
        }
    }
}
