//! The whole director in memory: packets and frames of any bytes, edits of the rules, time.
//!
//! It never panics; what it forwards or answers can be parsed, with checksums as true as they came;
//! no counter ever decreases; and its counts of connections are those of the table.

use arbitrary::{Arbitrary, Unstructured};
use lvs_core::{
    Addr, Counters, DestinationSpec, Endpoint, ForwardMethod, Protocol, ServiceKey, ServiceSpec,
    Thresholds, Tick, TunnelChecksum, TunnelKind,
};
use lvs_director::{
    BATCH, Director, DirectorConfig, Operation, Route, Routes, Verdict, Way, Worker,
};
use lvs_packet::{Frame, Offload, TcpFlags, build, checksum, parse};
use std::sync::Arc;

const HEADROOM: usize = 128;
/// Bytes of a frame, and of the room behind it.
const ROOM: usize = 2048;
const CONNECTIONS: usize = 64;
const STEPS: usize = 64;
const SERVERS: u8 = 4;

const METHODS: [ForwardMethod; 3] = [
    ForwardMethod::Masquerade,
    ForwardMethod::DirectRoute,
    ForwardMethod::Tunnel,
];

/// One thing that happens.
#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Packets(Vec<Piece>),
    Bytes(&'a [u8]),
    Wait(u16),
    Collect(u8),
    Delete {
        service: u8,
        server: u8,
    },
    Add {
        service: u8,
        server: u8,
        weight: u8,
        upper: u8,
    },
    Edit {
        service: u8,
        server: u8,
        weight: u8,
        upper: u8,
    },
    DeleteService(u8),
    AddService {
        service: u8,
        scheduler: u8,
    },
    EditService {
        service: u8,
        scheduler: u8,
    },
    Flush,
    Zero,
    Routes(u8),
}

/// A packet as the sites' hosts would send it.
#[derive(Debug, Arbitrary)]
struct Piece {
    service: u8,
    client: u8,
    server: u8,
    /// From the client, from a server, an error about either, an echo request.
    sort: u8,
    flags: u8,
    ttl: u8,
    fragment: u16,
    length: u8,
}

/// Where everything is. Bits of `closed`: servers out of reach, or the director's own; a narrow way.
#[derive(Default)]
struct Site {
    closed: u8,
}

fn octet(addr: Addr, place: u32) -> u64 {
    match addr.v4_bits() {
        Some(bits) => u64::from(bits >> (place * 8) & 0xff),
        None => match place {
            2 => addr.hi >> 48 & 0xff,
            _ => addr.lo >> (place * 8) & 0xff,
        },
    }
}

impl Routes for Site {
    fn way(&mut self, destination: Addr) -> Way {
        let source = address(destination.is_v4(), 2, 254);
        let mtu = if self.closed & 4 != 0 { 600 } else { 1500 };
        match octet(destination, 2) {
            2 if octet(destination, 0) == 1 && self.closed & 1 != 0 => Way::Unreachable,
            2 if octet(destination, 0) == 2 && self.closed & 2 != 0 => Way::Local,
            0 if self.closed & 8 != 0 => Way::Local,
            1 | 2 => Way::Forward(Route {
                hop: 1,
                mtu,
                source,
            }),
            _ => Way::Unreachable,
        }
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        (self.closed & 16 == 0).then(|| address(towards.is_v4(), 2, 254))
    }
}

/// 10.`net`.0.`host` or fd`net`::`host`.
fn address(v4: bool, net: u8, host: u8) -> Addr {
    if v4 {
        return Addr::from_v4_octets([10, net, 0, host]);
    }
    Addr {
        hi: (0xfd00 | u64::from(net)) << 48,
        lo: u64::from(host),
    }
}

