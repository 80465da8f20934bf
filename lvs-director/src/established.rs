//! The straight way for the packets that nearly all are: of an established connection, plain, and
//! going on.
//!
//! In: a packet and its connection. Out: the frame rewritten and its next hop, or nothing: then
//! nothing was changed or counted, and [`Decider::decide`] decides as if this file did not exist.
//! What it does to bytes, counters and connections is exactly what would have been done there; a test
//! holds the two to each other. It never decides anything that needs a reason.
//!
//! A packet takes this way if all of this holds; what else a connection or a packet can have keeps
//! off it, and whoever adds such a thing adds a line to [`Decider::established`]:
//! - TCP with ACK and without SYN, FIN and RST, of a connection in ESTABLISHED; or UDP;
//! - whole, with a TTL to spare, not longer than the MTU, with nothing left to the hardware;
//! - the destination is in service and not about to leave; requests go by NAT, FULLNAT or direct
//!   routing, replies come by NAT or FULLNAT, whose server knows its client;
//! - the next hop is another host;
//! - nobody looks into what is said to the service's port ([`Helper`](crate::Helper)).

use crate::decide::Decider;
use crate::route::{Routes, Way};
use lvs_conn::protocol::TcpEvent;
use lvs_conn::{Conn, Direction, Event, Hit};
use lvs_core::state::tcp;
use lvs_core::{Addr, Family, ForwardMethod};
use lvs_packet::{Fragment, Frame, Kind, Packet, TcpFlags, swift, ttl};

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Sends a plain packet of an established connection on. Answers the next hop.
    #[inline(always)]
    pub(crate) fn established(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hit: &Hit<'g>,
    ) -> Option<u32> {
        let Hit { conn, direction } = *hit;
        let event = peaceful(packet, conn)?;
        // The place alone, without its generation, which lies in a cache line that is not needed
        // otherwise: places are not given to others while connections hold them (`trash.rs`).
        let destination = self.rules.destination(conn.dest_index())?;
        let counters = destination.counters.of(self.worker)?;
        let in_service = destination.backend.is_available();
        let leaving = destination.leaving.is_some();
        if !in_service || leaving || !is_plain(frame, packet) || self.may_be_helped(conn) {
            return None;
        }
        let method = conn.method();
        let hop = match direction {
            Direction::FromClient => {
                let server = conn.destination();
                let hop = self.plain_way(packet, server.addr)?;
                let sent = match method {
                    _ if is_loopback(packet) => false,
                    ForwardMethod::Masquerade => swift::send_to(frame, packet, server),
                    ForwardMethod::DirectRoute => {
                        ttl::decrement(frame, packet);
                        true
                    }
                    ForwardMethod::FullNat if !conn.tells() => match conn.local() {
                        Some(local) => swift::send_between(frame, packet, local, server),
                        None => false,
                    },
                    _ => false,
                };
                if !sent {
                    return None;
                }
                counters.packet_in(packet.ip_len());
                conn.count_in_packet();
                hop
            }
            Direction::FromServer => {
                let hop = self.plain_way(packet, conn.client().addr)?;
                let vip = conn.virtual_endpoint();
                let sent = match method {
                    ForwardMethod::Masquerade => swift::send_from(frame, packet, vip),
                    ForwardMethod::FullNat if !conn.tells() => {
                        swift::send_between(frame, packet, vip, conn.client())
                    }
                    _ => false,
                };
                if !sent {
                    return None;
                }
                counters.packet_out(packet.ip_len());
                hop
            }
        };
        // A reply of UDP proves something of the client; others need no more than a look.
        let proves = packet.kind == Kind::Udp && direction == Direction::FromServer;
        if proves || !conn.stay(direction, self.now, self.timeouts) {
            self.advance_by(event, packet.kind, conn, direction, Some(destination));
        }
        Some(hop)
    }

    /// The next hop to `to`, if the packet fits into its link.
    #[inline(always)]
    fn plain_way(&mut self, packet: &Packet, to: Addr) -> Option<u32> {
        match self.routes.way(to) {
            Way::Forward(route) if packet.ip_len() <= route.mtu => Some(route.hop),
            _ => None,
        }
    }
}

/// What a packet means to a connection that it leaves as it is.
#[inline(always)]
fn peaceful(packet: &Packet, conn: Conn<'_>) -> Option<Event> {
    /// Those of which the state machine makes something.
    const MOVING: TcpFlags =
        TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0);
    match packet.kind {
        Kind::Tcp => {
            let acknowledges = packet.tcp_flags.0 & MOVING.0 == TcpFlags::ACK.0;
            (acknowledges && conn.state() == tcp::ESTABLISHED).then_some(Event::Tcp(TcpEvent::Ack))
        }
        Kind::Udp => Some(Event::Udp),
        _ => None,
    }
}

/// Whether the source is a loopback address; what [`Addr::is_loopback`] says, with the family known.
#[inline(always)]
fn is_loopback(packet: &Packet) -> bool {
    let src = packet.flow.src.addr;
    match packet.family {
        Family::V4 => src.low_word() >> 24 == 127,
        Family::V6 => src.hi == 0 && src.is_loopback(),
    }
}

/// Whether the packet itself has nothing that forwarding would have to look at.
#[inline(always)]
fn is_plain(frame: &Frame<'_>, packet: &Packet) -> bool {
    packet.fragment == Fragment::None && packet.ttl > 1 && frame.offload.segmentation.is_none()
}

#[cfg(test)]
mod tests;
