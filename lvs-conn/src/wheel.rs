//! When to look at which connection: a timing wheel of four levels of 256 slots.
//!
//! The slots of the lowest level are a tick wide, each further level's 256 times as wide, which
//! covers all of [`Tick`]. An entry is linked into the slot of the moment at which it is due; when
//! the wheel reaches a slot of a higher level, its entries move down. Only the collector touches
//! the wheel, so its links need no more than to be atomics at all.

use crate::entry::{Entry, NIL};
use crate::sync::Ordering::Relaxed;
use lvs_core::Tick;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
const BITS: u32 = 8;
/// Set in `previous` if it names a slot of the wheel instead of an entry.
const HEAD: u32 = 1 << 31;

#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[u32]>,
    /// A bit for each slot that is not empty.
    filled: [[u64; SLOTS / 64]; LEVELS],
    /// All slots before this moment are empty.
    now: Tick,
    started: bool,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            heads: vec![NIL; LEVELS * SLOTS].into_boxed_slice(),
            filled: [[0; SLOTS / 64]; LEVELS],
            now: Tick(0),
            started: false,
        }
    }
}

impl Wheel {
    /// Links an entry that is not linked into the slot of its deadline.
    pub(crate) fn add(&mut self, entries: &[Entry], index: u32, due: Tick) {
        let Some(entry) = entries.get(index as usize) else {
            return;
        };
        entry.due.store(due.0, Relaxed);
        // What is due already is due at the present tick.
        let due = if due.is_after(self.now) {
            due
        } else {
            self.now
        };
        let level = self.level(due);
        let slot = Self::slot(due, level);
        let at = level * SLOTS + slot;
        let Some(head) = self.heads.get_mut(at) else {
            return;
        };
        let first = core::mem::replace(head, index);
        entry.next.store(first, Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "below 1024")]
        entry.previous.store(HEAD | at as u32, Relaxed);
        if let Some(first) = entries.get(first as usize) {
            first.previous.store(index, Relaxed);
        }
        self.mark(level, slot, true);
    }

    /// Unlinks an entry that is linked.
    pub(crate) fn remove(&mut self, entries: &[Entry], index: u32) {
        let Some(entry) = entries.get(index as usize) else {
            return;
        };
        let next = entry.next.load(Relaxed);
        let previous = entry.previous.load(Relaxed);
        if let Some(next) = entries.get(next as usize) {
            next.previous.store(previous, Relaxed);
        }
        if previous & HEAD == 0 {
            if let Some(previous) = entries.get(previous as usize) {
                previous.next.store(next, Relaxed);
            }
            return;
        }
        let at = (previous & !HEAD) as usize;
        if let Some(head) = self.heads.get_mut(at) {
            *head = next;
        }
        if next == NIL {
            self.mark(at / SLOTS, at % SLOTS, false);
        }
    }

    /// An entry whose slot is reached by `now`, unlinked; `None` if there are no more. Time never
    /// goes backwards here: an earlier `now` finds what was left over.
    pub(crate) fn due(&mut self, entries: &[Entry], now: Tick) -> Option<u32> {
        if !self.started {
            self.started = true;
            self.restart(entries, now);
        }
        loop {
            let slot = Self::slot(self.now, 0);
            let first = *self.heads.get(slot)?;
            if first != NIL {
                self.remove(entries, first);
                return Some(first);
            }
            if !now.is_after(self.now) {
                return None;
            }
            self.step(entries, now);
        }
    }

    /// Moves on to the next moment at which something may be due, but not beyond `now`.
    fn step(&mut self, entries: &[Entry], now: Tick) {
        // To the next filled slot of this turn of the lowest level, or to its end.
        let slot = Self::slot(self.now, 0);
        let next = self.next_filled(slot + 1);
        #[expect(clippy::cast_possible_truncation, reason = "at most 256")]
        let mut skip = (next - slot) as u32;
        if next == SLOTS
            && self
                .filled
                .first()
                .is_some_and(|level| level.iter().all(|w| *w == 0))
        {
            // Nothing at all in the lowest level: skip whole turns as long as the next is empty.
            skip = self.turns_to_skip(skip);
        }
        skip = skip.min(now.since(self.now));
        self.now = self.now + skip.max(1);
        if Self::slot(self.now, 0) == 0 {
            self.cascade(entries);
        }
    }

    /// Ticks until the lowest level gets entries from above, at least `skip`.
    fn turns_to_skip(&self, skip: u32) -> u32 {
        let above = Self::slot(self.now, 1);
        let mut turns = 0;
        #[expect(clippy::cast_possible_truncation, reason = "256")]
        while turns < SLOTS as u32 - 1 {
            let slot = (above + 1 + turns as usize) % SLOTS;
            // A slot of the level above, or the turn of that level itself, needs a stop.
            if slot == 0 || self.is_marked(1, slot) {
                break;
            }
            turns += 1;
        }
        skip + turns * (1 << BITS)
    }

    fn cascade(&mut self, entries: &[Entry]) {
        for level in 1..LEVELS {
            let slot = Self::slot(self.now, level);
            let at = level * SLOTS + slot;
            let mut index = self
                .heads
                .get_mut(at)
                .map_or(NIL, |head| core::mem::replace(head, NIL));
            self.mark(level, slot, false);
            while let Some(entry) = entries.get(index as usize) {
                let next = entry.next.load(Relaxed);
                let due = Tick(entry.due.load(Relaxed));
                self.add(entries, index, due);
                index = next;
            }
            if slot != 0 {
                break;
            }
        }
    }

    /// Places all entries again around another present moment.
    fn restart(&mut self, entries: &[Entry], now: Tick) {
        let mut list = NIL;
        for head in &mut self.heads {
            let mut index = core::mem::replace(head, NIL);
            while let Some(entry) = entries.get(index as usize) {
                let next = entry.next.load(Relaxed);
                entry.next.store(list, Relaxed);
                list = index;
                index = next;
            }
        }
        self.filled = [[0; SLOTS / 64]; LEVELS];
        self.now = now;
        while let Some(entry) = entries.get(list as usize) {
            let next = entry.next.load(Relaxed);
            self.add(entries, list, Tick(entry.due.load(Relaxed)));
            list = next;
        }
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

    fn mark(&mut self, level: usize, slot: usize, filled: bool) {
        let word = self
            .filled
            .get_mut(level)
            .and_then(|level| level.get_mut(slot / 64));
        if let Some(word) = word {
            let bit = 1 << (slot % 64);
            if filled { *word |= bit } else { *word &= !bit }
        }
    }

    fn is_marked(&self, level: usize, slot: usize) -> bool {
        let word = self
            .filled
            .get(level)
            .and_then(|level| level.get(slot / 64));
        word.is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// The first filled slot of the lowest level from `slot` on; 256 if there is none.
    fn next_filled(&self, slot: usize) -> usize {
        (slot..SLOTS)
            .find(|slot| self.is_marked(0, *slot))
            .unwrap_or(SLOTS)
    }
}