/// Twelve services: method, protocol, family.
fn vip(service: u8) -> (ForwardMethod, Protocol, Endpoint) {
    let service = service % 12;
    let method = METHODS.get(usize::from(service % 3)).copied();
    let protocol = match service / 3 % 2 {
        0 => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    let port = 80 + u16::from(service);
    let vip = Endpoint::new(address(service < 6, 0, 1), port);
    (method.unwrap_or_default(), protocol, vip)
}

fn key(service: u8) -> ServiceKey {
    let (_, protocol, vip) = vip(service);
    ServiceKey::Endpoint { protocol, vip }
}

fn server(service: u8, server: u8) -> Endpoint {
    let (method, _, vip) = vip(service);
    let port = match method {
        ForwardMethod::Masquerade => vip.port + 8000,
        _ => vip.port,
    };
    // One tunnel crosses the families.
    let v4 = vip.addr.is_v4() != (method == ForwardMethod::Tunnel && server % SERVERS == 3);
    Endpoint::new(address(v4, 2, 1 + server % SERVERS), port)
}

fn destination(service: u8, number: u8, weight: u8, upper: u8) -> DestinationSpec {
    let (method, ..) = vip(service);
    let checksum = TunnelChecksum::Full;
    DestinationSpec {
        weight: u32::from(weight),
        thresholds: Thresholds {
            upper: u32::from(upper),
            lower: 0,
        },
        tunnel: match number % 3 {
            0 => TunnelKind::Ipip,
            1 => TunnelKind::Gre { checksum },
            _ => TunnelKind::Gue {
                port: 6080,
                checksum,
            },
        },
        ..DestinationSpec::new(server(service, number), method)
    }
}

fn scheduler(number: u8) -> &'static str {
    let names = lvs_sched::NAMES;
    names.get(usize::from(number) % names.len()).unwrap()
}

impl Piece {
    /// Writes the frame; answers its length.
    fn write(&self, buffer: &mut [u8]) -> usize {
        let (method, protocol, vip) = vip(self.service);
        let client = Endpoint::new(
            address(vip.addr.is_v4(), 1, self.client % 4),
            40_000 + u16::from(self.client / 4),
        );
        let server = server(self.service, self.server);
        // What the server answers with, and what it was sent.
        let inside = match method {
            ForwardMethod::Masquerade => server,
            _ => vip,
        };
        let payload = vec![0x5a; usize::from(self.length) * 6];
        let mut quoted = vec![0; ROOM];
        let router = address(vip.addr.is_v4(), 1 + self.client % 2, 253);
        let error = match (vip.addr.is_v4(), self.flags % 4) {
            (true, 0) => (11, 0),
            (true, code) => (3, code + 1),
            (false, 0) => (3, 0),
            (false, kind) => (kind, 0),
        };
        let mut quote = |from, to| {
            let length = self.segment(&mut quoted, protocol, from, to, &payload);
            quoted.truncate(length.min(14 + 24 + usize::from(self.ttl) * 4));
            quoted.get(14..).unwrap_or_default().to_vec()
        };
        match self.sort % 8 {
            0..3 => self.segment(buffer, protocol, client, vip, &payload),
            3..5 => self.segment(buffer, protocol, inside, client, &payload),
            5 => {
                let quote = quote(vip, client);
                let header = self.header(router, vip.addr);
                build::icmp(buffer, &header, error, 1280, &quote).unwrap()
            }
            6 => {
                let quote = quote(client, inside);
                let header = self.header(router, client.addr);
                build::icmp(buffer, &header, error, 1280, &quote).unwrap()
            }
            _ => {
                let echo = if vip.addr.is_v4() { 8 } else { 128 };
                let header = self.header(client.addr, vip.addr);
                build::icmp(buffer, &header, (echo, 0), 1, &payload).unwrap()
            }
        }
    }

    fn header(&self, src: Addr, dst: Addr) -> build::Ip<'static> {
        build::Ip {
            // Mostly alive and whole.
            ttl: if self.ttl < 4 { self.ttl } else { 64 },
            fragment: match self.fragment % 16 {
                0 => self.fragment & 0x3fff,
                1..8 => 0,
                _ => 0x4000,
            },
            ident: u16::from(self.client),
            ..build::Ip::new(src, dst)
        }
    }

    fn segment(
        &self,
        buffer: &mut [u8],
        protocol: Protocol,
        from: Endpoint,
        to: Endpoint,
        payload: &[u8],
    ) -> usize {
        let header = self.header(from.addr, to.addr);
        match protocol {
            Protocol::Udp => build::udp(buffer, &header, from.port, to.port, payload),
            _ => {
                let tcp = build::Tcp {
                    flags: TcpFlags(self.flags),
                    ..build::Tcp::syn(from.port, to.port)
                };
                build::tcp(buffer, &header, &tcp, payload)
            }
        }
        .unwrap()
    }
}

