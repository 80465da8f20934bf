//! The straight way for the packets that nearly all are: of an established connection, plain, and
//! going on.
//!
//! In: a packet and its connection. Out: the frame rewritten and its next hop, or nothing: then
//! nothing was changed or counted, and [`Decider::decide`] decides as if this file did not exist.
//! What it does to bytes, counters and connections is exactly what would have been done there; a test
//! holds the two to each other. It never decides anything that needs a reason.
//!
//! A packet takes this way if all of this holds; what else a connection or a packet can have keeps
//! off it, and whoever adds such a thing adds a line to `Decider::established`:
//! - TCP with ACK and without SYN, FIN and RST, of a connection in ESTABLISHED; or UDP;
//! - whole, with a TTL to spare, not longer than the MTU, with nothing left to the hardware;
//! - the destination is in service and not about to leave; requests go by NAT, FULLNAT or direct
//!   routing, replies come by NAT or FULLNAT, whose server knows its client;
//! - the next hop is another host;
//! - nobody looks into what is said to the service's port ([`Helper`](crate::Helper)).

use crate::decide::{Decider, assure};
use crate::route::{Routes, Way};
use crate::stats::Shard;
use lvs_conn::protocol::TcpEvent;
use lvs_conn::{Conn, Direction, Event, Hit, Ports};
use lvs_core::state::{tcp, udp};
use lvs_core::{Addr, Endpoint, ForwardMethod};
use lvs_packet::swift::{Headers, HeadersV4, HeadersV6};
use lvs_packet::{Frame, Kind, Plain, TcpFlags};

