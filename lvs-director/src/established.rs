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
//! - the destination is in service and not about to leave; requests go by NAT, FULLNAT, direct
//!   routing or a tunnel (`established/through.rs`), replies come by NAT or FULLNAT, whose server
//!   knows its client;
//! - the next hop is another host;
//! - nobody looks into what is said to the service's port ([`Helper`](crate::Helper)).

mod through;

use crate::decide::{Decider, assure};
use crate::destination::Destination;
use crate::route::{Routes, Way};
use crate::verdict::Verdict;
use lvs_conn::protocol::TcpEvent;
use lvs_conn::{Conn, Direction, Event, Hit, Ports};
use lvs_core::state::{tcp, udp};
use lvs_core::{Addr, Endpoint, ForwardMethod};
use lvs_packet::swift::{Headers, HeadersV4, HeadersV6};
use lvs_packet::{Frame, Kind, Plain, TcpFlags};
use std::hint::cold_path;

/// The flags of which the state machine makes something.
const MOVING: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0;

/// Those that no packet has that simply goes on.
const ENDS: u8 = MOVING & !TcpFlags::ACK.0;

/// How far a packet was brought that leaves its connection as it is.
enum Sent<'g> {
    /// To this next hop.
    To(u32),
    /// It goes through a tunnel: nothing was done yet, but what was looked at allows it.
    Not {
        /// Where.
        destination: &'g Destination,
        /// Whether there is nothing to do to the connection but to touch it.
        settled: bool,
    },
}

const fn direction(reply: bool) -> Direction {
    if reply {
        Direction::FromServer
    } else {
        Direction::FromClient
    }
}

const fn sort(v4: bool, tcp: bool) -> Plain {
    match (v4, tcp) {
        (true, true) => Plain::Tcp4,
        (true, false) => Plain::Udp4,
        (false, true) => Plain::Tcp6,
        (false, false) => Plain::Udp6,
    }
}

