//! When to look at which connection: a timing wheel of four levels of 256 slots.
//!
//! The slots of the lowest level are a tick wide, each further level's 256 times as wide, which
//! covers all of [`Tick`]. An entry is linked into the slot of the moment at which it is due; when
//! the wheel reaches a slot of a higher level, its entries move down, one for each unit of the
//! caller's budget, like everything else. Only the collector touches the wheel, so its links need
//! no more than to be atomics at all.
//!
//! A slot is several lists side by side, emptied in turns: while one's first entry is looked at, the
//! next ones of the others are on their way from memory.
//!
//! What waits for others of the same moment is held: it comes once more when the slot is empty, before
//! the wheel moves on.

use crate::entry::{Entry, NIL};
use crate::raw::prefetch;
use crate::sync::Ordering::Relaxed;
use lvs_core::Tick;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
const BITS: u32 = 8;
/// Lists of a slot.
const LANES: usize = 8;
/// Set in `previous` if it names a list of the wheel instead of an entry.
const HEAD: u32 = 1 << 31;
/// The slot of what is held, behind those of all levels.
const HELD: usize = LEVELS * SLOTS;

#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[[u32; LANES]]>,
    /// A bit for each slot that may have entries.
    filled: [[u64; SLOTS / 64]; LEVELS],
    /// All slots before this moment are empty.
    now: Tick,
    started: bool,
    /// The level whose present slot is moving down; 0 if none is.
    falling: usize,
    /// Counts lists through.
    turn: usize,
    /// Whether something may be held.
    holds: bool,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            heads: vec![[NIL; LANES]; HELD + 1].into_boxed_slice(),
            filled: [[0; SLOTS / 64]; LEVELS],
            now: Tick(0),
            started: false,
            falling: 0,
            turn: 0,
            holds: false,
        }
    }
}

impl Wheel {
    /// The moment that the wheel goes by when the clock says `now`: time never goes backwards
    /// here, an earlier `now` finds what was left over.
    pub(crate) fn clock(&mut self, now: Tick) -> Tick {
        if !self.started {
            self.started = true;
            self.now = now;
        }
        if self.now.is_after(now) {
            self.now
        } else {
            now
        }
    }

    /// Links an entry that is not linked into the slot of its deadline; what is due already is due
    /// now.
    pub(crate) fn add(&mut self, entries: &[Entry], index: u32, due: Tick) {
        let Some(entry) = entries.get(index as usize) else {
            return;
        };
        entry.due.store(due.0, Relaxed);
        let due = if due.is_after(self.now) {
            due
        } else {
            self.now
        };
        let level = self.level(due);
        self.link(entries, index, level * SLOTS + Self::slot(due, level));
    }

    /// Keeps an entry that is not linked until nothing else is due at this moment.
    pub(crate) fn hold(&mut self, entries: &[Entry], index: u32) {
        self.holds = true;
        self.link(entries, index, HELD);
    }

