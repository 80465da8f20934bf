//! A network interface and what may happen to it.
//!
//! In: what `decode` reads. Out: values for readers. Never: a system call.

use lvs_core::Addr;
use std::fmt;
use std::sync::Arc;

/// A network interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// The kernel's number; never 0.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its Ethernet address; `None` where frames have no Ethernet header (a tunnel).
    pub mac: Option<[u8; 6]>,
    /// The largest packet in bytes, link-layer header not counted.
    pub mtu: u32,
    /// The same for IPv6, which a router may have advertised smaller.
    pub mtu_v6: u32,
    /// Switched on (`IFF_UP`).
    pub up: bool,
    /// Able to carry packets (`IFF_UP` and `IFF_RUNNING`: there is a carrier).
    pub running: bool,
    /// The loopback interface.
    pub loopback: bool,
    /// Neighbours have no link-layer address to be asked for (`IFF_NOARP`).
    pub no_arp: bool,
    /// The interface that it is a port of (a bridge, a bond), which gets what comes in by it. A VRF
    /// is none.
    pub port_of: Option<u32>,
    /// For the interface of a VLAN: which one.
    pub vlan: Option<Vlan>,
    /// Its addresses, in the kernel's order.
    pub addresses: Box<[InterfaceAddress]>,
}

/// A VLAN (802.1Q, 802.1ad) that has an interface of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vlan {
    /// The interface by which its tagged frames come.
    pub parent: u32,
    /// Its identifier in their tag, 0 to 4094.
    pub id: u16,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceAddress {
    /// The address of the host.
    pub addr: Addr,
    /// The address whose first `prefix_len` bits name the subnet: the peer on a point-to-point
    /// link, else `addr`.
    pub subnet: Addr,
    /// Length of the subnet's prefix in bits.
    pub prefix_len: u8,
    /// `RT_SCOPE_`: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
    /// A further address in a subnet that has one already (IPv4), or a temporary one (IPv6).
    pub secondary: bool,
    /// Not to be used as the source of something new (RFC 4862, 5.5.4).
    pub deprecated: bool,
    /// Not yet the host's, or refused by duplicate address detection.
    pub tentative: bool,
}

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceEvent {
    /// The interface after the change; for [`InterfaceChange::Gone`] as it was last known.
    pub interface: Interface,
    /// What changed.
    pub change: InterfaceChange,
}

/// The kinds of [`InterfaceEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InterfaceChange {
    /// It is new; also sent once for each interface found at the start.
    Appeared,
    /// It can carry packets now.
    Up,
    /// It cannot carry packets any more.
    Down,
    /// Its Ethernet address is another one.
    Mac,
    /// Its MTU is another one.
    Mtu,
    /// Its name is another one.
    Renamed,
    /// It has become a port of another interface ([`Interface::port_of`]).
    Joined,
    /// It is a port no longer.
    Left,
    /// It is gone.
    Gone,
}

impl fmt::Display for InterfaceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Appeared => "appeared",
            Self::Up => "came up",
            Self::Down => "went down",
            Self::Mac => "has another Ethernet address",
            Self::Mtu => "has another MTU",
            Self::Renamed => "has another name",
            Self::Joined => "is now a port of another interface",
            Self::Left => "is no longer a port of another interface",
            Self::Gone => "is gone",
        })
    }
}

/// What happened between two lists of interfaces, both in ascending order of index.
pub(super) fn changes(before: &[Interface], after: &[Interface]) -> Vec<InterfaceEvent> {
    let mut events = Vec::new();
    let find = |list: &[Interface], index: u32| {
        let at = list.binary_search_by_key(&index, |i| i.index).ok()?;
        list.get(at).cloned()
    };
    for old in before {
        if find(after, old.index).is_none() {
            events.push(InterfaceEvent {
                interface: old.clone(),
                change: InterfaceChange::Gone,
            });
        }
    }
    for new in after {
        let mut push = |change| {
            events.push(InterfaceEvent {
                interface: new.clone(),
                change,
            });
        };
        let Some(old) = find(before, new.index) else {
            push(InterfaceChange::Appeared);
            continue;
        };
        if old.name != new.name {
            push(InterfaceChange::Renamed);
        }
        if old.mac != new.mac {
            push(InterfaceChange::Mac);
        }
        if (old.mtu, old.mtu_v6) != (new.mtu, new.mtu_v6) {
            push(InterfaceChange::Mtu);
        }
        match (old.port_of, new.port_of) {
            (None, Some(_)) => push(InterfaceChange::Joined),
            (Some(_), None) => push(InterfaceChange::Left),
            _ => {}
        }
        match (old.running, new.running) {
            (false, true) => push(InterfaceChange::Up),
            (true, false) => push(InterfaceChange::Down),
            _ => {}
        }
    }
    events
}
