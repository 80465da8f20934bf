//! What each rule promises, whatever the figures.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test: what is missing is a failure"
)]

use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Options, Pool, Request};
use proptest::prelude::*;
use std::sync::Arc;

fn pool(name: &str, weights: &[u32]) -> Pool {
    let mut pool = Pool::new(name, SchedFlags::default()).unwrap();
    let backend = |(n, &weight): (u32, &u32)| {
        let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + n), 80);
        Backend::new(n, endpoint, weight, Thresholds::default())
    };
    pool.extend((0..).zip(weights).map(backend)).unwrap();
    pool
}

fn client(n: u32) -> Request {
    Request {
        src: Addr::from_v4_bits(0xc633_0000 + n),
        src_port: 4000,
        dst: Addr::from_v4_bits(0xcb00_7100 + n % 256),
        now: Tick(n / 16),
    }
}

fn get(pool: &Pool, id: u32) -> Arc<Backend> {
    Arc::clone(pool.backends().iter().find(|b| b.id() == id).unwrap())
}

fn id(pool: &Pool, n: u32) -> Option<u32> {
    pool.pick(&client(n)).map(|backend| backend.id())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// How often each of `count` backends is chosen.
fn shares(pool: &Pool, count: usize, choices: u32) -> Vec<u32> {
    let mut shares = vec![0; count];
    for n in 0..choices {
        shares[id(pool, n).unwrap() as usize] += 1;
    }
    shares
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Over any cycle each has its share to the last connection, and nobody waits longer for its
    /// turn than the heavier ones' excess and two walks through the list.
    #[test]
    fn wrr_is_exact_and_bounded(
        weights in proptest::collection::vec(0u32..40, 1..24),
        start in 0u32..500,
    ) {
        let pool = pool("wrr", &weights);
        let divisor = weights.iter().copied().fold(0, gcd);
        prop_assume!(divisor != 0);
        shares(&pool, weights.len(), start);
        let cycle: u32 = weights.iter().sum::<u32>() / divisor;
        let mut last = vec![None; weights.len()];
        for round in 0..2 {
            let mut counts = vec![0; weights.len()];
            for n in 0..cycle {
                let chosen = id(&pool, n).unwrap() as usize;
                counts[chosen] += 1;
                let now = round * cycle + n;
                if let Some(before) = last[chosen].replace(now) {
                    let excess = |&w: &u32| w.saturating_sub(weights[chosen]) / divisor;
                    let most = weights.iter().map(excess).sum::<u32>();
                    prop_assert!(now - before <= most + 2 * u32::try_from(weights.len()).unwrap());
                }
            }
            let exact: Vec<_> = weights.iter().map(|weight| weight / divisor).collect();
            prop_assert_eq!(&counts, &exact);
        }
    }

    /// Nobody usable is better than the one chosen, and of equals it is the one that stands first.
    #[test]
    fn lc_and_wlc_choose_the_best(
        backends in proptest::collection::vec((0u32..5, 0u32..300, 0u32..300), 1..60),
        changes in proptest::collection::vec((any::<usize>(), any::<bool>()), 0..60),
    ) {
        for name in ["lc", "wlc"] {
            let weights: Vec<_> = backends.iter().map(|&(weight, ..)| weight).collect();
            let pool = pool(name, &weights);
            for (n, &(_, active, inactive)) in (0..).zip(&backends) {
                let backend = get(&pool, n);
                (0..active).for_each(|_| backend.opened(true));
                (0..inactive).for_each(|_| backend.opened(false));
            }
            for &(which, up) in &changes {
                let backend = &pool.backends()[which % pool.backends().len()];
                if up { backend.opened(true) } else { backend.closed(true) }
                let Some(chosen) = pool.pick(&client(0)) else {
                    prop_assert!(weights.iter().all(|&weight| weight == 0));
                    continue;
                };
                let load = |b: &Backend| u64::from(b.active()) * 256 + u64::from(b.inactive());
                let per = |b: &Backend| if name == "lc" { 1 } else { u64::from(b.weight()) };
                let at = pool.position(chosen).unwrap();
                for (place, other) in pool.backends().iter().enumerate() {
                    let (ours, theirs) = (load(chosen) * per(other), load(other) * per(chosen));
                    prop_assert!(!other.is_usable() || ours <= theirs);
                    prop_assert!(!other.is_usable() || place >= at || ours < theirs);
                }
            }
        }
    }

    /// A client's or an address's server changes only when that server does.
    #[test]
    fn hashes_hold_on_to_their_servers(
        weights in proptest::collection::vec(1u32..6, 2..20),
        victim in any::<u32>(),
    ) {
        let victim = victim % u32::try_from(weights.len()).unwrap();
        for name in ["sh", "dh", "mh"] {
            let mut pool = pool(name, &weights);
            let before: Vec<_> = (0..500).map(|n| id(&pool, n)).collect();
            let backend = get(&pool, victim);
            backend.set_overloaded(true);
            for (n, &was) in (0..).zip(&before) {
                let expected = if was == Some(victim) { None } else { was };
                prop_assert_eq!(id(&pool, n), expected, "{} overloaded", name);
            }
            backend.set_overloaded(false);
            prop_assert!(pool.updated(&backend));
            let after: Vec<_> = (0..500).map(|n| id(&pool, n)).collect();
            prop_assert_eq!(&before, &after, "{} touched", name);
            // Quiesced: dh and mh keep the buckets of everybody else.
            if name != "sh" {
                backend.set_weight(0);
                prop_assert!(pool.updated(&backend));
                for (n, &was) in (0..).zip(&before) {
                    let expected = if was == Some(victim) { None } else { was };
                    prop_assert_eq!(id(&pool, n), expected, "{} quiesced", name);
                }
            }
        }
    }

    /// Nobody gets a connection who may not, by chance either.
    #[test]
    fn chance_keeps_to_the_usable(
        weights in proptest::collection::vec(0u32..4, 1..40),
        overloaded in any::<u64>(),
    ) {
        for name in ["twos", "p2c", "mhbl"] {
            let pool = pool(name, &weights);
            for backend in pool.backends() {
                backend.set_overloaded(overloaded >> (backend.id() % 64) & 1 != 0);
            }
            let some = pool.backends().iter().any(|backend| backend.is_usable());
            for n in 0..100 {
                let chosen = pool.pick(&client(n));
                prop_assert_eq!(chosen.is_some(), some);
                prop_assert!(chosen.is_none_or(|backend| backend.is_usable()));
            }
        }
    }
}

/// The probability that the reference gives each usable backend (IPVS 1.10), by going through all
/// pairs of draws.
fn twos_by_enumeration(pool: &Pool) -> Vec<f64> {
    let usable: Vec<_> = pool.backends().iter().filter(|b| b.is_usable()).collect();
    let total: u32 = usable.iter().map(|b| b.weight()).sum::<u32>() + 1;
    let drawn = |r: u32| {
        let mut rest = i64::from(r);
        usable
            .iter()
            .find(|b| {
                rest -= i64::from(b.weight());
                rest <= 0
            })
            .unwrap()
    };
    let over = |b: &Backend| u64::from(b.active()) * 256 + u64::from(b.inactive());
    let mut chances = vec![0.0; pool.backends().len()];
    for r1 in 0..total {
        for r2 in 0..total {
            let (one, two) = (drawn(r1), drawn(r2));
            let second = u64::from(two.weight()) * over(one) > u64::from(one.weight()) * over(two);
            let chosen = if second { two } else { one };
            chances[chosen.id() as usize] += 1.0 / f64::from(total).powi(2);
        }
    }
    chances
}

#[test]
fn twos_has_the_chances_of_the_reference() {
    for (weights, active, overloaded) in [
        (&[5, 3, 2, 1][..], [0, 0, 0, 0], None),
        (&[1, 1, 1, 1], [3, 2, 1, 0], None),
        (&[5, 3, 2, 1], [9, 1, 4, 1], Some(3)),
        (&[1, 40, 0, 2], [1, 0, 0, 0], Some(1)),
    ] {
        let pool = pool("twos", weights);
        for (n, count) in (0..).zip(active) {
            (0..count).for_each(|_| get(&pool, n).opened(true));
        }
        if let Some(n) = overloaded {
            get(&pool, n).set_overloaded(true);
        }
        let choices = 200_000;
        let counts = shares(&pool, weights.len(), choices);
        for (count, chance) in counts.iter().zip(twos_by_enumeration(&pool)) {
            let expected = chance * f64::from(choices);
            let deviation = (expected * (1.0 - chance)).sqrt();
            let off = (f64::from(*count) - expected).abs();
            assert!(
                off <= 4.5 * deviation,
                "{weights:?}: {counts:?}, expected {expected}"
            );
        }
    }
}

#[test]
fn p2c_shares_by_weight_and_spreads_what_is_never_active() {
    let weights = [1, 2, 4, 1, 2, 4];
    let pool = pool("p2c", &weights);
    let counts = shares(&pool, 6, 70_000);
    for (count, weight) in counts.iter().zip(weights) {
        let off = (f64::from(*count) / (5000.0 * f64::from(weight)) - 1.0).abs();
        assert!(off < 0.1, "{counts:?}");
    }
    // With real loads the most loaded is within a few connections of its share.
    let counts: Vec<_> = (0..7_000)
        .filter_map(|n| pool.pick(&client(n)))
        .inspect(|backend| backend.opened(true))
        .collect();
    assert_eq!(counts.len(), 7_000);
    for backend in pool.backends() {
        let share = 500 * backend.weight();
        assert!(
            backend.active().abs_diff(share) <= share / 20 + 5,
            "{backend:?}"
        );
    }
}

#[test]
fn mhbl_bounds_the_load_of_a_single_client() {
    let weights = [1, 2, 3, 4];
    let pool = pool("mhbl", &weights);
    let mh = self::pool("mh", &weights);
    assert_eq!(id(&pool, 7), id(&mh, 7), "without load it is mh");
    for _ in 0..10_000 {
        pool.pick(&client(7)).unwrap().opened(true);
    }
    for backend in pool.backends() {
        let bound = 1.25 * 1000.0 * f64::from(backend.weight()) + 2.0;
        assert!(f64::from(backend.active()) <= bound, "{backend:?}");
    }
    // Even load is no reason to leave one's server.
    let even = self::pool("mhbl", &[1; 50]);
    let mh = self::pool("mh", &[1; 50]);
    for backend in even.backends() {
        (0..100).for_each(|_| backend.opened(true));
    }
    even.tick(Tick(0));
    assert!((0..2000).all(|n| id(&even, n) == id(&mh, n)));
}

#[test]
fn maglev_is_even_and_moves_little() {
    for (index, size, count) in [(12, 4093, 40), (16, 65_521, 500)] {
        let options = Options {
            mh_index: index,
            ..Options::default()
        };
        let mut pool = Pool::with_options("mh", SchedFlags::default(), options).unwrap();
        let backend = |n: u32| {
            let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + n * 7), 80);
            Backend::new(n, endpoint, 1, Thresholds::default())
        };
        pool.extend((0..count).map(backend)).unwrap();
        let asked = 200_000;
        let before: Vec<_> = (0..asked).filter_map(|n| id(&pool, n)).collect();
        let mut counts = vec![0u32; count as usize];
        before.iter().for_each(|&id| counts[id as usize] += 1);
        // Each has size / count slots, give or take one; clients fall on them at random.
        let share = f64::from(asked) / f64::from(count);
        let slots = f64::from(size) / f64::from(count);
        let spread = 5.0 * share.sqrt() + 5.0 * share / slots.sqrt();
        for count in counts {
            assert!(
                (f64::from(count) - share).abs() < spread,
                "{count} of {share}"
            );
        }
        let gone = get(&pool, 3);
        pool.remove(&gone);
        let moved = (0..asked)
            .filter_map(|n| id(&pool, n))
            .zip(&before)
            .filter(|(now, was)| **was != 3 && now != *was)
            .count();
        // Eisenbud et al. 5.3: a few percent at most for tables of a hundred slots a backend.
        assert!(moved * 100 < asked as usize * 6, "{moved} moved");
    }
}

