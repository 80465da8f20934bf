//! What captures show of the network that they were taken in.
//!
//! In: the rules, and the captures of all sides. Out: the director's own Ethernet and IP addresses on
//! each side, neighbours, where addresses are, and what fits. A guess each, which an option
//! overrides; a capture of the director's interface, with what it sent, shows nearly all of it.

use super::super::site::{Leg, Prefix, Site};
use super::Input;
use lvs_core::{Addr, Endpoint, Flow, Protocol};
use lvs_director::Director;
use lvs_packet::{Frame, Kind, Offload, parse, parse_quoted, tunnel};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A frame, and what stands in it.
struct Known {
    side: usize,
    to: [u8; 6],
    from: [u8; 6],
    flow: Flow,
    /// The length of the IP packet.
    length: u32,
    /// The MTU that it reports, if it is an error that does.
    reports: Option<u32>,
}

/// What the captures show.
pub(super) struct Seen {
    frames: Vec<Known>,
    macs: Vec<Option<[u8; 6]>>,
    vips: HashSet<Addr>,
    servers: Vec<Addr>,
    /// What tunnels add, at most.
    overhead: u32,
    sides: usize,
}

impl Seen {
    pub(super) fn of(director: &Director, inputs: &[Input]) -> Self {
        let services = director.services();
        let destinations = || services.iter().flat_map(|service| &service.destinations);
        let claims = director.claims();
        let mut servers: Vec<Addr> = destinations()
            .map(|found| found.spec.endpoint.addr)
            .collect();
        servers.sort_unstable();
        servers.dedup();
        let overhead = |found: &lvs_director::DestinationStatus| {
            let tunnelled = found.spec.method == lvs_core::ForwardMethod::Tunnel;
            let outer = found.spec.endpoint.addr.family();
            let added = tunnelled.then(|| tunnel::overhead(found.spec.tunnel, outer));
            added
                .and_then(|added| u32::try_from(added).ok())
                .unwrap_or(0)
        };
        let mut seen = Self {
            frames: frames(inputs),
            macs: vec![None; inputs.len()],
            vips: claims.services.iter().map(|(_, vip)| vip.addr).collect(),
            overhead: destinations().map(overhead).max().unwrap_or(0),
            servers,
            sides: inputs.len(),
        };
        seen.find_macs();
        // Once more without what came in the director's own buffers, and shows how it left.
        seen.find_macs();
        seen
    }

    /// The director's Ethernet addresses, by vote. Of a flow that is seen on two sides, the packets on
    /// the first are for the director and those on the other are from it; what is from a VIP, or
    /// for a server and seen nowhere else, is from it too.
    fn find_macs(&mut self) {
        let mut votes: Vec<HashMap<[u8; 6], usize>> = vec![HashMap::new(); self.sides];
        let mut first: HashMap<Flow, usize> = HashMap::new();
        for frame in &self.frames {
            let sides = self.macs.iter().enumerate();
            let mut others = sides.filter(|(side, _)| *side != frame.side);
            if others.any(|(_, mac)| *mac == Some(frame.from)) {
                continue;
            }
            let flow = frame.flow;
            let came_in = *first.entry(flow).or_insert(frame.side) == frame.side;
            let is_service = self.vips.contains(&flow.dst.addr);
            let is_server = self.servers.contains(&flow.src.addr);
            let own = if is_service || is_server {
                if came_in { frame.to } else { frame.from }
            } else if self.servers.contains(&flow.dst.addr) || self.vips.contains(&flow.src.addr) {
                frame.from
            } else {
                continue;
            };
            if let Some(votes) = votes.get_mut(frame.side) {
                *votes.entry(own).or_insert(0) += 1;
            }
        }
        for (mac, votes) in self.macs.iter_mut().zip(votes) {
            *mac = votes
                .into_iter()
                .max_by_key(|(mac, count)| (*count, *mac))
                .map(|(mac, _)| mac);
        }
    }

    /// The director's Ethernet address on a side.
    pub(super) fn mac(&self, side: usize) -> Option<[u8; 6]> {
        self.macs.get(side).copied().flatten()
    }

    fn is_own(&self, frame: &Known) -> bool {
        self.mac(frame.side) == Some(frame.from)
    }

    fn came(&self) -> impl Iterator<Item = &Known> {
        self.frames.iter().filter(|frame| !self.is_own(frame))
    }

    fn went(&self) -> impl Iterator<Item = &Known> {
        self.frames.iter().filter(|frame| self.is_own(frame))
    }

    /// The director's own addresses on a side: those that it sends from, and nobody else does.
    pub(super) fn addresses(&self, side: usize) -> Vec<Addr> {
        let others: HashSet<Addr> = self.came().map(|frame| frame.flow.src.addr).collect();
        let mut counts: BTreeMap<Addr, usize> = BTreeMap::new();
        for frame in self.went().filter(|frame| frame.side == side) {
            let from = frame.flow.src.addr;
            if from.is_unicast() && !others.contains(&from) && !self.vips.contains(&from) {
                *counts.entry(from).or_insert(0) += 1;
            }
        }
        let mut addresses: Vec<(Addr, usize)> = counts.into_iter().collect();
        addresses.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        addresses.into_iter().map(|(addr, _)| addr).collect()
    }

