//! The decision for a fragment: it follows its datagram's first one, or waits.
//!
//! The kernel makes the datagram whole, decides once, and cuts it again. Here most fragments follow the
//! first one's connection as they come, which gives the same packets without holding any. Made whole is
//! what could not be right otherwise: the first datagram of a connection, what goes into a tunnel (which
//! is cut outside), what has to be measured whole or cut anew, a checksum over all of it, an ICMP error.

use crate::cut::Cut;
use crate::decide::Decider;
use crate::fragments::{self, Fate, Place};
use crate::released::limit_of;
use crate::route::{Routes, Way};
use crate::verdict::Verdict;
use lvs_conn::{Direction, Hit};
use lvs_core::{DropReason, Family, Flow, ForwardMethod};
use lvs_packet::{Fragment, Frame, Kind, Packet, fragment};

/// That of Ethernet (RFC 894), which fragments come by.
const USUAL_MTU: u32 = 1500;
/// Where the checksum stands in a UDP header.
const UDP_CHECKSUM: usize = 6;

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// A fragment of a protocol that connections have, or of ICMP.
    #[cold]
    pub(crate) fn piece(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hit: Option<Hit<'g>>,
    ) -> Verdict {
        if packet.fragment == Fragment::Atomic {
            return self.atomic(frame, packet);
        }
        let (place, fate) = match self.fragments.arrive(frame, packet, self.now) {
            Ok(arrived) => arrived,
            Err(reason) => return Verdict::Drop(reason),
        };
        let verdict = match fate {
            Fate::Waiting if packet.fragment == Fragment::First => {
                return self.first_piece(place, frame, packet, hit);
            }
            Fate::Waiting | Fate::Gathering => return self.hold(place, frame, packet),
            fate => self.follow(frame, packet, fate),
        };
        self.fragments.settle(place);
        verdict
    }

    /// A datagram in one piece: without its fragment header it is a packet like any other, but that a tunnel
    /// gives it another.
    fn atomic(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        let largest = packet.ip_len();
        let whole = frame
            .set_len(packet.end as usize)
            .and_then(|()| fragment::reunite(frame, packet, false))
            .and_then(|()| lvs_packet::parse(frame));
        let whole = match whole {
            Ok(whole) => whole,
            Err(reason) => return Verdict::Drop(reason),
        };
        let hit = self.guard.lookup(&whole.flow);
        self.largest_piece = Some(largest);
        let verdict = self.decide(frame, &whole, hit);
        self.largest_piece = None;
        match (verdict, lvs_packet::parse(frame)) {
            (Verdict::Forward(hop), Ok(sent))
                if sent.family == Family::V6 && sent.ip_len() > largest =>
            {
                let cut = Cut {
                    limit: limit_of(Family::V6, largest),
                    identification: self.identification.next_v6(),
                };
                Verdict::ForwardPieces { hop, cut }
            }
            (verdict, _) => verdict,
        }
    }

    /// A later fragment whose datagram's fate is known.
    pub(crate) fn follow(&mut self, frame: &mut Frame<'_>, packet: &Packet, fate: Fate) -> Verdict {
        let flow: Flow = match fate {
            Fate::Following(flow) => flow,
            Fate::Left(verdict) => return verdict,
            Fate::Dropped(reason) => return Verdict::Drop(reason),
            Fate::Waiting | Fate::Gathering => return Verdict::Held,
        };
        match self.guard.lookup(&flow) {
            None => Verdict::Drop(DropReason::FragmentUnknown),
            Some(Hit {
                conn,
                direction: Direction::FromServer,
            }) => self.reply(frame, packet, conn),
            Some(Hit { conn, .. }) => self.request(frame, packet, conn),
        }
    }

    fn hold(&mut self, place: Place, frame: &Frame<'_>, packet: &Packet) -> Verdict {
        match self.fragments.hold(place, frame, packet) {
            Ok(()) => Verdict::Held,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn first_piece(
        &mut self,
        place: Place,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hit: Option<Hit<'g>>,
    ) -> Verdict {
        let hit = self.known(packet, hit);
        if fragments::fits(frame, packet) && self.must_be_whole(frame, packet, hit.as_ref()) {
            self.fragments.decided(place, Fate::Gathering);
            return self.hold(place, frame, packet);
        }
        let verdict = match packet.kind {
            Kind::Tcp | Kind::Udp | Kind::Sctp => self.whole(frame, packet, hit),
            Kind::IcmpEchoRequest => self.stranger(frame, packet),
            _ => Verdict::Pass,
        };
        let fate = match verdict {
            Verdict::Forward(_) | Verdict::ForwardPieces { .. } => Fate::Following(packet.flow),
            Verdict::Pass | Verdict::ToHost => Fate::Left(verdict),
            Verdict::Drop(reason) | Verdict::Answer(Some(reason)) => Fate::Dropped(reason),
            Verdict::Answer(None) | Verdict::Held | Verdict::ForwardSegments { .. } => {
                Fate::Dropped(DropReason::FragmentUnknown)
            }
        };
        self.fragments.decided(place, fate);
        verdict
    }

    /// Whether the datagram of a first fragment can only be decided as one.
    fn must_be_whole(&mut self, frame: &Frame<'_>, packet: &Packet, hit: Option<&Hit<'g>>) -> bool {
        let Some(Hit { conn, direction }) = hit else {
            return match packet.kind {
                Kind::IcmpError => true,
                Kind::Tcp | Kind::Udp | Kind::Sctp => {
                    self.asked(packet, packet.flow).is_some() || self.may_be_refused(&packet.flow)
                }
                _ => false,
            };
        };
        let to = match direction {
            Direction::FromServer => conn.client().addr,
            Direction::FromClient => conn.destination().addr,
        };
        let translated = match conn.method() {
            ForwardMethod::Masquerade => true,
            ForwardMethod::DirectRoute => false,
            ForwardMethod::Tunnel | ForwardMethod::FullNat => {
                return *direction == Direction::FromClient || conn.method().rewrites_replies();
            }
            _ => return false,
        };
        // By a way that is narrower than usual, any of its pieces may be too long, and then all are
        // cut anew.
        let too_long = matches!(
            self.routes.way(to),
            Way::Forward(route) if packet.ip_len() > route.mtu || route.mtu < USUAL_MTU
        );
        let measured_whole = packet.family == Family::V4 && packet.dont_fragment;
        let summed_whole = match packet.kind {
            Kind::Udp => {
                let at = usize::from(packet.l4) + UDP_CHECKSUM;
                frame.bytes().get(at..at + 2) == Some(&[0, 0])
            }
            // A CRC cannot be kept true piece by piece.
            Kind::Sctp => conn.virtual_endpoint().port != conn.destination().port,
            _ => false,
        };
        too_long || measured_whole || (translated && summed_whole)
    }
}
