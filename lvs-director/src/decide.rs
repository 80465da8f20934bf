//! The decision for one packet, in the order of IPVS's handlers (4.1, 4.2, 4.3): is it a reply of a
//! connection, is it a request of one, may it begin one, and whose is it otherwise.

use crate::calls::Calls;
use crate::defence::Defence;
use crate::destination::Destination;
use crate::fragments::Fragments;
use crate::fresh::Fresh;
use crate::helper::Ports;
use crate::limit::RateLimit;
use crate::locals::Cursor;
use crate::resets::Resets;
use crate::route::{Routes, Way};
use crate::rules::{Near, Rules, Service};
use crate::settings::{Setting, Settings};
use crate::stats::Drops;
use crate::tunnelled::Identification;
use crate::verdict::Verdict;
use lvs_conn::sctp_state::chunk;
use lvs_conn::{Activity, Conn, ConnKind, Direction, Event, Guard, Hit, Settled, Timeouts};
use lvs_core::state::{sctp, tcp, template};
use lvs_core::{Addr, DropReason, Endpoint, Family, ForwardMethod, Protocol, Tick};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::options::{self, Recorded};
use lvs_packet::{Fragment, Frame, Kind, Packet, TcpFlags};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What a decision needs beside the packet; lives as long as a batch.
pub(crate) struct Decider<'a, 'g, R> {
    pub(crate) now: Tick,
    pub(crate) worker: usize,
    pub(crate) rules: &'g Rules,
    /// Of the rules, what most packets ask for.
    pub(crate) near: Near<'g>,
    pub(crate) helped: Ports,
    pub(crate) timeouts: &'a Timeouts,
    /// What the timeouts are known by in this batch.
    pub(crate) settled: Settled,
    pub(crate) settings: &'a Settings,
    pub(crate) defence: &'a Defence,
    /// Whether something looks at more of a new connection's packet than its service does.
    pub(crate) is_watchful: bool,
    pub(crate) calls: &'a Calls,
    /// How many connections wait for their client's port.
    pub(crate) waiting: &'a AtomicU32,
    pub(crate) guard: &'g Guard<'g>,
    pub(crate) routes: &'a mut R,
    pub(crate) limit: &'a mut RateLimit,
    pub(crate) fragments: &'a mut Fragments,
    pub(crate) identification: &'a mut Identification,
    pub(crate) cursor: &'a mut Cursor,
    pub(crate) resets: &'a mut Resets,
    pub(crate) drops: Option<&'a Drops>,
    /// The connections that this batch has made, which its common lookup could not see.
    pub(crate) fresh: Fresh,
    /// What service the packet before was found to go to.
    pub(crate) latest: Option<((Protocol, Endpoint), &'g Arc<Service>)>,
    /// Of a datagram that came in pieces: the length of the longest one as a packet.
    pub(crate) largest_piece: Option<u32>,
    /// What the packet at hand has recorded here of its way.
    pub(crate) recorded: Recorded,
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    pub(crate) fn decide(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hit: Option<Hit<'g>>,
    ) -> Verdict {
        match packet.kind {
            Kind::Tcp | Kind::Udp | Kind::Sctp if packet.fragment == Fragment::None => {
                self.whole(frame, packet, hit)
            }
            Kind::OtherIp => self.follow_isakmp(frame, packet),
            Kind::NotIp | Kind::ArpRequest => Verdict::Pass,
            _ if packet.fragment != Fragment::None => self.piece(frame, packet, hit),
            Kind::IcmpError => self.icmp_error(frame, packet),
            Kind::IcmpEchoRequest => self.stranger(frame, packet),
            _ => Verdict::Pass,
        }
    }

    /// A packet with ports.
    #[inline]
    pub(crate) fn whole(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hit: Option<Hit<'g>>,
    ) -> Verdict {
        match self.known(packet, hit) {
            Some(Hit {
                conn,
                direction: Direction::FromServer,
            }) => self.reply(frame, packet, conn),
            Some(Hit {
                conn,
                direction: Direction::FromClient,
            }) => self.request(frame, packet, conn),
            None => self.begin(frame, packet),
        }
    }

    /// The connection of a packet with ports, also one that this batch has made.
    #[inline]
    pub(crate) fn known(&self, packet: &Packet, hit: Option<Hit<'g>>) -> Option<Hit<'g>> {
        match hit {
            None if self.fresh.may_have(&packet.flow) => self.guard.lookup(&packet.flow),
            hit => hit,
        }
    }

    /// A packet from the client of a connection (4.2).
    pub(crate) fn request(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
    ) -> Verdict {
        let destination = self.rules.destination_of(conn.dest());
        if begins(packet) && self.is_reused(packet, conn, destination) {
            // It still counts with its destination when the scheduler looks (2.4, rule 6).
            conn.unlink(self.now);
            return self.begin(frame, packet);
        }
        if conn.method() == ForwardMethod::Bypass {
            return self.forward_bypassed(frame, packet, conn);
        }
        if let Some(destination) = destination
            && let Some(leaving) = destination.leaving
            && let Some(verdict) =
                self.request_of_leaving(frame, packet, conn, destination, leaving)
        {
            return verdict;
        }
        let Some(destination) = destination.filter(|found| found.backend.is_available()) else {
            if self.settings.is_on(Setting::ExpireNodestConn) {
                conn.unlink(self.now);
                return self.begin(frame, packet);
            }
            return Verdict::Drop(DropReason::DestinationGone);
        };
        self.forward_request(frame, packet, conn, destination)
    }

    /// Whether a packet that begins connections begins the one anew that has its flow (2.12).
    fn is_reused(
        &self,
        packet: &Packet,
        conn: Conn<'_>,
        destination: Option<&Arc<Destination>>,
    ) -> bool {
        /// The bit of `conn_reuse_mode` that adds FIN_WAIT.
        const FIN_WAIT_TOO: u32 = 2;
        if self.settings.is_on(Setting::ExpireNodestConn)
            && destination.is_some_and(|found| found.backend.weight() == 0)
        {
            return true;
        }
        let mode = self.settings.get(Setting::ConnReuseMode);
        if mode == 0 || conn.control().is_some() {
            return false;
        }
        match (packet.kind, conn.state()) {
            (Kind::Tcp, tcp::TIME_WAIT | tcp::CLOSE) => true,
            (Kind::Tcp, tcp::FIN_WAIT) => mode & FIN_WAIT_TOO != 0 && conn.is_input_only(),
            (Kind::Sctp, state) => state == sctp::CLOSED,
            _ => false,
        }
    }

    /// Whether a packet may begin a connection (4.2): TCP only with SYN and without RST, SCTP only
    /// with INIT; with the sloppy settings whatever does not end one.
    pub(crate) fn may_begin(&self, packet: &Packet) -> bool {
        let sloppy = |setting| self.settings.is_on(setting);
        match packet.kind {
            Kind::Tcp => {
                !packet.tcp_flags.contains(TcpFlags::RST)
                    && (packet.tcp_flags.contains(TcpFlags::SYN) || sloppy(Setting::SloppyTcp))
            }
            Kind::Sctp => match packet.sctp_chunk {
                chunk::INIT => true,
                other => other != chunk::ABORT && sloppy(Setting::SloppySctp),
            },
            Kind::Udp => true,
            _ => false,
        }
    }

    pub(crate) fn forward_request(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        destination: &Destination,
    ) -> Verdict {
        let later = packet.fragment == Fragment::Later;
        if let Some(counters) = destination.counters.of(self.worker) {
            match later {
                false => counters.packet_in(of_datagram(packet)),
                true => counters.more_in(of_datagram(packet)),
            }
        }
        self.advance(packet, conn, Direction::FromClient, Some(destination));
        let changed = self.helped(frame, packet, conn, Direction::FromClient);
        let packet = changed.as_ref().unwrap_or(packet);
        let verdict = match conn.method() {
            ForwardMethod::FullNat => self.fullnat_request(frame, packet, conn),
            method => self.transmit(frame, packet, (conn.destination(), method), destination),
        };
        if !later {
            conn.count_in_packet();
        }
        verdict
    }

    /// A packet from the server of a connection (4.3).
    pub(crate) fn reply(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
    ) -> Verdict {
        if !conn.method().rewrites_replies() {
            // IPv4 takes nothing from others that is from an address of its own; only the host
            // itself may send such a reply.
            let vip = conn.virtual_endpoint().addr;
            if packet.family == Family::V4
                && !self.routes.is_from_host()
                && self.routes.way(vip) == Way::Local
            {
                return Verdict::Pass;
            }
            // The host routes its own copy; the connection has seen a reply.
            self.count_reply(packet, conn);
            return Verdict::Pass;
        }
        if let Some(destination) = self.rules.destination_of(conn.dest())
            && let Some(leaving) = destination.leaving
            && let Some(verdict) = self.reply_of_leaving(frame, packet, conn, destination, leaving)
        {
            return verdict;
        }
        // What ordinary forwarding refuses never reaches the connection (3.7).
        if packet.ttl <= 1 {
            return self.router_problem(
                frame,
                packet,
                IcmpProblem::TimeExceeded,
                DropReason::TtlExpired,
            );
        }
        match self.routes.way(conn.client().addr) {
            Way::Forward(route) => {
                if let Some(verdict) = self.too_big(frame, packet, route.mtu, None) {
                    return verdict;
                }
                self.count_reply(packet, conn);
                let changed = self.helped(frame, packet, conn, Direction::FromServer);
                let packet = changed.as_ref().unwrap_or(packet);
                lvs_packet::ttl::decrement(frame, packet);
                self.rewrite_reply(frame, packet, conn);
                let vip = conn.virtual_endpoint().addr;
                options::leave_from(frame, packet, self.recorded, vip);
                self.leave_by(frame, packet, &route)
            }
            Way::Local => {
                self.count_reply(packet, conn);
                let changed = self.helped(frame, packet, conn, Direction::FromServer);
                let packet = changed.as_ref().unwrap_or(packet);
                self.rewrite_reply(frame, packet, conn);
                Verdict::ToHost
            }
            Way::Unreachable => self.router_problem(
                frame,
                packet,
                IcmpProblem::HostUnreachable,
                DropReason::NoRoute,
            ),
        }
    }

    fn count_reply(&self, packet: &Packet, conn: Conn<'g>) {
        let destination = self.rules.destination_of(conn.dest());
        if let Some(destination) = destination
            && destination.backend.is_available()
            && let Some(counters) = destination.counters.of(self.worker)
        {
            match packet.fragment {
                Fragment::Later => counters.more_out(of_datagram(packet)),
                _ => counters.packet_out(of_datagram(packet)),
            }
        }
        self.advance(
            packet,
            conn,
            Direction::FromServer,
            destination.map(|found| &**found),
        );
    }

    /// Moves the state machine, and the counts of the destination with it (2.11).
    pub(crate) fn advance(
        &self,
        packet: &Packet,
        conn: Conn<'g>,
        direction: Direction,
        destination: Option<&Destination>,
    ) {
        let event = match packet.kind {
            // It has no flags, and moves nothing.
            _ if packet.fragment == Fragment::Later => Event::Other,
            Kind::Tcp => Event::tcp(packet.tcp_flags.0),
            Kind::Udp => Event::Udp,
            Kind::Sctp => Event::Sctp(packet.sctp_chunk),
            _ => Event::Other,
        };
        self.advance_by(event, packet.kind, conn, direction, destination);
    }

    /// The same for a packet of which the event is known.
    #[inline]
    pub(crate) fn advance_by(
        &self,
        event: Event,
        kind: Kind,
        conn: Conn<'g>,
        direction: Direction,
        destination: Option<&Destination>,
    ) {
        let transition = conn.advance(direction, event, self.now, self.timeouts);
        match (transition.activity, destination) {
            (Some(Activity::Activated), Some(destination)) => destination.backend.activated(),
            (Some(Activity::Deactivated), Some(destination)) => destination.backend.deactivated(),
            _ => {}
        }
        let proved = match kind {
            Kind::Tcp => transition.from != transition.to && transition.to == tcp::ESTABLISHED,
            Kind::Sctp => transition.from != transition.to && transition.to == sctp::ESTABLISHED,
            _ => direction == Direction::FromServer,
        };
        if proved {
            assure(conn);
        }
    }

    /// Turns the frame into an error from the VIP that it was sent to.
    pub(crate) fn problem(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        problem: IcmpProblem,
        reason: Option<DropReason>,
    ) -> Verdict {
        let source = self.own_address(packet);
        self.error_from(frame, packet, problem, source, reason)
    }

    /// Where an error about a packet to the director comes from: the address that it went to. With
    /// IPv6 an address that the host takes without having it is not used (3.7).
    fn own_address(&mut self, packet: &Packet) -> Addr {
        let asked = packet.flow.dst.addr;
        if asked.is_v4() || self.rules.is_vip(asked) || self.routes.has_address(asked) {
            return asked;
        }
        let towards = packet.flow.src.addr;
        self.routes.arrival_address(towards).unwrap_or(asked)
    }

    /// Turns the frame into an error of a router on its way.
    pub(crate) fn router_problem(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        problem: IcmpProblem,
        reason: DropReason,
    ) -> Verdict {
        match self.routes.arrival_address(packet.flow.src.addr) {
            Some(source) => self.error_from(frame, packet, problem, source, Some(reason)),
            None => Verdict::Drop(reason),
        }
    }

    fn error_from(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        problem: IcmpProblem,
        source: lvs_core::Addr,
        reason: Option<DropReason>,
    ) -> Verdict {
        if !self.limit.allow(self.now, packet.flow.src.addr, problem) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        // What says that it is from the host itself, and is not, is answered to nobody.
        let own = self.routes.way(packet.flow.src.addr) == Way::Local;
        if own && !self.routes.is_from_host() {
            return Verdict::Drop(DropReason::BadAddress);
        }
        match answer::icmp_error(frame, packet, problem, source) {
            Ok(()) => Verdict::Answer(reason),
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

/// The client of a connection has proved to exist: its template stays, even under attack (2.5).
pub(crate) fn assure(conn: Conn<'_>) {
    if let Some(above) = conn.control()
        && above.kind() == ConnKind::Template
        && above.state() != template::ASSURED
    {
        above.set_state(template::ASSURED);
    }
}

/// How many bytes of its datagram, made whole, a packet has: statistics count datagrams (IPVS 4.2).
fn of_datagram(packet: &Packet) -> u32 {
    /// What only pieces have.
    const FRAGMENT_HEADER: u32 = 8;
    match (packet.fragment, packet.family) {
        (Fragment::Later, _) => packet.end - u32::from(packet.l4),
        (Fragment::First, Family::V6) => packet.ip_len() - FRAGMENT_HEADER,
        _ => packet.ip_len(),
    }
}

/// Whether a packet says of itself that it begins a connection (2.12).
pub(crate) fn begins(packet: &Packet) -> bool {
    match packet.kind {
        Kind::Tcp => packet.tcp_flags.contains(TcpFlags::SYN),
        Kind::Sctp => packet.sctp_chunk == chunk::INIT,
        _ => false,
    }
}