#[test]
fn threads_share_a_pool_exactly() {
    let weights: Vec<u32> = (1..=9).collect();
    for (name, cycle) in [("rr", 9), ("wrr", 45)] {
        let pool = pool(name, &weights);
        let rounds = 400;
        let counts = std::thread::scope(|scope| {
            let work = || {
                let pool = &pool;
                scope.spawn(move || shares(pool, 9, cycle * rounds))
            };
            let threads = [work(), work(), work(), work()];
            threads.map(|thread| thread.join().unwrap())
        });
        for (n, weight) in weights.iter().enumerate() {
            let all: u32 = counts.iter().map(|count| count[n]).sum();
            let share = if name == "rr" { 1 } else { *weight };
            assert_eq!(all, 4 * rounds * share, "{name}");
        }
    }
}

#[test]
fn threads_leave_every_index_right() {
    for name in ["lc", "wlc", "sed", "nq", "ovf", "lblc", "lblcr"] {
        let pool = pool(name, &[3; 100]);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut open = Vec::new();
                    for n in 0..4000 {
                        if let Some(backend) = pool.pick(&client(n)) {
                            backend.opened(n % 3 != 0);
                            open.push((backend, n % 3 != 0));
                        }
                        if (n + thread) % 5 < 3 && !open.is_empty() {
                            let (backend, active) = open.swap_remove(n as usize % open.len());
                            backend.closed(active);
                        }
                    }
                });
            }
        });
        // An index that is made now knows of no past.
        let fresh = {
            let mut fresh = pool.clone();
            fresh.set_scheduler("rr", SchedFlags::default()).unwrap();
            fresh.set_scheduler(name, SchedFlags::default()).unwrap();
            fresh
        };
        if !name.starts_with("lblc") {
            assert_eq!(id(&pool, 1), id(&fresh, 1), "{name}");
        }
        assert!(id(&pool, 1).is_some() || name == "ovf");
    }
}
