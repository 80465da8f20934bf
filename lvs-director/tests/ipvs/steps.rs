//! What can happen in a scenario, as small numbers that mean something whatever they are.

use super::rules::Wish;
use super::schedulers::Flags;
use lvs_core::{Addr, Endpoint, Family, ForwardMethod, Protocol, ServiceKey, Thresholds};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Step {
    AddService(u8, Shape),
    EditService(u8, Shape),
    DeleteService(u8),
    Flush,
    /// Service, server.
    AddDest(u8, u8, Terms),
    EditDest(u8, u8, Terms),
    DeleteDest(u8, u8),
    /// A packet of a client: which, from which of its ports, to what, and what it says.
    Client(u8, u8, u8, u8),
    /// A packet of an old connection, from its client.
    Again(u8, u8),
    /// The same from its server.
    Reply(u8, u8),
    /// A packet from a server to a client that may never have asked.
    Stray(u8, u8, u8, u8),
    /// Ticks.
    Wait(u32),
    Set(u8, u8),
    Seconds(u16, u16, u16),
    /// One service's, or all counters.
    Zero(Option<u8>),
}

/// How a service is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub scheduler: u8,
    pub flags: u8,
    /// 0: no persistence.
    pub timeout: u8,
    pub mask: u8,
    pub one_packet: bool,
}

/// How a destination is to be.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub method: u8,
    pub weight: u8,
    pub upper: u8,
    pub lower: u8,
    pub port: u8,
}

/// The schedulers whose choice is not drawn and needs no clock.
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "dh", "sh", "mh", "none",
];

/// Those of which the first and the last can be found by a mark.
const VIPS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"];

pub fn vips() -> [Addr; 4] {
    VIPS.map(|vip| vip.parse().unwrap())
}

/// 1 for the high ports of the second address and for all of the last one.
pub fn mark(_: Protocol, to: Endpoint) -> u32 {
    let [_, second, _, last] = vips();
    u32::from((to.addr == second && to.port >= 5000) || to.addr == last)
}

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const SCTP: Protocol = Protocol::Sctp;

/// The services that there may be.
pub fn slots() -> Vec<ServiceKey> {
    let at = |(protocol, vip, port): (Protocol, usize, u16)| ServiceKey::Endpoint {
        protocol,
        vip: Endpoint::new(vips()[vip], port),
    };
    let marked = |family| ServiceKey::FwMark { family, mark: 1 };
    let mut slots = vec![marked(Family::V4), marked(Family::V6)];
    slots.extend(
        [
            (TCP, 0, 80),
            (UDP, 0, 80),
            (SCTP, 0, 80),
            (TCP, 0, 0),
            (UDP, 0, 0),
            (TCP, 0, 21),
            (UDP, 1, 5000),
            (TCP, 1, 80),
            (TCP, 2, 80),
            (UDP, 2, 80),
            (SCTP, 2, 0),
            (TCP, 2, 21),
        ]
        .map(at),
    );
    slots
}

/// What clients send to.
pub fn target(which: u8) -> (Protocol, Endpoint) {
    const TARGETS: &[(Protocol, usize, u16)] = &[
        (TCP, 0, 80),
        (TCP, 0, 80),
        (UDP, 0, 80),
        (SCTP, 0, 80),
        (TCP, 0, 443),
        (TCP, 0, 21),
        (TCP, 0, 20),
        (TCP, 0, 5000),
        (UDP, 0, 443),
        (TCP, 1, 5000),
        (UDP, 1, 5000),
        (UDP, 1, 5001),
        (TCP, 1, 80),
        (TCP, 2, 80),
        (UDP, 2, 80),
        (SCTP, 2, 443),
        (TCP, 2, 2000),
        (TCP, 3, 7000),
        (UDP, 3, 7001),
    ];
    let (protocol, vip, port) = TARGETS[usize::from(which) % TARGETS.len()];
    (protocol, Endpoint::new(vips()[vip], port))
}

pub fn client(family: Family, which: u8, port: u8) -> Endpoint {
    const PORTS: [u16; 4] = [4000, 4001, 4002, 20];
    let n = u32::from(which % 6);
    let addr = match family {
        // Three in a /30, three elsewhere.
        Family::V4 => Addr::from_v4_bits(0x0a01_0000 + n + n / 3 * 256),
        Family::V6 => format!("fd01::{}:{n}", n / 3).parse().unwrap(),
    };
    Endpoint::new(addr, PORTS[usize::from(port) % 4])
}

pub fn server(family: Family, which: u8) -> Addr {
    let n = which % 4 + 1;
    match family {
        Family::V4 => format!("10.2.0.{n}").parse().unwrap(),
        Family::V6 => format!("fd02::{n}").parse().unwrap(),
    }
}

pub fn what(protocol: Protocol, which: u8) -> u8 {
    // SYN, ACK, FIN+ACK, RST, SYN+ACK, PSH+ACK, FIN, nothing, SYN+RST, SYN+FIN.
    const FLAGS: [u8; 12] = [2, 16, 17, 4, 18, 16, 2, 24, 1, 0, 6, 3];
    const CHUNKS: [u8; 14] = [1, 10, 0, 7, 2, 11, 1, 6, 8, 14, 9, 3, 4, 200];
    match protocol {
        Protocol::Tcp => FLAGS[usize::from(which) % FLAGS.len()],
        Protocol::Sctp => CHUNKS[usize::from(which) % CHUNKS.len()],
        _ => 0,
    }
}

