//! What the host's stack gets to see, and what not.
//!
//! A link `n0` is the director's; frames are sent into it from its other end `p0`. Behind `n1`, to
//! which the host forwards, `p1` listens.

use super::packets::{TCP, UDP, icmp_error, ip as packet, syn, udp};
use crate::host::claim::{Claim, ClaimSet};
use crate::host::testing::{Tap, in_namespace, interface_index, ip, until};
use lvs_core::Protocol;
use lvs_director::{MarkRule, Match};
use std::net::UdpSocket;
use std::time::Duration;

struct Net {
    claim: Claim,
    set: ClaimSet,
    /// Sends into the host, and sees what it answers.
    outside: Tap,
    /// Where a director would listen.
    inside: Tap,
    /// Sees what the host forwards.
    beyond: Tap,
}

impl Net {
    fn new() -> Self {
        for i in 0..2 {
            ip(&format!(
                "link add n{i} address 02:00:00:00:00:01 type veth peer name p{i}"
            ));
            for end in ["n", "p"] {
                let conf = "/proc/sys/net/ipv6/conf";
                if end == "p" {
                    std::fs::write(format!("{conf}/p{i}/disable_ipv6"), "1").unwrap();
                }
                ip(&format!("link set {end}{i} up"));
            }
        }
        for line in [
            "addr add 10.0.0.1/24 dev n0",
            "addr add 192.0.2.10/32 dev n0",
            "addr add 10.1.0.1/24 dev n1",
            "-6 addr add fd00::1/64 dev n0 nodad",
            "-6 addr add 2001:db8::10/128 dev n0 nodad",
            "-6 addr add fd01::1/64 dev n1 nodad",
            "route add 198.51.100.0/24 via 10.1.0.2",
            "-6 route add 2001:db8:1::/48 via fd01::2",
            "neigh add 10.1.0.2 dev n1 lladdr 02:00:00:00:00:02",
            "-6 neigh add fd01::2 dev n1 lladdr 02:00:00:00:00:02",
            "neigh add 10.0.0.2 dev n0 lladdr 02:00:00:00:00:02",
            "-6 neigh add fd00::2 dev n0 lladdr 02:00:00:00:00:02",
        ] {
            ip(line);
        }
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
        }
        let mut claim = Claim::open().unwrap();
        let index = interface_index("n0").try_into().unwrap();
        claim.add_interface(index, "n0").unwrap();
        Self {
            claim,
            set: ClaimSet::default(),
            outside: Tap::new("p0"),
            inside: Tap::new("n0"),
            beyond: Tap::new("p1"),
        }
    }

    fn claim(&mut self, edit: impl FnOnce(&mut ClaimSet)) {
        edit(&mut self.set);
        self.claim.replace(&self.set).unwrap();
    }

    fn taken(&mut self) -> u64 {
        let c = self.claim.counters().unwrap();
        c.services.packets
            + c.replies.packets
            + c.owned_vips.packets
            + c.icmp_errors.packets
            + c.marks.packets
    }

    /// Sends a packet that is to be taken from the host, and waits until it was; the tap saw it.
    fn send_taken(&mut self, packet: &[u8]) {
        let before = self.taken();
        self.outside.send(packet);
        self.inside.frames_until(packet);
        until("the packet is claimed", || self.taken() == before + 1);
    }

    /// Whether the host forwards a packet; a second packet, which it does forward, tells.
    fn forwards(&mut self, packet: &[u8]) -> bool {
        let v4 = packet[0] >> 4 == 4;
        let (src, dst) = if v4 {
            ("10.0.0.2:9", "198.51.100.9:9")
        } else {
            ("[fd00::2]:9", "[2001:db8:1::9]:9")
        };
        self.outside.send(packet);
        self.inside.frames_until(packet);
        self.outside.send(&udp(src, dst, "marker"));
        let seen = self.beyond.frames_until(b"marker");
        // All but the header, where the TTL is another one.
        let tail = &packet[if v4 { 12 } else { 8 }..];
        seen.iter()
            .any(|f| f.windows(tail.len()).any(|w| w == tail))
    }
}

