//! The straight way changes nothing but time: two directors with the same rules see the same packets,
//! one of them without it, and stay the same in every byte, verdict, counter and connection.

use crate::{Director, DirectorConfig, Route, Routes, Setting, Verdict, Way, Worker};
use lvs_core::{
    Addr, DestinationSpec, Endpoint, ForwardMethod, LocalAddresses, Protocol, ServiceKey,
    ServiceSpec, Tick, TunnelChecksum, TunnelKind,
};
use lvs_packet::{Frame, Offload, PartialChecksum, TcpFlags, build};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

const HEADROOM: usize = 64;

/// The last address of each net is this host's, the one before is not to be reached, and that of
/// servers of even numbers is behind a narrow link.
struct Ways;

impl Routes for Ways {
    fn way(&mut self, to: Addr) -> Way {
        match to.low_word() & 0xff {
            255 => Way::Local,
            254 => Way::Unreachable,
            last => Way::Forward(Route {
                hop: last,
                // Of IPv6 one that some tunnels have no room in.
                mtu: match (last % 2, to.is_v4()) {
                    (0, true) => 90,
                    (0, false) => 1320,
                    _ => 1500,
                },
                source: address(to.is_v4(), 9, 1),
            }),
        }
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        Some(address(towards.is_v4(), 9, 2))
    }
}

/// 10.`net`.0.`host` or fd`net`::`host`; net 127 is the loopback of IPv4.
fn address(v4: bool, net: u8, host: u8) -> Addr {
    if v4 {
        let first = if net == 127 { 127 } else { 10 };
        return Addr::from_v4_octets([first, net, 0, host]);
    }
    Addr {
        hi: (0xfd00 | u64::from(net)) << 48,
        lo: u64::from(host),
    }
}

const METHODS: [ForwardMethod; 9] = [
    ForwardMethod::Masquerade,
    ForwardMethod::DirectRoute,
    ForwardMethod::Tunnel,
    ForwardMethod::Tunnel,
    ForwardMethod::Tunnel,
    ForwardMethod::Tunnel,
    ForwardMethod::Tunnel,
    ForwardMethod::FullNat,
    ForwardMethod::Local,
];

/// The tunnels of those methods that are some.
const fn tunnel(method: usize) -> TunnelKind {
    let checksum = match method % 2 {
        0 => TunnelChecksum::None,
        _ => TunnelChecksum::Full,
    };
    match method {
        4 | 5 => TunnelKind::Gre { checksum },
        6 => TunnelKind::Gue {
            port: 6080,
            checksum,
        },
        _ => TunnelKind::Ipip,
    }
}

fn vip(v4: bool, method: usize) -> Endpoint {
    Endpoint::new(address(v4, 0, u8::try_from(method + 1).unwrap()), 80)
}

fn key(protocol: Protocol, v4: bool, method: usize) -> ServiceKey {
    ServiceKey::Endpoint {
        protocol,
        vip: vip(v4, method),
    }
}

fn server(v4: bool, method: usize, number: u8) -> DestinationSpec {
    let rewritten = METHODS[method].rewrites_replies();
    let port = if rewritten { 8080 } else { 80 };
    let host = [1, 2, 3, 255][usize::from(number % 4)];
    let net = 20 + u8::try_from(method).unwrap();
    // The third is a tunnel over the other family.
    let endpoint = Endpoint::new(address(v4 ^ (method == 3), net, host), port);
    DestinationSpec {
        tunnel: tunnel(method),
        ..DestinationSpec::new(endpoint, METHODS[method])
    }
}

/// FULLNAT's own address.
fn local(v4: bool) -> Addr {
    address(v4, 9, 9)
}

fn service(tcp: bool, v4: bool, method: usize) -> ServiceSpec<'static> {
    let mut spec = ServiceSpec::new(key(protocol(tcp), v4, method), "rr");
    if METHODS[method] == ForwardMethod::FullNat {
        spec.local = LocalAddresses::new(&[local(v4)]).unwrap();
    }
    spec
}

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Packet(Sample),
    Weight(bool, bool, usize, u8, u32),
    Remove(bool, bool, usize, u8),
    Add(bool, bool, usize, u8),
    Set(Setting, u32),
    Wait(u32),
}

#[derive(Clone, Debug)]
struct Sample {
    tcp: bool,
    v4: bool,
    method: usize,
    client: u8,
    /// From this server, or to the VIP.
    server: Option<u8>,
    flags: u8,
    ttl: u8,
    options: bool,
    tagged: bool,
    loopback: bool,
    partial: bool,
    no_checksum: bool,
    fragment: u16,
    payload: usize,
}

