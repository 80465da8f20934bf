//! A director in memory with connections and the packets of them, for whoever counts what a packet
//! costs: nanoseconds (`benches/director.rs`) or instructions (`bin/director_instructions.rs`).
//!
//! ```
//! use lvs_benches::director::{Case, Lab};
//! let mut lab = Lab::new(Case::NatRequest, 100);
//! lab.batch();
//! ```
#![allow(
    clippy::unwrap_used,
    reason = "a bench may stop where something is not as it says"
)]

use lvs_core::{
    Addr, DestinationSpec, Endpoint, ForwardMethod, LocalAddresses, Protocol, ServiceKey,
    ServiceSpec, Tick,
};
use lvs_director::{Director, DirectorConfig, Route, Routes, Verdict, Way, Worker};
use lvs_packet::{Frame, Offload, TcpFlags, build};
use std::hint::black_box;
use std::sync::Arc;

/// Packets of a batch.
pub const BATCH: usize = 32;
const HEADROOM: usize = 64;
/// A slot of the ring.
const SLOT: usize = 192;
/// Bytes that a template copies, whatever the length of its frame.
const COPIED: usize = 80;
/// The least number of client addresses, and the ports that each has at the most: of those that
/// Linux takes for clients.
const CLIENTS: u32 = 64;
const PORTS_OF_CLIENT: u32 = 16_384;
const CLIENT_PORTS: u16 = 32_768;
/// Between two packets' flows: far enough that no prefetcher guesses the next entry.
const STRIDE: u32 = 7919;
/// New connections until the old ones are ended, outside of what is measured.
pub const NEW_CONNECTIONS: u32 = 1 << 17;

/// What the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// From clients to servers by NAT, IPv4.
    NatRequest,
    /// From servers to clients by NAT, IPv4.
    NatReply,
    /// From clients to servers by NAT, IPv6.
    Nat6Request,
    /// From servers to clients by NAT, IPv6.
    Nat6Reply,
    /// From clients to servers by FULLNAT, IPv4.
    FullNatRequest,
    /// From servers to clients by FULLNAT, IPv4.
    FullNatReply,
    /// From clients to servers by FULLNAT, IPv6.
    FullNat6Request,
    /// From servers to clients by FULLNAT, IPv6.
    FullNat6Reply,
    /// From clients by direct routing, IPv4.
    DirectRoute,
    /// From clients through an IPIP tunnel, IPv4.
    Tunnel,
    /// Each the first of its connection: `wrr` over 100 servers, NAT, IPv4.
    First,
    /// Whole connections, one after the other: SYN, SYN and ACK, ACK, FIN of both; `wrr` over 100
    /// servers, NAT, IPv4. A batch is five, of the same 32 connections.
    Cycle,
}