/// The flags of which the state machine makes something.
const MOVING: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0;

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Sends a plain frame of a connection on, if that is all there is to do. Answers the next hop.
    #[inline(always)]
    pub(crate) fn straight(
        &mut self,
        frame: &mut Frame<'_>,
        plain: Plain,
        hit: &Hit<'g>,
    ) -> Option<u32> {
        if frame.offload.segmentation.is_some() {
            return None;
        }
        // One that is left to the hardware follows the addresses only.
        let summed = frame.offload.checksum.is_none();
        match (plain, hit.direction) {
            (Plain::Tcp4, Direction::FromClient) => {
                self.request_on(HeadersV4::<true>::of(frame)?, summed, hit)
            }
            (Plain::Tcp4, Direction::FromServer) => {
                self.reply_on(HeadersV4::<true>::of(frame)?, summed, hit)
            }
            (Plain::Udp4, Direction::FromClient) => {
                self.request_on(HeadersV4::<false>::of(frame)?, summed, hit)
            }
            (Plain::Udp4, Direction::FromServer) => {
                self.reply_on(HeadersV4::<false>::of(frame)?, summed, hit)
            }
            (Plain::Tcp6, Direction::FromClient) => {
                self.request_on(HeadersV6::<true>::of(frame)?, summed, hit)
            }
            (Plain::Tcp6, Direction::FromServer) => {
                self.reply_on(HeadersV6::<true>::of(frame)?, summed, hit)
            }
            (Plain::Udp6, Direction::FromClient) => {
                self.request_on(HeadersV6::<false>::of(frame)?, summed, hit)
            }
            (Plain::Udp6, Direction::FromServer) => {
                self.reply_on(HeadersV6::<false>::of(frame)?, summed, hit)
            }
        }
    }

    /// From the client. `summed`: the checksum is whole.
    #[inline(always)]
    fn request_on<H: Headers>(
        &mut self,
        mut headers: H,
        summed: bool,
        hit: &Hit<'g>,
    ) -> Option<u32> {
        let conn = hit.conn;
        let settled = self.is_going_on(&headers, conn, Direction::FromClient)?;
        let counters = self.counters_in_service(conn)?;
        let length = headers.ip_len();
        let (server, ports) = (conn.server_addr(), conn.ports());
        let hop = self.plain_way(length, server)?;
        if headers.is_from_loopback() {
            return None;
        }
        let sent = if ports.is_by(ForwardMethod::Masquerade) {
            let server = Endpoint::new(server, ports.server());
            summed && !self.may_be_helped::<H>(ports) && headers.send_to(server)
        } else if ports.is_by(ForwardMethod::DirectRoute) {
            headers.pass();
            true
        } else if ports.is_by(ForwardMethod::FullNat) && summed && !conn.tells() {
            let server = Endpoint::new(server, ports.server());
            let local = conn.local()?;
            headers.send_between(local, server)
        } else {
            false
        };
        if !sent {
            return None;
        }
        counters.packet_in(length);
        conn.count_in_packet();
        match settled {
            true => conn.touch(self.now),
            false => self.unsettled(H::TCP, hit),
        }
        Some(hop)
    }

    /// The same from the server.
    #[inline(always)]
    fn reply_on<H: Headers>(&mut self, mut headers: H, summed: bool, hit: &Hit<'g>) -> Option<u32> {
        let conn = hit.conn;
        let settled = self.is_going_on(&headers, conn, Direction::FromServer)?;
        let counters = self.counters_in_service(conn)?;
        let length = headers.ip_len();
        let (client, ports) = (conn.client_addr(), conn.ports());
        let hop = self.plain_way(length, client)?;
        let vip = Endpoint::new(conn.virtual_addr(), ports.virtual_port());
        let sent = if ports.is_by(ForwardMethod::Masquerade) {
            summed && !self.may_be_helped::<H>(ports) && headers.send_from(vip)
        } else if ports.is_by(ForwardMethod::FullNat) && summed && !conn.tells() {
            headers.send_between(vip, Endpoint::new(client, ports.client()))
        } else {
            false
        };
        if !sent {
            return None;
        }
        counters.packet_out(length);
        match settled {
            true => conn.touch(self.now),
            false => self.unsettled(H::TCP, hit),
        }
        if !H::TCP {
            // It proves something of the client.
            assure(conn);
        }
        Some(hop)
    }

    /// Whether the packet leaves the connection in its state, which is one for this way, and may be
    /// forwarded; then, whether there is nothing to do to the connection but to touch it.
    #[inline(always)]
    fn is_going_on<H: Headers>(
        &self,
        headers: &H,
        conn: Conn<'g>,
        direction: Direction,
    ) -> Option<bool> {
        let state = if H::TCP {
            tcp::ESTABLISHED
        } else {
            udp::NORMAL
        };
        if headers.ttl() <= 1 || (H::TCP && headers.tcp_flags().0 & MOVING != TcpFlags::ACK.0) {
            return None;
        }
        let settled = conn.is_settled(direction, state, self.settled);
        (settled || conn.state() == state).then_some(settled)
    }

    /// Where packets of the connection are counted, if its destination is in service and stays.
    #[inline(always)]
    fn counters_in_service(&self, conn: Conn<'g>) -> Option<&'g Shard> {
        // The place alone, without its generation, which lies in a cache line that is not needed
        // otherwise: places are not given to others while connections hold them (`trash.rs`).
        let destination = self.rules.destination(conn.dest_index())?;
        let stays = destination.backend.is_available() && destination.leaving.is_none();
        destination.counters.of(self.worker).filter(|_| stays)
    }

    /// Whether a connection may have a helper, which its port tells.
    #[inline(always)]
    fn may_be_helped<H: Headers>(&self, ports: Ports) -> bool {
        H::TCP && self.rules.helpers.of(ports.virtual_port()).is_some()
    }

    /// A packet that leaves the state as it is has more to do: the timeouts have been set, or it is the
    /// first one that came by.
    #[cold]
    #[inline(never)]
    fn unsettled(&self, tcp: bool, hit: &Hit<'g>) {
        let Hit { conn, direction } = *hit;
        let (kind, event) = match tcp {
            true => (Kind::Tcp, Event::Tcp(TcpEvent::Ack)),
            false => (Kind::Udp, Event::Udp),
        };
        let destination = self.rules.destination(conn.dest_index());
        let destination = destination.map(|found| &**found);
        self.advance_by(event, kind, conn, direction, destination);
    }

    /// The next hop to `to`, if a packet of this length fits into its link.
    #[inline(always)]
    fn plain_way(&mut self, length: u32, to: Addr) -> Option<u32> {
        match self.routes.way(to) {
            Way::Forward(route) if length <= route.mtu => Some(route.hop),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
