//! What is neither of a connection nor begins one: whose is it (IPVS 4.2, 4.3, 3.7)?
//!
//! In: such a packet. Out: it is the host's, which has its own copy unless it was claimed, or the
//! director says what the host's stack would have said. Never: a connection.

use crate::decide::Decider;
use crate::locals::LOCAL_PORTS;
use crate::route::{Routes, Way};
use crate::settings::Setting;
use crate::verdict::Verdict;
use lvs_conn::sctp_state::chunk;
use lvs_core::{DropReason, Flow};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::{Frame, Kind, Packet, TcpFlags, checksum, ttl};

/// Whether a stack would not even answer: nobody can say whose packet it was.
fn has_bad_checksum(frame: &Frame<'_>, packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Tcp | Kind::Udp) && checksum::verify(frame, packet) == Some(false)
}

impl<R: Routes> Decider<'_, '_, R> {
    /// A packet that the director has no connection for and no service takes: the host's, unless
    /// it was claimed from the host, or the host does not have the address.
    pub(crate) fn stranger(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        let flow = packet.flow;
        let has_ports = packet.kind != Kind::IcmpEchoRequest;
        let marked = has_ports && self.rules.has_marks() && self.marked(packet).is_some();
        if marked || self.rules.is_vip(flow.dst.addr) {
            if self.routes.way(flow.dst.addr) != Way::Local {
                return self.answer_for_vip(frame, packet);
            }
            // Only what a service of this port would take is kept from the host, and what a server
            // sends to a port of FULLNAT.
            let claimed = marked
                || (has_ports
                    && (self.rules.is_claimed(flow.protocol, flow.dst)
                        || self.may_answer_fullnat(&flow)));
            return if claimed {
                Verdict::ToHost
            } else {
                Verdict::Pass
            };
        }
        if has_ports && self.rules.is_server(flow.protocol, flow.src) {
            // What is for the host itself (an answer to a health check) is not claimed.
            let to_host = self.routes.way(flow.dst.addr) == Way::Local;
            return if to_host {
                Verdict::Pass
            } else {
                Verdict::ToHost
            };
        }
        Verdict::Pass
    }

    /// Whether a packet could be a server's answer to a local endpoint, by its addresses and ports.
    fn may_answer_fullnat(&self, flow: &Flow) -> bool {
        LOCAL_PORTS.contains(&flow.dst.port)
            && self.rules.is_local(flow.dst.addr)
            && self.rules.is_server(flow.protocol, flow.src)
    }

    /// What the host's stack would say for a VIP if it had it (3.7, last row).
    fn answer_for_vip(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        if has_bad_checksum(frame, packet) {
            return Verdict::Drop(DropReason::BadTransportChecksum);
        }
        match packet.kind {
            Kind::Tcp if packet.tcp_flags.contains(TcpFlags::RST) => Verdict::Pass,
            Kind::Tcp => match answer::tcp_reset(frame, packet) {
                Ok(()) => Verdict::Answer(None),
                Err(reason) => Verdict::Drop(reason),
            },
            Kind::IcmpEchoRequest => match answer::echo_reply(frame, packet) {
                Ok(()) => Verdict::Answer(None),
                Err(reason) => Verdict::Drop(reason),
            },
            _ => self.problem(frame, packet, IcmpProblem::PortUnreachable, None),
        }
    }

    /// Tells a server that its packet belongs to no connection (`nat_icmp_send`, 4.3); nothing if
    /// it is not a packet of a server, or the setting is off.
    #[inline]
    pub(crate) fn refuse_reply(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
    ) -> Option<Verdict> {
        if !self.settings.is_on(Setting::NatIcmpSend) {
            return None;
        }
        self.refused(frame, packet)
    }

    /// Whether a server may be told that nobody wants its packet.
    pub(crate) fn may_be_refused(&self, flow: &Flow) -> bool {
        self.settings.is_on(Setting::NatIcmpSend)
            && self.rules.is_real_server(flow.protocol, flow.src)
    }

    #[cold]
    fn refused(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Option<Verdict> {
        let flow = packet.flow;
        let ends = match packet.kind {
            Kind::Tcp => packet.tcp_flags.contains(TcpFlags::RST),
            Kind::Sctp => packet.sctp_chunk == chunk::ABORT,
            _ => false,
        };
        if ends || !self.rules.is_real_server(flow.protocol, flow.src) {
            return None;
        }
        let (problem, reason) = (IcmpProblem::PortUnreachable, DropReason::UnknownReply);
        if self.routes.way(flow.dst.addr) == Way::Local {
            return Some(self.problem(frame, packet, problem, Some(reason)));
        }
        if packet.ttl <= 1 {
            let (problem, reason) = (IcmpProblem::TimeExceeded, DropReason::TtlExpired);
            return Some(self.router_problem(frame, packet, problem, reason));
        }
        // It has been through forwarding.
        ttl::decrement(frame, packet);
        Some(self.router_problem(frame, packet, problem, reason))
    }
}