impl Case {
    /// All cases under their names.
    pub const ALL: [(&'static str, Self); 12] = [
        ("nat-request", Self::NatRequest),
        ("nat-reply", Self::NatReply),
        ("nat6-request", Self::Nat6Request),
        ("nat6-reply", Self::Nat6Reply),
        ("fullnat-request", Self::FullNatRequest),
        ("fullnat-reply", Self::FullNatReply),
        ("fullnat6-request", Self::FullNat6Request),
        ("fullnat6-reply", Self::FullNat6Reply),
        ("direct-route", Self::DirectRoute),
        ("tunnel", Self::Tunnel),
        ("first", Self::First),
        ("cycle", Self::Cycle),
    ];

    /// Whether each batch makes connections.
    #[must_use]
    pub const fn makes_connections(self) -> bool {
        matches!(self, Self::First | Self::Cycle)
    }

    const fn method(self) -> ForwardMethod {
        match self {
            Self::DirectRoute => ForwardMethod::DirectRoute,
            Self::Tunnel => ForwardMethod::Tunnel,
            Self::FullNatRequest
            | Self::FullNatReply
            | Self::FullNat6Request
            | Self::FullNat6Reply => ForwardMethod::FullNat,
            _ => ForwardMethod::Masquerade,
        }
    }

    const fn is_v4(self) -> bool {
        !matches!(
            self,
            Self::Nat6Request | Self::Nat6Reply | Self::FullNat6Request | Self::FullNat6Reply
        )
    }

    const fn is_reply(self) -> bool {
        matches!(
            self,
            Self::NatReply | Self::Nat6Reply | Self::FullNatReply | Self::FullNat6Reply
        )
    }

    /// Whether replies name the client nowhere, and have to be made of what was forwarded.
    fn replies_to_locals(self) -> bool {
        self.method() == ForwardMethod::FullNat
    }

    /// Length of the frames: 64 bytes, or what the headers need.
    const fn length(self) -> usize {
        if self.is_v4() { 64 } else { 78 }
    }
}

/// Everything is behind one router.
#[derive(Debug)]
struct OneWay;

impl Routes for OneWay {
    #[inline]
    fn way(&mut self, destination: Addr) -> Way {
        Way::Forward(Route {
            hop: 1,
            mtu: 1500,
            source: address(destination.is_v4(), 2, 254),
        })
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        Some(address(towards.is_v4(), 2, 254))
    }
}

/// 10.`net`.`host` or fd`net`::`host`.
const fn address(v4: bool, net: u8, host: u16) -> Addr {
    if v4 {
        let [high, low] = host.to_be_bytes();
        return Addr::from_v4_octets([10, net, high, low]);
    }
    Addr {
        hi: (0xfd00 | net as u64) << 48,
        lo: host as u64,
    }
}

/// What one flow's replies have of their own with FULLNAT, octet by octet of a template.
type Own = [u8; 8];

/// The packets of all flows: a template for each client, into which the port is written.
#[derive(Debug)]
struct Traffic {
    /// For replies of FULLNAT, in the order of the flows' packets, and where each two octets stand.
    own: Vec<Own>,
    own_at: [usize; 4],
    turn: usize,
    templates: Vec<[u8; COPIED]>,
    length: usize,
    /// Where the client's port stands in the frame.
    port: usize,
    flows: u32,
    clients: u32,
    next: u32,
    stride: u32,
}

impl Traffic {
    /// Of clients in this net.
    fn new(case: Case, net: u8, flows: u32, reply: bool, flags: TcpFlags) -> Self {
        let clients = flows.div_ceil(PORTS_OF_CLIENT).max(CLIENTS);
        let v4 = case.is_v4();
        let l4 = if v4 { 34 } else { 54 };
        let length = case.length();
        let template = |client| {
            let client = Endpoint::new(address(v4, net, client), 0);
            let (from, to) = match reply {
                true => (server(case, 0), client),
                false => (client, vip(case)),
            };
            let mut buffer = [0; COPIED];
            let header = build::Ip::new(from.addr, to.addr);
            let tcp = build::Tcp {
                flags,
                ..build::Tcp::syn(from.port, to.port)
            };
            let payload = [0x5a; 16];
            let payload = payload.get(..length - l4 - 20).unwrap();
            build::tcp(&mut buffer, &header, &tcp, payload).unwrap();
            buffer
        };
        Self {
            own: Vec::new(),
            own_at: [0; 4],
            turn: 0,
            templates: (0..u16::try_from(clients).unwrap()).map(template).collect(),
            length,
            port: l4 + if reply { 2 } else { 0 },
            flows,
            clients,
            next: 0,
            stride: STRIDE % flows,
        }
    }

    /// The replies to what was forwarded with FULLNAT: between a server and the local endpoint that the
    /// director chose. `forwarded` is the first of them, `own` what each has of its own.
    fn of_replies(case: Case, forwarded: &[u8; COPIED], own: Vec<Own>, flags: TcpFlags) -> Self {
        let mut template = *forwarded;
        let (addresses, length, l4) = Self::places(case);
        for (at, distance) in (addresses..addresses + length)
            .map(|at| (at, length))
            .chain([(l4, 2), (l4 + 1, 2)])
        {
            template.swap(at, at + distance);
        }
        *template.get_mut(l4 + 13).unwrap() = flags.0;
        Self {
            own_at: Self::own_places(case, true),
            own,
            turn: 0,
            templates: vec![template],
            length: case.length(),
            port: l4,
            flows: 0,
            clients: 1,
            next: 0,
            stride: 0,
        }
    }

