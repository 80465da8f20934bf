//! How many ICMP errors of its own the director sends: to anybody, and to each who caused them, as Linux
//! limits its own (`icmp_msgs_per_sec`, `icmp_msgs_burst`, `icmp_ratelimit`, `icmp_ratemask`).
//!
//! In: whom an error would go to, and what it says. Out: whether it may be sent. Each worker counts for
//! itself. Never: an allocation behind its start; more memory than [`PEERS`] receivers need: one that is
//! forgotten for another starts anew, and the limit for all holds anyway.

use ahash::RandomState;
use lvs_core::{Addr, Family, Tick};
use lvs_packet::answer::IcmpProblem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Receivers of errors that a worker remembers.
const PEERS: usize = 1024;
/// Receivers with the same hash that are remembered at once.
const WAYS: usize = 4;
/// Errors that a receiver gets at once after a silence (Linux's `XRLIM_BURST_FACTOR`).
const PEER_BURST: u32 = 6;
/// The bucket for all is not filled more often (Linux's).
const FILLED_EVERY: u32 = Tick::PER_SECOND / 50;

/// How many ICMP errors of its own a director sends, for [`Director::set_error_limit`]. Errors that say how
/// long packets may be are never held back: without them connections hang.
///
/// [`Director::set_error_limit`]: crate::Director::set_error_limit
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorLimit {
    /// Errors a second in the long run, by each worker.
    pub per_second: u32,
    /// Errors in a burst.
    pub burst: u32,
    /// Milliseconds between errors to one receiver, who gets six at once after a silence; IPv4 and IPv6.
    /// 0: no limit.
    pub peer_interval: (u32, u32),
    /// The types of IPv4's ICMP that are limited, a bit for each; `ICMPv6` limits all.
    pub mask: u32,
}

impl ErrorLimit {
    /// What a Linux has that nobody has told otherwise; IPv6 as towards receivers behind its default
    /// route, to whom it sends sixteen times as many.
    pub const LINUX: Self = Self {
        per_second: 1000,
        burst: 50,
        peer_interval: (1000, 60),
        mask: 0x1818,
    };
}

impl Default for ErrorLimit {
    /// Only as many in all as the director can send without harm to its packets.
    fn default() -> Self {
        Self {
            per_second: 2000,
            burst: 200,
            peer_interval: (0, 0),
            ..Self::LINUX
        }
    }
}

/// An [`ErrorLimit`] that workers read and the control plane sets.
#[derive(Debug)]
pub(crate) struct Limits([AtomicU32; 5]);

impl Default for Limits {
    fn default() -> Self {
        let limits = Self(Default::default());
        limits.set(ErrorLimit::default());
        limits
    }
}

impl Limits {
    pub(crate) fn set(&self, limit: ErrorLimit) {
        let ErrorLimit {
            per_second,
            burst,
            peer_interval: (v4, v6),
            mask,
        } = limit;
        for (to, value) in self.0.iter().zip([per_second, burst, v4, v6, mask]) {
            // Each stands for itself.
            to.store(value, Relaxed);
        }
    }

    fn get(&self) -> ErrorLimit {
        let [per_second, burst, v4, v6, mask] = self.0.each_ref().map(|value| value.load(Relaxed));
        ErrorLimit {
            per_second,
            burst,
            peer_interval: (v4, v6),
            mask,
        }
    }
}

/// A bucket of ticks that have passed and are not used up.
#[derive(Clone, Copy, Debug)]
struct Peer {
    addr: Addr,
    saved: u32,
    at: Tick,
}

/// What a worker has sent.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limits: Arc<Limits>,
    tokens: u32,
    filled: Tick,
    hasher: RandomState,
    peers: Box<[Option<Peer>]>,
}

impl RateLimit {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            tokens: u32::MAX,
            filled: Tick::default(),
            hasher: RandomState::new(),
            peers: vec![None; PEERS].into_boxed_slice(),
        }
    }

    /// Whether an error of this kind may go to `to` now; then it has been counted.
    #[cold]
    pub(crate) fn allow(&mut self, now: Tick, to: Addr, problem: IcmpProblem) -> bool {
        let limit = self.limits.get();
        let family = to.family();
        if !is_limited(problem, family, limit.mask) {
            return true;
        }
        let interval = match family {
            Family::V4 => limit.peer_interval.0,
            Family::V6 => limit.peer_interval.1,
        };
        let Some(left) = self.left(now, &limit) else {
            return false;
        };
        // What one does not get is left for the others.
        let allowed = self.allow_to(now, to, interval);
        if allowed {
            self.tokens = left;
        }
        allowed
    }

    /// What the limit for all would have left behind one more error.
    fn left(&mut self, now: Tick, limit: &ErrorLimit) -> Option<u32> {
        let passed = now.since(self.filled);
        if passed >= FILLED_EVERY {
            let passed = u64::from(passed.min(Tick::PER_SECOND));
            let new = u64::from(limit.per_second) * passed / u64::from(Tick::PER_SECOND);
            let new = u32::try_from(new).unwrap_or(u32::MAX);
            if new > 0 {
                self.tokens = self.tokens.saturating_add(new);
                self.filled = now;
            }
        }
        self.tokens = self.tokens.min(limit.burst);
        self.tokens.checked_sub(1)
    }

    /// The limit for one.
    fn allow_to(&mut self, now: Tick, to: Addr, milliseconds: u32) -> bool {
        if milliseconds == 0 {
            return true;
        }
        let interval = (milliseconds / (1000 / Tick::PER_SECOND)).max(1);
        let most = interval.saturating_mul(PEER_BURST);
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let set = self.hasher.hash_one(to) as usize % (PEERS / WAYS) * WAYS;
        let Some(ways) = self.peers.get_mut(set..set + WAYS) else {
            return true;
        };
        let known = |peer: &Option<Peer>| peer.is_some_and(|peer| peer.addr == to);
        let age = |peer: &Option<Peer>| peer.map_or(u32::MAX, |peer| now.since(peer.at));
        let way = match ways.iter().position(known) {
            Some(way) => way,
            None => {
                let oldest = ways.iter().enumerate().max_by_key(|(_, peer)| age(peer));
                oldest.map_or(0, |(way, _)| way)
            }
        };
        let Some(place) = ways.get_mut(way) else {
            return true;
        };
        let saved = match place {
            Some(peer) if peer.addr == to => peer.saved.saturating_add(now.since(peer.at)),
            _ => most,
        };
        let saved = saved.min(most);
        let left = saved.checked_sub(interval);
        *place = Some(Peer {
            addr: to,
            saved: left.unwrap_or(saved),
            at: now,
        });
        left.is_some()
    }
}

