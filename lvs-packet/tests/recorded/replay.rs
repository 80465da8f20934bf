//! The kernel's IPVS as judge: captures of a director's two sides (Linux 6.1). What came in on one
//! side goes through the rewriters in the order that the configuration implies, and what comes out
//! must be what the kernel sent, byte for byte.
//!
//! The kernel draws some fields at random: the identification of what it originates without DF,
//! the flow label of its own errors, a GUE source port. These are taken over from its packet (the
//! checksums that cover them are not). The captures with fragments have no part here: those are
//! reassembled before a rewriter sees them.

use super::support::{Case, Recorded, Side};
use lvs_core::{Endpoint, Family, ForwardMethod, Protocol};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::{
    Fragment, Frame, Kind, Offload, Packet, Quoted, QuotedKind, checksum, icmp, nat, parse,
    parse_quoted, parse_quoted_tunnel, ttl, tunnel,
};
use std::collections::HashSet;

const HEADROOM: usize = 128;

/// A director with one connection table that never forgets: what is needed to know which rewriter
/// the kernel used, and no more.
struct Director<'c> {
    case: &'c Case,
    mtu: usize,
    clients: HashSet<(Protocol, Endpoint)>,
}

/// What comes out of it.
enum Outcome {
    /// Nothing, or something of which this test knows nothing.
    Nothing,
    /// A frame on this side.
    Sent(Side, Vec<u8>),
}

fn take<'b>(buffer: &'b mut Vec<u8>, bytes: &[u8]) -> Frame<'b> {
    buffer.clear();
    buffer.resize(HEADROOM, 0);
    buffer.extend_from_slice(bytes);
    Frame::new(buffer, HEADROOM, bytes.len(), Offload::default())
}

impl<'c> Director<'c> {
    fn new(case: &'c Case) -> Self {
        Self {
            case,
            mtu: case.mtu,
            clients: HashSet::new(),
        }
    }

    /// One frame through it; `hint` is what the kernel sent next on each side.
    fn process(&mut self, input: &Recorded, hint: &dyn Fn(Side) -> Option<Recorded>) -> Outcome {
        let mut buffer = Vec::new();
        let mut frame = take(&mut buffer, &input.bytes);
        let packet = parse(&frame).unwrap();
        match input.side {
            Side::Client => self.client_sent(&mut frame, &packet, hint),
            Side::Server => self.server_sent(&mut frame, &packet, hint),
        }
        .map_or(Outcome::Nothing, |side| {
            Outcome::Sent(side, frame.bytes().to_vec())
        })
    }

