//! From a flow's hash to entries: buckets of one cache line.
//!
//! ```text
//!   word 0            1                                     7
//!  | slot 1 : slot 0 | slot 3 : slot 2 | ...            | head : slot 14 |
//!   slot: kind (1 bit) · tag · index of the entry + 1;  0 is empty
//!   head: keys that passed this bucket · a bit for writers
//! ```
//!
//! A slot has as many bits of the index as the capacity needs; the rest is a tag from the hash, so
//! that an entry that is not meant is seldom looked at. A key whose home bucket is full lies in one
//! of the following buckets; each bucket counts in its head the keys that passed it, and a reader
//! goes on only where that is not zero. Keys never move, and none is further from home than
//! [`REACH`] buckets, which bounds what the unluckiest lookup costs.
//!
//! Readers never wait and never write. Who adds a key that must be the only one of its kind takes
//! turns with others of the same home bucket by a bit in its head; a writer that is stopped there
//! delays other such writers of this bucket, and no reader. Everything else is a compare and
//! exchange of one word.

use crate::conn::Direction;
use crate::mapping::Slab;
use crate::raw::{Common, Halves, Level, prefetch};
use crate::sync::{
    AtomicU64,
    Ordering::{self, AcqRel, Acquire, Relaxed, Release},
    spin_loop,
};

/// Slots of a bucket.
pub(crate) const SLOTS: usize = 15;
/// How many buckets from its home on may hold a key.
pub(crate) const REACH: usize = 64;
/// How many keys of one home may have one tag: more than chance brings, and few enough to be looked
/// through. Those of one client's endpoint beyond that are found by their whole flow.
pub(crate) const CROWD: u32 = if cfg!(lvs_loom) { 1 } else { 24 };
/// The writers' bit of a head; the rest counts the keys that passed the bucket.
const LOCKED: u64 = 1 << 32;
const PASSED: u64 = 1 << 33;

/// The words of a bucket: two slots each, and the head in the last one's upper half.
pub(crate) type Bucket = Halves;

/// Bytes of a bucket.
pub(crate) const BUCKET_BYTES: usize = size_of::<Bucket>();
#[cfg(not(lvs_loom))]
const _: () = assert!(BUCKET_BYTES == 64);

/// The half of a word that is a slot.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "half of a word, on purpose"
)]
const fn half(word: u64, slot: usize) -> u32 {
    (word >> shift(slot)) as u32
}

#[inline]
const fn shift(slot: usize) -> u32 {
    if slot.is_multiple_of(2) { 0 } else { 32 }
}

impl Bucket {
    #[inline]
    fn word(&self, slot: usize) -> Option<&AtomicU64> {
        self.0.get(slot / 2)
    }

    #[inline]
    fn slot(&self, slot: usize) -> u32 {
        // Acquire: pairs with the release in `put`; the entry's content is there.
        self.word(slot)
            .map_or(0, |word| half(word.load(Acquire), slot))
    }

    #[inline]
    const fn head(&self) -> &AtomicU64 {
        let [.., head] = &self.0;
        head
    }

    /// Whether a key of an earlier home may lie in a later bucket.
    #[inline]
    fn is_passed(&self) -> bool {
        // Acquire: a key that passed here is counted before its slot is written.
        self.head().load(Acquire) >= PASSED
    }

    /// A bit for each slot that has the tag; an empty one has tag 0.
    #[inline(always)]
    fn matches(&self, level: impl Level, tag: u32, mask: u32) -> u32 {
        level.equal(self, tag, mask) & ((1 << SLOTS) - 1)
    }

    /// Writes an empty slot; false if there is none.
    #[inline(always)]
    fn put(&self, value: u32) -> bool {
        // Release: pairs with the acquire of readers.
        self.exchange(0, value, Release)
    }

    /// Empties the slot with this value; false if there is none.
    fn take(&self, value: u32) -> bool {
        // Release: who finds the key gone finds also done what was done before.
        self.exchange(value, 0, AcqRel)
    }

    /// Makes a slot that is `old` `new`; false if there is none. Of two that mean the same slot one
    /// is told that it did it.
    #[inline(always)]
    fn exchange(&self, old: u32, new: u32, order: Ordering) -> bool {
        loop {
            let found = self.matches(Common, old, u32::MAX);
            let slot = found.trailing_zeros() as usize;
            let Some(word) = self.word(slot).filter(|_| found != 0) else {
                return false;
            };
            let mut now = word.load(Relaxed);
            while half(now, slot) == old {
                let then = now ^ (u64::from(old ^ new) << shift(slot));
                match word.compare_exchange_weak(now, then, order, Relaxed) {
                    Ok(_) => return true,
                    Err(other) => now = other,
                }
            }
        }
    }
}