fn listener(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> String {
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_listener_on_the_vip_gets_only_what_is_not_claimed() {
    in_namespace(|| {
        let mut net = Net::new();
        for (vip, client) in [
            ("192.0.2.10", "10.0.0.2:1000"),
            ("[2001:db8::10]", "[fd00::2]:1000"),
        ] {
            let ours = format!("{vip}:53");
            let theirs = format!("{vip}:54");
            let (on_ours, on_theirs) = (listener(&ours), listener(&theirs));
            net.outside.send(&udp(client, &ours, "before"));
            assert_eq!(heard(&on_ours), "before");
            net.claim(|set| set.services.push((Protocol::Udp, ours.parse().unwrap())));
            net.send_taken(&udp(client, &ours, "claimed"));
            net.outside.send(&udp(client, &theirs, "not claimed"));
            assert_eq!(heard(&on_theirs), "not claimed");
            net.claim(|set| set.services.clear());
            net.outside.send(&udp(client, &ours, "after"));
            assert_eq!(heard(&on_ours), "after", "and nothing before it");
        }
    });
}

#[test]
fn the_host_does_not_answer_for_a_claimed_tcp_port() {
    in_namespace(|| {
        let mut net = Net::new();
        for (vip, client) in [("192.0.2.10", "10.0.0.2"), ("[2001:db8::10]", "[fd00::2]")] {
            let ours: String = format!("{vip}:80");
            net.claim(|set| set.services.push((Protocol::Tcp, ours.parse().unwrap())));
            net.send_taken(&syn(&format!("{client}:4242"), &ours));
            // Nobody listens on either port: what is not claimed is answered by a reset.
            net.outside
                .send(&syn(&format!("{client}:4343"), &format!("{vip}:81")));
            let answers = net.outside.frames_until(&[0, 81, 0x10, 0xf7]);
            let reset = [0, 80, 0x10, 0x92];
            assert!(!answers.iter().any(|f| f.windows(4).any(|w| w == reset)));
        }
    });
}

#[test]
fn port_zero_claims_all_ports_of_one_protocol() {
    in_namespace(|| {
        let mut net = Net::new();
        net.claim(|set| {
            set.services
                .push((Protocol::Udp, "192.0.2.10:0".parse().unwrap()));
        });
        net.send_taken(&udp("10.0.0.2:1", "192.0.2.10:7", "one"));
        net.send_taken(&udp("10.0.0.2:1", "192.0.2.10:65535", "two"));
        net.outside.send(&syn("10.0.0.2:4343", "192.0.2.10:81"));
        net.outside.frames_until(&[0, 81, 0x10, 0xf7]);
        assert_eq!(net.taken(), 2);
    });
}

#[test]
fn replies_are_not_forwarded_a_second_time() {
    in_namespace(|| {
        let mut net = Net::new();
        for (server, client) in [
            ("10.0.0.2", "198.51.100.7"),
            ("[fd00::2]", "[2001:db8:1::7]"),
        ] {
            let (from, to) = (format!("{server}:80"), format!("{client}:4242"));
            let reply = udp(&from, &to, "reply");
            assert!(net.forwards(&reply), "not claimed yet");
            net.claim(|set| set.replies.push((Protocol::Udp, from.parse().unwrap())));
            net.send_taken(&reply);
            assert!(!net.forwards(&reply));
            assert!(net.forwards(&udp(&format!("{server}:81"), &to, "another port")));
            assert!(net.forwards(&syn(&from, &to)), "another protocol");
        }
    });
}

#[test]
fn esp_is_claimed_with_isakmp() {
    const ESP: u8 = 50;
    in_namespace(|| {
        let mut net = Net::new();
        for (server, client) in [("10.0.0.2", "198.51.100.7"), ("fd00::2", "2001:db8:1::7")] {
            let (server, client) = (server.parse().unwrap(), client.parse().unwrap());
            let reply = packet(ESP, server, client, b"an index, a number, and the rest", 0);
            let claim = |net: &mut Net, port| {
                let server = lvs_core::Endpoint::new(server, port);
                net.claim(|set| set.replies = vec![(Protocol::Udp, server)]);
            };
            claim(&mut net, 53);
            assert!(net.forwards(&reply), "of another service");
            claim(&mut net, 500);
            net.send_taken(&reply);
            claim(&mut net, 0);
            net.send_taken(&reply);
        }
    });
}

#[test]
fn the_host_keeps_its_own_conversations_with_destinations() {
    in_namespace(|| {
        let mut net = Net::new();
        for (server, own) in [("10.0.0.2", "10.0.0.1"), ("[fd00::2]", "[fd00::1]")] {
            let from = format!("{server}:80");
            let own = listener(&format!("{own}:0"));
            let to = own.local_addr().unwrap();
            net.claim(|set| {
                set.replies.push((Protocol::Udp, from.parse().unwrap()));
                set.host_addresses.push(to.ip().into());
            });
            net.outside.send(&udp(&from, &to.to_string(), "healthy"));
            assert_eq!(heard(&own), "healthy");
        }
        assert_eq!(net.taken(), 0);
    });
}

#[test]
fn a_local_address_of_fullnat_may_be_the_hosts_own() {
    in_namespace(|| {
        let mut net = Net::new();
        for (server, own) in [("10.0.0.2", "10.0.0.1"), ("[fd00::2]", "[fd00::1]")] {
            let from = format!("{server}:80");
            let [below, first, last, above] =
                [4999, 5000, 6000, 6001].map(|port| listener(&format!("{own}:{port}")));
            let addr = first.local_addr().unwrap().ip().into();
            net.claim(|set| {
                set.replies.push((Protocol::Udp, from.parse().unwrap()));
                set.host_addresses.push(addr);
                set.local_ports.push((addr, 5000..=6000));
            });
            let to = |socket: &UdpSocket| socket.local_addr().unwrap().to_string();
            net.send_taken(&udp(&from, &to(&first), "claimed"));
            net.send_taken(&udp(&from, &to(&last), "claimed"));
            for host in [below, above] {
                net.outside.send(&udp(&from, &to(&host), "healthy"));
                assert_eq!(heard(&host), "healthy");
            }
            // Not from a destination.
            net.outside
                .send(&udp(&format!("{server}:81"), &to(&first), "other"));
            assert_eq!(heard(&first), "other");
            net.claim(|set| set.local_ports = vec![(addr, 5001..=5999)]);
            net.outside.send(&udp(&from, &to(&first), "given back"));
            assert_eq!(heard(&first), "given back");
        }
    });
}

#[test]
fn icmp_errors_go_to_whom_they_quote() {
    in_namespace(|| {
        let mut net = Net::new();
        let cases = [
            ("10.0.0.2", "10.0.0.9", "198.51.100.7", &[3, 4, 11][..], 12),
            ("[fd00::2]", "fd00::9", "2001:db8:1::7", &[1, 2, 3, 4], 137),
        ];
        for (server, router, client, kinds, other) in cases {
            let from = if client.contains(':') {
                format!("[{client}]:4242")
            } else {
                format!("{client}:4242")
            };
            let to = format!("{server}:80");
            net.claim(|set| set.replies.push((Protocol::Tcp, to.parse().unwrap())));
            let before = net.claim.counters().unwrap().icmp_errors.packets;
            for &kind in kinds {
                net.send_taken(&icmp_error(kind, router, client, &syn(&from, &to)));
            }
            let taken = net.claim.counters().unwrap().icmp_errors.packets - before;
            assert_eq!(taken, u64::try_from(kinds.len()).unwrap());
            let unrelated = syn(&from, &format!("{server}:81"));
            assert!(net.forwards(&icmp_error(kinds[0], router, client, &unrelated)));
            let ours = syn(&from, &to);
            if other == 12 {
                assert!(net.forwards(&icmp_error(other, router, client, &ours)));
            }
        }
    });
}

#[test]
fn everything_to_an_owned_vip_is_ours() {
    in_namespace(|| {
        let mut net = Net::new();
        // Not on the host, but on a way that it would forward.
        for (vip, client) in [("198.51.100.99", "10.0.0.2"), ("2001:db8:1::99", "fd00::2")] {
            let (vip, client) = (vip.parse().unwrap(), client.parse().unwrap());
            let echo = packet(
                if net.set.owned_vips.is_empty() { 1 } else { 58 },
                client,
                vip,
                &[8; 16],
                0,
            );
            net.claim(|set| set.owned_vips.push(vip));
            net.send_taken(&echo);
            net.send_taken(&packet(TCP, client, vip, &[1; 20], 0));
            net.send_taken(&packet(47, client, vip, &[1; 20], 0));
            assert!(!net.forwards(&packet(UDP, client, vip, &[2; 20], 0)));
        }
    });
}

#[test]
fn later_fragments_follow_their_address_and_protocol() {
    in_namespace(|| {
        let mut net = Net::new();
        net.claim(|set| {
            set.services
                .push((Protocol::Udp, "192.0.2.10:53".parse().unwrap()));
            set.services
                .push((Protocol::Udp, "[2001:db8::10]:53".parse().unwrap()));
            set.replies
                .push((Protocol::Udp, "10.0.0.2:53".parse().unwrap()));
            set.replies
                .push((Protocol::Udp, "[fd00::2]:53".parse().unwrap()));
        });
        let cases = [
            ("10.0.0.7", "192.0.2.10", 3),
            ("10.0.0.2", "198.51.100.7", 3),
            ("fd00::7", "2001:db8::10", 24),
            ("fd00::2", "2001:db8:1::7", 24),
        ];
        for (src, dst, offset) in cases {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            net.send_taken(&packet(UDP, src, dst, &[7; 32], offset));
        }
        // A first fragment has ports, and these are not ours.
        let (src, dst) = ("10.0.0.2".parse().unwrap(), "198.51.100.7".parse().unwrap());
        assert!(net.forwards(&packet(UDP, src, dst, &[7; 32], 0x2000)));
        assert!(net.forwards(&packet(TCP, src, dst, &[7; 32], 3)));
    });
}

#[test]
fn only_the_tag_that_is_none_makes_no_difference() {
    in_namespace(|| {
        let mut net = Net::new();
        net.claim(|set| {
            set.services
                .push((Protocol::Udp, "192.0.2.10:53".parse().unwrap()));
        });
        let packet = |payload| udp("10.0.0.2:1", "192.0.2.10:53", payload);
        // Of a VLAN: for its interface, if the host had one.
        for tag in [[0x81, 0x00, 0, 5], [0x88, 0xa8, 0, 5]] {
            net.outside.send_tagged(&tag, &packet("tagged"));
        }
        // A priority, and no VLAN.
        net.outside
            .send_tagged(&[0x81, 0, 0x20, 0], &packet("urgent"));
        until("the packet is claimed", || net.taken() == 1);
        net.send_taken(&packet("plain"));
        assert_eq!(net.taken(), 2);
    });
}

#[test]
fn what_is_for_another_station_is_not_claimed() {
    in_namespace(|| {
        let mut net = Net::new();
        net.claim(|set| {
            set.services
                .push((Protocol::Udp, "192.0.2.10:53".parse().unwrap()));
        });
        let packet = udp("10.0.0.2:1", "192.0.2.10:53", "for another");
        let (other, own) = ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 2]);
        let frame = [&other[..], &own, &[8, 0], &packet].concat();
        net.outside.send_frame(&frame);
        net.inside.frames_until(&packet);
        net.send_taken(&udp("10.0.0.2:1", "192.0.2.10:53", "for us"));
        assert_eq!(net.taken(), 1);
    });
}

