//! What others make of what lvsd sends: tshark finds no wrong checksum and nothing malformed in any of it,
//! and a Linux kernel takes out of its tunnels what lvsd put into them.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{LIMIT, Running, WEB, output, wait_until};
use lvs_api::{Destination, Method, Operation, Service, Tunnel, TunnelChecksum};
use lvs_core::{Endpoint, Protocol, ServiceKey};
use lvs_testbed::raw::RawSocket;
use lvs_testbed::test::networked;
use lvs_testbed::{Namespace, SiteConfig, TemporaryDirectory, Vip, program};

const GUE: u16 = 6080;
/// The first port of the services that are made here.
const FIRST: u16 = 7000;
/// What is wrong with a packet, in tshark's words.
const WRONG: &str = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || \
    udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || \
    sctp.checksum.status == 0 || gre.checksum.status == 0";

fn tunnels() -> [Tunnel; 6] {
    let gre = |checksum| Tunnel::Gre { checksum };
    let gue = |checksum| Tunnel::Gue {
        port: GUE,
        checksum,
    };
    [
        Tunnel::Ipip,
        gre(TunnelChecksum::None),
        gre(TunnelChecksum::Full),
        gue(TunnelChecksum::None),
        gue(TunnelChecksum::Full),
        gue(TunnelChecksum::Remote),
    ]
}

/// A UDP service on a VIP that the servers have, with the first server behind a tunnel.
fn serve(running: &Running, vip: SocketAddr, server_ipv6: bool, tunnel: Tunnel) {
    let mut control = running.control();
    let key = ServiceKey::Endpoint {
        protocol: Protocol::Udp,
        vip: Endpoint::new(vip.ip().into(), vip.port()),
    };
    let config = Service::new(key, "rr");
    control.apply(Operation::AddService { config }).unwrap();
    let server = running.site.server_address(0, server_ipv6);
    let config = Destination {
        tunnel,
        ..Destination::new(Endpoint::new(server.into(), vip.port()), Method::Tun)
    };
    let service = key;
    control
        .apply(Operation::AddDestination { service, config })
        .unwrap();
}

fn send(client: &Namespace, to: SocketAddr, sizes: &[usize]) {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let sent = client.run(|| {
        let socket = UdpSocket::bind(any)?;
        sizes
            .iter()
            .try_for_each(|size| socket.send_to(&vec![7; *size], to).map(|_| ()))
    });
    sent.unwrap().unwrap();
}

/// What lvsd sends, on both of its sides, until told to stop.
fn listen(fabric: &Namespace, port: &str, stop: &AtomicBool, seen: &dyn Fn(&[u8])) {
    let socket = fabric.run(|| RawSocket::open(port)).unwrap().unwrap();
    socket.set_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match socket.receive(&mut buffer) {
            Ok((_, length)) => seen(buffer.get(..length).unwrap_or_default()),
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

/// A capture file (libpcap's format, link type Ethernet).
fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65535, 1] {
        file.extend(word.to_be_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [0, 0, length, length] {
            file.extend(word.to_be_bytes());
        }
        file.extend(frame);
    }
    file
}

/// What tshark has to say against packets, a line each.
fn judged(here: &Namespace, file: &Path) -> String {
    let mut command = program::command("tshark").unwrap();
    command.arg("-r").arg(file).args(["-n", "-Y", WRONG]);
    for check in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{check}.check_checksum:TRUE")]);
    }
    let output = here.output(command).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tshark_finds_nothing_wrong() {
    networked(&["tshark"], || {
        // Nothing is left to hardware: what is on the wire is what would be on a real one.
        let running = Running::start(SiteConfig {
            offloads: false,
            ..SiteConfig::default()
        });
        let _servers = running.site.start_http(WEB).unwrap();
        let fabric = running.site.fabric().expect("a switched site");
        let mut services = Vec::new();
        for (port, tunnel) in (FIRST..).zip(tunnels()) {
            for ipv6 in [false, true] {
                for server_ipv6 in [false, true] {
                    let port = port + 100 * u16::from(server_ipv6);
                    let vip = Vip::Tunnel.endpoint(ipv6, port);
                    serve(&running, vip, server_ipv6, tunnel);
                    services.push(vip);
                }
            }
        }
        let frames = parking_lot::Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for port in ["d0", "d1"] {
                let (stop, frames) = (&stop, &frames);
                scope.spawn(move || {
                    listen(fabric, port, stop, &|frame| {
                        frames.lock().push(frame.to_vec());
                    });
                });
            }
            wait_until("both listen", LIMIT, || {
                // A packet on each side that is heard.
                running.ask(Vip::Nat, false).is_ok() && frames.lock().len() > 10
            });
            for _ in 0..3 {
                running.ask_everything();
            }
            for vip in &services {
                send(running.site.client(), *vip, &[0, 1, 512, 1400, 4000]);
            }
            // Nobody serves this one: the director's own errors.
            for ipv6 in [false, true] {
                send(
                    running.site.client(),
                    Vip::Nat.endpoint(ipv6, 9),
                    &[100, 3000],
                );
            }
            let tunnelled = || {
                let frames = frames.lock();
                let is_tunnelled = |frame: &&Vec<u8>| {
                    let protocol = match frame.get(12..14) {
                        Some([8, 0]) => frame.get(23),
                        _ => frame.get(20),
                    };
                    matches!(protocol, Some(4 | 41 | 47))
                };
                frames.iter().filter(is_tunnelled).count()
            };
            // Of 12 services with IPIP or GRE, three whole datagrams at least.
            wait_until("all is sent", LIMIT, || tunnelled() >= 36);
            stop.store(true, Ordering::Relaxed);
        });
        let mut frames = frames.into_inner();
        let directory = TemporaryDirectory::new().unwrap();
        let file = directory.write("sent.pcap", capture(&frames)).unwrap();
        let found = judged(running.site.client(), &file);
        assert!(found.is_empty(), "{found}");
        // It would have found something.
        let is_udp = |frame: &&mut Vec<u8>| {
            let whole = frame.get(12..14) == Some(&[8, 0]) && frame.get(20..22) == Some(&[0x40, 0]);
            let summed = frame.get(40..42).is_some_and(|sum| sum != [0, 0]);
            whole && frame.get(23) == Some(&17) && summed && frame.len() > 100
        };
        let damaged = frames.iter_mut().find(is_udp).expect("a UDP datagram");
        *damaged.last_mut().unwrap() ^= 1;
        let file = directory.write("wrong.pcap", capture(&frames)).unwrap();
        assert!(!judged(running.site.client(), &file).is_empty());
    });
}