impl Sample {
    fn build(&self) -> (Vec<u8>, Offload) {
        let net = if self.loopback { 127 } else { 1 };
        let client = Endpoint::new(address(self.v4, net, self.client), 1025);
        let server = |number| server(self.v4, self.method, number).endpoint;
        let (src, dst) = match self.server {
            // To one of the ports that are taken first.
            Some(number) if METHODS[self.method] == ForwardMethod::FullNat => {
                let port = 1 << 15 | u16::from(self.client);
                (server(number), Endpoint::new(local(self.v4), port))
            }
            // From behind a tunnel over the other family no reply comes back here.
            Some(number) if server(number).addr.is_v4() == self.v4 => (server(number), client),
            _ => (client, vip(self.v4, self.method)),
        };
        let ip = build::Ip {
            ttl: self.ttl,
            tags: if self.tagged { &[(0x8100, 5)] } else { &[] },
            options: if self.options && self.v4 {
                &[1, 1, 1, 0]
            } else {
                &[]
            },
            fragment: if self.v4 { self.fragment } else { 0 },
            ..build::Ip::new(src.addr, dst.addr)
        };
        let payload = vec![0x5a; self.payload];
        let mut bytes = vec![0; 400];
        let length = if self.tcp {
            let tcp = build::Tcp {
                flags: TcpFlags(self.flags),
                ..build::Tcp::syn(src.port, dst.port)
            };
            build::tcp(&mut bytes, &ip, &tcp, &payload)
        } else {
            build::udp(&mut bytes, &ip, src.port, dst.port, &payload)
        };
        bytes.truncate(length.unwrap());
        let l3 = if self.tagged { 18 } else { 14 };
        let l4 = l3
            + if !self.v4 {
                40
            } else if self.options {
                24
            } else {
                20
            };
        if !self.tcp && self.no_checksum {
            bytes[l4 + 6..l4 + 8].fill(0);
        }
        let checksum = self.partial.then_some(PartialChecksum {
            start: u16::try_from(l4).unwrap(),
            offset: if self.tcp { 16 } else { 6 },
        });
        let offload = Offload {
            checksum,
            segmentation: None,
        };
        (bytes, offload)
    }
}

/// Half of all by NAT.
fn methods() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0_usize), 1 => 0..METHODS.len()]
}