/// Marks the slot of a connection's second key, that of its replies: the slots of one entry are
/// never the same, even where their tags are.
const REPLY: u32 = 1 << 31;

/// Which of an entry's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The flow of the client's packets.
    Request,
    /// The flow of the server's packets.
    Reply,
}

impl Key {
    const fn bit(self) -> u32 {
        match self {
            Self::Request => 0,
            Self::Reply => REPLY,
        }
    }

    /// That of the packets whose flow it is.
    pub(crate) const fn direction(self) -> Direction {
        match self {
            Self::Request => Direction::FromClient,
            Self::Reply => Direction::FromServer,
        }
    }
}

/// Where a key is at home, and what marks its slots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    home: u32,
    tag: u32,
}

impl Place {
    pub(crate) const fn home(self) -> usize {
        self.home as usize
    }
}

/// The bucket where a key is at home, and what marks its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) tag: u32,
}

impl Home<'_> {
    /// Whether the key may lie further from its home.
    #[inline(always)]
    pub(crate) fn is_passed(self) -> bool {
        self.bucket.is_passed()
    }
}

/// What a slot names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) key: Key,
    pub(crate) entry: u32,
}

#[derive(Debug)]
pub(crate) struct Index {
    buckets: Slab<Bucket>,
    /// The bits of a slot that hold the index of the entry plus one.
    index_mask: u32,
    /// At most [`REACH`], and no bucket twice.
    reach: usize,
}

/// What lookups need of the index: copied, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    buckets: &'a [Bucket],
    index_mask: u32,
}

impl<'a> View<'a> {
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "parts of the hash, on purpose"
    )]
    pub(crate) fn place(&self, hash: u64) -> Place {
        let home = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        let tag = hash as u32 & tag_mask(self.index_mask);
        Place {
            home: home as u32,
            // Not that of an empty slot.
            tag: if tag == 0 { self.index_mask + 1 } else { tag },
        }
    }

    /// The home bucket of a key.
    #[inline]
    pub(crate) fn home(&self, place: Place) -> Option<&'a Bucket> {
        self.buckets.get(place.home as usize)
    }

    #[inline]
    pub(crate) fn prefetch(&self, place: Place) {
        if let Some(bucket) = self.home(place) {
            prefetch(bucket);
        }
    }

    /// Where a key is at home, for a look at it.
    #[inline(always)]
    pub(crate) fn home_of(&self, hash: u64) -> Option<Home<'a>> {
        let place = self.place(hash);
        let bucket = self.home(place)?;
        Some(Home {
            bucket,
            tag: place.tag,
        })
    }

    /// Begins to fetch the bucket behind a home.
    #[inline(never)]
    pub(crate) fn prefetch_next(&self, home: Home<'_>) {
        if let Some(bucket) = self.bucket(self.place_of(home), 1) {
            prefetch(bucket);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "buckets have numbers of 32 bits"
    )]
    fn place_of(&self, home: Home<'_>) -> Place {
        let offset = core::ptr::from_ref(home.bucket).addr() - self.buckets.as_ptr().addr();
        Place {
            home: (offset / BUCKET_BYTES) as u32,
            tag: home.tag,
        }
    }

    /// A bit for each slot of a home that has the key's tag, that is most likely one for the key or
    /// none.
    #[inline(always)]
    pub(crate) fn candidates(&self, level: impl Level, home: Home<'_>) -> u32 {
        home.bucket
            .matches(level, home.tag, tag_mask(self.index_mask))
    }

    /// What the slot of the lowest bit names.
    #[inline(always)]
    pub(crate) fn candidate(&self, home: Home<'_>, found: u32) -> Named {
        // A slot that was emptied meanwhile names an entry that does not exist.
        let slot = found.trailing_zeros() as usize;
        named(home.bucket.slot(slot), self.index_mask)
    }

    #[inline]
    fn bucket(&self, place: Place, distance: usize) -> Option<&'a Bucket> {
        let index = place.home as usize + distance;
        let len = self.buckets.len();
        self.buckets
            .get(if index < len { index } else { index - len })
    }
}

