//! Options of the packets that the director takes from its host: it makes of them what the host would have
//! made, writes into IPv4's and refuses what is to be refused ([`lvs_packet::options`]).
//!
//! In: a packet with options. Out: its verdict; the host's own packets go back to it as they came. Never:
//! an answer to a packet that the host has a copy of, and answers itself.

use crate::decide::Decider;
use crate::route::{Routes, Way};
use crate::verdict::Verdict;
use lvs_conn::Hit;
use lvs_core::{DropReason, Family, Tick};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::options::{self, Recorded, Refused};
use lvs_packet::{Frame, Packet};
use std::ops::Range;

/// IPv4's options of a packet as they came.
struct Kept {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Kept {
    /// Bytes of IPv4's shortest header, and of the most options.
    const START: usize = 20;
    const MOST: usize = 40;

    fn of(frame: &Frame<'_>, packet: &Packet) -> Self {
        let mut kept = Self {
            bytes: [0; Self::MOST],
            len: 0,
        };
        let came = frame.bytes().get(Self::range(packet)).unwrap_or_default();
        if let Some(bytes) = kept.bytes.get_mut(..came.len()) {
            bytes.copy_from_slice(came);
            kept.len = came.len();
        }
        kept
    }

    fn restore(&self, frame: &mut Frame<'_>, packet: &Packet) {
        let came = self.bytes.get(..self.len).unwrap_or_default();
        let now = frame.bytes_mut().get_mut(Self::range(packet));
        if let Some(now) = now.filter(|now| now.len() == came.len()) {
            now.copy_from_slice(came);
            options::seal(frame, packet);
        }
    }

    fn range(packet: &Packet) -> Range<usize> {
        match packet.family {
            Family::V4 => usize::from(packet.l3) + Self::START..usize::from(packet.l4),
            // They are read only.
            Family::V6 => 0..0,
        }
    }
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Decides about a packet that may have options.
    #[cold]
    pub(crate) fn with_options(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hit: Option<Hit<'g>>,
    ) -> Verdict {
        let kept = Kept::of(frame, packet);
        let to = packet.flow.dst.addr;
        let for_host = self.routes.way(to) == Way::Local || self.rules.is_vip(to);
        let own = match for_host {
            true => Some(to),
            false => self.routes.arrival_address(packet.flow.src.addr),
        };
        let (own, time) = (own.unwrap_or(to), time(self.now));
        let routes = &mut self.routes;
        let is_own = |addr| routes.way(addr) == Way::Local;
        let verdict = match options::receive(frame, packet, own, time, is_own) {
            Ok(recorded) => {
                self.recorded = recorded;
                let verdict = self.decide(frame, packet, hit);
                self.recorded = Recorded::default();
                verdict
            }
            Err(refused) if self.is_taken(packet, hit.as_ref()) => {
                self.refuse_options(frame, packet, refused, for_host)
            }
            // The host has its own copy, and answers it.
            Err(_) => {
                kept.restore(frame, packet);
                lvs_packet::parse(frame).map_or_else(Verdict::Drop, |_| Verdict::Pass)
            }
        };
        if matches!(verdict, Verdict::Pass | Verdict::ToHost) {
            // The host writes into them itself.
            kept.restore(frame, packet);
        }
        verdict
    }

    fn refuse_options(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        refused: Refused,
        for_host: bool,
    ) -> Verdict {
        const REASON: DropReason = DropReason::BadIpOptions;
        match refused {
            Refused::Silently => Verdict::Drop(REASON),
            Refused::Problem { code, pointer } => {
                let problem = IcmpProblem::BadOption { code, pointer };
                match for_host {
                    true => self.problem(frame, packet, problem, Some(REASON)),
                    false => self.router_problem(frame, packet, problem, REASON),
                }
            }
        }
    }

    /// Whether a packet is kept from the host, which then cannot answer it.
    fn is_taken(&mut self, packet: &Packet, hit: Option<&Hit<'g>>) -> bool {
        let flow = packet.flow;
        let taken = packet.has_ports()
            && (hit.is_some_and(|hit| hit.conn.method().rewrites_replies())
                || self.rules.is_claimed(flow.protocol, flow.dst)
                || (self.rules.has_marks() && self.marked(packet).is_some())
                || self.rules.is_server(flow.protocol, flow.src));
        taken || (self.rules.is_vip(flow.dst.addr) && self.routes.way(flow.dst.addr) != Way::Local)
    }
}

/// A time for timestamp options that is not that of the day, of which the director knows nothing: that is
/// what the highest bit says (RFC 791, 3.1). Milliseconds.
const fn time(now: Tick) -> u32 {
    const NOT_OF_THE_DAY: u32 = 1 << 31;
    NOT_OF_THE_DAY | now.0.wrapping_mul(1000 / Tick::PER_SECOND)
}