/// Whether an error is one that is held back if there are too many.
const fn is_limited(problem: IcmpProblem, family: Family, mask: u32) -> bool {
    let (icmp_type, icmp_code) = problem.kind(family);
    let about_length = match family {
        Family::V4 => icmp_type == 3 && icmp_code == 4,
        Family::V6 => icmp_type == 2,
    };
    let named = match family {
        Family::V4 => icmp_type <= 18 && mask & (1 << icmp_type) != 0,
        Family::V6 => true,
    };
    named && !about_length
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: IcmpProblem = IcmpProblem::PortUnreachable;

    fn limited(limit: ErrorLimit) -> RateLimit {
        let limits = Limits::default();
        limits.set(limit);
        RateLimit::new(Arc::new(limits))
    }

    fn client(number: u32) -> Addr {
        Addr::from_v4_bits(0x0a01_0000 + number)
    }

    #[test]
    fn a_burst_then_the_rate_for_all() {
        let mut limit = limited(ErrorLimit::LINUX);
        let start = Tick(10_000);
        let mut many = |now| {
            (0..10_000)
                .map(client)
                .filter(|to| limit.allow(now, *to, NOBODY))
                .count()
        };
        assert_eq!(many(start), 50);
        assert_eq!(many(start + 1), 0);
        // 5 ticks are a fiftieth of a second.
        assert_eq!(many(start + FILLED_EVERY), 20);
        assert_eq!(many(start + Tick::seconds(60)), 50);
    }

    #[test]
    fn a_rate_below_one_for_each_filling_is_kept() {
        let mut limit = limited(ErrorLimit {
            per_second: 10,
            ..ErrorLimit::LINUX
        });
        let allowed = (0..10 * Tick::PER_SECOND)
            .filter(|passed| limit.allow(Tick(10_000 + passed), client(*passed), NOBODY))
            .count();
        // 50 at once, and ten in each of ten seconds.
        assert!((149..=150).contains(&allowed), "{allowed}");
    }

    #[test]
    fn one_who_asks_for_many_takes_nothing_from_others() {
        let mut limit = limited(ErrorLimit::LINUX);
        let now = Tick(10_000);
        let sent = (0..1000)
            .filter(|_| limit.allow(now, client(1), NOBODY))
            .count();
        assert_eq!(sent, 6);
        let others = (2..100)
            .filter(|n| limit.allow(now, client(*n), NOBODY))
            .count();
        assert_eq!(others, 50 - 6);
    }

    #[test]
    fn six_at_once_then_one_a_second_for_each() {
        let mut limit = limited(ErrorLimit::LINUX);
        let mut allowed = |now, to| (0..20).filter(|_| limit.allow(now, to, NOBODY)).count();
        let before = Tick(9_999);
        let start = before + 1;
        assert_eq!(allowed(start, client(1)), 6);
        assert_eq!(allowed(start + 10, client(2)), 6);
        assert_eq!(allowed(before + Tick::PER_SECOND, client(1)), 0);
        assert_eq!(allowed(start + Tick::PER_SECOND, client(1)), 1);
        assert_eq!(allowed(start + 3 * Tick::PER_SECOND + 1, client(1)), 2);
        assert_eq!(allowed(start + 99 * Tick::PER_SECOND, client(1)), 6);
        let v6: Addr = "2001:db8::1".parse().unwrap();
        assert_eq!(allowed(start + 200 * Tick::PER_SECOND, v6), 6);
        assert_eq!(allowed(start + 200 * Tick::PER_SECOND + 15, v6), 1);
    }

    #[test]
    fn what_says_how_long_packets_may_be_always_goes() {
        let none = ErrorLimit {
            per_second: 0,
            burst: 0,
            ..ErrorLimit::LINUX
        };
        let mut limit = limited(none);
        let too_big = IcmpProblem::TooBig { mtu: 1400 };
        assert!(!limit.allow(Tick(9), client(1), NOBODY));
        assert!(limit.allow(Tick(9), client(1), too_big));
        assert!(limit.allow(Tick(9), "2001:db8::1".parse().unwrap(), too_big));
        // A type that the mask leaves out.
        let mut limit = limited(ErrorLimit { mask: 0, ..none });
        assert!(limit.allow(Tick(9), client(1), NOBODY));
    }

    #[test]
    fn many_receivers_need_no_more_memory() {
        let mut limit = limited(ErrorLimit {
            per_second: u32::MAX,
            burst: u32::MAX,
            ..ErrorLimit::LINUX
        });
        for number in 0..100_000 {
            assert!(limit.allow(Tick(10_000 + number), client(number), NOBODY));
        }
        assert_eq!(limit.peers.len(), PEERS);
    }
}