/// The bits of a slot that hold the tag.
#[inline]
const fn tag_mask(index_mask: u32) -> u32 {
    !(index_mask | REPLY)
}

/// What a slot names: if it is empty, an entry that does not exist.
#[inline]
const fn named(value: u32, index_mask: u32) -> Named {
    Named {
        key: if value & REPLY == 0 {
            Key::Request
        } else {
            Key::Reply
        },
        entry: (value & index_mask).wrapping_sub(1),
    }
}

/// The reach of a key is used up: the index cannot take it.
#[derive(Debug)]
pub(crate) struct Full;

impl Index {
    /// Buckets for this many slots.
    pub(crate) const fn buckets(slots: usize) -> usize {
        let buckets = slots.div_ceil(SLOTS);
        if buckets < 2 { 2 } else { buckets }
    }

    /// An index for entries below `entries`, at least two buckets.
    pub(crate) fn new(buckets: Slab<Bucket>, entries: u32) -> Self {
        let reach = buckets.len().min(REACH);
        Self {
            buckets,
            index_mask: (entries + 1).next_power_of_two().wrapping_sub(1),
            reach,
        }
    }

    /// Has a bucket's page in memory; false if there is no such bucket.
    pub(crate) fn touch(&self, bucket: usize) -> bool {
        let word = self.buckets.get(bucket).and_then(|bucket| bucket.0.first());
        // Writes what is there, whether it is the same or not; Relaxed: says nothing.
        word.map(|word| word.compare_exchange(0, 0, Relaxed, Relaxed))
            .is_some()
    }

    /// Empties it, with nobody else about.
    pub(crate) fn clear(&self) {
        for word in self.buckets.iter().flat_map(|bucket| &bucket.0) {
            if word.load(Relaxed) != 0 {
                word.store(0, Relaxed);
            }
        }
    }

