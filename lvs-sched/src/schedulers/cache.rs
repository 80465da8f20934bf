//! What `lblc` and `lblcr` remember: a destination address and a value, and when it was last used.
//!
//! In come addresses and moments, out come the entries of one bucket under its lock. All of it is
//! allocated when the scheduler is made: [`CAPACITY`] entries, 32 bytes each, in the kernel's 1024
//! buckets, so a choice allocates nothing and memory is bounded. Where the kernel would hold more
//! until its timer comes, the bucket's longest unused entry makes room, or, in an empty bucket,
//! the address is not remembered.
//!
//! A lock is tried for a while and never waited for: a caller that does not get it chooses without
//! the memory. Everything behind it is atomics, so a mistake could lose an entry and never more.

use crate::hash::hash32;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use alloc::boxed::Box;
use lvs_core::{Addr, Tick};

const BITS: u32 = 10;
/// Above this the timer sheds entries before they expire (IPVS 1.8).
pub(crate) const MAX_ENTRIES: u32 = 16 << BITS;
/// Entries that there is room for: a quarter above what the kernel aims at.
pub(crate) const CAPACITY: u32 = MAX_ENTRIES + MAX_ENTRIES / 4;

const LOCKED: u32 = 1 << 31;
pub(crate) const NONE: u32 = LOCKED - 1;
const ATTEMPTS: u32 = 128;
/// Seconds between two runs of the timer.
const PERIOD: u32 = 60;
/// Every so many runs everything that has expired goes.
const FULL_CHECK: u32 = 30;
/// Idle seconds after which an entry may be shed.
const IDLE: u32 = 6 * 60;

/// A stack of free places: the top one in the low half, a count against reuse in the high half.
#[derive(Debug)]
pub(crate) struct FreeList(AtomicU64);

impl FreeList {
    /// All of `count` places, which lead from one to the next by their numbers.
    pub(crate) fn new(count: u32) -> Self {
        Self(AtomicU64::new(u64::from(if count == 0 { NONE } else { 0 })))
    }

    pub(crate) fn pop(&self, next: impl Fn(u32) -> u32) -> Option<u32> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (count, top) = halves(word);
            if top == NONE {
                return None;
            }
            let changed = join(count.wrapping_add(1), next(top));
            match self
                .0
                .compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(top),
                Err(now) => word = now,
            }
        }
    }

    pub(crate) fn push(&self, place: u32, link: impl Fn(u32)) {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (count, top) = halves(word);
            link(top);
            let changed = join(count.wrapping_add(1), place);
            match self
                .0
                .compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }
}

pub(crate) const fn join(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
pub(crate) const fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// One address and what is known of it. All of it belongs to who holds the bucket.
#[derive(Debug)]
pub(crate) struct Slot {
    hi: AtomicU64,
    lo: AtomicU64,
    next: AtomicU32,
    used: AtomicU32,
    /// The scheduler's own.
    pub(crate) value: AtomicU32,
    /// The scheduler's own.
    pub(crate) changed: AtomicU32,
}

/// Addresses and what is known of them.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The first entry of each, and whether somebody holds it.
    buckets: Box<[AtomicU32]>,
    slots: Box<[Slot]>,
    free: FreeList,
    entries: AtomicU32,
    /// Ticks until an entry expires.
    expiration: AtomicU32,
    /// When the timer last ran, with a bit above that says that it ever did.
    timer: AtomicU64,
    runs: AtomicU32,
    rover: AtomicU32,
}

/// A moment can be compared with one that is less than 99 days away.
fn in_ticks(seconds: u32) -> u32 {
    Tick::seconds(seconds.min(90 * 86_400))
}

/// A bucket that this thread holds.
#[derive(Debug)]
pub(crate) struct Bucket<'a> {
    cache: &'a Cache,
    at: usize,
    first: u32,
}

impl Drop for Bucket<'_> {
    fn drop(&mut self) {
        if let Some(bucket) = self.cache.buckets.get(self.at) {
            // Pairs with the Acquire of whoever holds it next.
            bucket.store(self.first, Ordering::Release);
        }
    }
}

impl Cache {
    /// An empty cache whose entries expire after that many idle seconds.
    pub(crate) fn new(expiration: u32) -> Self {
        Self {
            buckets: (0..1 << BITS).map(|_| AtomicU32::new(NONE)).collect(),
            slots: (1..=CAPACITY)
                .map(|next| Slot {
                    hi: AtomicU64::new(0),
                    lo: AtomicU64::new(0),
                    next: AtomicU32::new(if next == CAPACITY { NONE } else { next }),
                    used: AtomicU32::new(0),
                    value: AtomicU32::new(NONE),
                    changed: AtomicU32::new(0),
                })
                .collect(),
            free: FreeList::new(CAPACITY),
            entries: AtomicU32::new(0),
            expiration: AtomicU32::new(in_ticks(expiration)),
            timer: AtomicU64::new(0),
            runs: AtomicU32::new(1),
            rover: AtomicU32::new(0),
        }
    }

