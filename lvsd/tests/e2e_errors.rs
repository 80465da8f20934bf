//! ICMP errors of the director's own: as many as the host's settings allow.

mod common;

use std::net::SocketAddr;

use common::{LIMIT, Running, daemon_config, output, wait_until};
use lvs_testbed::raw::{RawSocket, udp_packet};
use lvs_testbed::test::networked;
use lvs_testbed::{Rule, Site, SiteConfig, Vip};

#[test]
fn a_client_gets_as_many_errors_as_the_host_would_send_it() {
    networked(&[], || {
        let site = Site::new(SiteConfig::default()).unwrap();
        let director = site.director();
        // So long that none is added while the test runs.
        let interval = ("net.ipv4.icmp_ratelimit", "1000000");
        director.set_sysctl(interval.0, interval.1).unwrap();
        let (vip, port) = (Vip::Nat.endpoint(false, 5000), 4000);
        let mut config = daemon_config(&site);
        config.rules = vec![Rule {
            protocol: "udp",
            vip,
            scheduler: "rr",
            targets: Vec::new(),
        }];
        let mut running = Running::with(site, config);
        let from = SocketAddr::new(running.site.client_address(0, false), port);
        let next_hop = running.site.director().mac("d0").unwrap();
        let own = running.site.client().mac("eth0").unwrap();
        let packet = udp_packet(from, vip, b"anybody?");
        let frame = [&next_hop[..], &own, &[0x08, 0x00], &packet].concat();
        let line = running.site.client().run(|| RawSocket::open("eth0"));
        let line = line.unwrap().unwrap();
        let send = |count| {
            for _ in 0..count {
                line.send(&[0; 10], &frame).unwrap();
            }
        };
        let drops = |running: &Running, reason: &str| {
            let drops = running.control().drops().unwrap();
            let mut drops = drops.into_iter().filter(|drop| drop.reason == reason);
            drops.next().map_or(0, |drop| drop.packets)
        };

        send(20);
        wait_until("what came is counted", LIMIT, || {
            drops(&running, "no_destination") + drops(&running, "rate_limited") == 20
        });
        assert_eq!(drops(&running, "no_destination"), 6);

        let director = running.site.director();
        director.set_sysctl(interval.0, "0").unwrap();
        let id = running.daemon.child().id().to_string();
        output(running.site.director(), "kill", &["-HUP", &id]);
        wait_until("the new setting holds", LIMIT, || {
            send(1);
            drops(&running, "no_destination") > 6
        });
    });
}
