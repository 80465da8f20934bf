//! For which VIPs we answer, and how we say so.
//!
//! In: the rules' VIPs, the director's interfaces, a [`NetSnapshot`]. Out: the VIPs that the host
//! does not have or does not answer for, and frames that tell the neighbours where they are now: an ARP announcement (RFC
//! 5227, 2.3), an unsolicited neighbour advertisement (RFC 4861, 7.2.6). Never: an answer
//! where the host's stack answers itself.
//!
//! ```
//! use lvsd::host::announce::{self, Announcement};
//! use lvsd::host::net::NetSnapshot;
//!
//! let vip = "192.0.2.10".parse().unwrap();
//! assert_eq!(announce::foreign([vip], &NetSnapshot::default()), [vip]);
//!
//! let announcement = Announcement { ifindex: 2, mac: [2, 0, 0, 0, 0, 1], vip };
//! let mut buffer = [0; Announcement::MAX_LEN];
//! let frame = announcement.write(&mut buffer);
//! assert_eq!(frame.len(), 42);
//! assert_eq!(frame[12..14], [0x08, 0x06]);
//! ```

use super::net::NetSnapshot;
use lvs_core::{Addr, Family};

/// Those of the VIPs that the host does not have, sorted, each once: for these we answer ARP and
/// neighbour solicitations, and everything to them is ours
/// ([`ClaimSet::owned_vips`](super::claim::ClaimSet::owned_vips)).
#[must_use]
pub fn foreign(vips: impl IntoIterator<Item = Addr>, net: &NetSnapshot) -> Vec<Addr> {
    let mut foreign: Vec<Addr> = vips
        .into_iter()
        .filter(|vip| vip.is_unicast() && !net.is_local(*vip))
        .collect();
    foreign.sort_unstable();
    foreign.dedup();
    foreign
}

/// Those of the VIPs that the host's stack does not answer for, sorted, each once: the [`foreign`]
/// ones, and the IPv6 ones that it has on loopback only. It answers ARP for each of its addresses on
/// any interface, but a neighbour solicitation only on the interface that has the address.
#[must_use]
pub fn unanswered(vips: impl IntoIterator<Item = Addr>, net: &NetSnapshot) -> Vec<Addr> {
    let on_the_wire = |vip: Addr| {
        let mut wires = net.interfaces().iter().filter(|i| !i.loopback);
        wires.any(|wire| wire.addresses.iter().any(|a| a.addr == vip))
    };
    let mut unanswered: Vec<Addr> = vips
        .into_iter()
        .filter(|vip| vip.is_unicast())
        .filter(|vip| !net.is_local(*vip) || (vip.family() == Family::V6 && !on_the_wire(*vip)))
        .collect();
    unanswered.sort_unstable();
    unanswered.dedup();
    unanswered
}

/// Whether we answer for a VIP on an interface: on those in whose subnet it lies, or, if it lies in
/// none of the host, on all. Two interfaces on one wire would give two answers otherwise.
#[must_use]
pub fn speaks_on(vip: Addr, ifindex: u32, net: &NetSnapshot) -> bool {
    let mut anywhere = false;
    for interface in net.interfaces().iter().filter(|i| i.up && !i.loopback) {
        let holds = interface.addresses.iter().any(|a| {
            a.addr.family() == vip.family()
                && a.subnet.masked(a.prefix_len) == vip.masked(a.prefix_len)
        });
        if holds && interface.index == ifindex {
            return true;
        }
        anywhere |= holds;
    }
    !anywhere
}

/// One VIP on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The interface by which the frame leaves.
    pub ifindex: u32,
    /// That interface's Ethernet address, which is the VIP's from now on.
    pub mac: [u8; 6],
    /// The VIP.
    pub vip: Addr,
}

/// What is to be announced by these interfaces for the VIPs that the host does not answer for.
#[must_use]
pub fn announcements(
    vips: impl IntoIterator<Item = Addr>,
    interfaces: &[u32],
    net: &NetSnapshot,
) -> Vec<Announcement> {
    let mut list = Vec::new();
    for vip in unanswered(vips, net) {
        for &ifindex in interfaces {
            let Some(interface) = net.interface(ifindex) else {
                continue;
            };
            let ready = interface.running && !interface.no_arp && !interface.loopback;
            match interface.mac {
                Some(mac) if ready && speaks_on(vip, ifindex, net) => {
                    list.push(Announcement { ifindex, mac, vip });
                }
                _ => {}
            }
        }
    }
    list
}

impl Announcement {
    /// The longest frame.
    pub const MAX_LEN: usize = 86;