/// How many packets a tunnel interface has taken the outer header off.
fn decapsulated(server: &Namespace, interface: &str) -> u64 {
    let told = output(server, "ip", &["-j", "-s", "link", "show", interface]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let packets = told.pointer("/0/stats64/rx/packets");
    packets.and_then(serde_json::Value::as_u64).unwrap()
}

#[test]
fn a_kernel_takes_out_what_was_put_in() {
    networked(&["ip"], || {
        let running = Running::start(SiteConfig {
            servers: 1,
            offloads: false,
            ..SiteConfig::default()
        });
        let server = running.site.servers().first().unwrap();
        for (number, tunnel) in (0..).zip(tunnels()) {
            for ipv6 in [false, true] {
                for server_ipv6 in [false, true] {
                    let port = FIRST + 10 * number + u16::from(server_ipv6);
                    let vip = Vip::Tunnel.endpoint(ipv6, port);
                    let local = running.site.server_address(0, server_ipv6).to_string();
                    let (kind, mode) = match (tunnel, ipv6, server_ipv6) {
                        (Tunnel::Gre { .. }, _, false) => ("gre", None),
                        (Tunnel::Gre { .. }, _, true) => ("ip6gre", None),
                        (_, false, false) => ("ipip", None),
                        (_, true, false) => ("sit", None),
                        (_, false, true) => ("ip6tnl", Some("ipip6")),
                        (_, true, true) => ("ip6tnl", Some("ip6ip6")),
                    };
                    let what = format!("{tunnel:?} of {vip} by the kernel's {kind}");
                    let mut made = vec!["link", "add", "tunnel0", "type", kind, "local", &local];
                    made.extend(mode.iter().flat_map(|mode| ["mode", *mode]));
                    let mut steps = vec![made];
                    let receive = GUE.to_string();
                    let family: &[&str] = if server_ipv6 { &["-6"] } else { &[] };
                    let fou = |verb: &'static str| {
                        let mut words = vec!["fou", verb, "port", &receive];
                        words.extend((verb == "add").then_some("gue"));
                        words.extend(family);
                        words
                    };
                    let is_gue = matches!(tunnel, Tunnel::Gue { .. });
                    if is_gue {
                        steps.push(fou("add"));
                    }
                    steps.push(vec!["link", "set", "tunnel0", "up"]);
                    let refused = steps.iter().find_map(|step| {
                        let done = output(server, "ip", step);
                        let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                        (!done.status.success()).then_some(words)
                    });
                    if let Some(why) = refused {
                        // No right of ours and no program can make up for it.
                        println!("left out: {what}, because it has none: {why}");
                    } else {
                        serve(&running, vip, server_ipv6, tunnel);
                        let before = decapsulated(server, "tunnel0");
                        send(running.site.client(), vip, &[1, 512, 1300]);
                        wait_until(&what, LIMIT, || {
                            decapsulated(server, "tunnel0") >= before + 3
                        });
                    }
                    output(server, "ip", &["link", "del", "tunnel0"]);
                    if is_gue {
                        output(server, "ip", &fou("del"));
                    }
                }
            }
        }
    });
}
