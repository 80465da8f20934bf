//! The site works, shown with the kernel as its director: routes for DR, nftables for NAT, a raw
//! socket for TUN. Nothing of lvsd is here.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lvs_testbed::http::HttpClient;
use lvs_testbed::raw::udp_packet;
use lvs_testbed::test::networked;
use lvs_testbed::{Site, SiteConfig, Vip, VipPlace, program};

const LIMIT: Duration = Duration::from_secs(10);

fn site(config: SiteConfig) -> Site {
    Site::new(SiteConfig {
        director_forwards: true,
        ..config
    })
    .unwrap()
}

#[test]
fn every_server_answers_every_client_through_the_director() {
    networked(&[], || {
        let site = site(SiteConfig {
            clients: 2,
            ..SiteConfig::default()
        });
        let servers = site.start_http(80).unwrap();
        for client in site.clients() {
            for (index, server) in (0..).zip(&servers) {
                for ipv6 in [false, true] {
                    let address = SocketAddr::new(site.server_address(index, ipv6), 80);
                    let mut http = HttpClient::connect(client, address, LIMIT).unwrap();
                    assert_eq!(http.get("/").unwrap().0.server, server.name());
                }
            }
        }
    });
}

#[test]
fn direct_replies_pass_the_director_by() {
    networked(&[], || {
        for (mtu, offloads) in [(1500, true), (1500, false), (9000, true)] {
            let site = site(SiteConfig {
                mtu,
                offloads,
                ..SiteConfig::default()
            });
            let _servers = site.start_http(80).unwrap();
            for ipv6 in [false, true] {
                let vip = Vip::DirectRoute.address(ipv6);
                let prefix = if ipv6 { 128 } else { 32 };
                // In place of a director: a route for the VIP to one server.
                let via = site.server_address(1, ipv6);
                site.director().add_route(vip, prefix, via).unwrap();
                let via = site.director_address(false, ipv6);
                site.client().add_route(vip, prefix, via).unwrap();
                let address = SocketAddr::new(vip, 80);
                let mut http = HttpClient::connect(site.client(), address, LIMIT).unwrap();
                let before = site.director().counters("d0").unwrap();
                assert_eq!(http.get_bytes(3_000_000).unwrap().server, "server-2");
                let after = site.director().counters("d0").unwrap();
                assert!(after.tx_bytes - before.tx_bytes < 100_000);
            }
        }
    });
}

#[test]
fn tunnelled_packets_reach_the_vip_of_a_server() {
    networked(&[], || {
        let site = site(SiteConfig::default());
        for ipv6 in [false, true] {
            let vip = Vip::Tunnel.endpoint(ipv6, 7);
            let server = site.servers()[0]
                .run(|| UdpSocket::bind(vip))
                .unwrap()
                .unwrap();
            let here = SocketAddr::new(site.client_address(0, ipv6), 4000);
            let client = site
                .client()
                .run(|| UdpSocket::bind(here))
                .unwrap()
                .unwrap();
            for socket in [&server, &client] {
                socket.set_read_timeout(Some(LIMIT)).unwrap();
            }
            let inner = udp_packet(here, vip, b"hello");
            for outer_is_ipv6 in [false, true] {
                let to = SocketAddr::new(site.server_address(0, outer_is_ipv6), 0);
                site.director()
                    .run(|| {
                        let protocol = if ipv6 { 41 } else { 4 };
                        let domain = socket2::Domain::for_address(to);
                        let raw =
                            socket2::Socket::new(domain, socket2::Type::RAW, Some(protocol.into()));
                        raw.unwrap().send_to(&inner, &to.into()).unwrap();
                    })
                    .unwrap();
                let mut buffer = [0; 100];
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..length], from), (&b"hello"[..], here));
                server.send_to(b"thanks", from).unwrap();
                let (length, from) = client.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..length], from), (&b"thanks"[..], vip));
            }
        }
        assert_eq!(site.decapsulators()[0].counts().refused, 0);
    });
}

#[test]
fn nat_replies_come_back_through_the_director() {
    networked(&["nft"], || {
        let site = site(SiteConfig {
            vips: VipPlace::Front,
            ..SiteConfig::default()
        });
        let _servers = site.start_http(80).unwrap();
        let rules = "
        table inet t { chain c {
            type nat hook prerouting priority -100;
            ip daddr 10.1.0.100 dnat ip to 10.2.0.12
            ip6 daddr fd01::100 dnat ip6 to fd02::12
        }
        }";
        let mut nft = program::command("nft").unwrap();
        nft.arg(rules);
        let output = site.director().output(nft).unwrap();
        assert!(output.status.success(), "{output:?}");
        for ipv6 in [false, true] {
            let vip = Vip::Nat.endpoint(ipv6, 80);
            let mut http = HttpClient::connect(site.client(), vip, LIMIT).unwrap();
            assert_eq!(http.get_bytes(1_000_000).unwrap().server, "server-2");
        }
    });
}
