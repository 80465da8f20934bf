//! FULLNAT between real stacks: servers that know nothing of the director's clients or routes, what
//! they are told of the clients, and connections that end with their destination.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::{LIMIT, Nginx, Running, WEB, ask, curl, daemon_config};
use lvs_api::{Destination, Method, Operation, Service};
use lvs_core::{Endpoint, LocalAddresses, OnRemoval, Protocol, ServiceKey};
use lvs_packet::{Frame, Kind, Offload, parse, toa, uoa};
use lvs_testbed::http::HttpClient;
use lvs_testbed::raw::RawSocket;
use lvs_testbed::test::networked;
use lvs_testbed::{DaemonConfig, Namespace, Site, SiteConfig, TemporaryDirectory, Vip};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where the director speaks to the servers from: an address that nobody has.
fn local(ipv6: bool) -> IpAddr {
    address(if ipv6 { "fd02::250" } else { "10.2.0.250" })
}

/// A VIP among the servers, for a director with one arm.
fn back_vip(ipv6: bool) -> IpAddr {
    address(if ipv6 { "fd02::200" } else { "10.2.0.200" })
}

fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint::new(at.ip().into(), at.port())
}

fn key(protocol: Protocol, vip: SocketAddr) -> ServiceKey {
    ServiceKey::Endpoint {
        protocol,
        vip: endpoint(vip),
    }
}

/// What a test asks for beside the service and its servers.
#[derive(Clone, Copy, Default)]
struct Wanted {
    toa: bool,
    on_removal: OnRemoval,
}

/// Servers that are sent to by no route but that of their own net.
fn site(config: SiteConfig) -> Site {
    let site = Site::new(config).unwrap();
    for server in site.servers() {
        for ipv6 in [false, true] {
            let gateway = site.director_address(true, ipv6);
            server.delete_default_route(gateway).unwrap();
        }
    }
    site
}

/// A director without rules.
fn running(site: Site, interfaces: &[&str]) -> Running {
    let config = DaemonConfig {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        rules: Vec::new(),
        ..daemon_config(&site)
    };
    Running::with(site, config)
}

/// A service by FULLNAT on the first servers.
fn serve(running: &Running, protocol: Protocol, vip: SocketAddr, servers: u16, wanted: Wanted) {
    let mut control = running.control();
    let service = key(protocol, vip);
    let ipv6 = vip.is_ipv6();
    let config = Service {
        local: Some(LocalAddresses::new(&[local(ipv6).into()]).unwrap()),
        toa: Some(wanted.toa),
        on_removal: Some(wanted.on_removal),
        ..Service::new(service, "rr")
    };
    control.apply(Operation::AddService { config }).unwrap();
    for index in 0..servers {
        let server = SocketAddr::new(running.site.server_address(index, ipv6), vip.port());
        let config = Destination::new(endpoint(server), Method::FullNat);
        control
            .apply(Operation::AddDestination { service, config })
            .unwrap();
    }
}