/// Some frames of a batch, with what is known of each.
pub(crate) struct Rows<'r, 'f, 'g> {
    pub(crate) frames: &'r mut [Frame<'f>],
    pub(crate) verdicts: &'r mut [Verdict],
    pub(crate) plains: &'r [Option<Plain>],
    pub(crate) hits: &'r [Option<Hit<'g>>],
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Sends on what goes straight, from the first of these rows to one that does not or is of another
    /// sort. Answers how many went.
    #[inline]
    pub(crate) fn run(&mut self, rows: Rows<'_, '_, 'g>) -> usize {
        let (Some(frame), Some(Some(plain)), Some(Some(hit))) =
            (rows.frames.first(), rows.plains.first(), rows.hits.first())
        else {
            return 0;
        };
        // What opens and ends connections need not try.
        if plain.tcp_flags(frame).0 & ENDS != 0 {
            return 0;
        }
        // A loop for each sort, which is nearly always that of the next packet too.
        match (*plain, hit.direction) {
            (Plain::Tcp4, Direction::FromClient) => {
                self.run_of::<true, true, false>(rows, |one, frame, summed, hit| {
                    one.request_on(HeadersV4::<true>::of(frame)?, summed, hit)
                })
            }
            (Plain::Tcp4, Direction::FromServer) => self
                .run_of::<true, true, true>(rows, |one, frame, summed, hit| {
                    one.reply_on(HeadersV4::<true>::of(frame)?, summed, hit)
                }),
            (Plain::Udp4, Direction::FromClient) => {
                self.run_of::<true, false, false>(rows, |one, frame, summed, hit| {
                    one.request_on(HeadersV4::<false>::of(frame)?, summed, hit)
                })
            }
            (Plain::Udp4, Direction::FromServer) => self
                .run_of::<true, false, true>(rows, |one, frame, summed, hit| {
                    one.reply_on(HeadersV4::<false>::of(frame)?, summed, hit)
                }),
            (Plain::Tcp6, Direction::FromClient) => {
                self.run_of::<false, true, false>(rows, |one, frame, summed, hit| {
                    one.request_on(HeadersV6::<true>::of(frame)?, summed, hit)
                })
            }
            (Plain::Tcp6, Direction::FromServer) => self
                .run_of::<false, true, true>(rows, |one, frame, summed, hit| {
                    one.reply_on(HeadersV6::<true>::of(frame)?, summed, hit)
                }),
            (Plain::Udp6, Direction::FromClient) => {
                self.run_of::<false, false, false>(rows, |one, frame, summed, hit| {
                    one.request_on(HeadersV6::<false>::of(frame)?, summed, hit)
                })
            }
            (Plain::Udp6, Direction::FromServer) => self
                .run_of::<false, false, true>(rows, |one, frame, summed, hit| {
                    one.reply_on(HeadersV6::<false>::of(frame)?, summed, hit)
                }),
        }
    }

    // Apart from everything else, so that what a packet needs stays in registers.
    #[inline(never)]
    fn run_of<const V4: bool, const TCP: bool, const REPLY: bool>(
        &mut self,
        rows: Rows<'_, '_, 'g>,
        one: impl Fn(&mut Self, &mut Frame<'_>, bool, &Hit<'g>) -> Option<Sent<'g>>,
    ) -> usize {
        let count = rows.frames.len();
        let known = rows.plains.iter().zip(rows.hits);
        let rows = rows.frames.iter_mut().zip(rows.verdicts).zip(known);
        for (n, ((frame, verdict), (other, hit))) in rows.enumerate() {
            let from = hit.as_ref().map(|hit| hit.direction);
            if from != Some(direction(REPLY))
                || *other != Some(const { sort(V4, TCP) })
                || frame.offload.segmentation.is_some()
            {
                return n;
            }
            let Some(hit) = hit else {
                return n;
            };
            // What is left to the hardware follows the addresses only.
            let summed = frame.offload.checksum.is_none();
            let hop = match one(self, frame, summed, hit) {
                Some(Sent::To(hop)) => Some(hop),
                Some(Sent::Not {
                    destination,
                    settled,
                }) => self.through::<V4, TCP>(frame, hit, destination, settled),
                None => None,
            };
            let Some(hop) = hop else {
                return n;
            };
            *verdict = Verdict::Forward(hop);
        }
        count
    }

    /// From the client. `summed`: the checksum is whole.
    #[inline(always)]
    fn request_on<H: Headers>(
        &mut self,
        mut headers: H,
        summed: bool,
        hit: &Hit<'g>,
    ) -> Option<Sent<'g>> {
        let conn = hit.conn;
        let (server, ports) = (conn.server_addr(), conn.ports());
        if headers.is_from_loopback() {
            return None;
        }
        if ports.is_by(ForwardMethod::Masquerade) {
            if !self.is_translated_plainly(&headers, summed, ports) {
                return None;
            }
            let hop = self.pass_on::<H, false>(&headers, server, ports, hit)?;
            headers.send_to(Endpoint::new(server, ports.server()));
            return Some(Sent::To(hop));
        }
        // Of the methods what is most is laid out first.
        cold_path();
        if ports.is_by(ForwardMethod::DirectRoute) {
            let hop = self.pass_on::<H, false>(&headers, server, ports, hit)?;
            headers.pass();
            return Some(Sent::To(hop));
        }
        if ports.is_by(ForwardMethod::FullNat) {
            let local = conn.local()?;
            if !summed || conn.tells() || !headers.has_checksum() {
                return None;
            }
            let hop = self.pass_on::<H, false>(&headers, server, ports, hit)?;
            headers.send_between(local, Endpoint::new(server, ports.server()));
            return Some(Sent::To(hop));
        }
        if ports.is_by(ForwardMethod::Tunnel) {
            let settled = self.is_going_on::<H, false>(&headers, conn)?;
            let destination = self.in_service(conn)?;
            return Some(Sent::Not {
                destination,
                settled,
            });
        }
        None
    }

    /// The same from the server.
    #[inline(always)]
    fn reply_on<H: Headers>(
        &mut self,
        mut headers: H,
        summed: bool,
        hit: &Hit<'g>,
    ) -> Option<Sent<'g>> {
        let conn = hit.conn;
        let (client, ports) = (conn.client_addr(), conn.ports());
        let vip = Endpoint::new(conn.virtual_addr(), ports.virtual_port());
        if ports.is_by(ForwardMethod::Masquerade) {
            if !self.is_translated_plainly(&headers, summed, ports) {
                return None;
            }
            let hop = self.pass_on::<H, true>(&headers, client, ports, hit)?;
            headers.send_from(vip);
            return Some(Sent::To(hop));
        }
        cold_path();
        if ports.is_by(ForwardMethod::FullNat) {
            if !summed || conn.tells() || !headers.has_checksum() {
                return None;
            }
            let hop = self.pass_on::<H, true>(&headers, client, ports, hit)?;
            headers.send_between(vip, Endpoint::new(client, ports.client()));
            return Some(Sent::To(hop));
        }
        None
    }

    /// Does to counters and the connection what its packet does that goes on to `to`. Answers the next
    /// hop; nothing, and nothing was done, if that is not all there is to do. Before the packet is
    /// rewritten: what is looked at here need not be kept meanwhile.
    #[inline(always)]
    fn pass_on<H: Headers, const REPLY: bool>(
        &mut self,
        headers: &H,
        to: Addr,
        ports: Ports,
        hit: &Hit<'g>,
    ) -> Option<u32> {
        let conn = hit.conn;
        let settled = self.is_going_on::<H, REPLY>(headers, conn)?;
        let length = headers.ip_len();
        let hop = self.plain_way(length, to)?;
        let counters = self.in_service(conn)?.counters.of(self.worker)?;
        if REPLY {
            counters.packet_out(length);
        } else {
            counters.packet_in(length);
            conn.count_in_packet_of(ports);
        }
        match settled {
            true => conn.touch(self.now),
            false => self.unsettled(H::TCP, hit),
        }
        if REPLY && !H::TCP {
            // It proves something of the client.
            assure(conn);
        }
        Some(hop)
    }

    /// Whether the packet may be forwarded and leaves the connection in its state, which is one for this
    /// way; then, whether there is nothing to do to the connection but to touch it.
    #[inline(always)]
    fn is_going_on<H: Headers, const REPLY: bool>(
        &self,
        headers: &H,
        conn: Conn<'g>,
    ) -> Option<bool> {
        let state = if H::TCP {
            tcp::ESTABLISHED
        } else {
            udp::NORMAL
        };
        if headers.ttl() <= 1 || (H::TCP && headers.tcp_flags().0 & MOVING != TcpFlags::ACK.0) {
            return None;
        }
        let settled = conn.is_settled(direction(REPLY), state, self.settled);
        (settled || conn.state() == state).then_some(settled)
    }

    /// The destination of the connection, if it is in service and stays.
    #[inline(always)]
    fn in_service(&self, conn: Conn<'g>) -> Option<&'g Destination> {
        // The place alone, without its generation, which lies in a cache line that is not needed
        // otherwise: places are not given to others while connections hold them (`trash.rs`).
        let destination = match self.near.get(conn.near_dest()) {
            Some(found) => found?,
            None => {
                cold_path();
                self.rules.destination(conn.dest_index())?
            }
        };
        if destination.leaving.is_some() || !destination.backend.is_available() {
            return None;
        }
        Some(destination)
    }

    /// Whether a packet of a connection by NAT is translated, and no more.
    #[inline(always)]
    fn is_translated_plainly<H: Headers>(&self, headers: &H, summed: bool, ports: Ports) -> bool {
        summed && headers.has_checksum() && !self.may_be_helped::<H>(ports)
    }

    /// Whether a connection may have a helper, which its port tells.
    #[inline(always)]
    fn may_be_helped<H: Headers>(&self, ports: Ports) -> bool {
        let port = ports.virtual_port();
        H::TCP && self.helped.may_have(port) && self.is_helped(port)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn is_helped(&self, port: u16) -> bool {
        self.rules.helpers.of(port).is_some()
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
