//! One server as a scheduler sees it: its weight, its load, whether it may be chosen.
//!
//! In come weights and thresholds from the control thread and connection events from the workers;
//! out go the figures that the schedulers compare. Every method may be called from any thread, and
//! none waits, allocates or panics. A backend knows no pool: it may be in several.

use crate::clock;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use alloc::sync::Arc;
use lvs_core::{Addr, Endpoint, MAX_WEIGHT, Thresholds};

const OVERLOADED: u64 = 1 << 32;
const UNAVAILABLE: u64 = 1 << 33;

/// One server.
///
/// The caller reports each connection once when it opens ([`Backend::opened`]) and once when it
/// ends ([`Backend::closed`]); in between, each change between active and inactive
/// ([`Backend::activated`], [`Backend::deactivated`]). Counts saturate: a surplus report is lost,
/// it never wraps.
///
/// ```
/// use lvs_core::Thresholds;
/// use lvs_sched::Backend;
///
/// let limit = Thresholds { upper: 2, lower: 0 };
/// let server = Backend::new(7, "10.0.0.1:80".parse()?, 1, limit);
/// server.opened(true);
/// server.opened(false);
/// assert_eq!((server.active(), server.inactive()), (1, 1));
/// assert!(server.is_overloaded() && !server.is_usable());
/// server.closed(true);
/// assert!(server.is_usable());
/// # Ok::<(), lvs_core::ParseEndpointError>(())
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Backend {
    // What a choice reads and a connection writes are these two words. In an `Arc` they share a
    // cache line and are at least 80 bytes from those of any other backend, without an alignment
    // that would spread a long list over twice the memory.
    /// Weight in the low half, the flags above it: one load decides whether it may be chosen.
    shape: AtomicU64,
    /// Active connections in the high half, inactive ones in the low half.
    load: AtomicU64,
    /// Upper threshold in the high half, lower one in the low half.
    thresholds: AtomicU64,
    last_weight: AtomicU32,
    /// The decayed load of `p2c`.
    recent: AtomicU32,
    id: u32,
    /// Tells this object from every other of the process.
    serial: u32,
    addr: Addr,
    port: u16,
    /// Which stamps tell the indexes that this backend changed; 0: nobody watches.
    clock: AtomicU16,
}

#[cfg(not(lvs_loom))]
const _: () = assert!(size_of::<Backend>() == 64 && core::mem::offset_of!(Backend, load) == 8);

static SERIAL: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

impl Backend {
    /// A server with the embedder's own number. A weight above [`MAX_WEIGHT`] counts as that.
    #[must_use]
    pub fn new(id: u32, endpoint: Endpoint, weight: u32, thresholds: Thresholds) -> Arc<Self> {
        let weight = weight.min(MAX_WEIGHT);
        Arc::new(Self {
            shape: AtomicU64::new(u64::from(weight)),
            load: AtomicU64::new(0),
            thresholds: AtomicU64::new(pack(thresholds.upper, thresholds.lower)),
            last_weight: AtomicU32::new(weight),
            recent: AtomicU32::new(0),
            id,
            serial: SERIAL.fetch_add(1, core::sync::atomic::Ordering::Relaxed),
            clock: AtomicU16::new(0),
            addr: endpoint.addr,
            port: endpoint.port,
        })
    }

