//! The datagrams whose fragments a worker sees: what becomes of each, and the pieces it keeps.
//!
//! ```text
//!   a piece ──arrive──▶ its datagram ──┬─ the first has been decided: it follows at once
//!                                      ├─ the first has not come: hold
//!                                      └─ the datagram has to be whole: hold
//!   next ──▶ what has been held, and can go now
//! ```
//!
//! Only the first fragment of a datagram has ports. What comes in: fragments in any order. What goes
//! out: the fate of each, and those that were held once it is known. Pieces that overlap others end
//! their datagram, repeated ones are dropped, and nobody waits longer than in a kernel's reassembly.
//! Never: an allocation, more memory than was taken at the start, a datagram of another worker (who
//! spreads packets keeps the fragments of a datagram together; `PACKET_FANOUT_HASH` does).

mod ranges;
mod store;

use crate::verdict::Verdict;
use ahash::RandomState;
use lvs_core::{Addr, DropReason, Family, Flow, Tick};
use lvs_packet::fragment;
use lvs_packet::{Frame, Packet};
use ranges::{Inserted, Ranges};
use store::{Chain, Store};

pub(crate) use store::{SLOT, Slot};

const SETS: usize = 64;
/// Datagrams with the same hash that are remembered at once.
const WAYS: usize = 4;
/// How long a datagram is remembered: Linux's `ipfrag_time` and `ip6frag_time`.
const KEPT: (u32, u32) = (Tick::seconds(30), Tick::seconds(60));
/// How often what has waited too long is looked for.
const SWEEP: u32 = Tick::seconds(1);
/// Pieces of one datagram that are held at once: one of 64 KB in the smallest usual packets.
pub(crate) const HELD: usize = 128;

/// What all fragments of a datagram have in common (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Datagram {
    src: Addr,
    dst: Addr,
    identification: u32,
    /// IPv4's; 0 for IPv6, where it is no part of it.
    protocol: u8,
}

/// What becomes of a datagram's pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// The first piece has not come.
    Waiting,
    /// They go where its flow goes, each by itself.
    Following(Flow),
    /// They are kept until all are there, and decided as one.
    Gathering,
    /// They are the host's, as the first was.
    Left(Verdict),
    /// They go nowhere.
    Dropped(DropReason),
}

/// Which datagram of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

#[derive(Debug)]
struct Entry {
    datagram: Datagram,
    fate: Fate,
    at: Tick,
    /// The bytes that have come.
    ranges: Ranges,
    /// Length of the datagram's payload, once its last piece has come.
    total: Option<u32>,
    held: Chain,
    /// Whether something of it can be handed out; counted in [`Fragments::ready`].
    ready: bool,
}

impl Entry {
    fn is_whole(&self) -> bool {
        self.total.is_some_and(|total| self.ranges.are(0, total))
    }

    fn is_ready(&self) -> bool {
        match self.fate {
            _ if self.held.is_empty() => false,
            Fate::Waiting => false,
            Fate::Gathering => self.is_whole(),
            _ => true,
        }
    }

    const fn is_old(&self, now: Tick) -> bool {
        let kept = match self.datagram.src.family() {
            Family::V4 => KEPT.0,
            Family::V6 => KEPT.1,
        };
        now.since(self.at) > kept
    }
}

/// What [`Fragments::next`] hands out.
#[derive(Debug)]
pub(crate) enum Next {
    /// The piece of this length that has been taken has this fate.
    Piece(Fate, usize),
    /// All pieces of this datagram are there; to be forgotten when they have been copied.
    Whole(Place),
}

/// The datagrams of a worker.
#[derive(Debug)]
pub(crate) struct Fragments {
    entries: Box<[Option<Entry>]>,
    hasher: RandomState,
    store: Store,
    ready: usize,
    swept: Tick,
    /// Pieces that were held and given up since they were last counted.
    lost: u32,
}

impl Default for Fragments {
    fn default() -> Self {
        Self {
            entries: std::iter::repeat_with(|| None).take(SETS * WAYS).collect(),
            hasher: RandomState::new(),
            store: Store::default(),
            ready: 0,
            swept: Tick::default(),
            lost: 0,
        }
    }
}