#[test]
fn thousands_of_services_are_replaced_in_one_step() {
    in_namespace(|| {
        let mut net = Net::new();
        let all = |port: u16| {
            let address = move |i: u32| lvs_core::Addr::from_v4_bits(0xc612_0000 + i);
            (0..20_000).map(move |i| (Protocol::Udp, lvs_core::Endpoint::new(address(i), port)))
        };
        net.claim(|set| set.services.extend(all(53)));
        let to_last = |port: u16| udp("10.0.0.2:1", &format!("198.18.78.31:{port}"), "x");
        net.send_taken(&to_last(53));
        net.claim(|set| set.services = all(54).collect());
        net.send_taken(&to_last(54));
        net.outside.send(&to_last(53));
        net.send_taken(&to_last(54));
        assert_eq!(net.taken(), 3);
    });
}

/// Ranges, exceptions, interfaces and the order of rules, for both families.
#[test]
fn what_the_rules_of_marks_take_is_claimed_and_nothing_else() {
    in_namespace(|| {
        let mut net = Net::new();
        let rule = |mark, destination: &[&str], ports: &[&str]| MarkRule {
            destination: Match::parse(destination.iter().copied()).unwrap(),
            destination_port: Match::parse(ports.iter().copied()).unwrap(),
            interface: Match::parse(["n*", "!n1"]).unwrap(),
            ..MarkRule::new(mark)
        };
        let networks = [
            "198.51.100.0/25",
            "!198.51.100.7",
            "2001:db8:1::/48",
            "!2001:db8:1::7",
        ];
        net.claim(|set| {
            set.marks = vec![
                (rule(7, &networks, &["53", "8000-8080"]), true),
                // Taken away again.
                (rule(0, &["198.51.100.3", "2001:db8:1::3"], &[]), false),
                (rule(8, &["198.51.100.3", "2001:db8:1::3"], &["8001"]), true),
            ];
        });
        for (client, net_of) in [
            ("10.0.0.2:1000", "198.51.100."),
            ("[fd00::2]:1000", "[2001:db8:1::"),
        ] {
            let end = if net_of.starts_with('[') { "]" } else { "" };
            let to =
                |host: &str, port: u16| udp(client, &format!("{net_of}{host}{end}:{port}"), "x");
            net.send_taken(&to("1", 53));
            net.send_taken(&to("1", 8080));
            net.send_taken(&to("3", 8001));
            assert!(net.forwards(&to("1", 54)));
            assert!(net.forwards(&to("1", 8081)));
            assert!(net.forwards(&to("7", 53)));
            assert!(net.forwards(&to("3", 53)));
            if end.is_empty() {
                assert!(net.forwards(&to("200", 53)));
            }
        }
        net.claim(|set| set.marks.clear());
        assert!(net.forwards(&udp("10.0.0.2:1000", "198.51.100.1:53", "y")));
        net.claim(|set| {
            let elsewhere = MarkRule {
                interface: Match::parse(["p9"]).unwrap(),
                ..MarkRule::new(7)
            };
            set.marks = vec![(elsewhere, true)];
        });
        assert!(net.forwards(&udp("10.0.0.2:1000", "198.51.100.1:53", "z")));
    });
}