struct Run {
    director: Arc<Director>,
    worker: Worker,
    site: Site,
    now: Tick,
    totals: Counters,
    drops: u64,
}

impl Run {
    fn new() -> Self {
        let director = Director::new(&DirectorConfig {
            connections: CONNECTIONS,
            workers: 1,
        })
        .unwrap();
        // One edit: an input is not to be spent on these.
        let mut operations = Vec::new();
        for service in 0..12 {
            let spec = ServiceSpec::new(key(service), "wlc");
            operations.push(Operation::AddService(spec));
            for number in 0..SERVERS {
                let spec = destination(service, number, 1, 0);
                operations.push(Operation::AddDestination(key(service), spec));
            }
        }
        director.apply(&operations).unwrap();
        let worker = director.worker().unwrap();
        Self {
            director,
            worker,
            site: Site::default(),
            // Soon past the end of the clock.
            now: Tick(0u32.wrapping_sub(Tick::seconds(300))),
            totals: Counters::default(),
            drops: 0,
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        let director = &self.director;
        match *step {
            Step::Packets(ref pieces) => {
                let mut buffers = vec![vec![0; HEADROOM + 2 * ROOM]; pieces.len().min(BATCH + 2)];
                let lengths: Vec<usize> = pieces
                    .iter()
                    .zip(&mut buffers)
                    .map(|(piece, buffer)| {
                        piece.write(buffer.get_mut(HEADROOM..).unwrap_or_default())
                    })
                    .collect();
                self.process(&mut buffers, &lengths);
            }
            Step::Bytes(bytes) => {
                let length = bytes.len().min(ROOM);
                let mut buffer = vec![0; HEADROOM + 2 * ROOM];
                buffer
                    .iter_mut()
                    .skip(HEADROOM)
                    .zip(bytes.iter().take(length))
                    .for_each(|(to, from)| *to = *from);
                self.process(&mut [buffer], &[length]);
            }
            Step::Wait(ticks) => {
                self.now = self.now + u32::from(ticks);
                director.tick(self.now);
                director.estimate();
            }
            Step::Collect(budget) => {
                director.collect(self.now, usize::from(budget));
            }
            // What is refused changes nothing, and that is checked with the counts.
            Step::Delete {
                service,
                server: number,
            } => {
                let _ = director.delete_destination(&key(service), server(service, number));
            }
            Step::Add {
                service,
                server,
                weight,
                upper,
            } => {
                let spec = destination(service, server, weight, upper);
                let _ = director.add_destination(&key(service), &spec);
            }
            Step::Edit {
                service,
                server,
                weight,
                upper,
            } => {
                let spec = destination(service, server, weight, upper);
                let _ = director.edit_destination(&key(service), &spec);
            }
            Step::DeleteService(service) => {
                let _ = director.delete_service(&key(service));
            }
            Step::AddService {
                service,
                scheduler: name,
            } => {
                let _ = director.add_service(&ServiceSpec::new(key(service), scheduler(name)));
            }
            Step::EditService {
                service,
                scheduler: name,
            } => {
                let _ = director.edit_service(&ServiceSpec::new(key(service), scheduler(name)));
            }
            Step::Flush => director.flush(),
            Step::Zero => {
                assert!(director.zero(None).is_ok());
                self.totals = Counters::default();
            }
            Step::Routes(closed) => self.site.closed = closed,
        }
        self.counters();
    }

    fn process(&mut self, buffers: &mut [Vec<u8>], lengths: &[usize]) {
        let before: Vec<Vec<u8>> = buffers.to_vec();
        let mut frames: Vec<Frame<'_>> = buffers
            .iter_mut()
            .zip(lengths)
            .map(|(buffer, length)| Frame::new(buffer, HEADROOM, *length, Offload::default()))
            .collect();
        let mut verdicts = vec![Verdict::Pass; frames.len()];
        self.worker
            .process(self.now, &mut self.site, &mut frames, &mut verdicts);
        for (((frame, verdict), mut old), length) in
            frames.iter().zip(&verdicts).zip(before).zip(lengths)
        {
            let before = Frame::new(&mut old, HEADROOM, *length, Offload::default());
            judge(&before, verdict, frame);
        }
        let dropped = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Drop(_) | Verdict::Answer(Some(_))));
        self.drops += dropped.count() as u64;
        let drops: u64 = self.director.drops().map(|(_, count)| count).sum();
        assert_eq!(drops, self.drops);
    }

    fn counters(&mut self) {
        let totals = self.director.totals();
        let (new, old) = (totals, self.totals);
        for (new, old) in [
            (new.conns, old.conns),
            (new.in_packets, old.in_packets),
            (new.out_packets, old.out_packets),
            (new.in_bytes, old.in_bytes),
            (new.out_bytes, old.out_bytes),
        ] {
            assert!(new >= old, "{totals:?} after {:?}", self.totals);
        }
        self.totals = totals;
        assert!(self.director.table().len() <= CONNECTIONS);
    }

    /// All services and servers are there again: their counts are those of the table, and when all
    /// connections have ended there are none.
    fn end(mut self) {
        let director = Arc::clone(&self.director);
        let mut operations = Vec::new();
        for service in 0..12 {
            let there = director.service(&key(service));
            if there.is_none() {
                let spec = ServiceSpec::new(key(service), "rr");
                operations.push(Operation::AddService(spec));
            }
            let there = there.map_or(Vec::new(), |there| there.destinations);
            for number in 0..SERVERS {
                let spec = destination(service, number, 1, 0);
                if there
                    .iter()
                    .all(|found| found.spec.endpoint != spec.endpoint)
                {
                    operations.push(Operation::AddDestination(key(service), spec));
                }
            }
        }
        director.apply(&operations).unwrap();
        let counted = || -> u64 {
            let services = director.services();
            let destinations = services.iter().flat_map(|service| &service.destinations);
            destinations
                .map(|found| u64::from(found.active) + u64::from(found.inactive))
                .sum()
        };
        director.collect(self.now, usize::MAX);
        assert_eq!(counted(), director.table().len() as u64);
        // Longer than any timeout.
        for _ in 0..3 {
            self.now = self.now + Tick::seconds(1000);
            director.collect(self.now, usize::MAX);
            director.tick(self.now);
        }
        assert_eq!((counted(), director.table().len()), (0, 0));
        self.counters();
    }
}

