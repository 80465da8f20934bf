//! The director beside the model: the same steps, and after each of them the same answers.
//!
//! What is compared: what became of the packet and which destination got it, whether an edit was
//! refused, the services with their destinations in their order, counts, flags and statistics, and all
//! connections with their states and times. Where the two differ it says how.

use super::conns::Conn;
use super::packets::{Outcome, Packet};
use super::schedulers::Server;
use super::steps::{self, Shape, Step, Terms};
use super::{SECOND, World};
use lvs_core::{
    Addr, DestinationSpec, DropReason, Endpoint, Family, ForwardMethod, Persistence, Protocol,
    SchedFlags, ServiceKey, ServiceSpec, Tick,
};
use lvs_director::{
    DestinationStatus, Director, DirectorConfig, MarkRule, Match, Route, Routes, Setting, Verdict,
    Way, Worker,
};
use lvs_packet::{Frame, Offload, TcpFlags, build, parse};
use std::sync::Arc;

const START: u64 = 20 * super::MINUTE;
const HEADROOM: usize = 64;
const CLIENTS: u32 = 0;

/// Each server is a next hop of its own.
struct Ways {
    vips_are_local: bool,
}

impl Routes for Ways {
    fn way(&mut self, destination: Addr) -> Way {
        if steps::vips().contains(&destination) {
            return match self.vips_are_local {
                true => Way::Local,
                false => Way::Unreachable,
            };
        }
        let servers = (0..4).find(|n| steps::server(destination.family(), *n) == destination);
        let source = match destination.family() {
            Family::V4 => "10.2.0.254",
            Family::V6 => "fd02::fe",
        };
        Way::Forward(Route {
            hop: servers.map_or(CLIENTS, |n| 1 + u32::from(n)),
            mtu: 1500,
            source: source.parse().unwrap(),
        })
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        let own = if towards.is_v4() {
            "10.9.0.1"
        } else {
            "fd09::1"
        };
        own.parse().ok()
    }
}

pub struct Stage {
    pub world: World,
    pub director: Arc<Director>,
    worker: Worker,
    ways: Ways,
}

impl Stage {
    pub fn new(vips_are_local: bool) -> Self {
        let config = DirectorConfig {
            connections: 4096,
            workers: 1,
        };
        let director = Director::new(&config).unwrap();
        let [_, second, _, last] = steps::vips().map(|vip| vip.to_string());
        let high = MarkRule {
            destination: Match::parse([second.as_str()]).unwrap(),
            destination_port: Match::parse(["5000-65535"]).unwrap(),
            ..MarkRule::new(1)
        };
        let whole = MarkRule {
            destination: Match::parse([last.as_str()]).unwrap(),
            ..MarkRule::new(1)
        };
        director.set_marks(&[high, whole]).unwrap();
        director.collect(Tick(u32::try_from(START).unwrap()), usize::MAX);
        let mut world = World::new(START, steps::mark);
        world.vips_are_local = vips_are_local;
        Self {
            world,
            worker: director.worker().unwrap(),
            director,
            ways: Ways { vips_are_local },
        }
    }

    fn now(&self) -> Tick {
        Tick(u32::try_from(self.world.now).unwrap())
    }