impl Fragments {
    /// Takes note of a fragment: its datagram, and what is known of that.
    ///
    /// # Errors
    /// The fragment is not to be sent on, for this reason.
    pub(crate) fn arrive(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet,
        now: Tick,
    ) -> Result<(Place, Fate), DropReason> {
        let piece = fragment::piece(frame, packet).ok_or(DropReason::BadFragment)?;
        let datagram = Datagram {
            src: packet.flow.src.addr,
            dst: packet.flow.dst.addr,
            identification: piece.identification,
            protocol: match packet.family {
                Family::V4 => packet.protocol,
                Family::V6 => 0,
            },
        };
        let place = self.place(datagram, now).ok_or(DropReason::BadFragment)?;
        let entry = self.entry(place).ok_or(DropReason::BadFragment)?;
        if let Fate::Dropped(reason) = entry.fate {
            return Err(reason);
        }
        let end = piece.end();
        let beyond = match (entry.total, piece.more) {
            (Some(total), true) => end > total,
            (Some(total), false) => end != total,
            (None, true) => false,
            (None, false) => entry.ranges.reach() > end,
        };
        match entry.ranges.insert(u32::from(piece.offset), end) {
            _ if beyond => return Err(self.end(place, DropReason::FragmentOverlap)),
            Inserted::New => {}
            Inserted::Again => return Err(DropReason::FragmentOverlap),
            Inserted::Overlapping => return Err(self.end(place, DropReason::FragmentOverlap)),
            Inserted::TooMany => return Err(self.end(place, DropReason::FragmentFull)),
        }
        if !piece.more {
            entry.total = Some(end);
        }
        let fate = entry.fate;
        Ok((place, fate))
    }

    /// Says what becomes of a datagram's other pieces.
    pub(crate) fn decided(&mut self, place: Place, fate: Fate) {
        if let Some(entry) = self.entry(place) {
            entry.fate = fate;
        }
        self.settle(place);
    }

    /// Keeps a piece that has arrived until the fate of its datagram is known.
    ///
    /// # Errors
    /// [`DropReason::FragmentFull`]: there is no room, and the datagram will never be whole.
    pub(crate) fn hold(
        &mut self,
        place: Place,
        frame: &Frame<'_>,
        packet: &Packet,
    ) -> Result<(), DropReason> {
        const FULL: DropReason = DropReason::FragmentFull;
        if self.store.is_full() {
            self.make_room(place);
        }
        let Self { entries, store, .. } = self;
        let entry = entries.get_mut(place.0).and_then(Option::as_mut);
        let held = entry.is_some_and(|entry| {
            entry.held.len() < HELD && store.put(&mut entry.held, frame, packet)
        });
        if !held {
            return Err(self.end(place, FULL));
        }
        self.settle(place);
        Ok(())
    }

    /// A piece has gone on: nothing is remembered of a datagram that is complete.
    pub(crate) fn settle(&mut self, place: Place) {
        let Some(entry) = self.entry(place) else {
            return;
        };
        let ready = entry.is_ready();
        let was = core::mem::replace(&mut entry.ready, ready);
        let over = entry.held.is_empty()
            && entry.is_whole()
            && !matches!(entry.fate, Fate::Waiting | Fate::Gathering);
        self.ready = self.ready + usize::from(ready) - usize::from(was);
        if over {
            self.forget(place);
        }
    }

    /// Forgets a datagram and what is held of it.
    pub(crate) fn forget(&mut self, place: Place) {
        let Some(slot) = self.entries.get_mut(place.0) else {
            return;
        };
        if let Some(mut entry) = slot.take() {
            self.ready -= usize::from(entry.ready);
            self.store.free(&mut entry.held);
        }
    }

    /// Whether [`Fragments::next`] or [`Fragments::lost`] may have something.
    #[inline]
    pub(crate) fn has_news(&self, now: Tick) -> bool {
        self.ready > 0 || self.lost > 0 || (self.store.used() > 0 && now.since(self.swept) >= SWEEP)
    }

    /// How many pieces have been given up since the last call.
    pub(crate) const fn lost(&mut self) -> u32 {
        core::mem::replace(&mut self.lost, 0)
    }

