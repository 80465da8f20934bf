//! A director in memory with a client's side and a servers' side, and packets to try it with.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_debug_implementations,
    reason = "each test uses its own part, and may fail"
)]

use lvs_core::{
    Addr, DestinationSpec, Endpoint, ForwardMethod, Protocol, ServiceKey, ServiceSpec, Tick,
};
use lvs_director::{Director, DirectorConfig, Route, Routes, Verdict, Way, Worker};
use lvs_packet::{Frame, Offload, Packet, TcpFlags, build, parse};
use std::sync::Arc;

/// The next hop towards clients.
pub const CLIENTS: u32 = 1;
/// The next hop towards servers.
pub const SERVERS: u32 = 2;
/// Bytes before a frame, as a ring leaves them.
pub const HEADROOM: usize = 64;

/// Clients are 10.1.0.0/16 and fd01::/16, servers 10.2.0.0/16 and fd02::/16, as in the recordings.
#[derive(Debug, Clone, Default)]
pub struct TestRoutes {
    /// Addresses of the host itself.
    pub local: Vec<Addr>,
    /// MTU towards the servers; 0: 1500.
    pub server_mtu: u32,
    /// MTU towards the clients; 0: 1500.
    pub client_mtu: u32,
}

impl Routes for TestRoutes {
    fn way(&mut self, destination: Addr) -> Way {
        if self.local.contains(&destination) {
            return Way::Local;
        }
        let text = destination.to_string();
        let mtu = |mtu: u32| if mtu == 0 { 1500 } else { mtu };
        let hop = |hop, mtu, v4: &str, v6: &str| {
            let source = if destination.is_v4() { v4 } else { v6 };
            Way::Forward(Route {
                hop,
                mtu,
                source: source.parse().unwrap(),
            })
        };
        if text.starts_with("10.1.") || text.starts_with("fd01:") {
            hop(CLIENTS, mtu(self.client_mtu), "10.9.0.1", "fd09::1")
        } else if text.starts_with("10.2.") || text.starts_with("fd02:") {
            hop(SERVERS, mtu(self.server_mtu), "10.2.0.254", "fd02::fe")
        } else {
            Way::Unreachable
        }
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        Some(if towards.is_v4() {
            addr("10.2.0.254")
        } else {
            addr("fd02::fe")
        })
    }
}

pub fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

pub fn service(protocol: Protocol, vip: &str) -> ServiceKey {
    ServiceKey::Endpoint {
        protocol,
        vip: endpoint(vip),
    }
}

/// A frame as it came out of the director.
#[derive(Debug)]
pub struct Out {
    pub verdict: Verdict,
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

impl Out {
    pub fn packet(&self) -> Packet {
        let mut bytes = self.bytes.clone();
        let len = bytes.len();
        parse(&Frame::new(&mut bytes, 0, len, self.offload)).unwrap()
    }

    /// `source > destination` of the frame.
    pub fn flow(&self) -> String {
        let flow = self.packet().flow;
        format!("{} > {}", flow.src, flow.dst)
    }
}

pub struct Site {
    pub director: Arc<Director>,
    pub worker: Worker,
    pub routes: TestRoutes,
    pub now: Tick,
}

impl Site {
    pub fn new() -> Self {
        let director = Director::new(&DirectorConfig {
            connections: 4096,
            workers: 1,
        })
        .unwrap();
        let worker = director.worker().unwrap();
        Self {
            director,
            worker,
            routes: TestRoutes::default(),
            now: Tick::from_millis(1_000_000),
        }
    }

    /// A service with servers of weight 1, added in order.
    pub fn with(
        protocol: Protocol,
        vip: &str,
        scheduler: &str,
        method: ForwardMethod,
        servers: &[&str],
    ) -> Self {
        let site = Self::new();
        let key = service(protocol, vip);
        site.director
            .add_service(&ServiceSpec::new(key, scheduler))
            .unwrap();
        for server in servers {
            let spec = DestinationSpec::new(endpoint(server), method);
            site.director.add_destination(&key, &spec).unwrap();
        }
        site
    }