    fn client_sent(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hint: &dyn Fn(Side) -> Option<Recorded>,
    ) -> Option<Side> {
        let vip = packet.flow.dst;
        let back = Some(Side::Client);
        let error = |frame: &mut Frame<'_>, problem| {
            answer::icmp_error(frame, packet, problem, vip.addr).unwrap();
            adopt(frame, &hint(Side::Client)?);
            back
        };
        if !self.case.is_vip(vip.addr) {
            return self.route(frame, packet, Side::Server);
        }
        let flow = match packet.kind {
            Kind::Tcp | Kind::Udp | Kind::Sctp => packet.flow,
            Kind::IcmpError => {
                // An error about a reply: the connection is that of the quoted packet's reverse.
                let quoted = parse_quoted(frame, packet).unwrap();
                assert!(quoted.has_ports);
                let flow = quoted.flow.reversed();
                let known = self.clients.contains(&(flow.protocol, flow.src));
                if !known && !self.case.schedule_icmp {
                    return None;
                }
                flow
            }
            Kind::IcmpEchoRequest => {
                answer::echo_reply(frame, packet).unwrap();
                adopt(frame, &hint(Side::Client)?);
                return back;
            }
            _ => return None,
        };
        // Only a SYN without RST opens a TCP connection.
        let opens = packet.kind != Kind::Tcp
            || packet.tcp_flags.0 & 6 == 2
            || self.clients.contains(&(flow.protocol, flow.src));
        let service = self.case.service(flow.protocol, flow.dst);
        let Some(service) = service.filter(|_| opens) else {
            return match packet.kind {
                Kind::Tcp => {
                    answer::tcp_reset(frame, packet).unwrap();
                    adopt(frame, &hint(Side::Client)?);
                    back
                }
                Kind::Udp => error(frame, IcmpProblem::PortUnreachable),
                _ => None,
            };
        };
        let Some(server) = service.server else {
            return error(frame, IcmpProblem::PortUnreachable);
        };
        if packet.ttl <= 1 {
            return error(frame, IcmpProblem::TimeExceeded);
        }
        self.clients.insert((flow.protocol, flow.src));
        ttl::decrement(frame, packet);
        let length = packet.ip_len() as usize;
        let is_error = packet.kind == Kind::IcmpError;
        let too_big = |limit: usize| IcmpProblem::TooBig { mtu: limit as u32 };
        match service.method {
            ForwardMethod::Tunnel => {
                let outer = server.addr.family();
                let limit = self.mtu - tunnel::overhead(service.tunnel, outer);
                if outer == Family::V6 && limit < 1280 {
                    return None;
                }
                let measured =
                    packet.family == Family::V6 || (packet.dont_fragment && self.case.pmtu_disc);
                if measured && length > limit && !is_error {
                    return error(frame, too_big(limit));
                }
                let sent = hint(Side::Server)?;
                let mut buffer = sent.bytes.clone();
                let length = buffer.len();
                let outermost = Frame::new(&mut buffer, 0, length, Offload::default());
                let options = tunnel::Options {
                    copy_df: self.case.pmtu_disc,
                    ident: u16::from_be_bytes([sent.bytes[18], sent.bytes[19]]),
                    source_port: parse(&outermost).map_or(0, |outer| outer.flow.src.port),
                };
                let source = self.case.director_at_servers(outer);
                tunnel::encapsulate(frame, packet, service.tunnel, source, server.addr, &options)
                    .unwrap();
            }
            method => {
                if packet.dont_fragment && length > self.mtu && !is_error {
                    return error(frame, too_big(self.mtu));
                }
                if method == ForwardMethod::Masquerade {
                    if is_error {
                        let quoted = parse_quoted(frame, packet).unwrap();
                        icmp::translate_to_server(frame, packet, &quoted, server).unwrap();
                    } else {
                        nat::rewrite_destination(frame, packet, server);
                    }
                }
            }
        }
        Some(Side::Server)
    }

    fn server_sent(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hint: &dyn Fn(Side) -> Option<Recorded>,
    ) -> Option<Side> {
        let own = self.case.director_at_servers(packet.family);
        if packet.flow.dst.addr == own {
            return self.about_a_tunnel(frame, packet, hint);
        }
        let masquerades =
            |service: &&super::support::Service| service.method == ForwardMethod::Masquerade;
        if packet.ttl <= 1 {
            answer::icmp_error(frame, packet, IcmpProblem::TimeExceeded, own).unwrap();
            adopt(frame, &hint(Side::Server)?);
            return Some(Side::Server);
        }
        match packet.kind {
            Kind::Tcp | Kind::Udp | Kind::Sctp => {
                let flow = packet.flow;
                let of = self
                    .case
                    .serving(flow.protocol, flow.src)
                    .filter(masquerades);
                let known = self.clients.contains(&(flow.protocol, flow.dst));
                match of {
                    Some(service) if known => {
                        ttl::decrement(frame, packet);
                        nat::rewrite_source(frame, packet, service.vip);
                        return Some(Side::Client);
                    }
                    Some(_) if self.case.nat_icmp_send && packet.tcp_flags.0 & 4 == 0 => {
                        ttl::decrement(frame, packet);
                        let problem = IcmpProblem::PortUnreachable;
                        answer::icmp_error(frame, packet, problem, own).unwrap();
                        adopt(frame, &hint(Side::Server)?);
                        return Some(Side::Server);
                    }
                    _ => {}
                }
            }
            Kind::IcmpError => {
                let quoted = parse_quoted(frame, packet).unwrap();
                let of = self
                    .case
                    .serving(quoted.flow.protocol, quoted.flow.dst)
                    .filter(masquerades);
                if let Some(service) = of {
                    ttl::decrement(frame, packet);
                    icmp::translate_to_client(frame, packet, &quoted, service.vip).unwrap();
                    return Some(Side::Client);
                }
            }
            _ => {}
        }
        self.route(frame, packet, Side::Client)
    }

    /// An error about a packet of our own tunnel (IPv4 only).
    fn about_a_tunnel(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hint: &dyn Fn(Side) -> Option<Recorded>,
    ) -> Option<Side> {
        if packet.family == Family::V6 {
            return None;
        }
        let outer: Quoted = parse_quoted(frame, packet).unwrap();
        assert_eq!(outer.kind, QuotedKind::Ipv4);
        let inner = parse_quoted_tunnel(frame, &outer).unwrap();
        assert!(inner.has_ports);
        let problem = match outer.mtu() {
            Some(reported) => {
                let told = self.mtu as u32 - 20;
                self.mtu = reported as usize;
                IcmpProblem::TooBig { mtu: told }
            }
            None => IcmpProblem::Relayed {
                icmp_type: outer.icmp_type,
                icmp_code: outer.icmp_code,
                icmp_info: outer.icmp_info,
            },
        };
        answer::relay_error(frame, packet, &inner, problem, inner.flow.dst.addr).unwrap();
        adopt(frame, &hint(Side::Client)?);
        Some(Side::Client)
    }

    /// Ordinary forwarding.
    fn route(&self, frame: &mut Frame<'_>, packet: &Packet, to: Side) -> Option<Side> {
        ttl::decrement(frame, packet);
        Some(to)
    }
}

