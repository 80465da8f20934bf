//! Sending a request on by the method of its connection: TTL, MTU, then the rewriting (IPVS 3).

use crate::cut::Cut;
use crate::decide::Decider;
use crate::destination::Destination;
use crate::route::{Route, Routes, Way};
use crate::settings::Setting;
use crate::tunnelled::Outer;
use crate::verdict::Verdict;
use lvs_core::{Addr, DropReason, Endpoint, Family, ForwardMethod};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Kind, Packet, nat, options, ttl, tunnel};

/// The least MTU of IPv4 (RFC 791) and of IPv6 (RFC 8200, 5).
const MIN_MTU: (u32, u32) = (68, 1280);

/// The longest packet that fits into a tunnel to `server` by a way of `mtu` bytes; `None` if that is too
/// short for any.
#[inline(always)]
pub(crate) fn room_in_tunnel(mtu: u32, overhead: usize, server: Addr) -> Option<u32> {
    let room = mtu.saturating_sub(u32::try_from(overhead).unwrap_or(u32::MAX));
    let least = if server.is_v4() { MIN_MTU.0 } else { MIN_MTU.1 };
    (room >= least).then_some(room)
}

impl<R: Routes> Decider<'_, '_, R> {
    pub(crate) fn transmit(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        (server, method): (Endpoint, ForwardMethod),
        destination: &Destination,
    ) -> Verdict {
        let route = match self.routes.way(server.addr) {
            Way::Forward(route) => route,
            // A tap cannot see the answers of a host that was handed a rewritten packet; and what
            // comes from outside may not be sent to a loopback address (3.1).
            Way::Local if method == ForwardMethod::Masquerade => {
                let remote = self.routes.way(packet.flow.src.addr) != Way::Local;
                if !self.routes.host_is_server() || (server.addr.is_loopback() && remote) {
                    return Verdict::Drop(DropReason::LocalMasquerade);
                }
                nat::rewrite_destination(frame, packet, server);
                return Verdict::ToHost;
            }
            Way::Local => return Verdict::ToHost,
            Way::Unreachable => {
                return self.problem(
                    frame,
                    packet,
                    IcmpProblem::HostUnreachable,
                    Some(DropReason::NoRoute),
                );
            }
        };
        if packet.flow.src.addr.is_loopback() {
            return Verdict::Drop(DropReason::LoopbackSource);
        }
        if packet.ttl <= 1 {
            return self.problem(
                frame,
                packet,
                IcmpProblem::TimeExceeded,
                Some(DropReason::TtlExpired),
            );
        }
        match method {
            ForwardMethod::Tunnel => self.tunnel(frame, packet, &route, destination),
            ForwardMethod::Masquerade => {
                ttl::decrement(frame, packet);
                if let Some(verdict) = self.too_big(frame, packet, route.mtu, Some(packet)) {
                    return verdict;
                }
                nat::rewrite_destination(frame, packet, server);
                self.leave_by(frame, packet, &route)
            }
            _ => {
                ttl::decrement(frame, packet);
                if let Some(verdict) = self.too_big(frame, packet, route.mtu, Some(packet)) {
                    return verdict;
                }
                self.leave_by(frame, packet, &route)
            }
        }
    }

    /// Sends a packet on whose MTU has been looked at: what is still longer may be cut (3.7).
    #[inline]
    pub(crate) fn leave_by(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        route: &Route,
    ) -> Verdict {
        options::seal(frame, packet);
        let cut = packet.family == Family::V4 && frame.offload.segmentation.is_none();
        if packet.ip_len() > route.mtu && cut {
            return self.in_pieces(route);
        }
        Verdict::Forward(route.hop)
    }

    #[cold]
    fn in_pieces(&mut self, route: &Route) -> Verdict {
        Verdict::ForwardPieces {
            hop: route.hop,
            cut: Cut {
                limit: route.mtu,
                identification: self.identification.next_v6(),
            },
        }
    }

    fn tunnel(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        route: &Route,
        destination: &Destination,
    ) -> Verdict {
        let server = destination.spec.endpoint.addr;
        let kind = destination.spec.tunnel;
        let overhead =
            tunnel::overhead(kind, server.family()) + tunnel::remote_overhead(frame, packet, kind);
        let route = &Route {
            mtu: destination.ledger.path_mtu.limit(route.mtu, self.now),
            ..*route
        };
        let Some(mtu) = room_in_tunnel(route.mtu, overhead, server) else {
            return Verdict::Drop(DropReason::TunnelMtu);
        };
        ttl::decrement(frame, packet);
        // Without it the outer packet is cut on its way (3.4).
        let pmtu_disc = self.settings.is_on(Setting::PmtuDisc);
        if (pmtu_disc || packet.family == Family::V6)
            && let Some(verdict) = self.too_big(frame, packet, mtu, Some(packet))
        {
            return verdict;
        }
        let outer = Outer {
            kind,
            source: route.source,
            destination: server,
            options: tunnel::Options {
                ident: self.identification.next(),
                copy_df: pmtu_disc,
                source_port: tunnel::gue_source_port(&packet.flow, self.identification.key()),
            },
        };
        if frame.offload.segmentation.is_some() {
            return Verdict::ForwardSegments {
                hop: route.hop,
                outer,
            };
        }
        options::seal(frame, packet);
        match outer.encapsulate(frame, packet) {
            Err(reason) => Verdict::Drop(reason),
            // Tunnels are cut outside, also those of IPv6: who sends may.
            Ok(()) if packet.ip_len() > mtu => self.in_pieces(route),
            Ok(()) => Verdict::Forward(route.hop),
        }
    }

    /// Refuses a packet that exceeds the MTU and may not be cut (3.1). `vip`: the error comes from
    /// the VIP; otherwise from the router that the director is for replies.
    pub(crate) fn too_big(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        mtu: u32,
        request: Option<&Packet>,
    ) -> Option<Verdict> {
        if self.longest(frame, packet) <= mtu {
            return None;
        }
        match (packet.family, packet.kind) {
            (Family::V4, Kind::IcmpError) => return None,
            (Family::V6, Kind::IcmpError) => return Some(Verdict::Drop(DropReason::TooBig)),
            (Family::V4, _) if !packet.dont_fragment => return None,
            _ => {}
        }
        let problem = IcmpProblem::TooBig { mtu };
        Some(match request {
            Some(request) => self.problem(frame, request, problem, Some(DropReason::TooBig)),
            None => self.router_problem(frame, packet, problem, DropReason::TooBig),
        })
    }

    /// The longest IP packet of those in which a packet goes on.
    pub(crate) fn longest(&self, frame: &Frame<'_>, packet: &Packet) -> u32 {
        match self.largest_piece {
            Some(largest) if packet.family == Family::V6 => largest,
            _ => largest_packet(frame, packet),
        }
    }
}

/// The longest IP packet that the frame stands for.
fn largest_packet(frame: &Frame<'_>, packet: &Packet) -> u32 {
    let Some(segmentation) = frame.offload.segmentation else {
        return packet.ip_len();
    };
    /// Where the data offset stands in a TCP header, in units of four bytes in its upper half.
    const DATA_OFFSET: usize = 12;
    let transport = match packet.kind {
        Kind::Tcp => {
            let field = frame.bytes().get(usize::from(packet.l4) + DATA_OFFSET);
            u32::from(field.map_or(0, |field| field >> 4)) * 4
        }
        _ => 8,
    };
    u32::from(packet.l4.saturating_sub(packet.l3)) + transport + u32::from(segmentation.size)
}