    pub fn send_with(&mut self, bytes: &[u8], offload: Offload) -> Out {
        let mut buffer = vec![0; HEADROOM + bytes.len() + 128];
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        let mut frames = [Frame::new(&mut buffer, HEADROOM, bytes.len(), offload)];
        let mut verdicts = [Verdict::Pass];
        self.worker
            .process(self.now, &mut self.routes, &mut frames, &mut verdicts);
        Out {
            verdict: verdicts[0],
            bytes: frames[0].bytes().to_vec(),
            offload: frames[0].offload,
        }
    }

    /// A packet, and all that leaves by it: each frame with its verdict, a packet that is cut in its
    /// pieces.
    pub fn through(&mut self, bytes: &[u8]) -> Vec<Out> {
        let mut all = vec![self.send(bytes)];
        while let Some((frame, verdict)) = self.worker.next_released(self.now, &mut self.routes) {
            all.push(Out {
                verdict,
                bytes: frame.bytes().to_vec(),
                offload: frame.offload,
            });
        }
        let mut sent = Vec::new();
        for mut out in all {
            match out.verdict {
                Verdict::Held | Verdict::Drop(_) => {}
                Verdict::ForwardPieces { hop, cut } => {
                    let len = out.bytes.len();
                    let mut frame = Frame::new(&mut out.bytes, 0, len, out.offload);
                    let mut scratch = vec![0; 4096];
                    cut.for_each_piece(&mut frame, &mut scratch, |piece| {
                        sent.push(Out {
                            verdict: Verdict::Forward(hop),
                            bytes: piece.bytes().to_vec(),
                            offload: piece.offload,
                        });
                    })
                    .unwrap();
                }
                _ => sent.push(out),
            }
        }
        sent
    }

    pub fn send(&mut self, bytes: &[u8]) -> Out {
        self.send_with(bytes, Offload::default())
    }

    pub fn tcp(&mut self, from: &str, to: &str, flags: TcpFlags) -> Out {
        self.send(&tcp(from, to, flags, b""))
    }

    pub fn udp(&mut self, from: &str, to: &str, payload: &[u8]) -> Out {
        self.send(&udp(from, to, payload))
    }

    /// Lets time pass and the collector run.
    pub fn wait(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now = self.now + Tick::seconds(1);
            self.director.collect(self.now, usize::MAX);
            self.director.tick(self.now);
        }
    }

    pub fn counts(&self, key: &ServiceKey) -> Vec<(String, u32, u32)> {
        let status = self.director.service(key).unwrap();
        status
            .destinations
            .iter()
            .map(|found| {
                (
                    found.spec.endpoint.to_string(),
                    found.active,
                    found.inactive,
                )
            })
            .collect()
    }

    pub fn dropped(&self, reason: lvs_core::DropReason) -> u64 {
        self.director
            .drops()
            .find(|(found, _)| *found == reason)
            .unwrap()
            .1
    }
}

pub fn tcp(from: &str, to: &str, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (endpoint(from), endpoint(to));
    let mut buffer = vec![0; 256 + payload.len()];
    let header = build::Tcp {
        flags,
        ..build::Tcp::syn(from.port, to.port)
    };
    let ip = build::Ip::new(from.addr, to.addr);
    let len = build::tcp(&mut buffer, &ip, &header, payload).unwrap();
    buffer.truncate(len);
    buffer
}

pub fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (endpoint(from), endpoint(to));
    let mut buffer = vec![0; 256 + payload.len()];
    let ip = build::Ip::new(from.addr, to.addr);
    let len = build::udp(&mut buffer, &ip, from.port, to.port, payload).unwrap();
    buffer.truncate(len);
    buffer
}

pub fn udp_with_ttl(from: &str, to: &str, ttl: u8) -> Vec<u8> {
    let (from, to) = (endpoint(from), endpoint(to));
    let mut buffer = vec![0; 256];
    let ip = build::Ip {
        ttl,
        ..build::Ip::new(from.addr, to.addr)
    };
    let len = build::udp(&mut buffer, &ip, from.port, to.port, b"").unwrap();
    buffer.truncate(len);
    buffer
}

/// Whether all checksums of the frame are right, by an independent parser.
pub fn checksums_are_right(bytes: &[u8]) -> bool {
    let mut copy = bytes.to_vec();
    let len = copy.len();
    let frame = Frame::new(&mut copy, 0, len, Offload::default());
    let packet = parse(&frame).unwrap();
    lvs_packet::checksum::verify(&frame, &packet) != Some(false)
}
