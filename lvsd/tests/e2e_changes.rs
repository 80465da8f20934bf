//! Rules change while traffic flows: what is removed gets nothing more, and nobody else notices.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use common::{LIMIT, Running, WEB, ask, wait_until};
use lvs_api::{Destination, Method, Operation, Service};
use lvs_core::{Endpoint, Protocol, ServiceKey};
use lvs_testbed::http::HttpClient;
use lvs_testbed::test::networked;
use lvs_testbed::{SiteConfig, Vip};

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.ip().into(), address.port())
}

fn key(vip: Vip, ipv6: bool) -> ServiceKey {
    ServiceKey::Endpoint {
        protocol: Protocol::Tcp,
        vip: endpoint(vip.endpoint(ipv6, WEB)),
    }
}

fn method(vip: Vip) -> Method {
    match vip {
        Vip::Nat => Method::Nat,
        Vip::DirectRoute => Method::Dr,
        Vip::Tunnel => Method::Tun,
    }
}

/// Says stop when it goes.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_dead_server_is_removed_and_the_others_carry_on() {
    networked(&[], || {
        let running = Running::start(SiteConfig::default());
        let mut servers = running.site.start_http(WEB).unwrap();
        let mut control = running.control();
        for vip in Vip::ALL {
            let to = vip.endpoint(false, WEB);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                // Also when something below fails: the scope waits for all that it started.
                let _end = SetOnDrop(&stop);
                // Connections to each of the servers that stay, which must not break.
                let mut lasting = Vec::new();
                while lasting.len() < 2 {
                    let mut http = HttpClient::connect(running.site.client(), to, LIMIT).unwrap();
                    let server = http.get("/").unwrap().0.server;
                    if server != "server-1" && lasting.iter().all(|(name, _)| *name != server) {
                        lasting.push((server, http));
                    }
                }
                let transfers: Vec<_> = lasting
                    .into_iter()
                    .map(|(name, mut http)| {
                        let stop = &stop;
                        scope.spawn(move || {
                            let mut done = 0;
                            while !stop.load(Ordering::Relaxed) {
                                assert_eq!(http.get_bytes(300_000).unwrap().server, name);
                                done += 1;
                            }
                            done
                        })
                    })
                    .collect();
                drop(servers.remove(0));
                let dead = endpoint(SocketAddr::new(running.site.server_address(0, false), WEB));
                // The others still get theirs.
                let answered = (0..9)
                    .filter(|_| ask(running.site.client(), to, LIMIT).is_ok())
                    .count();
                assert_eq!(
                    answered, 6,
                    "of nine connections three meet the dead server"
                );
                control
                    .apply(Operation::DeleteDestination {
                        service: key(vip, false),
                        address: dead,
                    })
                    .unwrap();
                for _ in 0..100 {
                    let server = ask(running.site.client(), to, LIMIT).unwrap();
                    assert_ne!(server, "server-1");
                }
                stop.store(true, Ordering::Relaxed);
                for transfer in transfers {
                    assert!(transfer.join().unwrap() > 0);
                }
                // Back again, for the next method.
                let any = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), WEB);
                let home = &running.site.servers()[0];
                let again = lvs_testbed::http::HttpServer::start(home, &[any], "server-1");
                servers.insert(0, again.unwrap());
                control
                    .apply(Operation::AddDestination {
                        service: key(vip, false),
                        config: Destination::new(dead, method(vip)),
                    })
                    .unwrap();
                wait_until("the server is used again", LIMIT, || {
                    ask(running.site.client(), to, LIMIT).unwrap() == "server-1"
                });
            });
        }
    });
}

#[test]
fn two_hundred_downloads_survive_every_edit() {
    networked(&[], || {
        let running = Running::start(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        let vip = Vip::Nat;
        let to = vip.endpoint(false, WEB);
        let (edits, left) = (AtomicU32::new(0), AtomicU32::new(200));
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| {
                    let result = (|| {
                        let client = running.site.client();
                        let mut http = HttpClient::connect(client, to, 3 * LIMIT)?;
                        // Some edits at least fall into each download.
                        let enough = edits.load(Ordering::Relaxed) + 20;
                        http.get_bytes(500_000)?;
                        while edits.load(Ordering::Relaxed) < enough {
                            http.get_bytes(10_000)?;
                        }
                        Ok::<_, lvs_testbed::Error>(())
                    })();
                    left.fetch_sub(1, Ordering::Relaxed);
                    if let Err(error) = result {
                        panic!("{error}\n{}", running.explain());
                    }
                });
            }
            let mut control = running.control();
            let service = key(vip, false);
            let spare = endpoint(SocketAddr::new(running.site.server_address(9, false), WEB));
            while left.load(Ordering::Relaxed) > 0 {
                let round = edits.load(Ordering::Relaxed);
                // Not the hashing ones: they refuse clients whose server has weight 0, as IPVS does.
                let scheduler = ["rr", "wrr", "lc", "wlc", "sed", "nq"][round as usize % 6];
                let edit = Operation::EditService {
                    config: Service::new(service, scheduler),
                };
                control.apply(edit).unwrap();
                for index in 0..3 {
                    let address = running.site.server_address(index, false);
                    let mut config =
                        Destination::new(endpoint(SocketAddr::new(address, WEB)), method(vip));
                    // One of the three is told to take nothing new, in turn.
                    config.weight = (round + u32::from(index)) % 3;
                    let edit = Operation::EditDestination { service, config };
                    control.apply(edit).unwrap();
                }
                let mut config = Destination::new(spare, method(vip));
                config.weight = 0;
                control
                    .apply(Operation::AddDestination { service, config })
                    .unwrap();
                let address = spare;
                let delete = Operation::DeleteDestination { service, address };
                control.apply(delete).unwrap();
                edits.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
}