    /// What fits on a side: what the director itself told others, or the longest that it sent, if
    /// that is more than usual.
    pub(super) fn mtu(&self, side: usize) -> Option<u32> {
        let told = self
            .went()
            .filter(|frame| frame.side != side)
            .filter_map(|frame| frame.reports)
            .max();
        let longest = self
            .went()
            .filter(|frame| frame.side == side)
            .map(|frame| frame.length)
            .max();
        let told = told.map(|told| told + self.overhead);
        told.or_else(|| longest.filter(|longest| *longest > super::USUAL_MTU))
    }

    /// Fills in routes and neighbours.
    pub(super) fn routes(&self, site: &mut Site) {
        let leg = |addr: Addr, side| Leg {
            to: Prefix::single(addr),
            side,
            via: None,
        };
        let mut placed: HashSet<Addr> = HashSet::new();
        for frame in self.came() {
            let from = frame.flow.src.addr;
            if from.is_unicast() && !self.vips.contains(&from) {
                site.neighbours
                    .entry((frame.side, from))
                    .or_insert(frame.from);
                if placed.insert(from) {
                    site.routes.push(leg(from, frame.side));
                }
            }
        }
        // Where the director sent to says more than where it heard from.
        for frame in self.went() {
            let to = frame.flow.dst.addr;
            if to.is_unicast() && !self.vips.contains(&to) {
                site.neighbours.insert((frame.side, to), frame.to);
                if placed.insert(to) {
                    site.routes.push(leg(to, frame.side));
                }
            }
        }
        let servers_side = self.sides.saturating_sub(1);
        for server in self
            .servers
            .iter()
            .filter(|server| !placed.contains(server))
        {
            site.routes.push(leg(*server, servers_side));
        }
        // Direct routing shows where to, but not for whom: plain if there is only one.
        let sent_to: HashSet<Addr> = self.went().map(|frame| frame.flow.dst.addr).collect();
        let other = |server: &&Addr| !sent_to.contains(server);
        let others: Vec<Addr> = self.servers.iter().filter(other).copied().collect();
        let direct =
            |frame: &&Known| frame.side == servers_side && self.vips.contains(&frame.flow.dst.addr);
        let mut direct: Vec<[u8; 6]> = self.went().filter(direct).map(|frame| frame.to).collect();
        direct.sort_unstable();
        direct.dedup();
        if let ([server], [mac]) = (others.as_slice(), direct.as_slice()) {
            site.neighbours.insert((servers_side, *server), *mac);
        }
        for everything in [Addr::from_v4_bits(0), Addr::UNSPECIFIED] {
            site.routes.push(Leg {
                to: Prefix::new(everything, 0),
                side: 0,
                via: None,
            });
        }
    }
}

/// The addresses of a director of which none show: of the ranges for benchmarks (RFC 2544, RFC 5180).
pub(super) fn usual_addresses(side: usize) -> [Addr; 2] {
    let number = u8::try_from(side).unwrap_or(u8::MAX);
    [
        Addr::from_v4_octets([198, 18, number, 1]),
        Addr {
            hi: 0x2001_0002_0000_0000 | u64::from(number),
            lo: 1,
        },
    ]
}

fn frames(inputs: &[Input]) -> Vec<Known> {
    let mut all = Vec::new();
    for (side, input) in inputs.iter().enumerate() {
        for captured in &input.frames {
            let mut bytes = super::whole(captured);
            let Some(known) = known(side, &mut bytes) else {
                continue;
            };
            all.push((captured.time, known));
        }
    }
    all.sort_by_key(|(time, _)| *time);
    all.into_iter().map(|(_, known)| known).collect()
}

fn known(side: usize, bytes: &mut [u8]) -> Option<Known> {
    let length = bytes.len();
    let (to, from) = (*bytes.first_chunk()?, *bytes.get(6..)?.first_chunk()?);
    let addresses = addresses(bytes)?;
    let frame = Frame::new(bytes, 0, length, Offload::default());
    let packet = parse(&frame).ok();
    let error = packet.filter(|packet| packet.kind == Kind::IcmpError);
    Some(Known {
        side,
        to,
        from,
        // A packet that is malformed has addresses all the same.
        flow: packet.map_or(addresses, |packet| packet.flow),
        length: packet.map_or(0, |packet| packet.ip_len()),
        reports: error.and_then(|packet| parse_quoted(&frame, &packet).ok()?.mtu()),
    })
}

/// Who the IP packet of a frame is from and for.
fn addresses(bytes: &[u8]) -> Option<Flow> {
    const ETHERNET: usize = 14;
    let ip = bytes.get(ETHERNET..)?;
    let end = |addr| Endpoint::new(addr, 0);
    let (from, to) = match bytes.get(12..ETHERNET)? {
        [0x08, 0x00] => {
            let addr = |at: usize| Some(Addr::from_v4_octets(*ip.get(at..)?.first_chunk()?));
            (addr(12)?, addr(16)?)
        }
        [0x86, 0xdd] => {
            let addr = |at: usize| Some(Addr::from_v6_octets(*ip.get(at..)?.first_chunk()?));
            (addr(8)?, addr(24)?)
        }
        _ => return None,
    };
    Some(Flow::new(Protocol::Ip, end(from), end(to)))
}