    /// Where the addresses begin, how long each is, and where the ports begin.
    const fn places(case: Case) -> (usize, usize, usize) {
        if case.is_v4() {
            (26, 4, 34)
        } else {
            (22, 16, 54)
        }
    }

    /// Where a forwarded packet, or the reply to it, has what is its flow's own: the last octets of the
    /// server's and of the local address, the local port, and the checksum of the header, which is
    /// the same in both directions (IPv6 has none: the port again).
    const fn own_places(case: Case, reply: bool) -> [usize; 4] {
        let (addresses, length, l4) = Self::places(case);
        let (src, dst) = (addresses + length - 2, addresses + 2 * length - 2);
        let (server, local) = if reply { (src, dst) } else { (dst, src) };
        let port = if reply { l4 + 2 } else { l4 };
        let checksum = if case.is_v4() { 24 } else { port };
        [server, local, port, checksum]
    }

    /// What a forwarded packet has of its own.
    fn own(case: Case, frame: &[u8]) -> Own {
        let [a, b, c, d] = Self::own_places(case, false)
            .map(|at| *frame.get(at..).unwrap().first_chunk::<2>().unwrap());
        let mut own = [0; 8];
        for (to, from) in own.iter_mut().zip([a, b, c, d].as_flattened()) {
            *to = *from;
        }
        own
    }

    /// Writes the next batch as a ring would bring it.
    #[inline]
    fn restore<'a>(&mut self, slots: &'a mut [[u8; SLOT]; BATCH]) -> [Frame<'a>; BATCH] {
        if !self.own.is_empty() {
            return self.restore_replies(slots);
        }
        slots.each_mut().map(|slot| {
            let flow = self.next;
            self.next += self.stride;
            if self.next >= self.flows {
                self.next -= self.flows;
            }
            let template = self.templates.get((flow % self.clients) as usize).unwrap();
            let port = CLIENT_PORTS + u16::try_from(flow / self.clients).unwrap();
            let (_, frame) = slot.split_at_mut(HEADROOM);
            *frame.first_chunk_mut::<COPIED>().unwrap() = *template;
            let field = frame.get_mut(self.port..).unwrap();
            *field.first_chunk_mut().unwrap() = port.to_be_bytes();
            Frame::new(slot, HEADROOM, self.length, Offload::default())
        })
    }
}

impl Traffic {
    /// The same of replies with FULLNAT.
    fn restore_replies<'a>(&mut self, slots: &'a mut [[u8; SLOT]; BATCH]) -> [Frame<'a>; BATCH] {
        let template = self.templates.first().unwrap();
        slots.each_mut().map(|slot| {
            let own = self.own.get(self.turn).unwrap();
            self.turn = if self.turn + 1 == self.own.len() {
                0
            } else {
                self.turn + 1
            };
            let (_, frame) = slot.split_at_mut(HEADROOM);
            *frame.first_chunk_mut::<COPIED>().unwrap() = *template;
            for (at, octets) in self.own_at.iter().zip(own.as_chunks::<2>().0) {
                *frame.get_mut(*at..).unwrap().first_chunk_mut().unwrap() = *octets;
            }
            Frame::new(slot, HEADROOM, self.length, Offload::default())
        })
    }
}

/// The local addresses of FULLNAT.
fn locals(case: Case) -> LocalAddresses {
    let addresses = [240, 241, 242, 243, 244, 245, 246, 247];
    LocalAddresses::new(&addresses.map(|host| address(case.is_v4(), 2, host))).unwrap()
}