    pub(crate) fn expiration(&self) -> u32 {
        self.expiration.load(Ordering::Relaxed)
    }

    /// Has entries expire after so many idle seconds from now on.
    pub(crate) fn expire_after(&self, seconds: u32) {
        let ticks = in_ticks(seconds);
        if self.expiration() != ticks {
            self.expiration.store(ticks, Ordering::Relaxed);
        }
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)
    }

    /// The bucket of an address, unless somebody holds it for long.
    pub(crate) fn bucket(&self, addr: Addr) -> Option<Bucket<'_>> {
        self.lock(hash32(addr.fold(), BITS) as usize)
    }

    fn lock(&self, at: usize) -> Option<Bucket<'_>> {
        let bucket = self.buckets.get(at)?;
        for _ in 0..ATTEMPTS {
            let first = bucket.load(Ordering::Relaxed);
            if first & LOCKED == 0
                && bucket
                    .compare_exchange_weak(
                        first,
                        first | LOCKED,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                return Some(Bucket {
                    cache: self,
                    at,
                    first,
                });
            }
            core::hint::spin_loop();
        }
        None
    }

    /// The kernel's timer (IPVS 1.8), as often as it is due. `drop` learns of each entry that ends.
    pub(crate) fn tick(&self, now: Tick, drop: impl Fn(&Slot)) {
        let (ran, last) = halves(self.timer.load(Ordering::Relaxed));
        if ran == 0 {
            self.timer.store(join(1, now.0), Ordering::Relaxed);
            return;
        }
        let period = Tick::seconds(PERIOD);
        // After a long silence one full round of runs does what many would.
        let due = (now.since(Tick(last)) / period).min(FULL_CHECK);
        if due != 0 {
            let behind = now.since(Tick(last)) % period;
            let ran_at = now.0.wrapping_sub(behind);
            self.timer.store(join(1, ran_at), Ordering::Relaxed);
        }
        for _ in 0..due {
            self.run(now, &drop);
        }
    }

    fn run(&self, now: Tick, drop: &impl Fn(&Slot)) {
        let runs = self.runs.load(Ordering::Relaxed);
        let entries = self.entries.load(Ordering::Relaxed);
        if runs.is_multiple_of(FULL_CHECK) {
            for at in 0..self.buckets.len() {
                self.shed(at, now, self.expiration(), drop);
            }
            self.runs.store(1, Ordering::Relaxed);
        } else if entries <= MAX_ENTRIES {
            self.runs.store(runs.wrapping_add(1), Ordering::Relaxed);
        } else {
            let goal = ((entries - MAX_ENTRIES) * 4 / 3).min(MAX_ENTRIES / 2);
            let mut gone = 0;
            let mut rover = self.rover.load(Ordering::Relaxed) as usize;
            for _ in 0..self.buckets.len() {
                rover = (rover + 1) % self.buckets.len();
                gone += self.shed(rover, now, Tick::seconds(IDLE), drop);
                if gone >= goal {
                    break;
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "below 1024")]
            self.rover.store(rover as u32, Ordering::Relaxed);
        }
    }

    /// Drops what a bucket has not used for so many ticks, unless somebody holds it.
    fn shed(&self, at: usize, now: Tick, idle: u32, drop: &impl Fn(&Slot)) -> u32 {
        let Some(mut bucket) = self.lock(at) else {
            return 0;
        };
        let mut gone = 0;
        let (mut before, mut place) = (None::<&Slot>, bucket.first);
        while let Some(slot) = self.slot(place) {
            let next = slot.next.load(Ordering::Relaxed);
            if now.since(Tick(slot.used.load(Ordering::Relaxed))) >= idle {
                match before {
                    Some(before) => before.next.store(next, Ordering::Relaxed),
                    None => bucket.first = next,
                }
                drop(slot);
                self.entries.fetch_sub(1, Ordering::Relaxed);
                self.free
                    .push(place, |top| slot.next.store(top, Ordering::Relaxed));
                gone += 1;
            } else {
                before = Some(slot);
            }
            place = next;
        }
        gone
    }
}

