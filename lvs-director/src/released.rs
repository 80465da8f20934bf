//! What a batch has set free: fragments that waited for others of their datagram.
//!
//! In: the pieces that a worker holds. Out: one frame at a time with its verdict, as from a batch. A
//! datagram that had to be whole is put together, decided like any packet, and leaves as the kernel's
//! would: in the pieces in which it came, or cut anew where these do not fit (IPVS 3.7).

use crate::decide::Decider;
use crate::fragments::{Fate, Fragments, HELD, Next, Place, SLOT};
use crate::route::Routes;
use crate::rules::Rules;
use crate::verdict::Verdict;
use crate::worker::{Worker, decider};
use lvs_core::{DropReason, Family, Tick};
use lvs_packet::fragment;
use lvs_packet::{Frame, Offload, Packet, parse};

/// Room before a frame for an ICMP error's or a tunnel's headers.
const HEADROOM: usize = 128;
/// A datagram of 64 KB with its link-layer header.
const WHOLE: usize = HEADROOM + (65 << 10);
/// One piece, with what a tunnel adds.
const OUT: usize = HEADROOM + 2 * SLOT;
/// What is seen of ECN (RFC 3168), a bit for each of its values.
const NOT_ECT: u8 = 1;
const CE: u8 = 1 << 3;

/// The buffers of a worker in which datagrams become whole and are cut again.
#[derive(Debug)]
pub(crate) struct Released {
    whole: Box<[u8]>,
    out: Box<[u8]>,
    leaving: Option<Leaving>,
}

impl Default for Released {
    fn default() -> Self {
        Self {
            whole: vec![0; WHOLE].into_boxed_slice(),
            out: vec![0; OUT].into_boxed_slice(),
            leaving: None,
        }
    }
}

/// In which buffer a frame that is handed out stands: where it starts, and how long it is.
#[derive(Debug, Clone, Copy)]
enum Where {
    Whole(usize, usize),
    Out(usize, usize),
}

/// A datagram in [`Released::whole`].
#[derive(Debug)]
struct Whole {
    start: usize,
    len: usize,
    family: Family,
    /// Length of its longest piece as a packet.
    largest: u32,
    /// Where the headers ended that each piece repeated, from the start of the frame.
    head: usize,
    sizes: Sizes,
}

/// A packet in [`Released::whole`] that leaves piece by piece.
#[derive(Debug)]
struct Leaving {
    verdict: Verdict,
    packet: Packet,
    start: usize,
    len: usize,
    limit: u32,
    identification: u32,
    /// Payload bytes that have left.
    given: usize,
    sizes: Sizes,
    /// Which of the sizes is next.
    next: usize,
}

/// The payload lengths of a datagram's pieces, by offset; none: as long as may be.
#[derive(Debug)]
struct Sizes {
    sizes: [u16; HELD],
    len: usize,
}

impl Sizes {
    const NONE: Self = Self {
        sizes: [0; HELD],
        len: 0,
    };

    fn push(&mut self, size: u16) {
        if let Some(to) = self.sizes.get_mut(self.len) {
            *to = size;
            self.len += 1;
        }
    }

    fn get(&self, at: usize) -> Option<usize> {
        let sizes = self.sizes.get(..self.len)?;
        sizes.get(at).copied().map(usize::from)
    }

    /// The first one takes what headers have been added; nothing is left if the pieces cannot leave as
    /// they came, each at most `most` bytes.
    fn fitted(mut self, payload: usize, most: usize) -> Self {
        let sizes = self.sizes.get_mut(..self.len).unwrap_or_default();
        let sum: usize = sizes.iter().copied().map(usize::from).sum();
        let Some((first, others)) = sizes.split_first_mut() else {
            return Self::NONE;
        };
        let grown = (usize::from(*first) + payload).checked_sub(sum);
        let Some(grown) = grown.and_then(|grown| u16::try_from(grown).ok()) else {
            return Self::NONE;
        };
        *first = grown;
        let fits = |size: &u16| usize::from(*size) <= most;
        if !fits(first) || !others.iter().all(fits) || !first.is_multiple_of(8) {
            return Self::NONE;
        }
        self
    }
}