fn vip(case: Case) -> Endpoint {
    Endpoint::new(address(case.is_v4(), 0, 1), 80)
}

fn server(case: Case, number: u16) -> Endpoint {
    let port = match case.method() {
        ForwardMethod::Masquerade | ForwardMethod::FullNat => 8080,
        _ => 80,
    };
    Endpoint::new(address(case.is_v4(), 2, 1 + number), port)
}

/// A director with the rules of a case.
fn director(case: Case, connections: usize, workers: usize) -> Arc<Director> {
    let director = Director::new(&DirectorConfig {
        connections,
        workers,
    })
    .unwrap();
    let key = ServiceKey::Endpoint {
        protocol: Protocol::Tcp,
        vip: vip(case),
    };
    let mut service = ServiceSpec::new(key, "wrr");
    if case.method() == ForwardMethod::FullNat {
        service.local = locals(case);
    }
    director.add_service(&service).unwrap();
    let servers = match case.method() {
        _ if case.makes_connections() => 100,
        // The ports of the local addresses shall do for all connections.
        ForwardMethod::FullNat if connections > 1 << 18 => 4,
        _ => 1,
    };
    for number in 0..servers {
        let mut spec = DestinationSpec::new(server(case, number), case.method());
        if case.makes_connections() {
            spec.weight = u32::from(number) % 7 + 1;
        }
        director.add_destination(&key, &spec).unwrap();
    }
    director
}

#[inline]
fn decide(worker: &mut Worker, now: Tick, frames: &mut [Frame<'_>; BATCH]) {
    let mut verdicts = [Verdict::Pass; BATCH];
    worker.process(now, &mut OneWay, frames, &mut verdicts);
    black_box((&*frames, &verdicts));
    debug_assert!(
        verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Forward(1) | Verdict::Pass)),
        "{verdicts:?}"
    );
}

/// The server's answer to a forwarded packet of IPv4: both ends change places, which leaves the
/// header's checksum as true as it was.
fn answered(slot: &mut [u8; SLOT], flags: TcpFlags) -> Frame<'_> {
    const ADDRESSES: usize = HEADROOM + 26;
    const FLAGS: usize = HEADROOM + 47;
    let ends: &mut [u8; 12] = slot
        .get_mut(ADDRESSES..)
        .unwrap()
        .first_chunk_mut()
        .unwrap();
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *ends;
    *ends = [e, f, g, h, a, b, c, d, k, l, i, j];
    *slot.get_mut(FLAGS).unwrap() = flags.0;
    Frame::new(slot, HEADROOM, 64, Offload::default())
}

/// A director, its connections and the traffic of a case.
#[derive(Debug)]
pub struct Lab {
    case: Case,
    director: Arc<Director>,
    worker: Worker,
    now: Tick,
    traffic: Traffic,
    /// What follows on the SYNs of [`Case::Cycle`].
    others: Vec<Traffic>,
    slots: Box<[[u8; SLOT]; BATCH]>,
    made: usize,
}

impl Lab {
    /// With this many established connections (for the cases that make connections: none).
    #[must_use]
    pub fn new(case: Case, flows: u32) -> Self {
        let director = director(case, flows.next_power_of_two().max(1 << 21) as usize, 1);
        Self::of(&director, case, 1, flows)
    }

    /// Two workers of one director, with as many connections each, of different clients.
    #[must_use]
    pub fn pair(case: Case, flows: u32) -> [Self; 2] {
        let connections = flows.next_power_of_two().max(1 << 20) as usize * 2;
        let director = director(case, connections, 2);
        [1, 3].map(|net| Self::of(&director, case, net, flows))
    }