    /// Goes through a scenario; the first difference ends it.
    pub fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            let done = self.step(step).and_then(|()| self.compare());
            done.map_err(|difference| format!("step {number}, {step:?}: {difference}"))?;
        }
        Ok(())
    }

    /// A service that there is, or once in a while one that there may not be; 255: the newest.
    fn key(&self, slot: u8) -> ServiceKey {
        let services = &self.world.services;
        match services.last() {
            Some(newest) if slot == u8::MAX => newest.key,
            Some(_) if slot < 240 => services[usize::from(slot) % services.len()].key,
            _ => slot_key(slot),
        }
    }

    fn endpoint(&self, key: &ServiceKey, server: u8, port: u16) -> Endpoint {
        Endpoint::new(steps::server(key.family(), server), port)
    }

    /// A destination that there is, in most cases.
    fn existing(&self, key: &ServiceKey, server: u8) -> Endpoint {
        let there: Vec<_> = self
            .world
            .dests
            .iter()
            .filter(|dest| dest.is_available() && dest.service == *key)
            .map(|dest| dest.endpoint)
            .collect();
        match there.len() {
            0 => self.endpoint(key, server, 80),
            _ if server >= 250 => self.endpoint(key, server, 80),
            len => there[usize::from(server) % len],
        }
    }

    fn old(&self, which: u8) -> Option<Conn> {
        let mut normal: Vec<_> = self
            .world
            .conns
            .iter()
            .filter(|conn| !conn.template)
            .collect();
        // The newest ones are the most interesting.
        normal.reverse();
        let len = normal.len().min(1 + usize::from(which / 16));
        let conn = normal.get(usize::from(which) % len.max(1))?;
        Some(Conn::clone(conn))
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::AddService(slot, shape) => {
                let key = slot_key(slot);
                let wish = shape.wish(&key);
                let theirs = self.world.add_service(key, wish);
                let ours = self.director.add_service(&spec(key, &shape)).is_ok();
                same(&format!("{key} added"), ours, theirs)
            }
            Step::EditService(slot, shape) => {
                let key = self.key(slot);
                let wish = shape.wish(&key);
                let theirs = self.world.edit_service(key, wish);
                let ours = self.director.edit_service(&spec(key, &shape)).is_ok();
                same(&format!("{key} edited"), ours, theirs)
            }
            Step::DeleteService(slot) => {
                let key = self.key(slot);
                let theirs = self.world.delete_service(key);
                let ours = self.director.delete_service(&key).is_ok();
                same(&format!("{key} deleted"), ours, theirs)
            }
            Step::Flush => {
                self.world.flush();
                self.director.flush();
                Ok(())
            }
            Step::AddDest(slot, server, terms) => {
                let key = self.key(slot);
                let endpoint = self.endpoint(&key, server, terms.port());
                self.add(key, endpoint, &terms)
            }
            Step::EditDest(slot, server, terms) => {
                let key = self.key(slot);
                let endpoint = self.existing(&key, server);
                self.edit(key, endpoint, &terms)
            }
            Step::DeleteDest(slot, server) => {
                let key = self.key(slot);
                let endpoint = self.existing(&key, server);
                let theirs = self.world.delete_dest(key, endpoint);
                let ours = self.director.delete_destination(&key, endpoint).is_ok();
                same(&format!("{endpoint} of {key} deleted"), ours, theirs)
            }
            Step::Client(client, port, target, what) => {
                let (protocol, to) = steps::target(target);
                let from = steps::client(to.addr.family(), client, port);
                self.send(protocol, from, to, steps::what(protocol, what))
            }
            Step::Again(which, what) => {
                let Some(conn) = self.old(which) else {
                    return Ok(());
                };
                let what = steps::what(conn.protocol, what);
                self.send(conn.protocol, conn.client, conn.vip, what)
            }
            Step::Reply(which, what) => {
                let Some(conn) = self.old(which) else {
                    return Ok(());
                };
                let what = steps::what(conn.protocol, what);
                let from = match conn.method {
                    ForwardMethod::Masquerade => conn.server,
                    _ => conn.vip,
                };
                self.send(conn.protocol, from, conn.client, what)
            }
            Step::Stray(server, port, client, what) => {
                let family = if server < 128 { Family::V4 } else { Family::V6 };
                let protocol =
                    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(what % 3)];
                let port = [80, 8080, 443][usize::from(port % 3)];
                let from = Endpoint::new(steps::server(family, server), port);
                let to = steps::client(family, client, 0);
                self.send(protocol, from, to, steps::what(protocol, what / 3))
            }
            Step::Wait(ticks) => {
                self.wait(u64::from(ticks));
                Ok(())
            }
            Step::Set(setting, value) => {
                self.set(setting, value);
                Ok(())
            }
            Step::Seconds(tcp, fin, udp) => {
                self.world
                    .states
                    .set_seconds(tcp.into(), fin.into(), udp.into());
                let timeouts = self.director.timeouts();
                timeouts.set_seconds(tcp.into(), fin.into(), udp.into());
                Ok(())
            }
            Step::Zero(slot) => {
                let key = slot.map(|slot| self.key(slot));
                let theirs = self.world.zero(key);
                same("zero", self.director.zero(key.as_ref()).is_ok(), theirs)
            }
        }
    }

    fn add(&mut self, key: ServiceKey, endpoint: Endpoint, terms: &Terms) -> Result<(), String> {
        let (method, weight, limits) = (terms.method(), terms.weight(), terms.thresholds());
        let theirs = self.world.add_dest(key, endpoint, method, weight, limits);
        let spec = destination(endpoint, terms);
        let ours = self.director.add_destination(&key, &spec);
        let what = format!("{endpoint} of {key} added, {ours:?}");
        same(&what, ours.is_ok(), theirs)
    }

    fn edit(&mut self, key: ServiceKey, endpoint: Endpoint, terms: &Terms) -> Result<(), String> {
        let (method, weight, limits) = (terms.method(), terms.weight(), terms.thresholds());
        let theirs = self.world.edit_dest(key, endpoint, method, weight, limits);
        let spec = destination(endpoint, terms);
        let ours = self.director.edit_destination(&key, &spec);
        let what = format!("{endpoint} of {key} edited, {ours:?}");
        same(&what, ours.is_ok(), theirs)
    }

    fn set(&mut self, setting: u8, value: u8) {
        let choices: [(Setting, &[u32]); 8] = [
            (Setting::ExpireNodestConn, &[0, 1]),
            (Setting::ExpireQuiescentTemplate, &[0, 1]),
            (Setting::ConnReuseMode, &[0, 1, 2, 3]),
            (Setting::SloppyTcp, &[0, 1]),
            (Setting::SloppySctp, &[0, 1]),
            (Setting::NatIcmpSend, &[0, 1]),
            (Setting::SecureTcp, &[0, 3]),
            (Setting::DropPacket, &[0, 0, 3]),
        ];
        let (setting, values) = choices[usize::from(setting) % choices.len()];
        let chosen = values[usize::from(value) % values.len()];
        let mut settings = vec![(setting, chosen)];
        if setting == Setting::DropPacket {
            settings.push((Setting::AmDropRate, u32::from(value % 4)));
        }
        for (setting, value) in settings {
            self.world.settings.insert(setting.name(), value);
            self.director.settings().set(setting, value).unwrap();
        }
        self.world.states.secure = self.world.get("secure_tcp") == 3;
        // The kernel looks once a second; memory is never short here.
        self.director.defend(u64::MAX, self.now());
    }

    fn wait(&mut self, ticks: u64) {
        let until = self.world.now + ticks;
        // The director sees a tick later that a template has connections.
        while self.world.now < until || self.world.held_at == self.world.now {
            let until = until.max(self.world.now + 1);
            let next = self.world.next_moment(until);
            self.world.pass_to(next);
            self.director.collect(self.now(), usize::MAX);
            if next.is_multiple_of(super::MINUTE) {
                self.director.tick(self.now());
            }
        }
    }

    fn send(
        &mut self,
        protocol: Protocol,
        src: Endpoint,
        dst: Endpoint,
        what: u8,
    ) -> Result<(), String> {
        let mut bytes = frame(protocol, src, dst, what);
        let packet = Packet {
            protocol,
            src,
            dst,
            what,
            len: u64::try_from(bytes.len() - 14).unwrap(),
        };
        let theirs = self.world.packet(packet);
        let len = bytes.len();
        let mut buffer = vec![0; HEADROOM];
        buffer.append(&mut bytes);
        buffer.resize(HEADROOM + len + 64, 0);
        let mut frames = [Frame::new(&mut buffer, HEADROOM, len, Offload::default())];
        let mut verdicts = [Verdict::Pass];
        let now = self.now();
        self.worker
            .process(now, &mut self.ways, &mut frames, &mut verdicts);
        let ours = outcome(&packet, verdicts[0], &frames[0]);
        same(&format!("{packet:?}"), ours, Ok(theirs))
    }

    fn compare(&self) -> Result<(), String> {
        let count = self.director.services().len();
        same("the services", count, self.world.services.len())?;
        same(
            "the totals",
            self.director.totals(),
            self.world.tally.shown(),
        )?;
        for theirs in &self.world.services {
            let key = theirs.key;
            let ours = self
                .director
                .service(&key)
                .ok_or_else(|| format!("{key} is missing"))?;
            same(&format!("{key}"), ours.counters, theirs.tally.shown())?;
            let ours: Vec<_> = ours.destinations.iter().map(our_line).collect();
            let line = |server| self.their_line(server);
            let theirs: Vec<_> = theirs.list.servers.iter().map(line).collect();
            same(&format!("{key}"), ours, theirs)?;
        }
        let mut ours = Vec::new();
        self.director.connections(self.now(), |conn| {
            ours.push(format!(
                "{} {} {} {} {:?} {} {}{}",
                conn.protocol,
                conn.client,
                conn.virtual_endpoint,
                conn.destination,
                conn.method,
                conn.state,
                conn.expires,
                if conn.template { " template" } else { "" }
            ));
        });
        let found = self.world.conns.iter().filter(|conn| !conn.expired);
        let mut theirs: Vec<_> = found.map(|conn| self.their_conn(conn)).collect();
        ours.sort();
        theirs.sort();
        same("the connections", ours, theirs)
    }

    fn their_line(&self, server: &Server) -> String {
        let mut dests = self.world.dests.iter();
        let dest = dests.find(|dest| dest.id == server.id).unwrap();
        format!(
            "{} {:?} w {} a {} i {} p {} o {} {:?}",
            dest.endpoint,
            dest.method,
            server.weight,
            server.active,
            server.inactive,
            dest.templates,
            server.overloaded,
            dest.tally.shown()
        )
    }

    fn their_conn(&self, conn: &Conn) -> String {
        let state = match conn.template {
            true => u8::from(conn.assured),
            false => self.world.states.number(conn.protocol, conn.state),
        };
        format!(
            "{} {} {} {} {:?} {state} {}{}",
            conn.protocol,
            conn.client,
            conn.vip,
            conn.server,
            conn.method,
            conn.deadline.saturating_sub(self.world.now) / SECOND,
            if conn.template { " template" } else { "" }
        )
    }
}

