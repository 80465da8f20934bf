//! What becomes of the connections of a destination that leaves: the operator's choice, found out on
//! each connection's next packet.
//!
//! In: a packet of a connection, and its destination. Out: whether it goes on as IPVS has it, is
//! reset, or is scheduled again. Never a search, and never a packet lost that could still be served.

use crate::decide::{Decider, begins};
use crate::destination::Destination;
use crate::resets::{Position, Reset};
use crate::route::{Routes, Way};
use crate::tunnelled::Outer;
use crate::verdict::Verdict;
use lvs_conn::{Conn, Direction};
use lvs_core::{DropReason, ForwardMethod, OnRemoval, Tick};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::{Fragment, Frame, Kind, Packet, TcpFlags, tunnel};

/// A destination on its way out, whose operator wants something else than IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) policy: OnRemoval,
    pub(crate) since: Tick,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// What IPVS does.
    Kernel,
    /// It goes on, whether the destination was removed or not.
    Served,
    Reset,
    Rescheduled,
}

impl Leaving {
    /// What becomes of a packet of a connection to the destination.
    pub(crate) fn fate(self, packet: &Packet, now: Tick) -> Fate {
        match self.policy {
            OnRemoval::Drain => Fate::Kernel,
            OnRemoval::DrainFor(seconds) => {
                let end = self.since + Tick::seconds(seconds);
                match now.is_after(end) || now == end {
                    false => Fate::Served,
                    true => Fate::Reset,
                }
            }
            OnRemoval::Reset => Fate::Reset,
            OnRemoval::Reschedule => match packet.kind {
                Kind::Udp => Fate::Rescheduled,
                _ if begins(packet) => Fate::Rescheduled,
                _ => Fate::Reset,
            },
        }
    }
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// A request of a connection whose destination is leaving; `None`: what IPVS does.
    #[cold]
    pub(crate) fn request_of_leaving(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        destination: &Destination,
        leaving: Leaving,
    ) -> Option<Verdict> {
        match leaving.fate(packet, self.now) {
            Fate::Kernel => None,
            Fate::Served => Some(self.forward_request(frame, packet, conn, destination)),
            Fate::Rescheduled => {
                conn.unlink(self.now);
                Some(self.begin(frame, packet))
            }
            Fate::Reset => {
                Some(self.reset(frame, packet, conn, Direction::FromClient, destination))
            }
        }
    }

    /// A reply of such a connection; `None`: it goes on.
    #[cold]
    pub(crate) fn reply_of_leaving(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        destination: &Destination,
        leaving: Leaving,
    ) -> Option<Verdict> {
        // UDP that was rescheduled has no connection here any more; what still comes, the client
        // asked for.
        match leaving.fate(packet, self.now) {
            Fate::Kernel | Fate::Served | Fate::Rescheduled => None,
            Fate::Reset => {
                Some(self.reset(frame, packet, conn, Direction::FromServer, destination))
            }
        }
    }

    /// Answers a packet with the end of its connection; the other side of a TCP connection is told too.
    fn reset(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        direction: Direction,
        destination: &Destination,
    ) -> Verdict {
        const REASON: DropReason = DropReason::DestinationLeft;
        let ended = Packet {
            tcp_flags: TcpFlags::RST,
            ..*packet
        };
        self.advance(&ended, conn, direction, Some(destination));
        if packet.kind != Kind::Tcp || packet.fragment == Fragment::Later {
            return self.problem(frame, packet, IcmpProblem::PortUnreachable, Some(REASON));
        }
        if packet.tcp_flags.contains(TcpFlags::RST) {
            return Verdict::Drop(REASON);
        }
        let at = Position::of(frame, packet);
        match answer::tcp_reset(frame, packet) {
            Ok(()) => {
                if let Some(at) = at {
                    self.reset_other_side(packet, conn, direction, destination, at);
                }
                Verdict::Answer(Some(REASON))
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Lets a RST go where the packet would have gone.
    fn reset_other_side(
        &mut self,
        packet: &Packet,
        conn: Conn<'g>,
        direction: Direction,
        destination: &Destination,
        at: Position,
    ) {
        let method = conn.method();
        let (from, to, through) = match (direction, method, conn.local()) {
            (Direction::FromServer, ..) => {
                let client = conn.client();
                (conn.virtual_endpoint(), client, client.addr)
            }
            (_, ForwardMethod::Masquerade, _) => {
                let server = conn.destination();
                (conn.client(), server, server.addr)
            }
            (_, ForwardMethod::FullNat, Some(local)) => {
                let server = conn.destination();
                (local, server, server.addr)
            }
            (_, ForwardMethod::DirectRoute | ForwardMethod::Tunnel, _) => {
                let server = conn.destination().addr;
                (conn.client(), conn.virtual_endpoint(), server)
            }
            _ => return,
        };
        let Way::Forward(route) = self.routes.way(through) else {
            return;
        };
        let outer = (method == ForwardMethod::Tunnel).then(|| Outer {
            kind: destination.spec.tunnel,
            source: route.source,
            destination: through,
            options: tunnel::Options {
                ident: self.identification.next(),
                copy_df: true,
                source_port: tunnel::gue_source_port(&packet.flow, self.identification.key()),
            },
        });
        self.resets.push(Reset {
            hop: route.hop,
            from,
            to,
            at,
            outer,
        });
    }
}