impl Worker {
    /// The next of the frames that batches have set free, with its verdict: a fragment that had to wait
    /// for others of its datagram ([`Verdict::Held`]), or a reset for the other side of a connection that
    /// a packet has found to be over. To be called after each batch until there is none,
    /// and now and then where no batches come.
    pub fn next_released<R: Routes>(
        &mut self,
        now: Tick,
        routes: &mut R,
    ) -> Option<(Frame<'_>, Verdict)> {
        if !self.resets.is_empty() {
            return self.resets.next();
        }
        if self.released.leaving.is_none() && !self.fragments.has_news(now) {
            return None;
        }
        let (found, verdict) = self.release(now, routes)?;
        let Released { whole, out, .. } = &mut self.released;
        let (buffer, start, len) = match found {
            Where::Whole(start, len) => (whole, start, len),
            Where::Out(start, len) => (out, start, len),
        };
        Some((Frame::new(buffer, start, len, Offload::default()), verdict))
    }

    #[cold]
    fn release<R: Routes>(&mut self, now: Tick, routes: &mut R) -> Option<(Where, Verdict)> {
        let Self {
            director,
            number,
            rules,
            handle,
            limit,
            fragments,
            identification,
            cursor,
            resets,
            released,
            ..
        } = self;
        let drops = director.drops.get(*number)?;
        let rules: &Rules = rules.load();
        let guard = handle.pin();
        loop {
            match released.next_piece() {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {}
                Err(reason) => drops.count(reason),
            }
            let next = fragments.next(now, |slot| released.take(slot.bytes()));
            for _ in 0..fragments.lost() {
                drops.count(DropReason::FragmentLost);
            }
            let whole = match next? {
                Next::Piece(fate, len) => Err((fate, len)),
                Next::Whole(place) => {
                    let whole = released.assemble(fragments, place);
                    fragments.forget(place);
                    Ok(whole)
                }
            };
            let decider = decider(
                (director, *number, rules, &guard),
                (now, routes),
                (limit, fragments, identification, cursor, resets),
            );
            let found = match whole {
                Ok(Ok(whole)) => released.decide(decider, whole),
                Ok(Err(reason)) => (Where::Out(0, 0), Verdict::Drop(reason)),
                Err((fate, len)) => released.follow(decider, fate, len),
            };
            match found.1 {
                Verdict::Drop(reason) => drops.count(reason),
                Verdict::Pass | Verdict::Held => {}
                Verdict::Answer(Some(reason)) => {
                    drops.count(reason);
                    return Some(found);
                }
                _ => return Some(found),
            }
        }
    }
}

/// How long the pieces of a datagram may be whose longest one had this length: in IPv6 never shorter than
/// the least MTU.
pub(crate) const fn limit_of(family: Family, largest: u32) -> u32 {
    /// RFC 8200, 5.
    const LEAST: u32 = 1280;
    match family {
        Family::V6 if largest < LEAST => LEAST,
        _ => largest,
    }
}