    fn link(&mut self, entries: &[Entry], index: u32, slot: usize) {
        let Some(entry) = entries.get(index as usize) else {
            return;
        };
        self.turn = self.turn.wrapping_add(1);
        let lane = self.turn % LANES;
        let Some(head) = self.heads.get_mut(slot).and_then(|l| l.get_mut(lane)) else {
            return;
        };
        let first = core::mem::replace(head, index);
        entry.next.store(first, Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "below 8200")]
        entry
            .previous
            .store(HEAD | (slot * LANES + lane) as u32, Relaxed);
        if let Some(first) = entries.get(first as usize) {
            first.previous.store(index, Relaxed);
        }
        self.mark(slot, true);
    }

    /// Links an entry that is not linked so that it is due now.
    pub(crate) fn add_now(&mut self, entries: &[Entry], index: u32) {
        self.add(entries, index, self.now);
    }

    /// Whether an entry is linked.
    pub(crate) fn has(entry: &Entry) -> bool {
        entry.previous.load(Relaxed) != NIL
    }

    /// Unlinks an entry that is linked.
    pub(crate) fn remove(&mut self, entries: &[Entry], index: u32) {
        let Some(entry) = entries.get(index as usize) else {
            return;
        };
        let next = entry.next.load(Relaxed);
        let previous = entry.previous.load(Relaxed);
        entry.previous.store(NIL, Relaxed);
        if let Some(next) = entries.get(next as usize) {
            // It is likely to be the next to be looked at, and the store fetches its other line.
            prefetch(next);
            next.previous.store(previous, Relaxed);
        }
        if previous & HEAD == 0 {
            if let Some(previous) = entries.get(previous as usize) {
                previous.next.store(next, Relaxed);
            }
            return;
        }
        let list = (previous & !HEAD) as usize;
        let lists = self.heads.get_mut(list / LANES);
        if let Some(head) = lists.and_then(|lists| lists.get_mut(list % LANES)) {
            *head = next;
        }
    }

    /// An entry whose slot is reached by `now`, unlinked; `None` if there are no more, or if the
    /// budget is used up. Each entry that is given or moved takes one from the budget. `moves`: those
    /// given before have been dealt with, so that the wheel may go to later moments.
    pub(crate) fn due(
        &mut self,
        entries: &[Entry],
        now: Tick,
        budget: &mut usize,
        moves: bool,
    ) -> Option<u32> {
        while *budget > 0 {
            if self.falling > 0 {
                self.fall(entries, budget);
            } else if let Some(first) = self.pop(entries, Self::slot(self.now, 0)) {
                *budget -= 1;
                return Some(first);
            } else if moves && !self.holds && now.is_after(self.now) {
                self.step(now);
            } else {
                return None;
            }
        }
        None
    }

    /// Whether the wheel stands still for entries that are held.
    pub(crate) const fn holds(&self) -> bool {
        self.holds
    }

    /// An entry that was held, unlinked. To be asked when nothing else is due, and what was has been
    /// dealt with.
    pub(crate) fn held(&mut self, entries: &[Entry]) -> Option<u32> {
        let held = self.pop(entries, HELD);
        self.holds = held.is_some();
        held
    }

    /// The moment that the wheel has come to.
    pub(crate) const fn moment(&self) -> Tick {
        self.now
    }

    /// Unlinks an entry of a slot.
    fn pop(&mut self, entries: &[Entry], slot: usize) -> Option<u32> {
        let lists = self.heads.get(slot)?;
        let first = (1..=LANES).find_map(|lane| {
            let lane = (self.turn + lane) % LANES;
            let first = lists.get(lane).copied().filter(|first| *first != NIL)?;
            Some((lane, first))
        });
        let Some((lane, first)) = first else {
            self.mark(slot, false);
            return None;
        };
        self.turn = lane;
        self.remove(entries, first);
        Some(first)
    }

    /// Moves an entry of the level that falls down to where it is now due.
    fn fall(&mut self, entries: &[Entry], budget: &mut usize) {
        let level = self.falling;
        let slot = Self::slot(self.now, level);
        if let Some(index) = self.pop(entries, level * SLOTS + slot) {
            *budget -= 1;
            if let Some(entry) = entries.get(index as usize) {
                let turn = self.turn;
                self.add(entries, index, Tick(entry.due.load(Relaxed)));
                self.turn = turn;
            }
        } else {
            // The next level falls with this one's first slot.
            let more = slot == 0 && level + 1 < LEVELS;
            self.falling = if more { level + 1 } else { 0 };
        }
    }

    /// Moves on to the next moment at which something may be due, but not beyond `now`. The present
    /// slot is empty.
    fn step(&mut self, now: Tick) {
        // To the next filled slot of this turn of the lowest level, or to its end.
        let slot = Self::slot(self.now, 0);
        #[expect(clippy::cast_possible_truncation, reason = "at most 256")]
        let mut skip = match self.next_filled(0, slot + 1) {
            Some(next) => (next - slot) as u32,
            None => self.turns_to_skip((SLOTS - slot) as u32),
        };
        skip = skip.min(now.since(self.now)).max(1);
        self.now = self.now + skip;
        if Self::slot(self.now, 0) == 0 {
            self.falling = 1;
        }
    }

    /// With nothing left in this turn of the lowest level, which ends in `rest` ticks: ticks until
    /// one begins into which something falls. A turn of the level above needs a stop, too.
    fn turns_to_skip(&self, rest: u32) -> u32 {
        let next = Self::slot(self.now, 1) + 1;
        let turns = self.next_filled(1, next).unwrap_or(SLOTS) - next;
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let turns = turns as u32;
        rest + (turns << BITS)
    }

    /// The lowest level whose slots still tell the deadline from the present turn.
    const fn level(&self, due: Tick) -> usize {
        let differs = due.0 ^ self.now.0;
        if differs < 1 << BITS {
            0
        } else if differs < 1 << (2 * BITS) {
            1
        } else if differs < 1 << (3 * BITS) {
            2
        } else {
            3
        }
    }

    const fn slot(due: Tick, level: usize) -> usize {
        (due.0 as usize >> (BITS as usize * level)) % SLOTS
    }

    fn mark(&mut self, slot: usize, filled: bool) {
        let level = self.filled.get_mut(slot / SLOTS);
        if let Some(word) = level.and_then(|level| level.get_mut(slot % SLOTS / 64)) {
            let bit = 1 << (slot % 64);
            if filled { *word |= bit } else { *word &= !bit }
        }
    }

    /// The first slot of a level, from `slot` on, that may have entries.
    fn next_filled(&self, level: usize, slot: usize) -> Option<usize> {
        let level = self.filled.get(level)?;
        let mut words = level.iter().enumerate().skip(slot / 64);
        let (at, word) = words.next()?;
        let rest = word & (u64::MAX << (slot % 64));
        let (at, word) = if rest == 0 {
            words.find(|(_, word)| **word != 0)?
        } else {
            (at, &rest)
        };
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}