/// What must hold of a frame after the decision.
fn judge(before: &Frame<'_>, verdict: &Verdict, after: &Frame<'_>) {
    let right = parse(before)
        .ok()
        .and_then(|packet| checksum::verify(before, &packet));
    match verdict {
        Verdict::Forward(_) | Verdict::Answer(_) => {
            let Ok(packet) = parse(after) else {
                panic!("{:02x?} became {:02x?}", before.bytes(), after.bytes());
            };
            // Its own are always right.
            if right == Some(true) || matches!(verdict, Verdict::Answer(_)) {
                assert_ne!(
                    checksum::verify(after, &packet),
                    Some(false),
                    "{:02x?} became {packet:?} {:02x?}",
                    before.bytes(),
                    after.bytes()
                );
            }
        }
        Verdict::Pass => assert_eq!(before.bytes(), after.bytes()),
        // What it was about to become does not matter.
        Verdict::Drop(_) => {}
        Verdict::ToHost => assert!(parse(after).is_ok()),
        // A copy waits.
        Verdict::Held => {}
        Verdict::ForwardPieces { cut, .. } => assert!(after.len() > cut.limit as usize),
        Verdict::ForwardSegments { .. } => panic!("nothing was segmented"),
    }
}

/// Any sequence of packets, edits and waiting.
pub fn director(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let mut run = Run::new();
    for _ in 0..STEPS {
        if bytes.is_empty() {
            break;
        }
        let Ok(step) = bytes.arbitrary::<Step<'_>>() else {
            break;
        };
        run.step(&step);
    }
    run.end();
}