    /// The embedder's own number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Where the server is.
    #[must_use]
    pub const fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.addr, self.port)
    }

    /// Its share of new connections; 0: quiesced.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> u32 {
        low(self.shape.load(Ordering::Relaxed))
    }

    /// The last weight that was not 0 (IPVS 0.3), by which `mh` keeps the slots of a quiesced one.
    #[must_use]
    pub fn last_weight(&self) -> u32 {
        self.last_weight.load(Ordering::Relaxed)
    }

    /// Active connections.
    #[inline]
    #[must_use]
    pub fn active(&self) -> u32 {
        high(self.load.load(Ordering::Relaxed))
    }

    /// Inactive connections.
    #[inline]
    #[must_use]
    pub fn inactive(&self) -> u32 {
        low(self.load.load(Ordering::Relaxed))
    }

    /// Active and inactive connections.
    #[inline]
    #[must_use]
    pub fn connections(&self) -> u64 {
        total(self.load.load(Ordering::Relaxed))
    }

    /// The thresholds in force.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        let word = self.thresholds.load(Ordering::Relaxed);
        Thresholds {
            upper: high(word),
            lower: low(word),
        }
    }

    /// Whether the overload flag of IPVS 0.5 is set.
    #[inline]
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.shape.load(Ordering::Relaxed) & OVERLOADED != 0
    }

    /// Whether the server is in service: set when it joins a pool, cleared when it leaves.
    #[inline]
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.shape.load(Ordering::Relaxed) & UNAVAILABLE == 0
    }

    /// Whether it may be given a new connection: available, not overloaded, of a weight above 0.
    #[inline]
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable_weight() != 0
    }

    /// The weight, or 0 when the backend is not usable; one load.
    #[inline]
    pub(crate) fn usable_weight(&self) -> u32 {
        usable(self.shape.load(Ordering::Relaxed))
    }

    /// `active * 256 + inactive`: the load that lc, wlc, lblc, lblcr and twos compare (IPVS 1.1).
    #[inline]
    pub(crate) fn overhead(&self) -> u64 {
        let word = self.load.load(Ordering::Relaxed);
        u64::from(high(word)) * 256 + u64::from(low(word))
    }

    /// Sets the weight; call `Pool::updated` after it. More than [`MAX_WEIGHT`] counts as that.
    pub fn set_weight(&self, weight: u32) {
        let weight = weight.min(MAX_WEIGHT);
        if weight != 0 {
            self.last_weight.store(weight, Ordering::Relaxed);
        }
        self.reshape(u64::from(u32::MAX), u64::from(weight));
    }

    /// What adding a server does to its weight: 0 too becomes the last weight (IPVS 0.3).
    pub fn reset_weight(&self, weight: u32) {
        let weight = weight.min(MAX_WEIGHT);
        self.last_weight.store(weight, Ordering::Relaxed);
        self.reshape(u64::from(u32::MAX), u64::from(weight));
    }

    /// Sets the thresholds, and the overload flag anew if they changed (IPVS 0.5).
    pub fn set_thresholds(&self, thresholds: Thresholds) {
        let word = pack(thresholds.upper, thresholds.lower);
        if self.thresholds.swap(word, Ordering::SeqCst) != word {
            self.judge();
        }
    }

    /// Takes the server into service or out of it.
    pub fn set_available(&self, available: bool) {
        self.reshape(UNAVAILABLE, if available { 0 } else { UNAVAILABLE });
    }

    /// Sets the overload flag from outside; the next connection event may change it again.
    pub fn set_overloaded(&self, overloaded: bool) {
        self.reshape(OVERLOADED, if overloaded { OVERLOADED } else { 0 });
    }

    /// A connection was given to this server.
    #[inline(always)]
    pub fn opened(&self, active: bool) {
        self.count(|a, i| {
            if active {
                (a.saturating_add(1), i)
            } else {
                (a, i.saturating_add(1))
            }
        });
        // SeqCst here and in `closed`, with `judge`: of a count and a flag that change at once, one
        // side sees the other.
        if self.thresholds.load(Ordering::SeqCst) != 0 || self.flagged() {
            self.judge();
        }
        self.changed();
    }

    /// An inactive connection became active.
    #[inline]
    pub fn activated(&self) {
        self.count(|a, i| (a.saturating_add(1), i.saturating_sub(1)));
        self.changed();
    }

    /// An active connection became inactive.
    #[inline]
    pub fn deactivated(&self) {
        self.count(|a, i| (a.saturating_sub(1), i.saturating_add(1)));
        self.changed();
    }

    /// A connection of this server ended.
    #[inline]
    pub fn closed(&self, was_active: bool) {
        self.count(|a, i| {
            if was_active {
                (a.saturating_sub(1), i)
            } else {
                (a, i.saturating_sub(1))
            }
        });
        if self.flagged() {
            self.judge();
        }
        self.changed();
    }

    /// Judges the overload flag by the rule R of IPVS 0.5, as the binding of a persistence
    /// template does, which is counted nowhere.
    pub fn judge(&self) {
        // Between the count and the flag another thread may have counted: the flag is right when
        // the count that it was judged by is still the count after it was written.
        let mut load = self.load.load(Ordering::SeqCst);
        loop {
            let word = self.thresholds.load(Ordering::SeqCst);
            let total = total(load);
            let (upper, lower) = (high(word), low(word));
            let floor = if lower != 0 {
                lower
            } else {
                upper - (upper >> 2)
            };
            if upper != 0 && total >= u64::from(upper) {
                self.reshape(OVERLOADED, OVERLOADED);
            } else if upper == 0 || total < u64::from(floor) {
                self.reshape(OVERLOADED, 0);
            }
            let after = self.load.load(Ordering::SeqCst);
            if after == load && self.thresholds.load(Ordering::SeqCst) == word {
                return;
            }
            load = after;
        }
    }

    /// The clock that this backend advances, having been given `fresh` if it had none.
    pub(crate) fn clock_or(&self, fresh: impl FnOnce() -> u16) -> u16 {
        match self.clock.load(Ordering::SeqCst) {
            0 => {
                let fresh = fresh();
                self.clock
                    .compare_exchange(0, fresh, Ordering::SeqCst, Ordering::SeqCst)
                    .map_or_else(|earlier| earlier, |_| fresh)
            }
            clock => clock,
        }
    }

    /// The clock that this backend advances; 0: none.
    pub(crate) fn clock(&self) -> u16 {
        self.clock.load(Ordering::SeqCst)
    }

    pub(crate) const fn serial(&self) -> u32 {
        self.serial
    }

    pub(crate) const fn recent(&self) -> &AtomicU32 {
        &self.recent
    }

    #[inline]
    fn flagged(&self) -> bool {
        self.shape.load(Ordering::SeqCst) & OVERLOADED != 0
    }

    fn reshape(&self, mask: u64, value: u64) {
        let change = |word: u64| (word & (mask ^ u64::MAX)) | value;
        let before = self
            .shape
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                let next = change(word);
                (next != word).then_some(next)
            });
        if let Ok(before) = before {
            if (usable(before) == 0) != (usable(change(before)) == 0) {
                clock::reshaped();
            }
            self.changed();
        }
    }

    #[inline(always)]
    fn count(&self, event: impl Fn(u32, u32) -> (u32, u32)) {
        let mut word = self.load.load(Ordering::Relaxed);
        loop {
            let (active, inactive) = event(high(word), low(word));
            let next = pack(active, inactive);
            match self
                .load
                .compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    #[inline]
    fn changed(&self) {
        // SeqCst with `clock_or`: either this sees the clock, or the index sees the new figures.
        let clock = self.clock.load(Ordering::SeqCst);
        if clock != 0 {
            clock::advance(clock);
        }
    }
}

/// The weight in a shape, or 0 when the backend is not usable.
const fn usable(shape: u64) -> u32 {
    if high(shape) == 0 { low(shape) } else { 0 }
}

const fn pack(upper: u32, lower: u32) -> u64 {
    ((upper as u64) << 32) | lower as u64
}

const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn low(word: u64) -> u32 {
    word as u32
}

const fn total(word: u64) -> u64 {
    high(word) as u64 + low(word) as u64
}