impl<'a> Bucket<'a> {
    /// What is known of an address, which is thereby used.
    pub(crate) fn find(&self, addr: Addr, now: Tick) -> Option<&'a Slot> {
        let mut place = self.first;
        while let Some(slot) = self.cache.slot(place) {
            if slot.lo.load(Ordering::Relaxed) == addr.lo
                && slot.hi.load(Ordering::Relaxed) == addr.hi
            {
                slot.used.store(now.0, Ordering::Relaxed);
                return Some(slot);
            }
            place = slot.next.load(Ordering::Relaxed);
        }
        None
    }

    /// A new entry for an address; `drop` learns of the one that made room.
    pub(crate) fn insert(
        &mut self,
        addr: Addr,
        now: Tick,
        drop: impl Fn(&Slot),
    ) -> Option<&'a Slot> {
        let next = |place| {
            let slot = self.cache.slot(place);
            slot.map_or(NONE, |slot| slot.next.load(Ordering::Relaxed))
        };
        let slot = if let Some(place) = self.cache.free.pop(next) {
            let slot = self.cache.slot(place)?;
            slot.next.store(self.first, Ordering::Relaxed);
            self.first = place;
            self.cache.entries.fetch_add(1, Ordering::Relaxed);
            slot
        } else {
            let slot = self.longest_unused(now)?;
            drop(slot);
            slot
        };
        slot.hi.store(addr.hi, Ordering::Relaxed);
        slot.lo.store(addr.lo, Ordering::Relaxed);
        slot.used.store(now.0, Ordering::Relaxed);
        slot.changed.store(now.0, Ordering::Relaxed);
        slot.value.store(NONE, Ordering::Relaxed);
        Some(slot)
    }

    fn longest_unused(&self, now: Tick) -> Option<&'a Slot> {
        let age = |slot: &Slot| now.since(Tick(slot.used.load(Ordering::Relaxed)));
        let mut oldest = self.cache.slot(self.first)?;
        let mut place = oldest.next.load(Ordering::Relaxed);
        while let Some(slot) = self.cache.slot(place) {
            if age(slot) > age(oldest) {
                oldest = slot;
            }
            place = slot.next.load(Ordering::Relaxed);
        }
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u32) -> Addr {
        Addr::from_v4_bits(n)
    }

    fn remember(cache: &Cache, n: u32, now: Tick) -> bool {
        let mut bucket = cache.bucket(addr(n)).unwrap();
        bucket.find(addr(n), now).is_some() || bucket.insert(addr(n), now, |_| ()).is_some()
    }

    fn knows(cache: &Cache, n: u32) -> bool {
        let mut place = cache.bucket(addr(n)).unwrap().first;
        while let Some(slot) = cache.slot(place) {
            if slot.lo.load(Ordering::Relaxed) == addr(n).lo {
                return true;
            }
            place = slot.next.load(Ordering::Relaxed);
        }
        false
    }

    #[test]
    fn is_bounded_and_forgets_what_rests_longest() {
        let cache = Cache::new(86_400);
        for n in 0..3 * CAPACITY {
            remember(&cache, n, Tick(n));
        }
        assert_eq!(cache.entries.load(Ordering::Relaxed), CAPACITY);
        assert!(knows(&cache, 3 * CAPACITY - 1));
        assert!(!knows(&cache, 0));
    }

    #[test]
    fn expires_at_the_full_check_only() {
        let cache = Cache::new(100);
        cache.tick(Tick(0), |_| ());
        remember(&cache, 1, Tick(0));
        let minute = |n: u32| Tick(Tick::seconds(60 * n));
        // The counter starts at 1 and the check comes when it has reached 30.
        for n in 1..30 {
            cache.tick(minute(n), |_| ());
            assert!(knows(&cache, 1), "minute {n}");
        }
        cache.tick(minute(30), |_| ());
        assert!(!knows(&cache, 1));
    }

    #[test]
    fn sheds_what_is_idle_when_there_is_too_much() {
        let cache = Cache::new(86_400);
        cache.tick(Tick(0), |_| ());
        for n in 0..MAX_ENTRIES + 300 {
            remember(&cache, n, Tick(0));
        }
        cache.tick(Tick(Tick::seconds(300)), |_| ());
        assert_eq!(cache.entries.load(Ordering::Relaxed), MAX_ENTRIES + 300);
        cache.tick(Tick(Tick::seconds(361)), |_| ());
        let left = cache.entries.load(Ordering::Relaxed);
        // At least 400 go, and no more than one bucket beyond that.
        assert!(
            (MAX_ENTRIES - 200..=MAX_ENTRIES - 100).contains(&left),
            "{left}"
        );
    }
}
