//! From rtnetlink's messages to plain values (`linux/rtnetlink.h`, `if_link.h`, `if_addr.h`,
//! `neighbour.h`).
//!
//! In: messages of a dump or a notification. Out: interfaces, addresses, routes, neighbours; what
//! cannot be read is left out. Never: a decision about them.

use super::interface::{Interface, InterfaceAddress, Vlan};
use super::routes::{LOCAL, Listed, MAIN, NextHop, Route, Target};
use super::snapshot::{Neighbour, NeighbourState};
use super::source::unspecified;
use crate::host::netlink::{Attributes, Message, Socket, Writer, native_u16, native_u32, octets};
use lvs_core::{Addr, Family};
use std::io;

pub(super) const NEW_LINK: u16 = 16;
pub(super) const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
pub(super) const NEW_NEIGHBOUR: u16 = 28;
pub(super) const DEL_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;
const GET_RULE: u16 = 34;
const NEW_RULE: u16 = 32;
pub(super) const NEW_NEXTHOP: u16 = 104;
pub(super) const DEL_NEXTHOP: u16 = 105;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Bytes of `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`, `ndmsg`, `rtnexthop`, `fib_rule_hdr`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEIGHBOUR_HEADER: usize = 12;
const NEXT_HOP_HEADER: usize = 8;
const RULE_HEADER: usize = 12;

/// The interfaces, with their addresses, in ascending order of their numbers.
pub(super) fn interfaces(socket: &mut Socket) -> io::Result<Vec<Interface>> {
    /// `IFLA_EXT_MASK` with `RTEXT_FILTER_SKIP_STATS`: counters are not wanted.
    const EXT_MASK: u16 = 29;
    const SKIP_STATS: u32 = 8;
    let mut interfaces = socket.dump(
        GET_LINK,
        &[0; LINK_HEADER],
        |w| w.octets(EXT_MASK, &SKIP_STATS.to_ne_bytes()),
        |found, message| found.extend(interface(&message)),
    )?;
    let addresses = socket.dump(
        GET_ADDRESS,
        &[0; ADDRESS_HEADER],
        |_| {},
        |found, message| {
            found.extend(address(&message));
        },
    )?;
    for interface in &mut interfaces {
        interface.addresses = addresses
            .iter()
            .filter(|(index, _)| *index == interface.index)
            .map(|(_, address)| *address)
            .collect();
    }
    interfaces.sort_by_key(|i| i.index);
    interfaces.dedup_by_key(|i| i.index);
    Ok(interfaces)
}

/// The routes of `main` and `local`, in the kernel's order.
pub(super) fn routes(socket: &mut Socket) -> io::Result<Vec<Listed>> {
    let none = |_: &mut Writer| {};
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family;
        all.extend(socket.dump(GET_ROUTE, &header, none, |found, message| {
            found.extend(route(&message));
        })?);
    }
    Ok(all)
}

/// The neighbours, unordered.
pub(super) fn neighbours(socket: &mut Socket) -> io::Result<Vec<Neighbour>> {
    socket.dump(
        GET_NEIGHBOUR,
        &[0; NEIGHBOUR_HEADER],
        |_| {},
        |found, message| {
            found.extend(neighbour(&message));
        },
    )
}

/// How many policy rules there are beyond the kernel's own three (`local`, `main`, `default`).
pub(super) fn policy_rules(socket: &mut Socket) -> io::Result<usize> {
    const PRIORITY: u16 = 6;
    let rules = socket.dump(
        GET_RULE,
        &[0; RULE_HEADER],
        |_| {},
        |found, message| {
            if message.kind == NEW_RULE {
                let attributes = Attributes::after(message.payload, RULE_HEADER);
                let priority = attributes.find(PRIORITY).and_then(|v| native_u32(v, 0));
                found.push(priority.unwrap_or(0));
            }
        },
    )?;
    let own = [0, 0x7ffe, 0x7fff];
    Ok(rules.iter().filter(|p| !own.contains(p)).count())
}

