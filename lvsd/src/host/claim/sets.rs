//! The sets that the rules look things up in.
//!
//! In: a [`ClaimSet`]. Out: sets of keys, and the messages that turn one content into another.
//! Never: a duplicate element, or a change to what stays.

use super::ClaimSet;
use super::batch::{Batch, DEL_ELEMENTS, NEW_ELEMENTS, NEW_SET, What};
use crate::host::netlink::{CREATE, EXCLUSIVE, Writer};
use lvs_core::{Addr, Endpoint, Family, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// A set of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set {
    pub(super) family: Family,
    pub(super) kind: SetKind,
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SetKind {
    /// Addresses to which everything is claimed.
    Owned,
    /// Addresses of the host.
    Host,
    /// Address, protocol and port of services.
    Services,
    /// Address and protocol of services on all ports.
    ServicesAnyPort,
    /// Address and protocol of all services.
    ServicesFragments,
    /// Address, protocol and port of destinations.
    Replies,
    /// Address and protocol of destinations on all ports.
    RepliesAnyPort,
    /// Address and protocol of all destinations.
    RepliesFragments,
    /// Types of ICMP errors.
    IcmpErrors,
    /// Address and ports of FULLNAT; a key is the first endpoint and the last.
    LocalPorts,
}

/// The content of every set.
pub(super) type Contents = BTreeMap<Set, BTreeSet<Vec<u8>>>;

const KINDS: [SetKind; 10] = [
    SetKind::Owned,
    SetKind::Host,
    SetKind::Services,
    SetKind::ServicesAnyPort,
    SetKind::ServicesFragments,
    SetKind::Replies,
    SetKind::RepliesAnyPort,
    SetKind::RepliesFragments,
    SetKind::IcmpErrors,
    SetKind::LocalPorts,
];

/// The port of ISAKMP, and the protocols that go where it went (RFC 4303, RFC 4302).
const ISAKMP: u16 = 500;
const ESP: u8 = 50;
const AH: u8 = 51;

/// Elements in one message: far below the 64 KB that an attribute can hold.
const CHUNK: usize = 512;

impl Set {
    /// Its name in the table.
    pub(super) fn name(self) -> String {
        let kind = match self.kind {
            SetKind::Owned => "owned",
            SetKind::Host => "host",
            SetKind::Services => "services",
            SetKind::ServicesAnyPort => "services-any",
            SetKind::ServicesFragments => "services-fragments",
            SetKind::Replies => "replies",
            SetKind::RepliesAnyPort => "replies-any",
            SetKind::RepliesFragments => "replies-fragments",
            SetKind::IcmpErrors => "icmp-errors",
            SetKind::LocalPorts => "local-ports",
        };
        format!("{kind}{}", self.family as u8)
    }

    /// The number by which `nft` knows how to print the key, and the key's length in bytes.
    fn key(self) -> (u32, u32) {
        // nft numbers its types; a concatenation has six bits for each.
        const ICMP_TYPE: u32 = 14;
        const ICMPV6_TYPE: u32 = 29;
        const PROTOCOL: u32 = 12;
        const PORT: u32 = 13;
        let (addr, length, icmp) = match self.family {
            Family::V4 => (7, 4, ICMP_TYPE),
            Family::V6 => (8, 16, ICMPV6_TYPE),
        };
        match self.kind {
            SetKind::Owned | SetKind::Host => (addr, length),
            SetKind::Services | SetKind::Replies => (addr << 12 | PROTOCOL << 6 | PORT, length + 8),
            SetKind::ServicesAnyPort
            | SetKind::ServicesFragments
            | SetKind::RepliesAnyPort
            | SetKind::RepliesFragments => (addr << 6 | PROTOCOL, length + 4),
            SetKind::IcmpErrors => (icmp, 1),
            SetKind::LocalPorts => (addr << 6 | PORT, length + 4),
        }
    }

    /// Writes that each field of the key is a range by itself, if it is.
    fn describe(self, w: &mut Writer) {
        /// `NFT_SET_INTERVAL | NFT_SET_CONCAT`
        const RANGES: u32 = 0x84;
        if self.kind != SetKind::LocalPorts {
            w.be_u32(3, 0);
            return;
        }
        let address = match self.family {
            Family::V4 => 4,
            Family::V6 => 16,
        };
        w.be_u32(3, RANGES);
        w.nest(9, |w| {
            w.nest(2, |w| {
                for length in [address, 2] {
                    w.nest(1, |w| w.be_u32(1, length));
                }
            });
        });
    }

    /// Writes an element.
    fn element(self, w: &mut Writer, key: &[u8]) {
        /// `NFTA_SET_ELEM_KEY`, `NFTA_SET_ELEM_KEY_END`
        const KEY: u16 = 1;
        const KEY_END: u16 = 10;
        if self.kind == SetKind::LocalPorts {
            let (first, last) = key.split_at(key.len() / 2);
            w.nest(KEY, |w| w.octets(1, first));
            w.nest(KEY_END, |w| w.octets(1, last));
        } else {
            w.nest(KEY, |w| w.octets(1, key));
        }
    }
}

/// Creates all sets; only the constant ones have elements.
pub(super) fn create(batch: &mut Batch<'_>) -> Contents {
    let table = batch.table();
    let sets = [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| KINDS.map(|kind| Set { family, kind }));
    for (id, set) in (1..).zip(sets) {
        let (key_type, key_length) = set.key();
        batch.add(What::Set, NEW_SET, CREATE | EXCLUSIVE, |w| {
            w.text(1, table);
            w.text(2, &set.name());
            set.describe(w);
            w.be_u32(4, key_type);
            w.be_u32(5, key_length);
            w.be_u32(10, id);
        });
    }
    let contents = contents(&ClaimSet::default());
    update(batch, &Contents::new(), &contents);
    contents
}

/// Turns one content into another.
pub(super) fn update(batch: &mut Batch<'_>, before: &Contents, after: &Contents) {
    let nothing = BTreeSet::new();
    let sets: BTreeSet<Set> = before.keys().chain(after.keys()).copied().collect();
    for set in sets {
        let old = before.get(&set).unwrap_or(&nothing);
        let new = after.get(&set).unwrap_or(&nothing);
        elements(batch, DEL_ELEMENTS, 0, set, old.difference(new));
        elements(batch, NEW_ELEMENTS, CREATE, set, new.difference(old));
    }
}

fn elements<'a>(
    batch: &mut Batch<'_>,
    kind: u16,
    flags: u16,
    set: Set,
    keys: impl Iterator<Item = &'a Vec<u8>>,
) {
    let table = batch.table();
    let keys: Vec<&Vec<u8>> = keys.collect();
    for chunk in keys.chunks(CHUNK) {
        batch.add(What::Elements, kind, flags, |w| {
            w.text(1, table);
            w.text(2, &set.name());
            w.nest(3, |w| {
                for key in chunk {
                    w.nest(1, |w| set.element(w, key));
                }
            });
        });
    }
}