    /// The index as one batch of lookups sees it.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View {
            buckets: &self.buckets,
            index_mask: self.index_mask,
        }
    }

    #[inline]
    pub(crate) fn place(&self, hash: u64) -> Place {
        self.view().place(hash)
    }

    #[inline]
    fn home(&self, place: Place) -> Option<&Bucket> {
        self.buckets.get(place.home as usize)
    }

    #[inline]
    pub(crate) fn prefetch(&self, place: Place) {
        self.view().prefetch(place);
    }

    #[inline]
    const fn tag_mask(&self) -> u32 {
        tag_mask(self.index_mask)
    }

    /// The first slot with the key's tag for which `accept` has an answer.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        place: Place,
        accept: impl FnMut(Named) -> Option<T>,
    ) -> Option<T> {
        self.find_from(place, 0, accept)
    }

    /// The same, behind the home bucket.
    #[inline(never)]
    pub(crate) fn find_further<T>(
        &self,
        home: Home<'_>,
        accept: impl FnMut(Named) -> Option<T>,
    ) -> Option<T> {
        if home.is_passed() {
            self.find_from(self.view().place_of(home), 1, accept)
        } else {
            None
        }
    }

    #[inline]
    fn find_from<T>(
        &self,
        place: Place,
        first: usize,
        mut accept: impl FnMut(Named) -> Option<T>,
    ) -> Option<T> {
        for distance in first..self.reach {
            let bucket = self.bucket(place, distance)?;
            let mut found = bucket.matches(Common, place.tag, self.tag_mask());
            while found != 0 {
                let value = bucket.slot(found.trailing_zeros() as usize);
                if value & self.tag_mask() == place.tag
                    && let Some(answer) = accept(named(value, self.index_mask))
                {
                    return Some(answer);
                }
                found &= found - 1;
            }
            if !bucket.is_passed() {
                return None;
            }
        }
        None
    }

    /// How many buckets are looked through for a key of this home that is not there.
    pub(crate) fn depth(&self, place: Place) -> usize {
        let passed = |distance: &usize| {
            let bucket = self.bucket(place, *distance);
            bucket.is_some_and(Bucket::is_passed)
        };
        (0..self.reach - 1).take_while(passed).count() + 1
    }

    #[inline]
    fn bucket(&self, place: Place, distance: usize) -> Option<&Bucket> {
        self.view().bucket(place, distance)
    }

    /// Where a key is at home, for a look at it.
    #[inline(always)]
    pub(crate) fn home_at(&self, place: Place) -> Option<Home<'_>> {
        let bucket = self.home(place)?;
        Some(Home {
            bucket,
            tag: place.tag,
        })
    }

    /// Whether it is plain at the home bucket that no key is like this one.
    #[inline(always)]
    pub(crate) fn has_none(&self, place: Place) -> bool {
        self.home(place).is_some_and(|bucket| {
            bucket.matches(Common, place.tag, self.tag_mask()) == 0 && !bucket.is_passed()
        })
    }

    /// Adds a key for `entry`, whatever else is there.
    #[inline(always)]
    pub(crate) fn add(&self, place: Place, named: Named) -> Result<(), Full> {
        let value = self.value(place, named);
        if self.home(place).is_some_and(|bucket| bucket.put(value)) {
            return Ok(());
        }
        self.add_further(place, value)
    }

    /// Adds a key to the first bucket from its home on that has room.
    #[inline(never)]
    fn add_further(&self, place: Place, value: u32) -> Result<(), Full> {
        let mut crowd = 0;
        for distance in 0..self.reach {
            let Some(bucket) = self.bucket(place, distance) else {
                break;
            };
            if bucket.put(value) {
                return Ok(());
            }
            // Counted before the slot is written, so that a reader who could see the slot goes on.
            bucket.head().fetch_add(PASSED, AcqRel);
            crowd += bucket
                .matches(Common, place.tag, self.tag_mask())
                .count_ones();
            if crowd >= CROWD {
                self.uncount(place, distance + 1);
                return Err(Full);
            }
        }
        self.uncount(place, self.reach);
        Err(Full)
    }

    /// Removes the key of an entry; false if it is not there.
    pub(crate) fn remove(&self, place: Place, named: Named) -> bool {
        let value = self.value(place, named);
        for distance in 0..self.reach {
            let Some(bucket) = self.bucket(place, distance) else {
                break;
            };
            if bucket.take(value) {
                self.uncount(place, distance);
                return true;
            }
            if !bucket.is_passed() {
                break;
            }
        }
        false
    }

    const fn value(&self, place: Place, named: Named) -> u32 {
        named.key.bit() | place.tag | ((named.entry + 1) & self.index_mask)
    }

    fn uncount(&self, place: Place, distance: usize) {
        for passed in 0..distance {
            if let Some(bucket) = self.bucket(place, passed) {
                bucket.head().fetch_sub(PASSED, AcqRel);
            }
        }
    }

    /// Waits for the other writers of the key's home bucket. Whoever adds a key that must be the
    /// only one of its kind looks for others and adds it in its turn.
    #[inline(always)]
    pub(crate) fn lock(&self, place: Place) -> Option<Turn<'_>> {
        let head = self.home(place)?.head();
        // Acquire and release: what one writer of this home did is seen by the next.
        while head.fetch_or(LOCKED, Acquire) & LOCKED != 0 {
            while head.load(Relaxed) & LOCKED != 0 {
                spin_loop();
            }
        }
        Some(Turn(head))
    }
}

/// The right to add a unique key to one home bucket.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a AtomicU64);

impl Drop for Turn<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.fetch_and(!LOCKED, Release);
    }
}

#[cfg(all(test, not(lvs_loom)))]
mod tests {
    use super::*;

    /// Keys of one home and one tag: the crowd is refused before the reach is full, all that are
    /// there are found, and when they are gone nothing of them is left.
    #[test]
    fn a_crowd_with_one_home_is_bounded_and_leaves_nothing() {
        let index = Index::new(Slab::new(64), 1000);
        let place = index.place(0xffff_0000_1234_0000);
        let named = |entry| Named {
            key: Key::Request,
            entry,
        };
        // A crowd is noticed in buckets that are passed.
        let slots = u32::try_from(SLOTS).unwrap();
        let room = slots * CROWD.div_ceil(slots);
        for entry in 0..room {
            assert!(index.add(place, named(entry)).is_ok());
        }
        assert!(index.add(place, named(room)).is_err());
        let mut looked_at = 0;
        let last = index.find(place, |named| {
            looked_at += 1;
            (named.entry == room - 1).then_some(())
        });
        assert_eq!((last, looked_at), (Some(()), room));
        for entry in 0..room {
            assert!(index.remove(place, named(entry)));
            assert!(!index.remove(place, named(entry)));
        }
        let left = index.buckets.iter().flat_map(|bucket| &bucket.0);
        assert!(left.into_iter().all(|word| word.load(Relaxed) == 0));
    }
}