fn interface(message: &Message<'_>) -> Option<Interface> {
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    const LINK: u16 = 5;
    const MASTER: u16 = 10;
    const LINK_INFO: u16 = 18;
    const LINK_NAMESPACE: u16 = 37;
    const AF_SPEC: u16 = 26;
    const UP: u32 = 0x1;
    const LOOPBACK: u32 = 0x8;
    const RUNNING: u32 = 0x40;
    const NO_ARP: u32 = 0x80;
    /// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`: frames have an Ethernet header.
    const ETHERNET: [u16; 2] = [1, 772];
    if message.kind != NEW_LINK || message.payload.first() != Some(&0) {
        return None;
    }
    let hardware = native_u16(message.payload, 2)?;
    let flags = native_u32(message.payload, 8)?;
    let mut mac = None;
    let mut name = None;
    let mut mtu = 0;
    let mut mtu_v6 = None;
    let mut link = None;
    let mut link_elsewhere = false;
    let mut master = None;
    let mut info = LinkInfo::default();
    for (kind, value) in Attributes::after(message.payload, LINK_HEADER) {
        match kind {
            ADDRESS if value.len() == 6 && ETHERNET.contains(&hardware) => mac = octets(value, 0),
            NAME => name = std::str::from_utf8(value).ok(),
            MTU => mtu = native_u32(value, 0)?,
            LINK => link = native_u32(value, 0),
            LINK_NAMESPACE => link_elsewhere = true,
            MASTER => master = native_u32(value, 0),
            LINK_INFO => info = link_info(value),
            AF_SPEC => mtu_v6 = inet6_mtu(value),
            _ => {}
        }
    }
    Some(Interface {
        index: native_u32(message.payload, 4)?,
        name: name?.trim_end_matches('\0').into(),
        mac,
        mtu,
        mtu_v6: mtu_v6.map_or(mtu, |v6| v6.min(mtu)),
        up: flags & UP != 0,
        running: flags & (UP | RUNNING) == UP | RUNNING,
        loopback: flags & LOOPBACK != 0,
        no_arp: flags & NO_ARP != 0,
        port_of: master.filter(|_| !info.in_vrf),
        vlan: link
            .filter(|_| !link_elsewhere)
            .zip(info.vlan)
            .map(|(parent, id)| Vlan { parent, id }),
        addresses: Box::default(),
    })
}

/// What `IFLA_LINKINFO` tells.
#[derive(Clone, Copy, Debug, Default)]
struct LinkInfo {
    vlan: Option<u16>,
    in_vrf: bool,
}

fn link_info(value: &[u8]) -> LinkInfo {
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    const PORT_KIND: u16 = 4;
    const VLAN_ID: u16 = 1;
    let attributes = Attributes(value);
    let is = |kind, name: &[u8]| {
        let text = attributes.clone().find(kind);
        text.is_some_and(|text| text.strip_suffix(&[0]).unwrap_or(text) == name)
    };
    let data = attributes.clone().find(DATA).filter(|_| is(KIND, b"vlan"));
    LinkInfo {
        vlan: data
            .and_then(|data| Attributes(data).find(VLAN_ID))
            .and_then(|id| native_u16(id, 0)),
        in_vrf: is(PORT_KIND, b"vrf"),
    }
}

/// `DEVCONF_MTU6` of `IFLA_INET6_CONF` of `AF_INET6` of `IFLA_AF_SPEC`.
fn inet6_mtu(af_spec: &[u8]) -> Option<u32> {
    const CONF: u16 = 2;
    const MTU6: usize = 2;
    let inet6 = Attributes(af_spec).find(u16::from(AF_INET6))?;
    let conf = Attributes(inet6).find(CONF)?;
    native_u32(conf, MTU6 * 4).filter(|mtu| *mtu != 0)
}

fn address(message: &Message<'_>) -> Option<(u32, InterfaceAddress)> {
    const ADDRESS: u16 = 1;
    const OWN: u16 = 2;
    const FLAGS: u16 = 8;
    const SECONDARY: u32 = 0x01;
    const DAD_FAILED: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    const OPTIMISTIC: u32 = 0x04;
    if message.kind != NEW_ADDRESS {
        return None;
    }
    let [family, prefix_len, flags, scope] = octets(message.payload, 0)?;
    let family = family_of(family)?;
    let mut flags = u32::from(flags);
    let mut subnet = None;
    let mut own = None;
    for (kind, value) in Attributes::after(message.payload, ADDRESS_HEADER) {
        match kind {
            ADDRESS => subnet = addr(family, value),
            OWN => own = addr(family, value),
            FLAGS => flags = native_u32(value, 0)?,
            _ => {}
        }
    }
    let address = InterfaceAddress {
        addr: own.or(subnet)?,
        subnet: subnet.or(own)?,
        prefix_len,
        scope,
        secondary: flags & SECONDARY != 0,
        deprecated: flags & DEPRECATED != 0,
        tentative: flags & DAD_FAILED != 0 || flags & (TENTATIVE | OPTIMISTIC) == TENTATIVE,
    };
    Some((native_u32(message.payload, 4)?, address))
}