impl Shape {
    pub fn wish(&self, key: &ServiceKey) -> Wish {
        let mut timeout = [0, 0, 3, 10, 60, 120, 300][usize::from(self.timeout) % 7];
        // `ipvsadm` refuses a service of all ports that is not persistent.
        if matches!(key, ServiceKey::Endpoint { vip, .. } if vip.port == 0) {
            timeout = timeout.max(3);
        }
        let masks = match key.family() {
            Family::V4 => [u32::MAX, 0xffff_fffc, 0xffff_0000, 0xff00_ffff],
            Family::V6 => [128, 112, 64, 127],
        };
        Wish {
            scheduler: SCHEDULERS[usize::from(self.scheduler) % SCHEDULERS.len()],
            flags: Flags {
                fallback: self.flags & 1 != 0,
                port: self.flags & 2 != 0,
            },
            persistence: (timeout != 0).then_some((timeout, masks[usize::from(self.mask) % 4])),
            one_packet: self.one_packet,
        }
    }
}

impl Terms {
    pub fn method(&self) -> ForwardMethod {
        match self.method % 4 {
            0 | 1 => ForwardMethod::Masquerade,
            2 => ForwardMethod::DirectRoute,
            _ => ForwardMethod::Tunnel,
        }
    }

    pub fn weight(&self) -> u32 {
        u32::from(self.weight % 5)
    }

    pub fn port(&self) -> u16 {
        [80, 80, 8080, 0][usize::from(self.port) % 4]
    }

    pub fn thresholds(&self) -> Thresholds {
        // Some are refused: the lower one above the upper one.
        Thresholds {
            upper: u32::from(self.upper % 8).saturating_sub(3),
            lower: u32::from(self.lower % 6).saturating_sub(3),
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        0..12_u8,
        0..4_u8,
        0..7_u8,
        0..4_u8,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(scheduler, flags, timeout, mask, one_packet)| Shape {
            scheduler,
            flags,
            timeout,
            mask,
            one_packet,
        })
}

fn terms() -> impl Strategy<Value = Terms> {
    (0..4_u8, 0..5_u8, 0..8_u8, 0..6_u8, 0..4_u8).prop_map(
        |(method, weight, upper, lower, port)| Terms {
            method,
            weight,
            upper,
            lower,
            port,
        },
    )
}

/// A moment's rest, or as long as some timeout: a connection's, a template's, the trash's.
fn ticks() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 1..500_u32,
        2 => prop::sample::select(vec![1_u32, 2, 3, 10, 60, 61, 100, 120, 300, 900]).prop_map(|s| s * 250),
        1 => 500..300_000_u32,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<u8>;
    prop_oneof![
        4 => (any(), shape()).prop_map(|(slot, shape)| Step::AddService(slot, shape)),
        3 => (any(), shape()).prop_map(|(slot, shape)| Step::EditService(slot, shape)),
        1 => any().prop_map(Step::DeleteService),
        1 => Just(Step::Flush),
        8 => (any(), any(), terms()).prop_map(|(slot, server, terms)| Step::AddDest(slot, server, terms)),
        5 => (any(), any(), terms()).prop_map(|(slot, server, terms)| Step::EditDest(slot, server, terms)),
        4 => (any(), any()).prop_map(|(slot, server)| Step::DeleteDest(slot, server)),
        // Most begin something.
        24 => (any(), any(), any(), prop_oneof![3 => Just(0), 1 => any()])
            .prop_map(|(client, port, target, what)| Step::Client(client, port, target, what)),
        24 => (any(), any()).prop_map(|(conn, what)| Step::Again(conn, what)),
        18 => (any(), any()).prop_map(|(conn, what)| Step::Reply(conn, what)),
        2 => (any(), any(), any(), any())
            .prop_map(|(server, port, client, what)| Step::Stray(server, port, client, what)),
        14 => ticks().prop_map(Step::Wait),
        4 => (any(), any()).prop_map(|(setting, value)| Step::Set(setting, value)),
        1 => (0..1000_u16, 0..300_u16, 0..500_u16).prop_map(|(a, b, c)| Step::Seconds(a, b, c)),
        1 => prop::option::of(any()).prop_map(Step::Zero),
    ]
}

/// A scenario: a few services with a few destinations, and then anything.
pub fn scenario(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let service = (
        any::<u8>(),
        shape(),
        prop::collection::vec((any::<u8>(), terms()), 1..5),
    );
    let setup = prop::collection::vec(service, 1..4).prop_map(|services| {
        let mut steps = Vec::new();
        for (slot, shape, servers) in services {
            steps.push(Step::AddService(slot, shape));
            for (server, terms) in servers {
                // 255: the service that was added last.
                steps.push(Step::AddDest(255, server, terms));
            }
        }
        steps
    });
    (setup, prop::collection::vec(step(), 1..longest)).prop_map(|(mut steps, rest)| {
        steps.extend(rest);
        steps
    })
}