/// Takes the fields that the kernel draws over from its packet: the identification where there is
/// no DF, the flow label.
fn adopt(frame: &mut Frame<'_>, kernel: &Recorded) {
    let bytes = frame.bytes_mut();
    if bytes[12..14] == [0x86, 0xdd] {
        bytes[16..18].copy_from_slice(&kernel.bytes[16..18]);
        bytes[15] = (bytes[15] & 0xf0) | (kernel.bytes[15] & 0x0f);
    } else if bytes[20] & 0x40 == 0 {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let theirs = u16::from_be_bytes([kernel.bytes[18], kernel.bytes[19]]);
        let sum = checksum::update(word(24), word(18), theirs);
        bytes[18..20].copy_from_slice(&theirs.to_be_bytes());
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Whether the kernel's packet is a piece of one that a rewriter made.
fn is_fragment(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let length = bytes.len();
    let frame = Frame::new(&mut bytes, 0, length, Offload::default());
    parse(&frame).is_ok_and(|packet| packet.fragment != Fragment::None)
}

fn replay(case: &Case) -> usize {
    let mut director = Director::new(case);
    let sent = |side: Side| -> Vec<Recorded> {
        let all = case.frames.iter().filter(|frame| frame.side == side);
        all.filter(|frame| frame.by_director)
            .cloned()
            .collect::<Vec<_>>()
    };
    let sent = [sent(Side::Client), sent(Side::Server)];
    let mut next = [0, 0];
    for input in case.frames.iter().filter(|frame| !frame.by_director) {
        let hint = |side: Side| sent[side as usize].get(next[side as usize]).cloned();
        let Outcome::Sent(side, mut ours) = director.process(input, &hint) else {
            continue;
        };
        let queue = &sent[side as usize];
        let at = &mut next[side as usize];
        let Some(kernel) = queue.get(*at) else {
            panic!("{}: the kernel did not send {ours:02x?}", case.name);
        };
        if is_fragment(&kernel.bytes) {
            // Longer than the MTU: cut, which is not a rewriter's work.
            let ident = &kernel.bytes[18..20];
            while queue
                .get(*at)
                .is_some_and(|piece| is_fragment(&piece.bytes) && &piece.bytes[18..20] == ident)
            {
                *at += 1;
            }
            continue;
        }
        *at += 1;
        // Where it goes on the link is the neighbour table's to say.
        ours[..12].copy_from_slice(&kernel.bytes[..12]);
        assert_eq!(ours.len(), kernel.length, "{} #{at}: length", case.name);
        ours.truncate(kernel.captured);
        let theirs = &kernel.bytes[..kernel.captured];
        if let Some(differs) = ours.iter().zip(theirs).position(|(a, b)| a != b) {
            panic!(
                "{} #{at}: byte {differs} differs\n   in {:02x?}\n ours {ours:02x?}\nkernel {theirs:02x?}",
                case.name, input.bytes,
            );
        }
    }
    for side in [Side::Client, Side::Server] {
        let (seen, all) = (next[side as usize], sent[side as usize].len());
        assert_eq!(seen, all, "{}: frames sent to the {side:?}", case.name);
    }
    next.iter().sum()
}

#[test]
fn rewriters_do_what_the_kernel_does() {
    let cases = super::support::cases();
    assert!(cases.len() > 80, "{} cases", cases.len());
    let compared: usize = cases.iter().map(replay).sum();
    assert!(compared > 500, "{compared} frames compared");
}

#[test]
fn every_frame_parses_and_its_checksums_are_true() {
    let mut verified = 0;
    for case in super::support::cases() {
        for recorded in &case.frames {
            let mut bytes = recorded.bytes.clone();
            let length = bytes.len();
            let frame = Frame::new(&mut bytes, 0, length, Offload::default());
            let packet = parse(&frame).unwrap();
            assert!(packet.is_ip(), "{}", case.name);
            // The one about wrong checksums; and what was cut or written over.
            if !case.name.starts_with("csum") && recorded.captured == recorded.length {
                assert_ne!(
                    checksum::verify(&frame, &packet),
                    Some(false),
                    "{}",
                    case.name
                );
                verified += 1;
            }
        }
    }
    assert!(verified > 800, "{verified}");
}
