//! The source address that the kernel would give a packet of ours.
//!
//! In: the interfaces, the way out and the destination. Out: an address of the host. Never: an
//! address that is not yet ours (tentative).
//!
//! IPv4 takes the first primary address of the interface, of the next hop's subnet if there is
//! one. IPv6 follows the rules of RFC 6724, section 5, that can differ between addresses of one
//! host: 1, 2, 3, 5, 6, 7 and 8.

use super::interface::{Interface, InterfaceAddress};
use lvs_core::{Addr, Family};
use std::cmp::Reverse;

/// `RT_SCOPE_LINK`
const LINK: u8 = 253;

/// The best address for packets to `to` that leave by `ifindex` over `gateway`, by a route of that
/// scope; unspecified if the host has none.
pub(super) fn best(
    interfaces: &[Interface],
    ifindex: u32,
    gateway: Option<Addr>,
    scope: u8,
    to: Addr,
) -> Addr {
    let found = match to.family() {
        Family::V4 => best_v4(interfaces, ifindex, gateway, scope),
        Family::V6 => best_v6(interfaces, ifindex, to),
    };
    found.unwrap_or_else(|| unspecified(to.family()))
}

/// `0.0.0.0` or `::`.
pub(super) const fn unspecified(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bits(0),
        Family::V6 => Addr::UNSPECIFIED,
    }
}

fn best_v4(
    interfaces: &[Interface],
    ifindex: u32,
    gateway: Option<Addr>,
    scope: u8,
) -> Option<Addr> {
    let usable =
        |a: &&InterfaceAddress| a.addr.is_v4() && !a.secondary && !a.tentative && a.scope <= scope;
    let out = interfaces.iter().find(|i| i.index == ifindex);
    if let Some(out) = out {
        let holds = |a: &&InterfaceAddress, addr: Addr| {
            a.subnet.masked(a.prefix_len) == addr.masked(a.prefix_len)
        };
        let mut own = out.addresses.iter().filter(usable);
        let first = own.clone().next();
        let near = gateway.and_then(|gateway| own.find(|a| holds(a, gateway)));
        if let Some(found) = near.or(first) {
            return Some(found.addr);
        }
    }
    interfaces
        .iter()
        .filter(|i| i.up)
        .flat_map(|i| &i.addresses)
        .filter(usable)
        .find(|a| a.scope != LINK)
        .map(|a| a.addr)
}

fn best_v6(interfaces: &[Interface], ifindex: u32, to: Addr) -> Option<Addr> {
    let wanted = scope_of(to);
    let mut best: Option<(_, Addr)> = None;
    for interface in interfaces.iter().filter(|i| i.up) {
        let out = interface.index == ifindex;
        // Link-local addresses mean something on their own link only.
        for a in &interface.addresses {
            let scope = scope_of(a.addr);
            if a.addr.is_v4()
                || a.tentative
                || (!out && (wanted <= LINK_LOCAL || scope <= LINK_LOCAL))
            {
                continue;
            }
            let equal_bits = (a.addr.hi ^ to.hi).leading_zeros() + {
                if a.addr.hi == to.hi {
                    (a.addr.lo ^ to.lo).leading_zeros()
                } else {
                    0
                }
            };
            // Rule 2: the smallest scope that is large enough; else the largest.
            let reach = if scope >= wanted {
                (1, Reverse(scope))
            } else {
                (0, Reverse(u8::MAX - scope))
            };
            let rank = (
                a.addr == to,
                reach,
                !a.deprecated,
                out,
                label(a.addr) == label(to),
                !a.secondary,
                equal_bits.min(u32::from(a.prefix_len)),
            );
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, a.addr));
            }
        }
    }
    best.map(|(_, addr)| addr)
}

const LINK_LOCAL: u8 = 2;

/// The scope of an address in the numbers of RFC 4291, 2.7.
const fn scope_of(addr: Addr) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "four bits, masked")]
    if addr.is_multicast() {
        (addr.hi >> 48) as u8 & 0xf
    } else if addr.hi >> 54 == 0xfe80 >> 6 || addr.is_loopback() {
        LINK_LOCAL
    } else if addr.hi >> 54 == 0xfec0 >> 6 {
        5
    } else {
        14
    }
}

/// The labels of the kernel's default policy table (RFC 6724, 2.1 with RFC 4380's and 4843's).
const fn label(addr: Addr) -> u8 {
    if addr.is_loopback() {
        0
    } else if addr.is_v4() {
        4
    } else if addr.hi == 0 && addr.lo >> 32 == 0 {
        3
    } else if addr.hi >> 48 == 0x2002 {
        2
    } else if addr.hi >> 32 == 0x2001_0000 {
        6
    } else if addr.hi >> 36 == 0x0200_1001 {
        7
    } else if addr.hi >> 57 == 0xfc >> 1 {
        5
    } else {
        1
    }
}