fn samples() -> impl Strategy<Value = Sample> {
    let who = (any::<bool>(), any::<bool>(), methods(), 1..5_u8);
    let client = prop_oneof![8 => 1..6_u8, 1 => 250..=255_u8];
    let server = prop::option::of(0..4_u8);
    let flags = prop_oneof![2 => Just(0x02_u8), 4 => Just(0x10), 2 => Just(0x18), 1 => any::<u8>()];
    let ttl = prop_oneof![6 => Just(64_u8), 1 => 0..3_u8];
    let rarely = || prop::bool::weighted(0.05);
    let oddities = (rarely(), rarely(), rarely(), rarely(), rarely());
    let fragment = prop_oneof![10 => Just(0x4000_u16), 3 => Just(0), 1 => Just(0x2000)];
    let payload = prop_oneof![4 => 0..30_usize, 1 => 8..14_usize];
    (who, client, server, flags, ttl, oddities, fragment, payload).prop_map(
        |((tcp, v4, method, _), client, server, flags, ttl, oddities, fragment, payload)| {
            let (options, tagged, loopback, partial, no_checksum) = oddities;
            Sample {
                tcp,
                v4,
                method,
                client,
                server,
                flags,
                ttl,
                options,
                tagged,
                loopback,
                partial,
                no_checksum,
                fragment,
                payload: payload * 8,
            }
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let whose = || (any::<bool>(), any::<bool>(), methods(), 0..4_u8);
    const SETTINGS: &[Setting] = &[
        Setting::ExpireNodestConn,
        Setting::ConnReuseMode,
        Setting::SloppyTcp,
        Setting::PmtuDisc,
    ];
    prop_oneof![
        60 => samples().prop_map(Step::Packet),
        1 => (whose(), 0..3_u32).prop_map(|((t, v, m, n), w)| Step::Weight(t, v, m, n, w)),
        1 => whose().prop_map(|(t, v, m, n)| Step::Remove(t, v, m, n)),
        2 => whose().prop_map(|(t, v, m, n)| Step::Add(t, v, m, n)),
        1 => (prop::sample::select(SETTINGS), 0..3_u32).prop_map(|(s, v)| Step::Set(s, v)),
        3 => (0..30_000_u32).prop_map(Step::Wait),
    ]
}

struct Side {
    director: Arc<Director>,
    worker: Worker,
    now: Tick,
}

const fn protocol(tcp: bool) -> Protocol {
    if tcp { Protocol::Tcp } else { Protocol::Udp }
}

impl Side {
    fn new() -> Self {
        let director = Director::new(&DirectorConfig {
            connections: 1024,
            workers: 1,
        })
        .unwrap();
        for (tcp, v4) in [(false, false), (false, true), (true, false), (true, true)] {
            for method in 0..METHODS.len() {
                let service = service(tcp, v4, method);
                let key = service.key;
                director.add_service(&service).unwrap();
                for number in 0..2 {
                    director
                        .add_destination(&key, &server(v4, method, number))
                        .unwrap();
                }
            }
        }
        let mut worker = director.worker().unwrap();
        // Both draw the same.
        worker.identification = crate::tunnelled::Identification::new(1);
        Self {
            director,
            worker,
            now: Tick(1000),
        }
    }

    /// Everything but packets.
    fn control(&mut self, step: &Step) {
        let key = |tcp, v4, method| key(protocol(tcp), v4, method);
        match *step {
            Step::Packet(_) => {}
            Step::Weight(tcp, v4, method, number, weight) => {
                let mut spec = server(v4, method, number);
                spec.weight = weight;
                let _ = self.director.edit_destination(&key(tcp, v4, method), &spec);
            }
            Step::Remove(tcp, v4, method, number) => {
                let endpoint = server(v4, method, number).endpoint;
                let _ = self
                    .director
                    .delete_destination(&key(tcp, v4, method), endpoint);
            }
            Step::Add(tcp, v4, method, number) => {
                let spec = server(v4, method, number);
                let _ = self.director.add_destination(&key(tcp, v4, method), &spec);
            }
            Step::Set(setting, value) => {
                let _ = self.director.settings().set(setting, value);
            }
            Step::Wait(ticks) => {
                self.now = self.now + ticks;
                self.director.collect(self.now, usize::MAX);
            }
        }
    }

    /// What becomes of a batch of packets.
    fn packets<const STRAIGHT: bool>(
        &mut self,
        samples: &[&Sample],
    ) -> Vec<(Verdict, Vec<u8>, Offload)> {
        let mut buffers: Vec<(Vec<u8>, Offload)> = samples
            .iter()
            .map(|sample| {
                let (bytes, offload) = sample.build();
                ([vec![0; HEADROOM], bytes].concat(), offload)
            })
            .collect();
        let mut frames: Vec<Frame<'_>> = buffers
            .iter_mut()
            .map(|(buffer, offload)| {
                let length = buffer.len() - HEADROOM;
                Frame::new(buffer, HEADROOM, length, *offload)
            })
            .collect();
        let mut verdicts = vec![Verdict::Pass; frames.len()];
        self.worker
            .process_batch::<_, STRAIGHT>(self.now, &mut Ways, &mut frames, &mut verdicts);
        let done = frames.iter().zip(verdicts);
        done.map(|(frame, verdict)| (verdict, frame.bytes().to_vec(), frame.offload))
            .collect()
    }

    /// Rules with their counts and counters, connections, and drops.
    fn picture(&self) -> (Vec<String>, Vec<String>, Vec<(lvs_core::DropReason, u64)>) {
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        let services = self.director.services();
        let services = services.iter().map(|found| format!("{found:?}")).collect();
        let mut connections = Vec::new();
        self.director.connections(self.now, |found| {
            connections.push(format!("{found:?}"));
        });
        (
            sorted(services),
            sorted(connections),
            self.director.drops().collect(),
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 100 }))]

    #[test]
    fn nothing_but_time_is_changed(steps in vec(vec(steps(), 1..40), 1..20)) {
        let (mut straight, mut other) = (Side::new(), Side::new());
        for batch in &steps {
            let samples: Vec<&Sample> = batch
                .iter()
                .filter_map(|step| match step {
                    Step::Packet(sample) => Some(sample),
                    _ => None,
                })
                .collect();
            // Twice: what the first has begun, the second finds.
            for _ in 0..2 {
                let (one, two) = (
                    straight.packets::<true>(&samples),
                    other.packets::<false>(&samples),
                );
                for ((one, two), sample) in one.iter().zip(&two).zip(&samples) {
                    prop_assert_eq!(one, two, "{:?}", sample);
                }
            }
            for step in batch {
                straight.control(step);
                other.control(step);
            }
            prop_assert_eq!(straight.picture(), other.picture());
        }
    }
}