    /// What can go by now. A single piece is copied by `take`, and its room is free.
    pub(crate) fn next(&mut self, now: Tick, take: impl FnOnce(&Slot)) -> Option<Next> {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
        if self.ready == 0 {
            return None;
        }
        let ready = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.ready);
        let place = Place(self.entries.iter().position(ready)?);
        let Self { entries, store, .. } = self;
        let entry = entries.get_mut(place.0).and_then(Option::as_mut)?;
        let fate = entry.fate;
        if fate == Fate::Gathering {
            return Some(Next::Whole(place));
        }
        let slot = store.pop(&mut entry.held)?;
        take(slot);
        let len = slot.bytes().len();
        self.settle(place);
        Some(Next::Piece(fate, len))
    }

    /// What is held of a datagram, by offset.
    pub(crate) fn held(&self, place: Place) -> impl Iterator<Item = &Slot> {
        let entry = self.entries.get(place.0).and_then(Option::as_ref);
        entry
            .into_iter()
            .flat_map(|entry| self.store.iter(&entry.held))
    }

    /// The place of a datagram: its own, or that of another that is forgotten.
    fn place(&mut self, datagram: Datagram, now: Tick) -> Option<Place> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let set = self.hasher.hash_one(datagram) as usize % SETS * WAYS;
        let ways = self.entries.get(set..set + WAYS)?;
        let own = ways.iter().position(|entry| {
            let own = |entry: &Entry| entry.datagram == datagram && !entry.is_old(now);
            entry.as_ref().is_some_and(own)
        });
        if let Some(way) = own {
            return Some(Place(set + way));
        }
        let age = |entry: &Option<Entry>| match entry {
            None => u32::MAX,
            Some(entry) => now.since(entry.at),
        };
        let (way, _) = ways.iter().enumerate().max_by_key(|(_, way)| age(way))?;
        let place = Place(set + way);
        self.give_up(place);
        let slot = self.entries.get_mut(place.0)?;
        *slot = Some(Entry {
            datagram,
            fate: Fate::Waiting,
            at: now,
            ranges: Ranges::default(),
            total: None,
            held: Chain::default(),
            ready: false,
        });
        Some(place)
    }

    fn entry(&mut self, place: Place) -> Option<&mut Entry> {
        self.entries.get_mut(place.0)?.as_mut()
    }

    /// Nothing more of this datagram goes on.
    fn end(&mut self, place: Place, reason: DropReason) -> DropReason {
        let Self { entries, store, .. } = self;
        if let Some(entry) = entries.get_mut(place.0).and_then(Option::as_mut) {
            entry.fate = Fate::Dropped(reason);
            self.lost = self.lost.wrapping_add(store.free(&mut entry.held));
        }
        self.settle(place);
        reason
    }

    /// Forgets a datagram whose pieces will not go on any more.
    fn give_up(&mut self, place: Place) {
        let held = self.entry(place).map_or(0, |entry| entry.held.len());
        self.lost = self.lost.wrapping_add(u32::try_from(held).unwrap_or(0));
        self.forget(place);
    }

    fn sweep(&mut self, now: Tick) {
        for number in 0..self.entries.len() {
            let place = Place(number);
            if self.entry(place).is_some_and(|entry| entry.is_old(now)) {
                self.give_up(place);
            }
        }
    }

    /// Gives up the oldest datagram that waits for pieces, but not that of `keep`.
    #[cold]
    fn make_room(&mut self, keep: Place) {
        let waiting = |(number, entry): (usize, &Option<Entry>)| {
            let entry = entry.as_ref()?;
            (!entry.held.is_empty() && number != keep.0).then_some((number, entry.at))
        };
        let waiting = self.entries.iter().enumerate().filter_map(waiting);
        // Ticks wrap; they are compared by their distance to the first.
        let base = self.swept;
        if let Some((number, _)) = waiting.min_by_key(|(_, at)| at.since(base)) {
            self.give_up(Place(number));
        }
    }
}

/// Whether a piece can be held at all: longer ones are of links with jumbo frames.
pub(crate) fn fits(frame: &Frame<'_>, packet: &Packet) -> bool {
    !packet.fragment.is_whole() && frame.len() <= SLOT
}