/// How ours is like theirs, or not.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    Err(format!("{what}:\n   ours {ours:#?}\n  model {theirs:#?}"))
}

fn our_line(found: &DestinationStatus) -> String {
    format!(
        "{} {:?} w {} a {} i {} p {} o {} {:?}",
        found.spec.endpoint,
        found.spec.method,
        found.spec.weight,
        found.active,
        found.inactive,
        found.persistent,
        found.overloaded,
        found.counters
    )
}

fn slot_key(slot: u8) -> ServiceKey {
    let slots = steps::slots();
    slots[usize::from(slot) % slots.len()]
}

fn spec(key: ServiceKey, shape: &Shape) -> ServiceSpec<'static> {
    let wish = shape.wish(&key);
    ServiceSpec {
        flags: SchedFlags {
            flag1: wish.flags.fallback,
            flag2: wish.flags.port,
            flag3: false,
        },
        persistence: wish
            .persistence
            .map(|(timeout, netmask)| Persistence { timeout, netmask }),
        one_packet: wish.one_packet,
        ..ServiceSpec::new(key, wish.scheduler)
    }
}

fn destination(endpoint: Endpoint, terms: &Terms) -> DestinationSpec {
    DestinationSpec {
        weight: terms.weight(),
        thresholds: terms.thresholds(),
        ..DestinationSpec::new(endpoint, terms.method())
    }
}