fn route(message: &Message<'_>) -> Option<Listed> {
    const DESTINATION: u16 = 1;
    const INTERFACE: u16 = 4;
    const GATEWAY: u16 = 5;
    const PRIORITY: u16 = 6;
    const PREFERRED_SOURCE: u16 = 7;
    const METRICS: u16 = 8;
    const MULTIPATH: u16 = 9;
    const TABLE: u16 = 15;
    const VIA: u16 = 18;
    const PREFERENCE: u16 = 20;
    const ENCAPSULATION: u16 = 21;
    /// `RTAX_MTU` in `RTA_METRICS`.
    const METRIC_MTU: u16 = 2;
    /// `RTM_F_CLONED`: a cache entry, not a route.
    const CLONED: u32 = 0x200;
    const UNICAST: u8 = 1;
    const OWN: u8 = 2;
    const ANYCAST: u8 = 4;
    if message.kind != NEW_ROUTE {
        return None;
    }
    let [family, length, source_length, tos] = octets(message.payload, 0)?;
    let [table, _protocol, scope, kind] = octets(message.payload, 4)?;
    let flags = native_u32(message.payload, 8)?;
    if flags & CLONED != 0 || source_length != 0 || tos != 0 {
        return None;
    }
    let family = family_of(family)?;
    let mut listed = Listed {
        prefix: unspecified(family),
        length,
        table: u32::from(table),
        metric: 0,
        preference: 1,
        route: Route {
            target: Target::Nowhere,
            scope,
            source: None,
            mtu: 0,
        },
    };
    let mut hops = Vec::new();
    let mut single = SingleHop::default();
    let mut encapsulated = false;
    for (attribute, value) in Attributes::after(message.payload, ROUTE_HEADER) {
        match attribute {
            DESTINATION => listed.prefix = addr(family, value)?,
            INTERFACE => single.ifindex = native_u32(value, 0),
            GATEWAY => single.gateway = addr(family, value),
            VIA => single.gateway = via(value),
            PRIORITY => listed.metric = native_u32(value, 0)?,
            PREFERRED_SOURCE => listed.route.source = addr(family, value),
            METRICS => {
                let mtu = Attributes(value).find(METRIC_MTU);
                listed.route.mtu = mtu.and_then(|v| native_u32(v, 0)).unwrap_or(0);
            }
            MULTIPATH => encapsulated |= multipath(family, value, &mut hops),
            TABLE => listed.table = native_u32(value, 0)?,
            PREFERENCE => {
                // RFC 4191, 2.1: 0 is medium, 1 high, 3 low.
                listed.preference = match value.first() {
                    Some(1) => 0,
                    Some(3) => 2,
                    _ => 1,
                }
            }
            ENCAPSULATION => encapsulated = true,
            _ => {}
        }
    }
    if !matches!(listed.table, MAIN | LOCAL) {
        return None;
    }
    listed.route.target = match kind {
        OWN | ANYCAST => Target::Local,
        UNICAST if encapsulated => Target::Nowhere,
        UNICAST => {
            if hops.is_empty() && !is_dead(flags) {
                hops.extend(single.hop());
            }
            // The kernel goes on to the next route when all hops of one are dead.
            if hops.is_empty() {
                return None;
            }
            Target::Hops(hops.into())
        }
        _ => Target::Nowhere,
    };
    Some(listed)
}

#[derive(Default)]
struct SingleHop {
    ifindex: Option<u32>,
    gateway: Option<Addr>,
}

impl SingleHop {
    fn hop(&self) -> Option<NextHop> {
        Some(NextHop {
            ifindex: self.ifindex?,
            gateway: self.gateway,
            weight_until: 1,
        })
    }
}

/// `RTNH_F_DEAD`
const fn is_dead(flags: u32) -> bool {
    flags & 1 != 0
}