    fn of(director: &Arc<Director>, case: Case, net: u8, flows: u32) -> Self {
        let before = director.table().len();
        let mut lab = Self {
            case,
            worker: director.worker().unwrap(),
            director: Arc::clone(director),
            now: Tick(1000),
            traffic: Traffic::new(case, net, flows, false, TcpFlags::SYN),
            others: Vec::new(),
            slots: Box::new([[0; SLOT]; BATCH]),
            made: 0,
        };
        let (syn, ack, fin) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN);
        if case.makes_connections() {
            let traffic = |flags| Traffic::new(case, net, NEW_CONNECTIONS, false, flags);
            lab.traffic = traffic(syn);
            lab.others = vec![traffic(ack), traffic(fin | ack)];
            return lab;
        }
        let batches = (flows as usize).div_ceil(BATCH);
        let mut forwarded = [0; COPIED];
        let mut own = Vec::new();
        for (reply, flags) in [(false, syn), (true, syn | ack), (false, ack)] {
            lab.traffic = match reply && case.replies_to_locals() {
                true => Traffic::of_replies(case, &forwarded, own.clone(), flags),
                false => Traffic::new(case, net, flows, reply, flags),
            };
            for _ in 0..batches {
                lab.batch();
                if flags == syn && case.replies_to_locals() {
                    let frames = lab.slots.iter().map(|slot| slot.get(HEADROOM..).unwrap());
                    own.extend(frames.map(|frame| Traffic::own(case, frame)));
                }
            }
            if flags == syn {
                let slot = lab.slots.first().unwrap();
                forwarded = *slot.get(HEADROOM..).unwrap().first_chunk().unwrap();
            }
            // The last batch may have begun anew.
            own.truncate(flows as usize);
        }
        assert_eq!(director.table().len() - before, flows as usize);
        lab.traffic = match case.is_reply() && case.replies_to_locals() {
            true => Traffic::of_replies(case, &forwarded, own, ack),
            false => Traffic::new(case, net, flows, case.is_reply(), ack),
        };
        lab
    }

    /// Brings a batch and decides on it.
    #[inline]
    pub fn batch(&mut self) {
        let mut frames = self.traffic.restore(&mut self.slots);
        decide(&mut self.worker, self.now, &mut frames);
        if self.case == Case::Cycle {
            self.go_through();
        }
        self.made += BATCH;
    }

    /// The rest of the connections whose SYNs have just been forwarded.
    fn go_through(&mut self) {
        let (syn, ack, fin) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN);
        let answers = *self.slots;
        let answer = |flags, worker: &mut Worker, now| {
            let mut slots = answers;
            let mut frames = slots.each_mut().map(|slot| answered(slot, flags));
            decide(worker, now, &mut frames);
        };
        let [acks, fins] = self.others.as_mut_slice() else {
            return;
        };
        answer(syn | ack, &mut self.worker, self.now);
        decide(
            &mut self.worker,
            self.now,
            &mut acks.restore(&mut self.slots),
        );
        decide(
            &mut self.worker,
            self.now,
            &mut fins.restore(&mut self.slots),
        );
        answer(fin | ack, &mut self.worker, self.now);
    }

    /// Brings a batch and does nothing with it: what of [`Lab::batch`] is not the director's.
    #[inline]
    pub fn restore(&mut self) {
        let frames = self.traffic.restore(&mut self.slots);
        let verdicts = [Verdict::Pass; BATCH];
        black_box((&frames, &verdicts));
    }

    /// The director itself.
    #[must_use]
    pub const fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// What it was made for.
    #[must_use]
    pub const fn case(&self) -> Case {
        self.case
    }

    /// Whether [`Lab::clear`] has to be called before the next batch.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.case.makes_connections() && self.made >= NEW_CONNECTIONS as usize
    }

    /// Ends all connections of the cases that make some.
    pub fn clear(&mut self) {
        assert_eq!(self.director.table().len(), self.made);
        self.now = self.now + Tick::seconds(200);
        self.director.collect(self.now, usize::MAX);
        assert!(self.director.table().is_empty());
        self.made = 0;
    }

    /// All packets so far were forwarded, none dropped.
    pub fn check(&self) {
        assert!(self.director.drops().all(|(_, count)| count == 0));
    }
}
