//! Time as the data path knows it: a clock that the caller reads once per batch.

use core::ops::Add;

/// A moment, in ticks of 4 ms (the kernel's at 250 Hz) since an arbitrary start.
///
/// 32 bits wide, so that an entry has room for it; it wraps after 198 days, and two moments
/// compare rightly while they are less than 99 days apart, more than three times the longest
/// timeout (31 days).
///
/// ```
/// use lvs_core::Tick;
/// let now = Tick::from_millis(u64::from(u32::MAX) * 4);
/// let later = now + Tick::seconds(10);
/// assert!(later.is_after(now));
/// assert_eq!(later.since(now), Tick::seconds(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Tick(pub u32);

impl Tick {
    /// Ticks in a second.
    pub const PER_SECOND: u32 = 250;

    /// The tick of a monotonic clock's milliseconds.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "wraps on purpose")]
    pub const fn from_millis(millis: u64) -> Self {
        Self((millis / 4) as u32)
    }

    /// The length of that many seconds, in ticks.
    #[inline]
    #[must_use]
    pub const fn seconds(seconds: u32) -> u32 {
        seconds.wrapping_mul(Self::PER_SECOND)
    }

    /// Whether this moment lies after `other`.
    #[inline]
    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        other.0.wrapping_sub(self.0).cast_signed() < 0
    }

    /// The ticks from `earlier` to this moment; 0 if `earlier` is later.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let length = self.0.wrapping_sub(earlier.0);
        if length.cast_signed() < 0 { 0 } else { length }
    }
}

impl Add<u32> for Tick {
    type Output = Self;

    fn add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }
}
