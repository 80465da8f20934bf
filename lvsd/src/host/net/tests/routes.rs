//! The routes of a snapshot against `ip route get`.

use crate::host::net::{NetSnapshot, RouteAnswer};
use crate::host::testing::{attempt, in_namespace, ip};
use lvs_core::Addr;
use serde_json::Value;

/// Two links and one route of each kind that a director may meet.
const NETWORK: &str = "
    link add n0 type veth peer name p0
    link add n1 type veth peer name p1
    link add d0 type veth peer name e0
    link set e0 up
    link set p0 up
    link set p1 up
    link set n0 up mtu 1450
    link set n1 up
    link set d0 up
    addr add 10.0.0.1/24 dev n0 brd +
    addr add 10.0.0.5/24 dev n0
    addr add 172.16.0.1/16 dev n0
    addr add 10.1.0.1/24 dev n1
    addr add 10.9.9.9/32 dev d0
    addr add 192.168.7.1 peer 192.168.7.2/32 dev n1
    -6 addr add 2001:db8:a::1/64 dev n0 nodad
    -6 addr add fd00:a::1/64 dev n0 nodad
    -6 addr add 2001:db8:b::1/64 dev n1 nodad
    -6 addr add 2001:db8:b::2/64 dev n1 nodad preferred_lft 0
    -6 addr add 2001:db8:99::1/128 dev d0 nodad
    route add default via 10.0.0.254
    route add 203.0.113.0/24 via 10.1.0.254 mtu 1400
    route add blackhole 203.0.113.128/25
    route add unreachable 203.0.113.64/26
    route add prohibit 203.0.113.32/27
    route add 198.51.100.0/24 via 10.1.0.9 src 10.0.0.5
    route add 192.0.2.0/24 dev n1
    route add 192.0.2.128/25 via 172.16.0.9
    route add 100.64.0.0/10 via 10.0.0.9 metric 10
    route add 100.64.0.0/10 via 10.1.0.9 metric 5
    route add local 100.100.0.0/16 dev lo
    route add 100.70.0.0/16 via inet6 fe80::77 dev n1
    nexthop add id 7 via 10.1.0.77 dev n1
    route add 100.80.0.0/16 nhid 7
    route add 100.90.0.0/16 via 10.0.0.9 mtu 9000
    route add 8.0.0.0/8 via 10.1.0.9 table 100
    -6 route add default via 2001:db8:a::fe
    -6 route add 2001:db8:e::/48 via 2001:db8:b::fe mtu 1300
    -6 route add blackhole 2001:db8:e:1::/64
    -6 route add unreachable 2001:db8:e:2::/64
    -6 route add prohibit 2001:db8:e:3::/64
    -6 route add 2001:db8:d::/48 via fe80::9 dev n1 src 2001:db8:a::1
    -6 route add 2001:db8:c::/48 via fe80::9 dev n1 metric 20
    -6 route add 2001:db8:c::/48 via fe80::9 dev n0 metric 30
    -6 route add fd00:b::/64 dev n1
    -6 route add local 2001:db8:77::/64 dev lo
    -6 route add 2001:db8:77:0:1::/80 via 2001:db8:b::fe
    -6 route add unreachable ::ffff:0:0/96
";

const ADDRESSES: &str = "
    10.0.0.1 10.0.0.5 10.0.0.254 10.0.0.255 10.0.0.0 10.1.0.1 10.1.0.2 10.9.9.9 10.9.9.8
    172.16.0.1 172.16.255.254 172.17.0.1 192.168.7.1 192.168.7.2 127.0.0.1 127.9.9.9
    1.1.1.1 8.8.8.8 255.255.255.254 223.255.255.255
    203.0.113.1 203.0.113.31 203.0.113.32 203.0.113.63 203.0.113.64 203.0.113.127 203.0.113.128
    203.0.113.255 203.0.112.255 203.0.114.0
    198.51.100.1 198.51.99.255 192.0.2.1 192.0.2.127 192.0.2.128 192.0.2.255
    100.64.0.1 100.127.255.255 100.128.0.0 100.63.255.255 100.100.1.1 100.99.255.255 100.101.0.0
    100.70.1.1 100.71.0.0 100.80.1.1 100.90.1.1
    ::1 2001:db8:a::1 2001:db8:a::2 2001:db8:a:0:1::1 2001:db8:a:1::1 fd00:a::1 fd00:a::9 fd00:c::9
    2001:db8:b::1 2001:db8:b::2 2001:db8:b::3 2001:db8:99::1 2001:db8:99::2
    2001:db8:e::1 2001:db8:e:1::1 2001:db8:e:2::1 2001:db8:e:3::1 2001:db8:e:4::1
    2001:db8:d::1 2001:db8:c::1 fd00:b::1 2001:db8:77::5 2001:db8:77:0:1::5 2001:db8:78::
    2606:4700::1111 2002:c000:204::1
";

fn build(network: &str) {
    for line in network.lines().filter(|l| !l.trim().is_empty()) {
        ip(line);
    }
}

