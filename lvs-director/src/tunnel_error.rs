//! ICMP errors about the director's own tunnel packets (IPVS 3.6): a router between it and a server
//! could not pass one on, and the client has to know.
//!
//! In: an ICMP error for the director itself. Out: an error for the client about the packet that was
//! inside, or nothing; what was learned about the way stays. IPv4 only: of IPv6 outside the kernel
//! makes nothing, and of IPv6 inside it tells nobody.

use crate::decide::Decider;
use crate::destination::Destination;
use crate::route::{Routes, Way};
use crate::verdict::Verdict;
use lvs_conn::Direction;
use lvs_core::{DropReason, Family, TunnelKind};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::{Frame, Packet, Quoted, QuotedKind, checksum, parse_quoted_tunnel};

/// What no MTU is told below.
const LEAST: u32 = 68;

impl<R: Routes> Decider<'_, '_, R> {
    /// The verdict on an error that quotes a packet of one of our tunnels; `None` if it quotes
    /// another one.
    #[cold]
    pub(crate) fn tunnel_error(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        outer: &Quoted,
    ) -> Option<Verdict> {
        if outer.family != Family::V4 || !self.is_ours(outer) {
            return None;
        }
        if self.routes.way(packet.flow.dst.addr) != Way::Local {
            return None;
        }
        let inner = parse_quoted_tunnel(frame, outer).ok()?;
        if inner.family == Family::V6 {
            // Nobody is told, but by GUE and GRE the way is known to be shorter.
            if outer.kind != QuotedKind::Ipv4
                && let Some(reported) = outer.mtu()
            {
                self.learn(outer, reported, None);
            }
            return None;
        }
        if !inner.has_ports {
            return None;
        }
        let hit = self.guard.lookup(&inner.flow)?;
        if hit.direction != Direction::FromClient {
            return None;
        }
        if checksum::verify(frame, packet) == Some(false) {
            return Some(Verdict::Drop(DropReason::BadIcmpChecksum));
        }
        let destination = self.rules.destination_of(hit.conn.dest());
        let problem = match outer.mtu() {
            None => IcmpProblem::Relayed {
                icmp_type: outer.icmp_type,
                icmp_code: outer.icmp_code,
                icmp_info: outer.icmp_info,
            },
            Some(reported) => {
                let mtu = self.learn(outer, reported, destination.map(|found| &**found));
                if !inner.dont_fragment {
                    return Some(Verdict::Pass);
                }
                // The headers outside, as they are quoted.
                let added = u32::from(inner.l3.saturating_sub(outer.l3));
                let less = mtu.saturating_sub(added);
                IcmpProblem::TooBig {
                    mtu: if less > LEAST { less } else { mtu },
                }
            }
        };
        if let Some(destination) = destination
            && destination.backend.is_available()
            && let Some(counters) = destination.counters.of(self.worker)
        {
            counters.packet_out(packet.ip_len());
        }
        Some(self.relay(frame, packet, &inner, problem))
    }

    /// Whether a packet that is quoted may come from one of our tunnels. Of IPIP and GRE, whose packets
    /// name no port, there is one to an address, that of the destination that came last, as a kernel
    /// finds it; there may be others of GUE beside it.
    fn is_ours(&self, outer: &Quoted) -> bool {
        let tunnels = self.rules.tunnels_to(outer.flow.dst.addr);
        let mut kinds = tunnels
            .filter(|found| found.backend.is_available())
            .map(|found| found.spec.tunnel);
        let portless = |kind: &TunnelKind| !matches!(kind, TunnelKind::Gue { .. });
        match outer.kind {
            QuotedKind::Ipv4 => kinds.filter(portless).last() == Some(TunnelKind::Ipip),
            QuotedKind::Gre => {
                matches!(kinds.filter(portless).last(), Some(TunnelKind::Gre { .. }))
            }
            QuotedKind::Udp if outer.has_ports => kinds.any(
                |kind| matches!(kind, TunnelKind::Gue { port, .. } if port == outer.flow.dst.port),
            ),
            _ => false,
        }
    }

    /// Remembers what a router reports, for all destinations at that address; gives the MTU that
    /// the destination of the connection went by before.
    fn learn(&mut self, outer: &Quoted, reported: u32, destination: Option<&Destination>) -> u32 {
        let Way::Forward(route) = self.routes.way(outer.flow.dst.addr) else {
            return reported;
        };
        let mut told = reported;
        let now = self.now;
        for found in self.rules.tunnels_to(outer.flow.dst.addr) {
            let before = found.ledger.path_mtu.report(reported, route.mtu, now);
            if destination.is_some_and(|destination| destination.id == found.id) {
                told = before;
            }
        }
        told
    }

    /// Turns the error into one about the packet inside, for the sender of that.
    fn relay(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        inner: &Quoted,
        problem: IcmpProblem,
    ) -> Verdict {
        let Way::Forward(route) = self.routes.way(inner.flow.src.addr) else {
            return Verdict::Pass;
        };
        if !self.limit.allow(self.now, inner.flow.src.addr, problem) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        match answer::relay_error(frame, packet, inner, problem, inner.flow.dst.addr) {
            Ok(()) => Verdict::Forward(route.hop),
            Err(reason) => Verdict::Drop(reason),
        }
    }
}
