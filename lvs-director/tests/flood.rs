//! A flood of SYNs that fills the table takes nothing from the connections that are there, and new
//! clients get through it: counted over simulated seconds. In proportion it is that of five million SYNs a second, for ten seconds,
//! on a table of a million connections of which a hundred thousand are established; unoptimised,
//! a hundredth of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{HEADROOM, TestRoutes, service};
use lvs_core::{
    Addr, DestinationSpec, DropReason, Endpoint, ForwardMethod, Protocol, ServiceSpec, Tick,
};
use lvs_director::{BATCH, Director, DirectorConfig, Route, Routes, Verdict, Way, Worker};
use lvs_packet::{Frame, Offload, TcpFlags, build};

const SCALE: u32 = if cfg!(debug_assertions) { 100 } else { 1 };
const CAPACITY: u32 = 1_000_000 / SCALE;
const ESTABLISHED: u32 = 100_000 / SCALE;
const SYNS_A_SECOND: u32 = 5_000_000 / SCALE;
const SECONDS: u32 = 10;
/// Clients a step that mean it.
const NEWCOMERS: u32 = if cfg!(debug_assertions) { 2 } else { 20 };
/// The table is looked after this often.
const STEP: u32 = Tick::PER_SECOND / 50;

const VIP: Endpoint = Endpoint::new(Addr::from_v4_bits(0x0a00_0001), 80);
const SERVER: Endpoint = Endpoint::new(Addr::from_v4_bits(0x0a02_0001), 8080);

/// Everything is behind one router.
struct OneWay;

impl Routes for OneWay {
    fn way(&mut self, _: Addr) -> Way {
        Way::Forward(Route {
            hop: 1,
            mtu: 1500,
            source: Addr::from_v4_bits(0x0a02_00fe),
        })
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        TestRoutes::default().arrival_address(towards)
    }
}

/// A client that no other number has: the established ones in 11.0.0.0/8, those of the flood in
/// 12.0.0.0/6.
fn client(number: u32, flood: bool) -> Endpoint {
    let net = if flood { 0x0c00_0000 } else { 0x0b00_0000 };
    client_in(net, number)
}

fn client_in(net: u32, number: u32) -> Endpoint {
    let port = 1024 + u16::try_from(number % 50_000).unwrap();
    Endpoint::new(Addr::from_v4_bits(net + number / 50_000), port)
}

struct Site {
    director: std::sync::Arc<Director>,
    worker: Worker,
    now: Tick,
    slots: Vec<[u8; 192]>,
    template: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        let director = Director::new(&DirectorConfig {
            connections: CAPACITY as usize,
            workers: 1,
        })
        .unwrap();
        let key = service(Protocol::Tcp, "10.0.0.1:80");
        director.add_service(&ServiceSpec::new(key, "wrr")).unwrap();
        let server = DestinationSpec::new(SERVER, ForwardMethod::Masquerade);
        director.add_destination(&key, &server).unwrap();
        let ip = build::Ip::new(SERVER.addr, VIP.addr);
        let mut template = vec![0; 64];
        build::tcp(&mut template, &ip, &build::Tcp::syn(0, 80), b"0123456789").unwrap();
        Self {
            worker: director.worker().unwrap(),
            director,
            now: Tick(1000),
            slots: vec![[0; 192]; BATCH],
            template,
        }
    }

    /// Sends a packet of each of these clients, or the server's answer to it; answers how many were
    /// forwarded.
    fn send(&mut self, clients: &[Endpoint], reply: bool, flags: TcpFlags) -> u32 {
        let mut forwarded = 0;
        for clients in clients.chunks(BATCH) {
            let mut frames: Vec<Frame<'_>> = clients
                .iter()
                .zip(&mut self.slots)
                .map(|(client, slot)| {
                    let bytes = &mut slot[HEADROOM..HEADROOM + 64];
                    bytes.copy_from_slice(&self.template);
                    let (ours, theirs, our_port, their_port) = match reply {
                        true => (30, 26, 36, 34),
                        false => (26, 30, 34, 36),
                    };
                    let other = if reply { SERVER } else { VIP };
                    bytes[ours..ours + 4].copy_from_slice(&client.addr.v4_octets());
                    bytes[theirs..theirs + 4].copy_from_slice(&other.addr.v4_octets());
                    bytes[our_port..our_port + 2].copy_from_slice(&client.port.to_be_bytes());
                    bytes[their_port..their_port + 2].copy_from_slice(&other.port.to_be_bytes());
                    bytes[47] = flags.0;
                    bytes[24..26].fill(0);
                    let sum = lvs_packet::checksum::full(&bytes[14..34]);
                    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                    Frame::new(slot, HEADROOM, 64, Offload::default())
                })
                .collect();
            let mut verdicts = [Verdict::Pass; BATCH];
            self.worker
                .process(self.now, &mut OneWay, &mut frames, &mut verdicts);
            forwarded += u32::try_from(
                verdicts
                    .iter()
                    .filter(|verdict| matches!(verdict, Verdict::Forward(1)))
                    .count(),
            )
            .unwrap();
        }
        forwarded
    }
}