/// What the kernel says, in our words.
fn judge(net: &NetSnapshot, to: &str) -> RouteAnswer {
    let (ok, text) = attempt("ip", &format!("-j route get {to}"));
    if !ok {
        return RouteAnswer::Unreachable;
    }
    let answer: Value = serde_json::from_str(&text).unwrap();
    let answer = &answer[0];
    match answer["type"].as_str() {
        Some("local" | "anycast") => return RouteAnswer::Local,
        Some(_) => return RouteAnswer::Unreachable,
        None => {}
    }
    let device = net
        .interface_named(answer["dev"].as_str().unwrap())
        .unwrap();
    let text = |v: &Value| v.as_str().map(|text| text.parse::<Addr>().unwrap());
    let mtu = answer["metrics"][0]["mtu"].as_u64();
    RouteAnswer::Unicast {
        ifindex: device.index,
        next_hop: text(&answer["gateway"])
            .or_else(|| text(&answer["via"]["host"]))
            .unwrap_or_else(|| to.parse().unwrap()),
        mtu: mtu.map_or(device.mtu, |mtu| {
            device.mtu.min(u32::try_from(mtu).unwrap())
        }),
        source: text(&answer["prefsrc"]).unwrap(),
    }
}

#[test]
fn agrees_with_the_kernel_on_every_kind_of_route() {
    in_namespace(|| {
        build(NETWORK);
        let net = NetSnapshot::read().unwrap();
        for to in ADDRESSES.split_whitespace() {
            assert_eq!(net.route(to.parse().unwrap()), judge(&net, to), "{to}");
        }
    });
}

#[test]
fn agrees_with_the_kernel_when_a_link_is_down() {
    in_namespace(|| {
        build(NETWORK);
        ip("link set n1 down");
        let net = NetSnapshot::read().unwrap();
        for to in ADDRESSES.split_whitespace() {
            assert_eq!(net.route(to.parse().unwrap()), judge(&net, to), "{to}");
        }
    });
}

#[test]
fn agrees_with_the_kernel_on_nested_prefixes() {
    in_namespace(|| {
        build("link add n0 type veth peer name p0\nlink set p0 up\nlink set n0 up");
        build("addr add 10.0.0.1/24 dev n0\n-6 addr add fd00::1/64 dev n0 nodad");
        for length in 1..=32 {
            let first = Addr::from_v4_bits(0xcafe_babe).masked(length);
            ip(&format!(
                "route add {first}/{length} via 10.0.0.{}",
                100 + length
            ));
        }
        for length in (1..=128).step_by(3) {
            let first: Addr = "2a01:5555:aaaa:1234:5678:9abc:def0:1357".parse().unwrap();
            let first = first.masked(length);
            ip(&format!(
                "-6 route add {first}/{length} via fd00::{length:x}00"
            ));
        }
        let net = NetSnapshot::read().unwrap();
        for bit in 0..32 {
            let to = Addr::from_v4_bits(0xcafe_babe ^ (1 << bit));
            let to = to.to_string();
            assert_eq!(net.route(to.parse().unwrap()), judge(&net, &to), "{to}");
        }
        for bit in 0..128 {
            let base: Addr = "2a01:5555:aaaa:1234:5678:9abc:def0:1357".parse().unwrap();
            let flip = 1u128 << bit;
            let bits = u128::from_be_bytes(base.v6_octets()) ^ flip;
            let to = Addr::from_v6_octets(bits.to_be_bytes());
            let text = to.to_string();
            assert_eq!(net.route(to), judge(&net, &text), "{to}");
        }
    });
}

#[test]
fn multipath_spreads_by_weight_and_leaves_out_dead_hops() {
    in_namespace(|| {
        build(NETWORK);
        ip("route add 20.0.0.0/8 nexthop via 10.0.0.21 weight 1 nexthop via 10.1.0.21 weight 3");
        ip("-6 route add 2001:db8:20::/48 nexthop via 2001:db8:a::21 nexthop via 2001:db8:b::21");
        let hops = |net: &NetSnapshot, to: Addr| net.hop(to).unwrap().addr.to_string();
        let net = NetSnapshot::read().unwrap();
        let mut second = 0;
        for i in 0..4000 {
            let to = Addr::from_v4_bits(0x1400_0000 + i);
            assert_eq!(net.route(to), net.route(to));
            match &*hops(&net, to) {
                "10.0.0.21" => {}
                "10.1.0.21" => second += 1,
                other => panic!("{other}"),
            }
        }
        assert!((2800..3200).contains(&second), "{second} of 4000");
        let found: std::collections::BTreeSet<_> = (0..100)
            .map(|i| format!("2001:db8:20::{i:x}").parse().unwrap())
            .map(|to| hops(&net, to))
            .collect();
        assert_eq!(Vec::from_iter(found), ["2001:db8:a::21", "2001:db8:b::21"]);
        ip("link set n0 down");
        let net = NetSnapshot::read().unwrap();
        for i in 0..100 {
            assert_eq!(hops(&net, Addr::from_v4_bits(0x1400_0000 + i)), "10.1.0.21");
        }
        assert_eq!(
            hops(&net, "2001:db8:20::1".parse().unwrap()),
            "2001:db8:b::21"
        );
    });
}

#[test]
fn local_is_what_the_host_takes() {
    in_namespace(|| {
        build(NETWORK);
        let net = NetSnapshot::read().unwrap();
        let local = |text: &str| net.is_local(text.parse().unwrap());
        assert!(local("10.9.9.9") && local("2001:db8:99::1") && local("100.100.5.5"));
        assert!(!local("10.9.9.8") && !local("2001:db8:99::2") && !local("10.0.0.255"));
        assert!(net.has_address("10.9.9.9".parse().unwrap()));
        assert!(!net.has_address("100.100.5.5".parse().unwrap()));
        ip("link set d0 down");
        let net = NetSnapshot::read().unwrap();
        let local = |text: &str| net.is_local(text.parse().unwrap());
        // The kernel keeps the IPv4 addresses of an interface that is down, but not the others.
        assert!(local("10.9.9.9") && !local("2001:db8:99::1"));
    });
}