    /// Writes the frame, from its Ethernet header on, and returns it.
    pub fn write<'a>(&self, buffer: &'a mut [u8; Self::MAX_LEN]) -> &'a [u8] {
        let mut frame = Octets {
            rest: &mut buffer[..],
            written: 0,
        };
        match self.vip.family() {
            Family::V4 => self.arp(&mut frame),
            Family::V6 => self.advertisement(&mut frame),
        }
        let length = frame.written;
        buffer.get(..length).unwrap_or_default()
    }

    fn arp(&self, frame: &mut Octets<'_>) {
        frame.put(&[0xff; 6]);
        frame.put(&self.mac);
        // EtherType; Ethernet, IPv4, lengths of both addresses, request (RFC 826).
        frame.put(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        frame.put(&self.mac);
        frame.put(&self.vip.v4_octets());
        frame.put(&[0; 6]);
        frame.put(&self.vip.v4_octets());
    }

    fn advertisement(&self, frame: &mut Octets<'_>) {
        const LENGTH: u8 = 32;
        const ICMPV6: u8 = 58;
        const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let vip = self.vip.v6_octets();
        // Type 136, override set (RFC 4861, 4.4), then the target's link-layer address as an option.
        let header = [136, 0, 0, 0, 0x20, 0, 0, 0];
        let option = [2, 1];
        let pseudo = [0, 0, 0, LENGTH, 0, 0, 0, ICMPV6];
        let parts: [&[u8]; 7] = [&vip, &ALL_NODES, &pseudo, &header, &vip, &option, &self.mac];
        let checksum = checksum(parts.concat().as_slice()).to_be_bytes();
        // All nodes on the link, in Ethernet's words (RFC 2464, 7).
        frame.put(&[0x33, 0x33, 0, 0, 0, 1]);
        frame.put(&self.mac);
        frame.put(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, LENGTH, ICMPV6, 255]);
        frame.put(&vip);
        frame.put(&ALL_NODES);
        frame.put(&[136, 0]);
        frame.put(&checksum);
        frame.put(&[0x20, 0, 0, 0]);
        frame.put(&vip);
        frame.put(&option);
        frame.put(&self.mac);
    }
}

/// Octets written one behind the other; what has no room is left out.
struct Octets<'a> {
    rest: &'a mut [u8],
    written: usize,
}

impl Octets<'_> {
    fn put(&mut self, octets: &[u8]) {
        let to = self.rest.iter_mut().skip(self.written);
        to.zip(octets).for_each(|(to, octet)| *to = *octet);
        self.written += octets.len();
    }
}

/// RFC 1071, over an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let pairs = octets.as_chunks::<2>().0.iter();
    let sum: u32 = pairs.map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{Tap, in_namespace, ip, until};

    fn addrs(list: &[&str]) -> Vec<Addr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn network() {
        for i in 0..2 {
            ip(&format!("link add n{i} type veth peer name p{i}"));
            ip(&format!("link set n{i} up"));
            ip(&format!("link set p{i} up"));
        }
        ip("addr add 10.0.0.1/24 dev n0");
        ip("-6 addr add fd00::1/64 dev n0 nodad");
        ip("addr add 10.1.0.1/24 dev n1");
    }

    #[test]
    fn the_hosts_own_addresses_are_left_to_it() {
        in_namespace(|| {
            network();
            ip("addr add 192.0.2.10/32 dev lo");
            ip("-6 addr add 2001:db8::10/128 dev lo nodad");
            let net = NetSnapshot::read().unwrap();
            let vips = [
                "192.0.2.11",
                "192.0.2.10",
                "10.0.0.1",
                "10.0.0.9",
                "10.0.0.9",
                "2001:db8::10",
                "2001:db8::11",
                "0.0.0.0",
            ];
            assert_eq!(
                foreign(addrs(&vips), &net),
                addrs(&["10.0.0.9", "192.0.2.11", "2001:db8::11"])
            );
            assert_eq!(
                unanswered(addrs(&vips), &net),
                addrs(&["10.0.0.9", "192.0.2.11", "2001:db8::10", "2001:db8::11"])
            );
        });
    }

    #[test]
    fn a_vip_is_announced_where_its_subnet_is() {
        in_namespace(|| {
            network();
            let net = NetSnapshot::read().unwrap();
            let [n0, n1] = ["n0", "n1"].map(|name| net.interface_named(name).unwrap().index);
            let on = |vip: &str| -> Vec<u32> {
                let list = announcements(addrs(&[vip]), &[n0, n1], &net);
                list.iter().map(|a| a.ifindex).collect()
            };
            assert_eq!(on("10.0.0.9"), [n0]);
            assert_eq!(on("10.1.0.9"), [n1]);
            assert_eq!(on("fd00::9"), [n0]);
            assert_eq!(on("192.0.2.10"), [n0, n1], "a VIP of no subnet");
            assert_eq!(on("10.0.0.1"), [0; 0], "the host's own");
            ip("link set p0 down");
            // The kernel tells of a lost carrier once a second at the most.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            let net = loop {
                let net = NetSnapshot::read().unwrap();
                let running = net.interface(n0).is_some_and(|found| found.running);
                if !running || std::time::Instant::now() > deadline {
                    break net;
                }
                std::thread::yield_now();
            };
            assert_eq!(announcements(addrs(&["10.0.0.9"]), &[n0, n1], &net), []);
        });
    }

    #[test]
    fn a_neighbour_that_knew_another_owner_believes_the_announcement() {
        in_namespace(|| {
            network();
            let old = "02:00:00:00:00:99";
            let tap = Tap::new("p0");
            for vip in ["10.0.0.9", "fd00::9"] {
                ip(&format!("neigh add {vip} dev n0 lladdr {old} nud stale"));
                let mac = [2, 0, 0, 0, 0, 7];
                let vip = vip.parse().unwrap();
                let announcement = Announcement {
                    ifindex: 0,
                    mac,
                    vip,
                };
                let mut buffer = [0; Announcement::MAX_LEN];
                tap.send_frame(announcement.write(&mut buffer));
                until("the new owner", || {
                    let net = NetSnapshot::read().unwrap();
                    let n0 = net.interface_named("n0").unwrap().index;
                    net.neighbour(n0, vip) == Some(mac)
                });
            }
        });
    }
}