#[test]
fn established_connections_lose_nothing() {
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    let mut site = Site::new();
    let established: Vec<Endpoint> = (0..ESTABLISHED).map(|n| client(n, false)).collect();
    for (reply, flags) in [(false, syn), (true, syn | ack), (false, ack)] {
        assert_eq!(site.send(&established, reply, flags), ESTABLISHED);
    }

    let steps = SECONDS * Tick::PER_SECOND / STEP;
    let a_step = SYNS_A_SECOND * STEP / Tick::PER_SECOND;
    let a_second = usize::try_from(Tick::PER_SECOND / STEP).unwrap();
    let mut begun = 0;
    let mut newcomers = 0;
    for step in 0..steps {
        // Each step some new clients, whose handshakes are over before the table is looked after.
        let new: Vec<Endpoint> = (newcomers..newcomers + NEWCOMERS)
            .map(|n| client_in(0x0a80_0000, n))
            .collect();
        newcomers += NEWCOMERS;
        for (reply, flags) in [(false, syn), (true, syn | ack), (false, ack)] {
            assert_eq!(site.send(&new, reply, flags), NEWCOMERS, "new, step {step}");
        }
        let flood: Vec<Endpoint> = (step * a_step..(step + 1) * a_step)
            .map(|n| client(n, true))
            .collect();
        begun += site.send(&flood, false, syn);
        // Each second a packet of each connection in both directions, among the flood's.
        let share = established.len().div_ceil(a_second);
        let at = step as usize % a_second;
        let ours: Vec<Endpoint> = established
            .iter()
            .skip(at * share)
            .take(share)
            .copied()
            .collect();
        let sent = u32::try_from(ours.len()).unwrap();
        assert_eq!(site.send(&ours, false, ack), sent, "requests, step {step}");
        assert_eq!(site.send(&ours, true, ack), sent, "replies, step {step}");
        site.now = site.now + STEP;
        site.director.collect(site.now, usize::MAX);
    }

    // What the table had room for, after others had made some, began; the rest of the flood was
    // dropped and counted, and nothing else was.
    let all = SYNS_A_SECOND * SECONDS;
    let counted = |wanted: &[DropReason]| -> u64 {
        let drops = site.director.drops();
        drops
            .filter(|(reason, _)| wanted.contains(reason))
            .map(|(_, count)| count)
            .sum()
    };
    let full = counted(&[DropReason::TableFull]);
    let ended = counted(&[DropReason::HalfOpenEnded]);
    assert_eq!(counted(DropReason::ALL), full + ended);
    assert_eq!(u64::from(begun) + full, u64::from(all));
    let live = site.director.table().len() as u64;
    assert_eq!(live + ended, u64::from(begun + ESTABLISHED + newcomers));
    assert!(live >= u64::from(CAPACITY) * 9 / 10 && full > 0);
    // Nobody who had said more than a SYN was ended.
    let mut half_open = 0;
    site.director.connections(site.now, |found| {
        half_open += u64::from(found.state != lvs_core::state::tcp::ESTABLISHED);
    });
    assert_eq!(live - half_open, u64::from(ESTABLISHED + newcomers));
}
