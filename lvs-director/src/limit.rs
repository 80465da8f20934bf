//! How many errors of its own the director sends: a token bucket a worker.

use lvs_core::Tick;

/// Errors in a burst, and at most this many tokens saved.
const BURST: u32 = 200;
/// Errors a second in the long run (Linux's `icmp_msgs_per_sec` is of the same order).
const PER_SECOND: u32 = 2000;

/// A token bucket that is filled by the clock of the batches.
#[derive(Debug)]
pub(crate) struct RateLimit {
    tokens: u32,
    filled: Tick,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            tokens: BURST,
            filled: Tick::default(),
        }
    }
}

impl RateLimit {
    /// Takes a token if there is one.
    pub(crate) fn allow(&mut self, now: Tick) -> bool {
        let new = now.since(self.filled).min(Tick::PER_SECOND) * (PER_SECOND / Tick::PER_SECOND);
        if new > 0 {
            self.tokens = self.tokens.saturating_add(new).min(BURST);
            self.filled = now;
        }
        let Some(left) = self.tokens.checked_sub(1) else {
            return false;
        };
        self.tokens = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limit = RateLimit::default();
        let start = Tick(1000);
        let allowed = (0..10_000).filter(|_| limit.allow(start)).count();
        assert_eq!(allowed, BURST as usize);
        let allowed = (0..10_000).filter(|_| limit.allow(start + 1)).count();
        assert_eq!(allowed, (PER_SECOND / Tick::PER_SECOND) as usize);
        let allowed = (0..10_000)
            .filter(|_| limit.allow(start + Tick::seconds(60)))
            .count();
        assert_eq!(allowed, BURST as usize);
    }
}
