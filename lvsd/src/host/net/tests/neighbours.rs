//! Neighbours asked for across a link.

use crate::host::net::{Hop, NeighbourKeeper, NeighbourState, NetSnapshot};
use crate::host::testing::{in_namespace, ip, run, until};
use lvs_core::Addr;
use std::time::{Duration, Instant};

/// A link to a second namespace, of a process that lives as long as the value.
struct Peer {
    process: std::process::Child,
}

impl Peer {
    fn new() -> Self {
        let process = std::process::Command::new("unshare")
            .args(["-n", "sleep", "60"])
            .spawn()
            .unwrap();
        let pid = process.id();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        until("a namespace for the peer", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns != own)
        });
        ip("link add n0 type veth peer name p0");
        ip(&format!("link set p0 netns {pid}"));
        ip("link set n0 up");
        ip("addr add 10.0.0.1/24 dev n0");
        ip("-6 addr add fd00::1/64 dev n0 nodad");
        let peer = Self { process };
        peer.ip("link set p0 up");
        peer.ip("addr add 10.0.0.2/24 dev p0");
        peer.ip("-6 addr add fd00::2/64 dev p0 nodad");
        peer
    }

    fn ip(&self, arguments: &str) {
        let pid = self.process.id();
        run("nsenter", &format!("-t {pid} -n ip {arguments}"));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hop(text: &str) -> Hop {
    let addr: Addr = text.parse().unwrap();
    NetSnapshot::read().unwrap().hop(addr).unwrap()
}

fn state(hop: Hop) -> Option<NeighbourState> {
    NetSnapshot::read()
        .unwrap()
        .neighbour_state(hop.ifindex, hop.addr)
}

#[test]
fn the_kernel_finds_who_is_asked_for() {
    in_namespace(|| {
        let peer = Peer::new();
        peer.ip("link set p0 address 02:00:00:00:00:42");
        let mut keeper = NeighbourKeeper::open().unwrap();
        for text in ["10.0.0.2", "fd00::2"] {
            let hop = hop(text);
            assert_eq!(state(hop), None);
            let now = Instant::now();
            assert!(keeper.request(hop, now).unwrap());
            assert!(!keeper.request(hop, now).unwrap(), "not twice at once");
            until("the neighbour's address", || {
                let net = NetSnapshot::read().unwrap();
                net.neighbour(hop.ifindex, hop.addr) == Some([2, 0, 0, 0, 0, 0x42])
            });
        }
        let nobody = hop("10.0.0.3");
        keeper.request(nobody, Instant::now()).unwrap();
        assert_eq!(state(nobody), Some(NeighbourState::Incomplete));
        let net = NetSnapshot::read().unwrap();
        assert_eq!(net.neighbour(nobody.ifindex, nobody.addr), None);
    });
}

#[test]
fn the_kept_are_confirmed_before_they_are_forgotten() {
    in_namespace(|| {
        let _peer = Peer::new();
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/n0/delay_first_probe_time");
            std::fs::write(path, "1").unwrap();
        }
        let mut keeper = NeighbourKeeper::open().unwrap();
        let hops = [hop("10.0.0.2"), hop("fd00::2")];
        let mut now = Instant::now();
        let net = NetSnapshot::read().unwrap();
        assert_eq!(keeper.keep(&hops, &net, now), 2);
        for hop in hops {
            until("the neighbour", || {
                state(hop) == Some(NeighbourState::Reachable)
            });
        }
        now += Duration::from_secs(2);
        let net = NetSnapshot::read().unwrap();
        assert_eq!(keeper.keep(&hops, &net, now), 0, "all are fresh");
        for hop in hops {
            let mac = net.neighbour(hop.ifindex, hop.addr).unwrap();
            let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
            ip(&format!(
                "neigh replace {} dev n0 lladdr {mac} nud stale",
                hop.addr
            ));
            assert_eq!(state(hop), Some(NeighbourState::Stale));
        }
        now += Duration::from_secs(2);
        let net = NetSnapshot::read().unwrap();
        assert_eq!(keeper.keep(&hops, &net, now), 2);
        for hop in hops {
            let confirming = state(hop).unwrap();
            assert!(confirming.is_valid() && confirming != NeighbourState::Stale);
            until("confirmation", || {
                state(hop) == Some(NeighbourState::Reachable)
            });
        }
    });
}

#[test]
fn a_flood_of_unknown_neighbours_is_not_passed_on() {
    in_namespace(|| {
        ip("link add n0 type veth peer name p0");
        ip("link set n0 up");
        ip("link set p0 up");
        ip("addr add 10.0.0.1/16 dev n0");
        let ifindex = hop("10.0.0.2").ifindex;
        let mut keeper = NeighbourKeeper::open().unwrap();
        let now = Instant::now();
        let asked = (2..2000).filter(|i| {
            let addr = Addr::from_v4_bits(0x0a00_0000 + i);
            keeper.request(Hop { ifindex, addr }, now).unwrap()
        });
        assert_eq!(asked.count(), NeighbourKeeper::PER_SECOND);
    });
}
