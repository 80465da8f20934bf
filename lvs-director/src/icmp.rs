//! ICMP errors that quote a packet of a connection (IPVS 3.6).

use crate::begin::Begun;
use crate::decide::Decider;
use crate::ipsec::isakmp;
use crate::route::{Routes, Way};
use crate::rules::FTP_DATA;
use crate::settings::Setting;
use crate::verdict::Verdict;
use lvs_conn::{Conn, Direction};
use lvs_core::{DropReason, ForwardMethod};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Packet, Quoted, icmp, ttl};

impl<'g, R: Routes> Decider<'_, 'g, R> {
    pub(crate) fn icmp_error(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        let quoted = match lvs_packet::parse_quoted(frame, packet) {
            Ok(outer) if let Some(verdict) = self.tunnel_error(frame, packet, &outer) => {
                return verdict;
            }
            // Here only for the tunnels of the other family's services.
            Ok(_) if !self.rules.handles(packet.family) => return Verdict::Pass,
            Ok(quoted) => quoted,
            Err(reason) if self.rules.is_vip(packet.flow.dst.addr) => return Verdict::Drop(reason),
            Err(_) => return Verdict::Pass,
        };
        let flow = match quoted.has_ports {
            true => quoted.flow,
            false => match isakmp(quoted.protocol, &quoted.flow) {
                Some(flow) => flow,
                None => return Verdict::Pass,
            },
        };
        match self.guard.lookup(&flow.reversed()) {
            None if quoted.has_ports && self.settings.is_on(Setting::ScheduleIcmp) => {
                self.begin_by_error(frame, packet, &quoted)
            }
            None => Verdict::Pass,
            Some(hit) if hit.direction == Direction::FromClient => {
                self.error_for_server(frame, packet, &quoted, hit.conn)
            }
            Some(hit) => self.error_for_client(frame, packet, &quoted, hit.conn),
        }
    }

    /// An error about a packet of a service that belongs to no connection begins one
    /// (`schedule_icmp`): its client is where the quoted packet went. TCP's flags do not matter, and
    /// the connection stays as it is made.
    #[cold]
    fn begin_by_error(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        quoted: &Quoted,
    ) -> Verdict {
        let flow = quoted.flow.reversed();
        let Some(mut asked) = self.asked(packet, flow) else {
            return Verdict::Pass;
        };
        asked.towards = quoted.flow.dst.addr;
        if self.defence.drops_packet() {
            return Verdict::Drop(DropReason::DropPacket);
        }
        if flow.src.port == FTP_DATA {
            return Verdict::Pass;
        }
        match self.schedule(&asked, None) {
            Ok(Begun::Connection(conn, _) | Begun::Other(conn, _)) => {
                self.error_for_server(frame, packet, quoted, conn)
            }
            // It would end before the error is sent on.
            Ok(Begun::OnePacket(..)) => Verdict::Drop(DropReason::NoDestination),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// From outside, about a reply that the client's side could not take.
    fn error_for_server(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        quoted: &Quoted,
        conn: Conn<'g>,
    ) -> Verdict {
        // One that the host has routed on before IPVS saw what it quotes has lost one hop for that.
        let to = packet.flow.dst.addr;
        let routed = !self.rules.is_vip(to) && self.routes.way(to) != Way::Local;
        let passed = Packet {
            ttl: packet.ttl.saturating_sub(u8::from(routed)),
            ..*packet
        };
        let packet = if routed {
            ttl::decrement(frame, packet);
            &passed
        } else {
            packet
        };
        if conn.method() == ForwardMethod::Bypass {
            conn.count_in_packet();
            return self.send_on(frame, packet, conn.virtual_endpoint().addr);
        }
        let Some(destination) = self.rules.destination_of(conn.dest()) else {
            return Verdict::Drop(DropReason::DestinationGone);
        };
        if destination.backend.is_available()
            && let Some(counters) = destination.counters.of(self.worker)
        {
            counters.packet_in(packet.ip_len());
        }
        conn.count_in_packet();
        if conn.method() == ForwardMethod::FullNat {
            return self.fullnat_error(frame, packet, quoted, conn, true);
        }
        if conn.method() != ForwardMethod::Masquerade {
            let way = (conn.destination(), conn.method());
            return self.transmit(frame, packet, way, destination);
        }
        let route = match self.routes.way(conn.destination().addr) {
            Way::Forward(route) => route,
            Way::Local => return Verdict::Drop(DropReason::LocalMasquerade),
            Way::Unreachable => return Verdict::Drop(DropReason::NoRoute),
        };
        if packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExpired);
        }
        if let Some(verdict) = self.too_big(frame, packet, route.mtu, Some(packet)) {
            return verdict;
        }
        ttl::decrement(frame, packet);
        match icmp::translate_to_server(frame, packet, quoted, conn.destination()) {
            Ok(()) => self.leave_by(frame, packet, &route),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// From the servers' side, about a request that was sent on.
    fn error_for_client(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        quoted: &Quoted,
        conn: Conn<'g>,
    ) -> Verdict {
        if let Some(destination) = self.rules.destination_of(conn.dest())
            && destination.backend.is_available()
            && let Some(counters) = destination.counters.of(self.worker)
        {
            counters.packet_out(packet.ip_len());
        }
        if conn.method() == ForwardMethod::FullNat {
            return self.fullnat_error(frame, packet, quoted, conn, false);
        }
        if conn.method() != ForwardMethod::Masquerade {
            return Verdict::Pass;
        }
        // Whoever it was sent to, also if that is not the client.
        let to = packet.flow.dst.addr;
        if self.rules.is_vip(to) {
            return Verdict::Pass;
        }
        let route = match self.routes.way(to) {
            Way::Forward(route) => route,
            Way::Local => return Verdict::Pass,
            Way::Unreachable => {
                return self.router_problem(
                    frame,
                    packet,
                    IcmpProblem::HostUnreachable,
                    DropReason::NoRoute,
                );
            }
        };
        if packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExpired);
        }
        // No router says of an error that it is too long.
        if packet.dont_fragment && self.longest(frame, packet) > route.mtu {
            return Verdict::Drop(DropReason::TooBig);
        }
        ttl::decrement(frame, packet);
        match icmp::translate_to_client(frame, packet, quoted, conn.virtual_endpoint()) {
            Ok(()) => self.leave_by(frame, packet, &route),
            Err(reason) => Verdict::Drop(reason),
        }
    }
}
