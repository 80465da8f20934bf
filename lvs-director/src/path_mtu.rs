//! What routers between the director and a server have said about how long a packet may be: one
//! value a destination, learned from errors about its tunnel's packets (IPVS 3.6).
//!
//! In: reports, from any worker. Out: the limit, to all of them, by one load. A value is forgotten
//! after ten minutes, as a kernel forgets it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use lvs_core::Tick;

/// How long a report counts (Linux's `net.ipv4.route.mtu_expires`).
const KEPT: u32 = Tick::seconds(600);
/// No report makes it less (Linux's `net.ipv4.route.min_pmtu`).
const LEAST: u32 = 552;

/// The tick until which the value counts, in the upper half; below it the MTU, and whether a packet
/// has been sent by it. 0: nothing is known.
#[derive(Debug, Default)]
pub(crate) struct PathMtu(AtomicU64);

const USED: u64 = 1 << 31;

#[derive(Clone, Copy)]
struct Known {
    until: Tick,
    mtu: u32,
    used: bool,
}

impl PathMtu {
    fn get(&self, now: Tick) -> Option<Known> {
        // Relaxed: the value stands for itself.
        let word = self.0.load(Relaxed);
        if word == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves, on purpose"
        )]
        let (until, low) = (Tick((word >> 32) as u32), word as u32);
        let known = Known {
            until,
            mtu: low & 0x7fff_ffff,
            used: word & USED != 0,
        };
        known.until.is_after(now).then_some(known)
    }

    /// How long a packet may be that is about to be sent by a way of `mtu` bytes.
    #[inline]
    pub(crate) fn limit(&self, mtu: u32, now: Tick) -> u32 {
        match self.get(now) {
            None => mtu,
            Some(known) => {
                if !known.used {
                    self.0.fetch_or(USED, Relaxed);
                }
                mtu.min(known.mtu)
            }
        }
    }

    /// A router reports that only `reported` bytes pass, where the way itself has `mtu`. Gives what
    /// the director went by when it sent its last packet; the report itself, if it goes by that
    /// at once, as a kernel's cached route does from the second report on.
    pub(crate) fn report(&self, reported: u32, mtu: u32, now: Tick) -> u32 {
        let known = self.get(now);
        let old = known.map_or(mtu, |known| known.mtu.min(mtu));
        let used = known.is_some_and(|known| known.used);
        if reported > old {
            return if used { old } else { mtu };
        }
        let new = reported.max(LEAST.min(old));
        let word = (u64::from((now + KEPT).0) << 32) | u64::from(new) | if used { USED } else { 0 };
        self.0.store(word, Relaxed);
        if used { new } else { mtu }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_for_ten_minutes_and_is_told_from_the_second_on() {
        let path = PathMtu::default();
        let now = Tick(1000);
        assert_eq!(path.limit(1500, now), 1500);
        assert_eq!(path.report(1200, 1500, now), 1500);
        // Nothing was sent since.
        assert_eq!(path.report(1100, 1500, now), 1500);
        assert_eq!(path.limit(1500, now), 1100);
        assert_eq!(path.limit(1000, now), 1000);
        assert_eq!(path.report(1000, 1500, now), 1000);
        assert_eq!(path.report(1400, 1500, now), 1000, "more does not count");
        assert_eq!(path.report(68, 1500, now), LEAST);
        assert_eq!(path.limit(1500, now + (KEPT - 1)), LEAST);
        assert_eq!(path.limit(1500, now + KEPT), 1500);
        assert_eq!(path.report(0, 500, now + KEPT), 500);
    }
}
