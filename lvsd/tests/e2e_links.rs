//! Links under a running lvsd that was told no interfaces: bridges, addresses and routes that change.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use std::net::SocketAddr;

use common::{LIMIT, Running, WEB, output, wait_until};
use lvs_testbed::test::networked;
use lvs_testbed::{Site, SiteConfig, Vip};

/// A site whose lvsd takes all interfaces that there are.
fn on_all_interfaces(config: SiteConfig) -> Running {
    let site = Site::new(config).unwrap();
    let mut config = common::daemon_config(&site);
    config.interfaces.clear();
    Running::with(site, config)
}

fn ip(running: &Running, line: &str) {
    let arguments: Vec<&str> = line.split(' ').collect();
    let done = output(running.site.director(), "ip", &arguments);
    assert!(done.status.success(), "ip {line}: {done:?}");
}

#[test]
fn what_comes_in_by_a_bridge_is_taken_once_whenever_the_bridge_is_made() {
    networked(&["ip"], || {
        let running = on_all_interfaces(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        running.ask_everything();
        let director = running.site.director();
        let addresses = [false, true].map(|ipv6| {
            let prefix = if ipv6 { 64 } else { 24 };
            (running.site.director_address(true, ipv6), prefix)
        });
        // The servers' side becomes a port of a bridge that has the addresses instead.
        director.add_bridge("br1").unwrap();
        director.add_port("br1", "d1").unwrap();
        for (address, prefix) in addresses {
            director.delete_address("d1", address, prefix).unwrap();
            director.add_address("br1", address, prefix).unwrap();
        }
        works_again(&running, "the bridge is used");
        // And back.
        ip(&running, "link set d1 nomaster");
        director.delete_link("br1").unwrap();
        for (address, prefix) in addresses {
            director.add_address("d1", address, prefix).unwrap();
        }
        works_again(&running, "the former port is used");
    });
}

/// Waits until requests by NAT pass, then wants all of them to.
fn works_again(running: &Running, what: &str) {
    wait_until(what, LIMIT, || {
        let short = LIMIT / 10;
        [false, true].iter().all(|ipv6| {
            let to = Vip::Nat.endpoint(*ipv6, WEB);
            common::ask(running.site.client(), to, short).is_ok()
        })
    });
    for _ in 0..5 {
        running.ask_everything();
    }
}

#[test]
fn what_a_bridge_passes_between_others_is_not_taken() {
    networked(&["ip"], || {
        // The director is the switch between the clients and the servers of one more service too.
        let running = on_all_interfaces(SiteConfig {
            director_forwards: true,
            ..SiteConfig::default()
        });
        let _servers = running.site.start_http(WEB).unwrap();
        let director = running.site.director();
        let (left, right) = (
            lvs_testbed::Namespace::new("left").unwrap(),
            lvs_testbed::Namespace::new("right").unwrap(),
        );
        director.add_bridge("br2").unwrap();
        for (namespace, port, address) in [(&left, "p1", "10.1.0.77"), (&right, "p2", "10.2.0.11")]
        {
            lvs_testbed::Veth::connect(namespace, "eth0", director, port).unwrap();
            director.add_port("br2", port).unwrap();
            director.set_up(port, true).unwrap();
            // Addresses of the site, on another wire: its VIP's client and a destination.
            namespace
                .add_address("eth0", address.parse().unwrap(), 8)
                .unwrap();
        }
        let here = SocketAddr::new(running.site.server_address(0, false), WEB);
        let _own = lvs_testbed::http::HttpServer::start(&right, &[here], "right").unwrap();
        running.ask_everything();
        // Its answers come from a destination, and are for another station.
        let answer = common::ask(&left, here, LIMIT);
        assert_eq!(answer.unwrap(), "right", "{}", running.explain());
    });
}

#[test]
fn a_vip_may_come_to_the_host_and_go_while_it_is_served() {
    networked(&[], || {
        let running = on_all_interfaces(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        let director = running.site.director();
        for _ in 0..3 {
            running.ask_everything();
            for (ipv6, prefix) in [(false, 32), (true, 128)] {
                let vip = Vip::Nat.address(ipv6);
                director.add_address("d0", vip, prefix).unwrap();
            }
            running.ask_everything();
            for (ipv6, prefix) in [(false, 32), (true, 128)] {
                let vip = Vip::Nat.address(ipv6);
                director.delete_address("d0", vip, prefix).unwrap();
            }
        }
    });
}

#[test]
fn replies_follow_the_routes_of_the_moment() {
    networked(&["ip"], || {
        let running = on_all_interfaces(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        let client = running.site.client();
        // An address of the client that only routes lead to, by one of its two others.
        let far = "192.0.2.9".parse().unwrap();
        client.add_address("lo", far, 32).unwrap();
        let second = "10.1.0.90".parse().unwrap();
        client.add_address("eth0", second, 24).unwrap();
        let to = format!("http://{}/", Vip::Nat.endpoint(false, WEB));
        let asks = || {
            let arguments = ["--interface", "192.0.2.9", "--max-time", "1", &to];
            common::try_curl(client, &arguments).status.success()
        };
        for (line, reachable) in [
            ("route add default via 10.1.0.2", true),
            ("route change default via 10.1.0.90", true),
            ("route del default", false),
            ("route add blackhole 192.0.2.0/24", false),
            ("route add 192.0.2.9 via 10.1.0.90", true),
        ] {
            ip(&running, line);
            wait_until(line, LIMIT, || asks() == reachable);
        }
        running.ask_everything();
    });
}

#[test]
fn servers_may_change_their_ethernet_address() {
    networked(&["ip"], || {
        let running = on_all_interfaces(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        running.ask_everything();
        for (server, last) in running.site.servers().iter().zip(1..) {
            // As a server does whose address moves: it tells its neighbours.
            for notify in ["ipv4.conf.eth0.arp_notify", "ipv6.conf.eth0.ndisc_notify"] {
                server.set_sysctl(&format!("net.{notify}"), "1").unwrap();
            }
            let address = format!("02:11:22:33:44:0{last}");
            let line = ["link", "set", "eth0", "address", &address];
            assert!(output(server, "ip", &line).status.success());
        }
        works_again(&running, "the new addresses are used");
    });
}
