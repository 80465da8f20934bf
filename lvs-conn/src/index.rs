//! From a flow's hash to entries: buckets of one cache line.
//!
//! A bucket has 15 slots and a head. A slot is 0 or `kind | tag | index + 1`: a bit for which of the
//! entry's two keys it is, as many bits of the index as the capacity needs, the rest a tag from the
//! hash, so that an entry that is not meant is seldom looked at. A key whose home bucket is full lies in one of the following buckets; each bucket
//! counts in its head the keys that passed it, and a reader goes on only where that is not zero.
//! Keys never move.
//!
//! Readers never wait and never write. Writers of keys with the same home take turns by a bit in
//! its head; a writer that is stopped there delays other writers of this bucket, and no reader.

use crate::raw::{Zero, prefetch, zeroed};
use crate::sync::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    spin_loop,
};

/// Slots of a bucket.
pub(crate) const SLOTS: usize = 15;
/// How many buckets a key may be away from home.
const REACH: usize = 64;
/// Slots for each key that the capacity allows, in tenths: a load of two thirds.
const SLOTS_PER_KEY_TENTHS: usize = 15;
/// The writers' bit of a head; the rest counts the keys that passed the bucket, in twos.
const LOCKED: u32 = 1;
const PASSED: u32 = 2;

#[derive(Debug)]
#[repr(C, align(64))]
struct Bucket {
    slots: [AtomicU32; SLOTS],
    head: AtomicU32,
}

#[cfg(not(lvs_loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

#[allow(unsafe_code, reason = "says that zeroed memory is a bucket")]
// SAFETY: a bucket is made of atomic integers only.
unsafe impl Zero for Bucket {
    fn zero() -> Self {
        Self {
            slots: Default::default(),
            head: AtomicU32::default(),
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
}

/// Where a key is at home, and what marks its slots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    home: usize,
    tag: u32,
}

#[derive(Debug)]
pub(crate) struct Index {
    buckets: Box<[Bucket]>,
    /// The bits of a slot that hold the index of the entry plus one.
    index_mask: u32,
}

/// The reach of a key is used up: the index cannot take it.
#[derive(Debug)]
pub(crate) struct Full;

impl Index {
    /// An index for `keys` keys of entries below `entries`.
    pub(crate) fn new(keys: usize, entries: u32) -> Self {
        let buckets = (keys * SLOTS_PER_KEY_TENTHS / 10).div_ceil(SLOTS).max(2);
        let index_mask = (entries + 1).next_power_of_two().wrapping_sub(1);
        Self {
            buckets: zeroed(buckets),
            index_mask,
        }
    }

    /// Bytes that the index has.
    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "parts of the hash, on purpose"
    )]
    pub(crate) fn place(&self, hash: u64) -> Place {
        let home = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        Place {
            home: home as usize,
            tag: hash as u32 & self.tag_mask(),
        }
    }

    #[inline]
    const fn tag_mask(&self) -> u32 {
        !(self.index_mask | REPLY)
    }

    #[inline]
    pub(crate) fn prefetch(&self, place: Place) {
        if let Some(bucket) = self.buckets.get(place.home) {
            prefetch(bucket);
        }
    }

    /// The first entry in the home bucket whose slot has the key's tag: most likely the one.
    #[inline]
    pub(crate) fn first(&self, place: Place) -> Option<u32> {
        let bucket = self.buckets.get(place.home)?;
        bucket.slots.iter().find_map(|slot| {
            // Relaxed: the caller only prefetches what the slot names.
            let value = slot.load(Relaxed);
            (value & self.tag_mask() == place.tag && value != 0)
                .then(|| (value & self.index_mask) - 1)
        })
    }

    /// The first entry with the key's tag for which `accept` has an answer.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        place: Place,
        mut accept: impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        for distance in 0..REACH {
            let bucket = self.bucket(place, distance)?;
            for slot in &bucket.slots {
                // Acquire: pairs with the release store in `insert`; the entry's content is there.
                let value = slot.load(Acquire);
                if value & self.tag_mask() == place.tag
                    && value & self.index_mask != 0
                    && let Some(found) = accept((value & self.index_mask) - 1)
                {
                    return Some(found);
                }
            }
            // Acquire: a key that passed here is counted before its slot is written.
            if bucket.head.load(Acquire) < PASSED {
                return None;
            }
        }
        None
    }

    #[inline]
    fn bucket(&self, place: Place, distance: usize) -> Option<&Bucket> {
        let index = place.home + distance;
        let len = self.buckets.len();
        self.buckets
            .get(if index < len { index } else { index % len })
    }

    /// Adds a key for `entry`, unless `same` recognises another entry as the same key: then that is
    /// the answer.
    pub(crate) fn insert(
        &self,
        key: Key,
        place: Place,
        entry: u32,
        same: impl FnMut(u32) -> bool,
    ) -> Result<Option<u32>, Full> {
        let Some(_turn) = self.lock(place) else {
            return Err(Full);
        };
        let mut same = same;
        if let Some(existing) = self.find(place, |other| same(other).then_some(other)) {
            return Ok(Some(existing));
        }
        let value = key.bit() | place.tag | (entry + 1);
        for distance in 0..REACH {
            let Some(bucket) = self.bucket(place, distance) else {
                break;
            };
            for slot in &bucket.slots {
                // A slot of another home's bucket may be taken at the same time: hence compare and
                // exchange. Release: pairs with the acquire load in `find`.
                if slot.load(Relaxed) == 0
                    && slot.compare_exchange(0, value, Release, Relaxed).is_ok()
                {
                    return Ok(None);
                }
            }
            // Counted before the slot is written, so that a reader who could see the slot goes on.
            bucket.head.fetch_add(PASSED, AcqRel);
        }
        self.uncount(place, REACH);
        Err(Full)
    }

    /// Removes the key of `entry`; false if it is not there.
    pub(crate) fn remove(&self, key: Key, place: Place, entry: u32) -> bool {
        let Some(_turn) = self.lock(place) else {
            return false;
        };
        let value = key.bit() | place.tag | (entry + 1);
        for distance in 0..REACH {
            let Some(bucket) = self.bucket(place, distance) else {
                break;
            };
            for slot in &bucket.slots {
                if slot.load(Relaxed) == value {
                    // Release: a writer that takes the slot comes after all that was done here.
                    slot.store(0, Release);
                    self.uncount(place, distance);
                    return true;
                }
            }
        }
        false
    }

    fn uncount(&self, place: Place, distance: usize) {
        for passed in 0..distance {
            if let Some(bucket) = self.bucket(place, passed) {
                bucket.head.fetch_sub(PASSED, AcqRel);
            }
        }
    }

    /// Waits for the other writers of the key's home bucket.
    fn lock(&self, place: Place) -> Option<Turn<'_>> {
        let head = &self.buckets.get(place.home)?.head;
        // Acquire and release: what one writer of this home did is seen by the next.
        while head.fetch_or(LOCKED, Acquire) & LOCKED != 0 {
            while head.load(Relaxed) & LOCKED != 0 {
                spin_loop();
            }
        }
        Some(Turn(head))
    }
}

/// The right to add and remove keys of one home bucket.
struct Turn<'a>(&'a AtomicU32);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_and(!LOCKED, Release);
    }
}
