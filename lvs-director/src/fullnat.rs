//! Packets of FULLNAT connections: towards the server from a local endpoint, back to the client from the
//! VIP; and how the server learns who its client is.
//!
//! In: a packet of a connection. Out: the packet rewritten, and where it goes. A server is told its
//! client on each packet until it has answered one that told it, by an option of TCP (TOA) or of IPv4
//! (UOA); where there is no room, the packet goes on without, and that is counted.

use crate::decide::Decider;
use crate::route::{Route, Routes, Way};
use crate::verdict::Verdict;
use lvs_conn::Conn;
use lvs_core::{DropReason, ForwardMethod};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Kind, Packet, Quoted, TcpFlags, fullnat, nat, toa, ttl, uoa};

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// A client's packet.
    pub(crate) fn fullnat_request(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
    ) -> Verdict {
        let server = conn.destination();
        let Some(local) = conn.local() else {
            return Verdict::Drop(DropReason::LocalPortsUsedUp);
        };
        let route = match self.routes.way(server.addr) {
            Way::Forward(route) => route,
            Way::Local => return Verdict::Drop(DropReason::LocalMasquerade),
            Way::Unreachable => {
                let reason = Some(DropReason::NoRoute);
                return self.problem(frame, packet, IcmpProblem::HostUnreachable, reason);
            }
        };
        if packet.flow.src.addr.is_loopback() {
            return Verdict::Drop(DropReason::LoopbackSource);
        }
        if packet.ttl <= 1 {
            let reason = Some(DropReason::TtlExpired);
            return self.problem(frame, packet, IcmpProblem::TimeExceeded, reason);
        }
        if let Some(verdict) = self.too_big(frame, packet, route.mtu, Some(packet)) {
            return verdict;
        }
        let told = conn.tells().then(|| self.tell(frame, packet, conn, &route));
        let packet = told.flatten().unwrap_or(*packet);
        ttl::decrement(frame, &packet);
        fullnat::rewrite(frame, &packet, local, server);
        self.leave_by(frame, &packet, &route)
    }

    /// Tells the server its client, if this is a packet that can; what the packet is then.
    #[cold]
    fn tell(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        route: &Route,
    ) -> Option<Packet> {
        let told = match packet.kind {
            // The handshake's last segment, and data that comes in its place.
            Kind::Tcp if packet.tcp_flags.contains(TcpFlags::ACK) && !is_syn_or_rst(packet) => {
                toa::insert(frame, packet, conn.client(), route.mtu)
            }
            Kind::Udp => uoa::insert(frame, packet, conn.client(), route.mtu),
            _ => return None,
        };
        if told.is_err()
            && let Some(drops) = self.drops
        {
            drops.count(DropReason::ClientUntold);
        }
        told.ok()
    }

    /// A server's packet on its way to the client, by whichever NAT.
    #[inline]
    pub(crate) fn rewrite_reply(&self, frame: &mut Frame<'_>, packet: &Packet, conn: Conn<'g>) {
        if conn.method() != ForwardMethod::FullNat {
            nat::rewrite_source(frame, packet, conn.virtual_endpoint());
            return;
        }
        if conn.tells() {
            heard(frame, packet, conn);
        }
        fullnat::rewrite(frame, packet, conn.virtual_endpoint(), conn.client());
    }

    /// An ICMP error about a packet of the connection, to whoever sent that packet.
    pub(crate) fn fullnat_error(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        quoted: &Quoted,
        conn: Conn<'g>,
        to_server: bool,
    ) -> Verdict {
        let (from, to) = match (to_server, conn.local()) {
            (true, Some(local)) => (local, conn.destination()),
            (false, _) => (conn.virtual_endpoint(), conn.client()),
            (true, None) => return Verdict::Drop(DropReason::LocalPortsUsedUp),
        };
        let route = match self.routes.way(to.addr) {
            Way::Forward(route) => route,
            Way::Local => return Verdict::Drop(DropReason::LocalMasquerade),
            Way::Unreachable => return Verdict::Drop(DropReason::NoRoute),
        };
        if packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExpired);
        }
        if let Some(verdict) = self.too_big(frame, packet, route.mtu, None) {
            return verdict;
        }
        ttl::decrement(frame, packet);
        match fullnat::translate_error(frame, packet, quoted, from, to) {
            Ok(()) => self.leave_by(frame, packet, &route),
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

/// A reply while the server may not know its client. Its SYN says how long the client's segments may
/// be: short enough for the option. Whatever else it sends, it has seen a packet with the option.
#[cold]
fn heard(frame: &mut Frame<'_>, packet: &Packet, conn: Conn<'_>) {
    if packet.kind == Kind::Tcp && packet.tcp_flags.contains(TcpFlags::SYN) {
        toa::lower_mss(frame, packet, toa::length(packet.family));
    } else {
        conn.told();
    }
}

fn is_syn_or_rst(packet: &Packet) -> bool {
    packet.tcp_flags.contains(TcpFlags::SYN) || packet.tcp_flags.contains(TcpFlags::RST)
}
