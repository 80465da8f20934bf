//! The host around lvsd: where the VIPs are, whether the kernel forwards, interfaces that come and
//! go, tags, a second daemon, missing rights.

#![expect(clippy::panic, reason = "what a test needs fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{LIMIT, LVSD, Running, WEB, output, wait_until};
use lvs_testbed::raw::{RawSocket, tag, udp_packet};
use lvs_testbed::test::{left_out, networked};
use lvs_testbed::{
    Daemon, DaemonConfig, Error, Namespace, Rule, Site, SiteConfig, Target, Veth, Vip, VipPlace,
    has_own_user_namespace, program,
};

#[test]
fn the_vip_may_be_anywhere_and_the_kernel_may_forward_or_not() {
    networked(&[], || {
        for vips in [VipPlace::Nowhere, VipPlace::Loopback, VipPlace::Front] {
            for director_forwards in [false, true] {
                let running = Running::start(SiteConfig {
                    vips,
                    director_forwards,
                    ..SiteConfig::default()
                });
                let _servers = running.site.start_http(WEB).unwrap();
                for _ in 0..5 {
                    for (vip, ipv6) in common::every_way() {
                        let answer = running.ask(vip, ipv6);
                        assert!(
                            answer.is_ok(),
                            "{vips:?} forwarding={director_forwards} {vip:?} ipv6={ipv6}: \
                             {answer:?}\n{}",
                            running.explain()
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn what_is_not_a_service_is_left_to_the_host() {
    networked(&[], || {
        let running = Running::start(SiteConfig {
            vips: VipPlace::Front,
            director_forwards: true,
            ..SiteConfig::default()
        });
        let director = running.site.director();
        // A server of the director's own, on an address that is also a VIP but another port.
        let any = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 8080);
        let _own = lvs_testbed::http::HttpServer::start(director, &[any], "director").unwrap();
        let _servers = running.site.start_http(WEB).unwrap();
        for ipv6 in [false, true] {
            for to in [
                Vip::Nat.endpoint(ipv6, 8080),
                SocketAddr::new(running.site.director_address(false, ipv6), 8080),
            ] {
                let answer = common::ask(running.site.client(), to, LIMIT);
                assert_eq!(answer.unwrap(), "director", "{to}");
            }
            // And what the kernel forwards still passes.
            let to = SocketAddr::new(running.site.server_address(1, ipv6), WEB);
            let answer = common::ask(running.site.client(), to, LIMIT);
            assert_eq!(answer.unwrap(), "server-2", "{to}");
        }
        running.ask_everything();
    });
}

#[test]
fn an_interface_goes_down_and_comes_up() {
    networked(&[], || {
        let mut running = Running::start(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        running.ask_everything();
        for interface in ["d1", "d0"] {
            running.site.director().set_up(interface, false).unwrap();
            let short = Duration::from_millis(300);
            let to = Vip::Nat.endpoint(false, WEB);
            assert!(common::ask(running.site.client(), to, short).is_err());
            running.site.director().set_up(interface, true).unwrap();
            // Down takes the IPv6 addresses along.
            let back = interface == "d1";
            let address = running.site.director_address(back, true);
            let _ = running.site.director().add_address(interface, address, 64);
            wait_until(&format!("{interface} is used again"), LIMIT, || {
                [false, true]
                    .iter()
                    .all(|ipv6| running.ask(Vip::Nat, *ipv6).is_ok())
            });
            running.ask_everything();
        }
        assert!(running.daemon.child().try_wait().unwrap().is_none());
    });
}

#[test]
fn an_interface_is_deleted_and_made_again() {
    networked(&[], || {
        let mut running = Running::start(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        running.ask_everything();
        let (site, fabric) = (&running.site, running.site.fabric().unwrap());
        site.director().delete_link("d1").unwrap();
        let short = Duration::from_millis(300);
        let to = Vip::Nat.endpoint(false, WEB);
        assert!(common::ask(site.client(), to, short).is_err());
        assert!(running.control().info().is_ok());
        Veth::connect(site.director(), "d1", fabric, "d1").unwrap();
        fabric.add_port("back", "d1").unwrap();
        for (ipv6, prefix) in [(false, 24), (true, 64)] {
            let address = site.director_address(true, ipv6);
            site.director().add_address("d1", address, prefix).unwrap();
        }
        wait_until("d1 is used again", LIMIT, || {
            running.ask(Vip::Nat, false).is_ok()
        });
        running.ask_everything();
        assert!(running.daemon.child().try_wait().unwrap().is_none());
    });
}

/// Starting this configuration must fail soon, with words that hold all of `words`.
fn refused(namespace: &Namespace, config: &DaemonConfig, words: &[&str]) {
    let started = Instant::now();
    let Err(error) = Daemon::start(Path::new(LVSD), namespace, config) else {
        panic!("lvsd started although it must not: {config:?}");
    };
    assert!(started.elapsed() < LIMIT, "{error}");
    let said = error.to_string();
    assert!(matches!(error, Error::Unexpected { .. }), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_missing_interface_is_named() {
    networked(&[], || {
        let site = Site::new(SiteConfig::default()).unwrap();
        let config = DaemonConfig {
            interfaces: vec!["d0".into(), "nowhere0".into()],
            ..common::daemon_config(&site)
        };
        refused(site.director(), &config, &["nowhere0"]);
    });
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    networked(&[], || {
        let mut running = Running::start(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        let mut second = Command::new(LVSD);
        second
            .arg("run")
            .arg("--config")
            .arg(running.daemon.config_file());
        let answer = running.site.director().output(second).unwrap();
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(!answer.status.success(), "{said}");
        assert!(said.contains("control.sock"), "{said}");
        assert!(running.daemon.child().try_wait().unwrap().is_none());
        running.ask_everything();
    });
}

#[test]
fn without_rights_it_says_which() {
    networked(&["setpriv"], || {
        let site = Site::new(SiteConfig::default()).unwrap();
        let directory = lvs_testbed::TemporaryDirectory::new().unwrap();
        let socket = directory.path().join("control.sock");
        let text = common::daemon_config(&site).text(&socket);
        let file = directory.write("lvsd.toml", text).unwrap();
        for capability in ["net_raw", "net_admin"] {
            let mut command = program::command("setpriv").unwrap();
            command.arg(format!("--bounding-set=-{capability}"));
            command.arg(format!("--inh-caps=-{capability}"));
            command.args([LVSD, "run", "--config"]).arg(&file);
            let answer = site.director().output(command).unwrap();
            let said = String::from_utf8_lossy(&answer.stderr).to_lowercase();
            assert!(!answer.status.success(), "{said}");
            assert!(said.contains(&format!("cap_{capability}")), "{said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    });
}

#[test]
fn tags_survive() {
    networked(&[], || {
        let site = Site::new(SiteConfig::default()).unwrap();
        let (vip, port) = (Vip::Nat, 5000);
        let config = DaemonConfig {
            interfaces: vec!["d0".into(), "d1".into()],
            rules: vec![Rule {
                protocol: "udp",
                vip: vip.endpoint(false, port),
                scheduler: "rr",
                targets: vec![Target {
                    address: SocketAddr::new(site.server_address(0, false), port),
                    method: "nat",
                    weight: 1,
                }],
            }],
            ..DaemonConfig::default()
        };
        let running = Running::with(site, config);
        let (client, server) = (running.site.client(), &running.site.servers()[0]);
        let from = SocketAddr::new(running.site.client_address(0, false), 4000);
        let next_hop = running.site.director().mac("d0").unwrap();
        let own = client.mac("eth0").unwrap();
        let plain = |payload: &[u8]| {
            let packet = udp_packet(from, vip.endpoint(false, port), payload);
            [&next_hop[..], &own, &[0x08, 0x00], &packet].concat()
        };
        let output = client.run(|| RawSocket::open("eth0")).unwrap().unwrap();
        let input = server.run(|| RawSocket::open("eth0")).unwrap().unwrap();
        input.set_timeout(Some(Duration::from_millis(200))).unwrap();
        // Payloads that differ: copies of the first frame may still come in during the second.
        for (payload, frame, expected) in [
            (&b"untag"[..], plain(b"untag"), None),
            (
                &b"tagged"[..],
                tag(&plain(b"tagged"), 0x8100, 0x6005),
                Some((0x8100, 0x6005)),
            ),
        ] {
            let deadline = Instant::now() + LIMIT;
            let mut buffer = [0; 2000];
            let found = 'found: loop {
                // Again and again: the first may wait for a neighbour.
                output.send(&[0; 10], &frame).unwrap();
                while let Ok((length, tag)) = input.receive_tagged(&mut buffer) {
                    if buffer[..length]
                        .windows(payload.len())
                        .any(|window| window == payload)
                    {
                        break 'found tag;
                    }
                }
                assert!(
                    Instant::now() < deadline,
                    "{expected:?}\n{}",
                    running.explain()
                );
            };
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn tcpdump_on_the_host_still_sees_everything() {
    networked(&["tcpdump"], || {
        if has_own_user_namespace() {
            let because = &"it gives up its groups, which a user namespace does not allow";
            return left_out("tcpdump", because);
        }
        let running = Running::start(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        running.ask_everything();
        let dump = std::thread::scope(|scope| {
            let director = running.site.director();
            let words = [
                "-Z",
                "root",
                "-ni",
                "d0",
                "-c",
                "3",
                "--immediate-mode",
                "tcp port 80",
            ];
            let dump = scope.spawn(move || {
                output(
                    director,
                    "timeout",
                    &[&["10", "tcpdump"], &words[..]].concat(),
                )
            });
            let deadline = Instant::now() + LIMIT;
            while !dump.is_finished() && Instant::now() < deadline {
                running.ask(Vip::Nat, false).unwrap();
            }
            dump.join().unwrap()
        });
        let seen = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert!(seen.contains("10.1.0.100.80"), "{seen}");
    });
}