impl Released {
    /// Copies a piece that can go.
    fn take(&mut self, bytes: &[u8]) {
        if let Some(to) = self.out.get_mut(HEADROOM..HEADROOM + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    /// Decides about a piece that follows its first one.
    fn follow<R: Routes>(
        &mut self,
        mut decider: Decider<'_, '_, R>,
        fate: Fate,
        len: usize,
    ) -> (Where, Verdict) {
        let mut frame = Frame::new(&mut self.out, HEADROOM, len, Offload::default());
        let verdict = match parse(&frame) {
            Ok(packet) => decider.follow(&mut frame, &packet, fate),
            Err(reason) => Verdict::Drop(reason),
        };
        (Where::Out(frame.headroom(), frame.len()), verdict)
    }

    /// Puts the pieces of a datagram together.
    fn assemble(&mut self, fragments: &Fragments, place: Place) -> Result<Whole, DropReason> {
        const BAD: DropReason = DropReason::BadFragment;
        let mut end = HEADROOM;
        let mut first = None;
        let mut largest = 0;
        let mut sizes = Sizes::NONE;
        let mut seen = 0;
        for slot in fragments.held(place) {
            let from = match first {
                None => 0,
                Some(_) => usize::from(slot.piece.start),
            };
            let bytes = slot.bytes().get(from..).ok_or(BAD)?;
            let to = self.whole.get_mut(end..end + bytes.len()).ok_or(BAD)?;
            to.copy_from_slice(bytes);
            end += bytes.len();
            first.get_or_insert((slot.packet, slot.piece.unfragmentable));
            largest = largest.max(slot.packet.ip_len());
            sizes.push(slot.piece.len);
            seen |= 1 << (slot.packet.tos & 3);
        }
        // A sender that knows ECN says so in all pieces (RFC 3168, 5.3).
        if seen & NOT_ECT != 0 && seen != NOT_ECT {
            return Err(BAD);
        }
        let len = end - HEADROOM;
        let mut frame = Frame::new(&mut self.whole, HEADROOM, len, Offload::default());
        let (first, head) = first.ok_or(BAD)?;
        fragment::reunite(&mut frame, &first, seen & CE != 0)?;
        Ok(Whole {
            start: frame.headroom(),
            len: frame.len(),
            family: first.family,
            largest,
            head: usize::from(head),
            sizes,
        })
    }

    /// Decides about a datagram that is whole, and makes it ready to leave.
    fn decide<R: Routes>(
        &mut self,
        mut decider: Decider<'_, '_, R>,
        whole: Whole,
    ) -> (Where, Verdict) {
        let buffer = &mut self.whole;
        let mut frame = Frame::new(buffer, whole.start, whole.len, Offload::default());
        decider.largest_piece = Some(whole.largest);
        let verdict = match parse(&frame) {
            Ok(packet) => {
                let hit = decider.guard.lookup(&packet.flow);
                decider.decide(&mut frame, &packet, hit)
            }
            Err(reason) => Verdict::Drop(reason),
        };
        let found = Where::Whole(frame.headroom(), frame.len());
        let packet = match parse(&frame) {
            Ok(packet) => packet,
            Err(reason) => return (found, Verdict::Drop(reason)),
        };
        // Behind a header of the other family the kernel knows nothing of the pieces' lengths.
        let largest = match packet.family == whole.family {
            true => limit_of(packet.family, whole.largest),
            false if matches!(verdict, Verdict::Forward(_)) => return (found, verdict),
            false => u32::MAX,
        };
        let (verdict, limit) = match verdict {
            Verdict::Forward(_) | Verdict::ToHost => (verdict, largest),
            Verdict::ForwardPieces { hop, cut } => (Verdict::Forward(hop), largest.min(cut.limit)),
            _ => return (found, verdict),
        };
        let identification = decider.identification.next_v6();
        let sizes = match fragment::cut(&frame, &packet, limit, identification) {
            // A router would put the fragment header elsewhere than the sender did; and pieces of IPv4 have
            // no room for the longer headers of IPv6.
            Ok(pieces) if frame.len() == whole.len && pieces.head_len() != whole.head => {
                Sizes::NONE
            }
            Ok(_) if packet.family == Family::V6 && whole.family == Family::V4 => Sizes::NONE,
            Ok(pieces) => whole.sizes.fitted(pieces.left(), pieces.most()),
            Err(reason) => return (found, Verdict::Drop(reason)),
        };
        self.leaving = Some(Leaving {
            verdict,
            packet,
            start: frame.headroom(),
            len: frame.len(),
            limit,
            identification,
            given: 0,
            sizes,
            next: 0,
        });
        // Piece by piece from here on.
        (found, Verdict::Held)
    }

    /// The next piece of the packet that is leaving.
    fn next_piece(&mut self) -> Result<Option<(Where, Verdict)>, DropReason> {
        let Some(mut leaving) = self.leaving.take() else {
            return Ok(None);
        };
        let Leaving { start, len, .. } = leaving;
        let frame = Frame::new(&mut self.whole, start, len, Offload::default());
        let (limit, identification) = (leaving.limit, leaving.identification);
        let pieces = fragment::cut(&frame, &leaving.packet, limit, identification)?;
        let mut pieces = pieces.behind(leaving.given);
        if leaving.sizes.len == 0 {
            // Only those that leave as they came lose it.
            pieces = pieces.keep_dont_fragment();
        }
        let before = pieces.left();
        let piece = match leaving.sizes.get(leaving.next) {
            Some(size) => pieces.next_of(size, &mut self.out, HEADROOM)?,
            None => pieces.next_into(&mut self.out, HEADROOM)?,
        };
        let Some(piece) = piece else {
            return Ok(None);
        };
        let found = Where::Out(piece.headroom(), piece.len());
        leaving.given += before - pieces.left();
        leaving.next += 1;
        let verdict = leaving.verdict;
        self.leaving = Some(leaving);
        Ok(Some((found, verdict)))
    }
}