#[test]
fn servers_need_no_route_to_the_clients() {
    networked(&["nginx", "curl"], || {
        for offloads in [true, false] {
            let config = SiteConfig {
                offloads,
                ..SiteConfig::default()
            };
            let running = running(site(config), &["d0", "d1"]);
            let files = TemporaryDirectory::new().unwrap();
            let bulk: Vec<u8> = (0..20_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
            files.write("bulk", &bulk).unwrap();
            let _nginx = Nginx::everywhere(&running.site, files.path());
            for (ipv6, toa) in [(false, false), (true, true)] {
                let wanted = Wanted {
                    toa,
                    ..Wanted::default()
                };
                let vip = Vip::Nat.endpoint(ipv6, WEB);
                serve(&running, Protocol::Tcp, vip, 3, wanted);
                let close = ["--header", "Connection: close"];
                let names = curl(
                    &running,
                    &[close[0], close[1], &format!("http://{vip}/name?[1-99]")],
                );
                assert_eq!(names.lines().count(), 99);
                assert_eq!(names.lines().collect::<BTreeSet<_>>().len(), 3);

                let copy = files.path().join("copy");
                let to = copy.display().to_string();
                curl(&running, &["--output", &to, &format!("http://{vip}/bulk")]);
                let same = std::fs::read(&copy).unwrap() == bulk;
                assert!(
                    same,
                    "offloads={offloads} ipv6={ipv6}\n{}",
                    running.explain()
                );
            }
        }
    });
}

#[test]
fn one_arm_among_the_servers_is_enough() {
    networked(&[], || {
        let running = running(site(SiteConfig::default()), &["d1"]);
        let _servers = running.site.start_http(WEB).unwrap();
        // A client of the servers' own net, which a server with plain NAT would answer directly.
        let client = &running.site.servers()[2];
        for ipv6 in [false, true] {
            let vip = SocketAddr::new(back_vip(ipv6), WEB);
            serve(&running, Protocol::Tcp, vip, 2, Wanted::default());
            let found: BTreeSet<String> = (0..10)
                .map(|_| match ask(client, vip, LIMIT) {
                    Ok(server) => server,
                    Err(error) => panic_with(&running, &error.to_string()),
                })
                .collect();
            assert_eq!(found.len(), 2, "{found:?}");
            let mut http = HttpClient::connect(client, vip, LIMIT).unwrap();
            http.get_bytes(3_000_000).unwrap();
        }
    });
}

#[expect(clippy::panic, reason = "what a test needs fails by panicking")]
fn panic_with(running: &Running, what: &str) -> ! {
    panic!("{what}\n{}", running.explain())
}

/// The clients that the packets of one kind name which arrive at a server, until `enough`.
fn told(raw: &RawSocket, kind: Kind, enough: usize) -> Vec<Option<Endpoint>> {
    raw.set_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut found = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while found.len() < enough && Instant::now() < deadline {
        let Ok((_, length)) = raw.receive(&mut buffer) else {
            continue;
        };
        let frame = Frame::new(&mut buffer, 0, length, Offload::default());
        let Ok(packet) = parse(&frame) else { continue };
        if packet.kind == kind && packet.flow.dst.port == WEB {
            found.push(match kind {
                Kind::Tcp => toa::read(&frame, &packet),
                _ => uoa::read(&frame, &packet),
            });
        }
    }
    found
}

/// A server that says to the first client whom it sees.
fn accept(server: &Namespace, ipv6: bool) -> TcpListener {
    let any = if ipv6 { "[::]:80" } else { "0.0.0.0:80" };
    server.run(|| TcpListener::bind(any)).unwrap().unwrap()
}

#[test]
fn a_tcp_server_is_told_its_client_and_need_not_listen() {
    networked(&[], || {
        let running = running(site(SiteConfig::default()), &["d0", "d1"]);
        let server = &running.site.servers()[0];
        for ipv6 in [false, true] {
            let vip = Vip::Nat.endpoint(ipv6, WEB);
            let wanted = Wanted {
                toa: true,
                ..Wanted::default()
            };
            serve(&running, Protocol::Tcp, vip, 1, wanted);
            let listener = accept(server, ipv6);
            let raw = server.run(|| RawSocket::open("eth0")).unwrap().unwrap();
            let connect = || TcpStream::connect_timeout(&vip, LIMIT);
            let mut client = running.site.client().run(connect).unwrap().unwrap();
            let (mut accepted, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), local(ipv6), "{}", running.explain());
            client.write_all(b"question").unwrap();
            let mut question = [0; 8];
            accepted.set_read_timeout(Some(LIMIT)).unwrap();
            accepted.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"question");
            accepted.write_all(b"answer").unwrap();
            let mut answer = [0; 6];
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.read_exact(&mut answer).unwrap();
            client.write_all(b"more").unwrap();
            accepted.read_exact(&mut question[..4]).unwrap();

            // SYN; the ACK that ends the handshake; the question; and then no more.
            let whom = endpoint(client.local_addr().unwrap());
            let told = told(&raw, Kind::Tcp, 5);
            assert_eq!(told[..3], [None, Some(whom), Some(whom)], "ipv6={ipv6}");
            assert_eq!(told.last(), Some(&None), "ipv6={ipv6}: {told:?}");
        }
    });
}

#[test]
fn a_udp_server_is_told_its_client_by_ipv4() {
    networked(&[], || {
        let running = running(site(SiteConfig::default()), &["d0", "d1"]);
        let server = &running.site.servers()[0];
        let vip = Vip::Nat.endpoint(false, WEB);
        let wanted = Wanted {
            toa: true,
            ..Wanted::default()
        };
        serve(&running, Protocol::Udp, vip, 1, wanted);
        let bind = |at: &'static str| move || UdpSocket::bind(at);
        let socket = server.run(bind("0.0.0.0:80")).unwrap().unwrap();
        let raw = server.run(|| RawSocket::open("eth0")).unwrap().unwrap();
        let client = running.site.client().run(bind("0.0.0.0:0"));
        let client = client.unwrap().unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.connect(vip).unwrap();
        let mut buffer = [0; 16];
        for _ in 0..3 {
            client.send(b"question").unwrap();
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((length, peer.ip()), (8, local(false)));
            socket.send_to(b"answer", peer).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
        let whom = endpoint(client.local_addr().unwrap());
        assert_eq!(told(&raw, Kind::Udp, 3), [Some(whom), None, None]);
    });
}

/// Whether a stream ends by a reset.
fn is_reset(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let read = stream.read(&mut [0; 16]);
    read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn connections_of_a_removed_destination_end_on_both_sides() {
    networked(&[], || {
        let running = running(site(SiteConfig::default()), &["d0", "d1"]);
        let server = &running.site.servers()[0];
        for ipv6 in [false, true] {
            let vip = Vip::Nat.endpoint(ipv6, WEB);
            let wanted = Wanted {
                on_removal: OnRemoval::Reset,
                ..Wanted::default()
            };
            serve(&running, Protocol::Tcp, vip, 1, wanted);
            let listener = accept(server, ipv6);
            let connect = || TcpStream::connect_timeout(&vip, LIMIT);
            let mut client = running.site.client().run(connect).unwrap().unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            client.write_all(b"all is well").unwrap();
            accepted.read_exact(&mut [0; 11]).unwrap();
            let at = SocketAddr::new(running.site.server_address(0, ipv6), WEB);
            let removal = Operation::DeleteDestination {
                service: key(Protocol::Tcp, vip),
                address: endpoint(at),
            };
            running.control().apply(removal).unwrap();
            client.write_all(b"and now?").unwrap();
            assert!(
                is_reset(&mut client),
                "the client, ipv6={ipv6}\n{}",
                running.explain()
            );
            // It has nothing to say, and hears of the end all the same.
            assert!(
                is_reset(&mut accepted),
                "the server, ipv6={ipv6}\n{}",
                running.explain()
            );
        }
    });
}