fn frame(protocol: Protocol, src: Endpoint, dst: Endpoint, what: u8) -> Vec<u8> {
    let ip = build::Ip::new(src.addr, dst.addr);
    let mut bytes = vec![0; 256];
    let len = match protocol {
        Protocol::Tcp => {
            let header = build::Tcp {
                flags: TcpFlags(what),
                ..build::Tcp::syn(src.port, dst.port)
            };
            build::tcp(&mut bytes, &ip, &header, b"")
        }
        Protocol::Sctp => {
            let mut chunk = [0; 20];
            (chunk[0], chunk[3]) = (what, 20);
            build::sctp(&mut bytes, &ip, src.port, dst.port, 7, &chunk)
        }
        _ => build::udp(&mut bytes, &ip, src.port, dst.port, b"hello"),
    };
    bytes.truncate(len.unwrap());
    bytes
}

/// What the director made of a packet, in the words of the model.
fn outcome(packet: &Packet, verdict: Verdict, frame: &Frame<'_>) -> Result<Outcome, String> {
    let odd = || Err(format!("{verdict:?}"));
    match verdict {
        // An answer without a reason is that of a host's stack.
        Verdict::Pass | Verdict::ToHost | Verdict::Answer(None) => Ok(Outcome::Accepted),
        Verdict::Drop(DropReason::DestinationGone) => Ok(Outcome::Gone),
        Verdict::Drop(DropReason::DropPacket) => Ok(Outcome::Unlucky),
        Verdict::Answer(Some(DropReason::NoDestination)) => Ok(Outcome::Refused),
        Verdict::Answer(Some(DropReason::UnknownReply)) => Ok(Outcome::Unwanted),
        Verdict::Forward(hop) => {
            let bytes = frame.bytes();
            let carries = if bytes[14] >> 4 == 4 {
                bytes[23]
            } else {
                bytes[20]
            };
            let server = steps::server(packet.dst.addr.family(), (hop.max(1) - 1) as u8);
            if matches!(carries, 4 | 41) {
                return Ok(Outcome::Sent(ForwardMethod::Tunnel, server));
            }
            let out = parse(frame)
                .map_err(|reason| reason.name().to_owned())?
                .flow;
            let same_src = out.src == packet.src;
            let same_dst = out.dst == packet.dst;
            match hop {
                CLIENTS if same_dst => Ok(Outcome::Returned(out.src)),
                CLIENTS => odd(),
                _ if same_src && same_dst => Ok(Outcome::Sent(ForwardMethod::DirectRoute, server)),
                _ if same_src && out.dst.addr == server => Ok(Outcome::Translated(out.dst)),
                _ => Err(format!("{} > {} by {hop}", out.src, out.dst)),
            }
        }
        _ => odd(),
    }
}