/// What the sets hold for a claim.
pub(super) fn contents(claim: &ClaimSet) -> Contents {
    let mut contents = Contents::new();
    let mut add = |family, kind, key| {
        let set = Set { family, kind };
        contents.entry(set).or_default().insert(key);
    };
    for &addr in &claim.owned_vips {
        add(addr.family(), SetKind::Owned, octets(addr));
    }
    for &addr in &claim.host_addresses {
        add(addr.family(), SetKind::Host, octets(addr));
    }
    let directions = [
        (
            &claim.services,
            SetKind::Services,
            SetKind::ServicesAnyPort,
            SetKind::ServicesFragments,
        ),
        (
            &claim.replies,
            SetKind::Replies,
            SetKind::RepliesAnyPort,
            SetKind::RepliesFragments,
        ),
    ];
    for (list, exact, any_port, fragments) in directions {
        for &(protocol, endpoint) in list {
            let family = endpoint.addr.family();
            add(family, fragments, address_key(protocol, endpoint.addr));
            if endpoint.port == 0 {
                add(family, any_port, address_key(protocol, endpoint.addr));
            } else {
                add(family, exact, endpoint_key(protocol, endpoint));
            }
            // What has no ports follows ISAKMP.
            if protocol == Protocol::Udp && matches!(endpoint.port, 0 | ISAKMP) {
                for number in [ESP, AH] {
                    add(family, any_port, numbered_key(number, endpoint.addr));
                }
            }
        }
    }
    for (addr, ports) in &claim.local_ports {
        let key = [
            local_key(*addr, *ports.start()),
            local_key(*addr, *ports.end()),
        ];
        if !ports.is_empty() {
            add(addr.family(), SetKind::LocalPorts, key.concat());
        }
    }
    // Destination unreachable, source quench, time exceeded (RFC 792); destination unreachable,
    // packet too big, time exceeded, parameter problem (RFC 4443).
    for kind in [3, 4, 11] {
        add(Family::V4, SetKind::IcmpErrors, vec![kind]);
    }
    for kind in [1, 2, 3, 4] {
        add(Family::V6, SetKind::IcmpErrors, vec![kind]);
    }
    contents
}

fn octets(addr: Addr) -> Vec<u8> {
    match addr.family() {
        Family::V4 => addr.v4_octets().to_vec(),
        Family::V6 => addr.v6_octets().to_vec(),
    }
}

/// Each field of a key fills up its last register.
fn address_key(protocol: Protocol, addr: Addr) -> Vec<u8> {
    numbered_key(protocol.number(), addr)
}

fn numbered_key(protocol: u8, addr: Addr) -> Vec<u8> {
    let mut key = octets(addr);
    key.extend([protocol, 0, 0, 0]);
    key
}

fn local_key(addr: Addr, port: u16) -> Vec<u8> {
    let mut key = octets(addr);
    let [high, low] = port.to_be_bytes();
    key.extend([high, low, 0, 0]);
    key
}

fn endpoint_key(protocol: Protocol, endpoint: Endpoint) -> Vec<u8> {
    let mut key = address_key(protocol, endpoint.addr);
    let [high, low] = endpoint.port.to_be_bytes();
    key.extend([high, low, 0, 0]);
    key
}
