//! The packet path neither allocates nor frees: counted over packets of every sort, in batches of
//! 64, while rules are edited, connections end and the table fills up in between.
//!
//! A program of its own, because it replaces the allocator.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{HEADROOM, addr, endpoint, service};
use core::cell::Cell;
use lvs_core::{
    Addr, DestinationSpec, DropReason, Endpoint, ForwardMethod, Protocol, ServiceKey, ServiceSpec,
    Tick, TunnelChecksum, TunnelKind,
};
use lvs_director::{BATCH, Director, DirectorConfig, Route, Routes, Verdict, Way, Worker};
use lvs_packet::{
    Frame, Offload, PartialChecksum, SegmentKind, Segmentation, TcpFlags, build, checksum, parse,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;

/// Unoptimised code is twenty times slower.
const PACKETS: usize = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

struct Counting;

thread_local! {
    /// Calls of this thread, so that those of the test harness do not count.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: all is the system's; counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator that `work` makes.
fn calls_in(work: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

/// Clients are 10.1.0.0/16 and fd01::/16, servers 10.2.0.0/16 and fd02::/16; the director has
/// 10.2.0.200 itself, and the way to 10.2.0.199 is narrow.
struct Plain;

impl Routes for Plain {
    fn way(&mut self, destination: Addr) -> Way {
        let net = match destination.v4_bits() {
            Some(0x0a02_00c8) => return Way::Local,
            Some(0x0a02_00c7) => 3,
            Some(bits) if bits >> 24 == 10 => bits >> 16 & 0xff,
            Some(_) => 0,
            None => u32::try_from(destination.hi >> 48 & 0xff).unwrap_or_default(),
        };
        let source = match destination.is_v4() {
            true => Addr::from_v4_bits(0x0a02_00fe),
            false => Addr {
                hi: 0xfd02 << 48,
                lo: 0xfe,
            },
        };
        match net {
            1..=3 => Way::Forward(Route {
                hop: net,
                mtu: if net == 3 { 100 } else { 1500 },
                source,
            }),
            _ => Way::Unreachable,
        }
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        towards.is_v4().then_some(Addr::from_v4_bits(0x0a02_00fe))
    }
}

fn add(director: &Director, key: &ServiceKey, server: &str, method: ForwardMethod, n: usize) {
    let mut spec = DestinationSpec::new(endpoint(server), method);
    spec.tunnel = match n % 3 {
        0 => TunnelKind::Ipip,
        1 => TunnelKind::Gre {
            checksum: TunnelChecksum::Full,
        },
        _ => TunnelKind::Gue {
            port: 6080,
            checksum: TunnelChecksum::Full,
        },
    };
    director.add_destination(key, &spec).unwrap();
}

const METHODS: [ForwardMethod; 3] = [
    ForwardMethod::Masquerade,
    ForwardMethod::DirectRoute,
    ForwardMethod::Tunnel,
];

/// Every scheduler with every method, TCP and UDP, IPv4 and IPv6.
fn services(director: &Director) -> Vec<(Protocol, Endpoint)> {
    let mut all = Vec::new();
    for (n, scheduler) in lvs_sched::NAMES.iter().enumerate() {
        for (m, method) in METHODS.into_iter().enumerate() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let port = 1000 + 10 * n + m;
                let v4 = (format!("10.0.0.1:{port}"), "10.2.0.");
                let v6 = (format!("[fd00::1]:{port}"), "[fd02::");
                for (vip, net) in [v4, v6] {
                    let key = service(protocol, &vip);
                    director
                        .add_service(&ServiceSpec::new(key, scheduler))
                        .unwrap();
                    let close = if net.starts_with('[') { "]" } else { "" };
                    for server in 1..5 {
                        let server = format!("{net}{server}{close}:{port}");
                        add(director, &key, &server, method, n);
                    }
                    all.push((protocol, endpoint(&vip)));
                }
            }
        }
    }
    // Nobody to take it, nowhere to send it, too narrow a way, a server on the director itself.
    for (port, servers) in [
        (80, &[][..]),
        (81, &["172.16.0.1:81"]),
        (82, &["10.2.0.199:82"]),
        (83, &["10.2.0.200:83"]),
    ] {
        let vip = format!("10.0.0.1:{port}");
        let key = service(Protocol::Udp, &vip);
        director.add_service(&ServiceSpec::new(key, "rr")).unwrap();
        for server in servers {
            let method = METHODS[usize::from(port == 81)];
            add(director, &key, server, method, 0);
        }
        all.push((Protocol::Udp, endpoint(&vip)));
    }
    all
}

/// A frame to be sent again and again.
struct Template {
    bytes: Vec<u8>,
    offload: Offload,
    /// Where a port stands that may be any.
    free_port: Option<usize>,
}

impl Template {
    fn new(bytes: Vec<u8>, free_port: bool) -> Self {
        let mut copy = bytes.clone();
        let length = copy.len();
        let frame = Frame::new(&mut copy, 0, length, Offload::default());
        let l4 = parse(&frame).map(|packet| usize::from(packet.l4));
        Self {
            bytes,
            offload: Offload::default(),
            free_port: l4.ok().filter(|_| free_port),
        }
    }
}

fn built(make: impl FnOnce(&mut [u8]) -> Result<usize, build::TooLong>) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let length = make(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// An ICMP error from a router about a packet of which `quoted` is the frame.
fn error(from: &str, to: Addr, quoted: &[u8]) -> Vec<u8> {
    let header = build::Ip::new(addr(from), to);
    let what = if to.is_v4() { (3, 4) } else { (2, 0) };
    built(|buffer| build::icmp(buffer, &header, what, 1280, &quoted[14..]))
}

fn packets_of(protocol: Protocol, vip: Endpoint) -> Vec<Template> {
    let client = if vip.addr.is_v4() {
        "10.1.0.5:40000"
    } else {
        "[fd01::5]:40000"
    };
    let server = match vip.addr.is_v4() {
        true => format!("10.2.0.1:{}", vip.port),
        false => format!("[fd02::1]:{}", vip.port),
    };
    let (vip_text, client_addr) = (vip.to_string(), endpoint(client).addr);
    let data = |from: &str, to: &str, flags| match protocol {
        Protocol::Tcp => common::tcp(from, to, flags, b"data"),
        _ => common::udp(from, to, b"data"),
    };
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    let reply = data(&server, client, ack);
    let (router, inner) = match vip.addr.is_v4() {
        true => ("10.1.0.254", "10.2.0.253"),
        false => ("fd01::fe", "fd02::fd"),
    };
    vec![
        // Of new connections, and of nobody.
        Template::new(data(client, &vip_text, syn), true),
        Template::new(data(client, &vip_text, ack), true),
        // Of one connection from its beginning over its life to its end.
        Template::new(data(client, &vip_text, syn), false),
        Template::new(reply.clone(), false),
        Template::new(data(client, &vip_text, ack), false),
        Template::new(data(client, &vip_text, TcpFlags::FIN | ack), false),
        // About replies that were sent, and about requests.
        Template::new(
            error(router, vip.addr, &data(&vip_text, client, ack)),
            false,
        ),
        Template::new(
            error(inner, client_addr, &data(client, &server, ack)),
            false,
        ),
        Template::new(reply, true),
    ]
}

/// What belongs to no service, or is not what it says.
fn strays() -> Vec<Template> {
    let mut all = Vec::new();
    for (client, vip) in [
        ("10.1.0.5:4000", "10.0.0.1:9"),
        ("[fd01::5]:4000", "[fd00::1]:9"),
    ] {
        let header = build::Ip::new(endpoint(client).addr, endpoint(vip).addr);
        let v4 = header.src.is_v4();
        let echo = if v4 { (8, 0) } else { (128, 0) };
        let ping = |b: &mut [u8]| build::icmp(b, &header, echo, 7, b"ping");
        all.push(common::tcp(client, vip, TcpFlags::SYN, b""));
        all.push(common::udp(client, vip, b"?"));
        all.push(built(ping));
        all.push(built(|b| build::sctp(b, &header, 1, 2, 3, &[1, 0, 0, 4])));
        all.push(built(|b| build::ip(b, &header, 50, b"something else")));
        let mac = [2, 0, 0, 0, 0, 9];
        all.push(built(|b| build::who_has(b, mac, header.src, header.dst)));
        // Its lifetime is over.
        let old = build::Ip { ttl: 1, ..header };
        all.push(built(|b| build::udp(b, &old, 4000, 1000, b"")));
    }
    let header = build::Ip::new(addr("10.1.0.5"), addr("10.0.0.1"));
    for fragment in [0x2000, 0x2002, 0x0010] {
        let piece = build::Ip { fragment, ..header };
        all.push(built(|b| build::ip(b, &piece, 17, &[0x11; 64])));
    }
    // The pieces of a datagram to a service.
    let datagram = common::udp("10.1.0.5:4000", "10.0.0.1:1000", &[0; 120]);
    for (fragment, bytes) in [(0x2000, &datagram[34..98]), (0x0008, &datagram[98..])] {
        let piece = build::Ip {
            fragment,
            ident: 7,
            ..header
        };
        all.push(built(|b| build::ip(b, &piece, 17, bytes)));
    }
    let uneven = build::Ip {
        fragment: 0x2000,
        ..header
    };
    all.push(built(|b| build::ip(b, &uneven, 17, &[0x11; 63])));
    let mut wrong = common::udp("10.1.0.5:4000", "10.0.0.1:1000", b"");
    wrong[24] ^= 1;
    all.push(wrong);
    all.push(b"too short".to_vec());
    let malformed = common::tcp("10.1.0.5:4000", "10.0.0.1:1000", TcpFlags::SYN, b"data");
    all.extend((14..malformed.len()).map(|length| malformed[..length].to_vec()));
    let long = built(|b| build::udp(b, &header, 4000, 1000, &[0; 1500]));
    all.push(long.clone());
    all.into_iter()
        .map(|bytes| Template::new(bytes, false))
        .collect()
}

/// TCP segments that came in one frame, for NAT and for tunnels.
fn segmented(vip: &str) -> Template {
    let mut template = Template::new(
        common::tcp("10.1.0.5:40000", vip, TcpFlags::ACK, &[0; 1600]),
        false,
    );
    let (client, vip) = (addr("10.1.0.5"), endpoint(vip).addr);
    let sum = checksum::pseudo_header(client, vip, 6, 1620);
    template.bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    template.offload = Offload {
        checksum: Some(PartialChecksum {
            start: 34,
            offset: 16,
        }),
        segmentation: Some(Segmentation {
            kind: SegmentKind::TcpV4,
            size: 500,
            header_len: 54,
            ecn: false,
        }),
    };
    template
}

#[derive(Default, Debug)]
struct Seen {
    forwarded: u64,
    pieces: u64,
    held: u64,
    released: u64,
    answered: u64,
    dropped: u64,
    passed: u64,
}

impl Seen {
    fn take(&mut self, verdict: &Verdict, frame: &Frame<'_>, scratch: &mut [u8]) {
        match verdict {
            Verdict::Forward(_) => self.forwarded += 1,
            Verdict::ForwardSegments { outer, .. } => {
                let sent = outer.for_each_segment(frame, scratch, |_| self.pieces += 1);
                assert_eq!(sent, Ok(()));
            }
            Verdict::ForwardPieces { .. } => self.pieces += 1,
            Verdict::Held => self.held += 1,
            Verdict::Answer(_) => self.answered += 1,
            Verdict::Drop(_) => self.dropped += 1,
            Verdict::Pass | Verdict::ToHost => self.passed += 1,
        }
    }
}

/// The packets of all batches.
struct Traffic {
    templates: Vec<Template>,
    random: u64,
}

impl Traffic {
    /// Writes the next packet; answers its length and what is left to be done to it.
    fn next(&mut self, buffer: &mut [u8]) -> (usize, Offload) {
        // Steele and Vigna's SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let [p0, p1, which @ ..] = bits.to_le_bytes();
        let which = which
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let template = &self.templates[usize::try_from(which).unwrap() % self.templates.len()];
        let length = template.bytes.len();
        let frame = &mut buffer[HEADROOM..HEADROOM + length];
        frame.copy_from_slice(&template.bytes);
        if let Some(port) = template.free_port {
            frame[port..port + 2].copy_from_slice(&[p0, p1]);
        }
        (length, template.offload)
    }
}

/// One batch; answers how often it called the allocator.
fn batch(worker: &mut Worker, now: Tick, traffic: &mut Traffic, seen: &mut Seen) -> u64 {
    let mut buffers = [[0; HEADROOM + 2048]; BATCH];
    let mut frames = buffers.each_mut().map(|buffer| {
        let (length, offload) = traffic.next(buffer);
        Frame::new(buffer, HEADROOM, length, offload)
    });
    let mut verdicts = [Verdict::Pass; BATCH];
    let mut scratch = [0; 2048];
    calls_in(|| {
        worker.process(now, &mut Plain, &mut frames, &mut verdicts);
        for (frame, verdict) in frames.iter().zip(&verdicts) {
            seen.take(verdict, frame, &mut scratch);
        }
        while let Some((frame, verdict)) = worker.next_released(now, &mut Plain) {
            seen.take(&verdict, &frame, &mut scratch);
            seen.released += 1;
        }
    })
}

/// Takes servers away that the connections of the templates have, or brings them back.
fn edit(director: &Director, round: usize) {
    for n in 0..lvs_sched::NAMES.len() {
        let port = 1000 + 10 * n;
        let key = service(Protocol::Udp, &format!("10.0.0.1:{port}"));
        for server in 1..4 {
            let server = endpoint(&format!("10.2.0.{server}:{port}"));
            if round.is_multiple_of(2) {
                director.delete_destination(&key, server).unwrap();
            } else {
                let spec = DestinationSpec::new(server, ForwardMethod::Masquerade);
                director.add_destination(&key, &spec).unwrap();
            }
        }
    }
}

#[test]
fn packets_neither_allocate_nor_free() {
    assert_eq!(calls_in(|| drop(Box::new(1))), 2, "the counter counts");
    let director: Arc<Director> = Director::new(&DirectorConfig {
        connections: 8192,
        workers: 1,
    })
    .unwrap();
    let mut worker = director.worker().unwrap();
    let mut templates: Vec<Template> = services(&director)
        .into_iter()
        .flat_map(|(protocol, vip)| packets_of(protocol, vip))
        .collect();
    for _ in 0..4 {
        templates.extend(strays());
        templates.extend([segmented("10.0.0.1:1000"), segmented("10.0.0.1:1002")]);
    }
    let mut traffic = Traffic {
        templates,
        random: 1,
    };
    let mut seen = Seen::default();
    let mut now = Tick(1000);
    for round in 0..PACKETS.div_ceil(BATCH) {
        let calls = batch(&mut worker, now, &mut traffic, &mut seen);
        assert_eq!(calls, 0, "round {round}");
        now = now + 50;
        director.collect(now, usize::MAX);
        if round % 64 == 63 {
            edit(&director, round / 64);
        }
        if round % 5 == 0 {
            director.tick(now);
        }
    }
    // It was not for nothing.
    let packets = u64::try_from(PACKETS).unwrap();
    assert!(seen.forwarded > packets / 4, "{seen:?}");
    assert!(
        seen.answered > packets / 100 && seen.pieces > 100,
        "{seen:?}"
    );
    assert!(seen.held > 50 && seen.released > 50, "{seen:?}");
    assert!(seen.dropped > packets / 100 && seen.passed > packets / 100);
    let connections = director.totals().conns;
    assert!(connections > packets / 20, "{connections}");
    for reason in [
        DropReason::Truncated,
        DropReason::BadTotalLength,
        DropReason::BadIpChecksum,
        DropReason::BadFragment,
        DropReason::FragmentOverlap,
        DropReason::FragmentLost,
        DropReason::NoDestination,
        DropReason::DestinationGone,
        DropReason::TableFull,
        DropReason::TtlExpired,
        DropReason::TooBig,
        DropReason::NoRoute,
        DropReason::LocalMasquerade,
    ] {
        let found = director.drops().find(|(found, _)| *found == reason);
        assert!(found.is_some_and(|(_, count)| count > 0), "{reason}");
    }
}