/// The living hops of `RTA_MULTIPATH`; whether one of them needs an encapsulation.
fn multipath(family: Family, mut value: &[u8], hops: &mut Vec<NextHop>) -> bool {
    const GATEWAY: u16 = 5;
    const VIA: u16 = 18;
    const ENCAPSULATION: u16 = 21;
    let mut encapsulated = false;
    let mut weight_until = 0;
    while let (Some(length), Some([flags, extra]), Some(ifindex)) =
        (native_u16(value, 0), octets(value, 2), native_u32(value, 4))
    {
        let length = usize::from(length);
        let Some(hop) = value.get(..length) else {
            break;
        };
        let mut gateway = None;
        for (attribute, value) in Attributes::after(hop, NEXT_HOP_HEADER) {
            match attribute {
                GATEWAY => gateway = addr(family, value),
                VIA => gateway = via(value),
                ENCAPSULATION => encapsulated = true,
                _ => {}
            }
        }
        if !is_dead(u32::from(flags)) {
            weight_until += u32::from(extra) + 1;
            hops.push(NextHop {
                ifindex,
                gateway,
                weight_until,
            });
        }
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    encapsulated
}

pub(super) fn neighbour(message: &Message<'_>) -> Option<Neighbour> {
    const ADDRESS: u16 = 1;
    const LINK_ADDRESS: u16 = 2;
    if !matches!(message.kind, NEW_NEIGHBOUR | DEL_NEIGHBOUR) {
        return None;
    }
    let family = family_of(*message.payload.first()?)?;
    let mut known = None;
    let mut mac = None;
    for (kind, value) in Attributes::after(message.payload, NEIGHBOUR_HEADER) {
        match kind {
            ADDRESS => known = addr(family, value),
            LINK_ADDRESS if value.len() == 6 => mac = octets(value, 0),
            _ => {}
        }
    }
    Some(Neighbour {
        ifindex: native_u32(message.payload, 4)?,
        addr: known?,
        mac,
        state: NeighbourState::from_bits(native_u16(message.payload, 8)?),
    })
}

const fn family_of(number: u8) -> Option<Family> {
    match number {
        AF_INET => Some(Family::V4),
        AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

fn addr(family: Family, value: &[u8]) -> Option<Addr> {
    match family {
        Family::V4 => octets(value, 0).map(Addr::from_v4_octets),
        // An IPv4-mapped address would be taken for the IPv4 address itself.
        Family::V6 => octets(value, 0)
            .map(Addr::from_v6_octets)
            .filter(|addr| !addr.is_v4()),
    }
}

/// `struct rtvia`: the family in 16 bits, then the address.
fn via(value: &[u8]) -> Option<Addr> {
    let family = family_of(u8::try_from(native_u16(value, 0)?).ok()?)?;
    addr(family, value.get(2..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interface as the kernel lists one, with what `IFLA_LINKINFO` holds.
    fn listed(elsewhere: bool, info: impl FnOnce(&mut Writer)) -> Interface {
        let mut header = [0; LINK_HEADER];
        header[2..4].copy_from_slice(&1_u16.to_ne_bytes());
        header[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        let mut writer = Writer::default();
        writer.message(NEW_LINK, 0, 1, &header, |w| {
            w.text(3, "x");
            w.octets(5, &4_u32.to_ne_bytes());
            w.octets(10, &9_u32.to_ne_bytes());
            if elsewhere {
                w.octets(37, &0_u32.to_ne_bytes());
            }
            w.nest(18, info);
        });
        let message = crate::host::netlink::Messages(writer.bytes())
            .next()
            .unwrap();
        interface(&message).unwrap()
    }

    fn vlan(w: &mut Writer) {
        w.text(1, "vlan");
        w.nest(2, |w| w.octets(1, &300_u16.to_ne_bytes()));
    }

    #[test]
    fn a_vlan_has_its_parent_unless_that_is_in_another_namespace() {
        let found = listed(false, vlan).vlan;
        assert_eq!(found, Some(Vlan { parent: 4, id: 300 }));
        assert_eq!(listed(true, vlan).vlan, None);
        let macvlan = listed(false, |w| {
            w.text(1, "macvlan");
            w.nest(2, |w| w.octets(1, &300_u16.to_ne_bytes()));
        });
        assert_eq!(macvlan.vlan, None);
    }

    #[test]
    fn a_vrf_has_no_ports() {
        assert_eq!(listed(false, |w| w.text(4, "bridge")).port_of, Some(9));
        assert_eq!(listed(false, |w| w.text(4, "vrf")).port_of, None);
    }
}
