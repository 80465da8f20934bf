//! AH and ESP (RFC 4302, RFC 4303): they have no ports, and go where ISAKMP of the same two hosts went
//! (IPVS 2.9).
//!
//! In: a packet of theirs, or an ICMP error that quotes one. Out: the verdict for one of the connection
//! between port 500 of the two hosts over UDP; whatever has no such connection is passed on. Nothing here
//! begins a connection or moves its state. FULLNAT cannot have it: its servers see another port.

use crate::decide::Decider;
use crate::route::{Routes, Way};
use crate::verdict::Verdict;
use lvs_conn::{Direction, Hit};
use lvs_core::{Endpoint, Flow, Protocol};
use lvs_packet::{Fragment, Frame, Packet};

/// The port of ISAKMP, at both ends (RFC 2408, 2.5.1).
const ISAKMP: u16 = 500;
/// Encapsulating security payload, as a protocol number.
const ESP: u8 = 50;
/// Authentication header, as a protocol number.
const AH: u8 = 51;

/// The flow of the connection that a packet without ports may belong to.
pub(crate) fn isakmp(protocol: u8, flow: &Flow) -> Option<Flow> {
    let at_port = |end: Endpoint| Endpoint::new(end.addr, ISAKMP);
    matches!(protocol, ESP | AH)
        .then(|| Flow::new(Protocol::Udp, at_port(flow.src), at_port(flow.dst)))
}

impl<R: Routes> Decider<'_, '_, R> {
    /// A packet of a protocol that IPVS knows nothing else of.
    #[cold]
    pub(crate) fn follow_isakmp(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        let Some(flow) = isakmp(packet.protocol, &packet.flow) else {
            return Verdict::Pass;
        };
        if packet.fragment == Fragment::Atomic {
            return self.piece(frame, packet, None);
        }
        match self.guard.lookup(&flow) {
            Some(Hit {
                conn,
                direction: Direction::FromClient,
            }) => self.request(frame, packet, conn),
            Some(Hit {
                conn,
                direction: Direction::FromServer,
            }) => self.reply(frame, packet, conn),
            None => self.follows_nothing(&flow),
        }
    }

    /// The host's, which has its own copy unless it was claimed with the packets of a service or a server.
    fn follows_nothing(&mut self, flow: &Flow) -> Verdict {
        let to_host = self.routes.way(flow.dst.addr) == Way::Local;
        let claimed = if self.rules.is_vip(flow.dst.addr) {
            to_host && self.rules.is_claimed(Protocol::Udp, flow.dst)
        } else {
            !to_host && self.rules.is_server(Protocol::Udp, flow.src)
        };
        if claimed {
            Verdict::ToHost
        } else {
            Verdict::Pass
        }
    }
}
