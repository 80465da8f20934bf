//! The worked examples of the reference (IPVS 0.5, 1.2, 1.11), most of them seen on a kernel.
//!
//! Servers are called 1, 2, 3 in the order in which they are added; 0 is nobody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test: what is missing is a failure"
)]

use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, EditError, NAMES, Options, Pool, Request, UnknownScheduler};
use std::sync::Arc;

fn server(n: u32, weight: u32) -> Arc<Backend> {
    let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + n), 80);
    Backend::new(n, endpoint, weight, Thresholds::default())
}

fn pool(name: &str, weights: &[u32]) -> Pool {
    let mut pool = Pool::new(name, SchedFlags::default()).unwrap();
    for (n, &weight) in (1..).zip(weights) {
        pool.add(server(n, weight)).unwrap();
    }
    pool
}

fn client(n: u32) -> Request {
    Request {
        src: Addr::from_v4_bits(0xc633_6400 + n),
        src_port: 40_000,
        dst: Addr::from_v4_bits(0xcb00_7101),
        now: Tick(0),
    }
}

fn get(pool: &Pool, n: u32) -> Arc<Backend> {
    Arc::clone(pool.backends().iter().find(|b| b.id() == n).unwrap())
}

fn pick(pool: &Pool) -> u32 {
    pool.pick(&client(1)).map_or(0, |backend| backend.id())
}

fn picks(pool: &Pool, count: usize) -> Vec<u32> {
    (0..count).map(|_| pick(pool)).collect()
}

/// As many choices, each an active connection that stays.
fn loads(pool: &Pool, count: usize) -> Vec<u32> {
    let one = |_| {
        pool.pick(&client(1)).map_or(0, |backend| {
            backend.opened(true);
            backend.id()
        })
    };
    (0..count).map(one).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    let digit = |c: char| if c == '-' { Some(0) } else { c.to_digit(10) };
    text.chars().filter_map(digit).collect()
}

fn set_weight(pool: &mut Pool, n: u32, weight: u32) {
    let backend = get(pool, n);
    backend.set_weight(weight);
    assert!(pool.updated(&backend));
}

#[test]
fn rr_keeps_its_cursor_through_edits() {
    let mut pool = pool("rr", &[1, 1, 1]);
    assert_eq!(picks(&pool, 5), numbers("3 2 1 3 2"));
    let b = get(&pool, 2);
    assert!(pool.remove(&b) && !pool.remove(&b));
    assert_eq!(picks(&pool, 4), numbers("1 3 1 3"));
    pool.add(server(4, 1)).unwrap();
    assert_eq!(picks(&pool, 6), numbers("1 4 3 1 4 3"));
}

#[test]
fn wrr_sequences() {
    for (weights, first, then) in [
        ([4, 3, 2], "321121321 321121321 321121", "1321 1321 1321"),
        (
            [5, 1, 1],
            "3211111 3211111 3211111 321",
            "32111121 32111121",
        ),
        (
            [6, 4, 2],
            "321121 321121 321121 321121",
            "13211 13211 13211",
        ),
        ([1, 1, 1], "321 321 321 321 321 321 321 321", "3212 3212"),
        (
            [10, 5, 0],
            "211 211 211 211 211 211 211 211",
            "111211 111211",
        ),
        ([7, 3, 5], "321113131321321 321113131", "3131321321 1131"),
    ] {
        let mut pool = pool("wrr", &weights);
        let first = numbers(first);
        assert_eq!(picks(&pool, 24), first[..24], "{weights:?}");
        set_weight(&mut pool, 2, 2);
        let then = numbers(then);
        if weights != [7, 3, 5] {
            assert_eq!(picks(&pool, then.len()), then, "{weights:?} then 2");
        } else {
            assert_eq!(picks(&pool, 14), numbers("3 1 3 1 3 2 1 3 2 1 1 1 3 1"));
        }
    }
    let mut pool = pool("wrr", &[100, 50, 25]);
    assert_eq!(picks(&pool, 24), numbers(&"3211121".repeat(4))[..24]);
    set_weight(&mut pool, 2, 2);
    let mut expected = numbers("32");
    expected.extend([1; 76]);
    expected.extend(numbers("3131"));
    assert_eq!(picks(&pool, expected.len()), expected);
}

#[test]
fn load_dependent_sequences() {
    for (name, weights, expected) in [
        ("lc", [1, 2, 3], "32132132132132"),
        ("lc", [1, 1, 1], "32132132132132"),
        ("lc", [2, 4, 1], "32132132132132"),
        ("wlc", [1, 2, 3], "32132332132332"),
        ("wlc", [1, 1, 1], "321321"),
        ("wlc", [2, 4, 1], "32122123212212"),
        ("sed", [1, 2, 3], "32332132332132"),
        ("sed", [1, 1, 1], "321321"),
        ("sed", [2, 4, 1], "22123212212321"),
        ("nq", [1, 2, 3], "32133232332132"),
        ("nq", [1, 1, 1], "321321"),
        ("nq", [2, 4, 1], "32122212212321"),
        ("fo", [1, 2, 3], "33333333333333"),
        ("fo", [1, 1, 1], "33333333333333"),
        ("fo", [2, 4, 1], "22222222222222"),
        ("ovf", [1, 2, 3], "333322211-----"),
        ("ovf", [1, 1, 1], "332211--"),
        ("ovf", [2, 4, 1], "2222211133----"),
        ("lblc", [1, 2, 3], "33332221111111"),
        ("lblc", [1, 1, 1], "33221111"),
        ("lblc", [2, 4, 1], "33222221111111"),
        ("lblcr", [1, 2, 3], "33332221132312"),
        ("lblcr", [1, 1, 1], "33221112312312"),
        ("lblcr", [2, 4, 1], "33222221112122"),
    ] {
        let pool = pool(name, &weights);
        let expected = numbers(expected);
        assert_eq!(loads(&pool, expected.len()), expected, "{name} {weights:?}");
    }
}

#[test]
fn hashed_choices() {
    let to = |pool: &Pool, range: std::ops::RangeInclusive<u32>| -> Vec<u32> {
        let id = |n| pool.pick(&client(n)).map_or(0, |backend| backend.id());
        range.map(id).collect()
    };
    assert_eq!(to(&pool("sh", &[1, 1, 1]), 1..=8), numbers("31123233"));
    assert_eq!(to(&pool("sh", &[3, 1, 2]), 1..=8), numbers("32131313"));
    assert_eq!(to(&pool("mh", &[1, 1, 1]), 1..=8), numbers("23113121"));
    let dh = pool("dh", &[1, 1, 1]);
    let vips: Vec<_> = (1..=16)
        .map(|n| Request {
            dst: Addr::from_v4_bits(0xcb00_7100 + n),
            ..client(1)
        })
        .map(|request| dh.pick(&request).unwrap().id())
        .collect();
    assert_eq!(vips, numbers("1313112323312121"));
    // Client .3 falls on server 1, which is quiesced, and by fallback on bucket 70: server 2.
    let mut sh = pool("sh", &[0, 1, 2]);
    assert_eq!(to(&sh, 3..=3), [0]);
    let fallback = SchedFlags {
        flag1: true,
        ..SchedFlags::default()
    };
    sh.set_scheduler("sh", fallback).unwrap();
    assert_eq!(to(&sh, 3..=3), [2]);
}

#[test]
fn overload_comes_and_goes() {
    let pool = pool("rr", &[1, 1]);
    let (a, b) = (get(&pool, 1), get(&pool, 2));
    let limits = |upper, lower| a.set_thresholds(Thresholds { upper, lower });
    limits(3, 2);
    assert_eq!(loads(&pool, 10), numbers("2121212222"));
    assert!(a.is_overloaded() && !b.is_overloaded());
    limits(4, 2);
    assert!(a.is_overloaded());
    limits(0, 0);
    assert!(!a.is_overloaded());
    for _ in 0..3 {
        a.opened(true);
    }
    for (upper, lower, overloaded) in [(5, 0, true), (6, 5, true), (6, 4, true), (0, 0, false)] {
        limits(upper, lower);
        assert_eq!(a.is_overloaded(), overloaded, "{upper} {lower}");
    }
}

#[test]
fn nobody_is_an_answer() {
    for name in NAMES {
        let empty = pool(name, &[]);
        assert_eq!(pick(&empty), 0, "{name} without backends");
        assert_eq!(pick(&pool(name, &[0, 0, 0])), 0, "{name} with weights of 0");
        let full = pool(name, &[1, 7, i32::MAX as u32]);
        for backend in full.backends() {
            backend.set_overloaded(true);
        }
        assert_eq!(picks(&full, 3), [0, 0, 0], "{name} with overloaded ones");
        for backend in full.backends() {
            backend.set_overloaded(false);
            backend.set_available(false);
        }
        assert_eq!(pick(&full), 0, "{name} with unavailable ones");
    }
}

#[test]
fn figures_at_their_ends_do_no_harm() {
    for name in NAMES.iter().filter(|&&name| name != "none") {
        let pool = pool(name, &[u32::MAX, i32::MAX as u32, 1]);
        for backend in pool.backends() {
            backend.closed(true);
            backend.deactivated();
            backend.activated();
            assert_eq!(
                backend.connections(),
                1,
                "nothing to end, then two ways to begin"
            );
        }
        assert_ne!(loads(&pool, 50).into_iter().max(), Some(0), "{name}");
    }
}

#[test]
fn edits_that_cannot_be_leave_the_pool_alone() {
    assert_eq!(
        Pool::new("wrong", SchedFlags::default()).unwrap_err(),
        UnknownScheduler
    );
    let mut tiny = Pool::with_options(
        "mh",
        SchedFlags::default(),
        Options {
            mh_index: 8,
            ..Options::default()
        },
    )
    .unwrap();
    tiny.extend((0..251).map(|n| server(n, 1))).unwrap();
    assert_eq!(tiny.add(server(999, 1)), Err(EditError::TooManyBackends));
    let twin = Arc::clone(&tiny.backends()[17]);
    let mut rr = pool("rr", &[1]);
    rr.add(Arc::clone(&twin)).unwrap();
    assert_eq!(rr.add(Arc::clone(&twin)), Err(EditError::AlreadyThere));
    assert_eq!(
        rr.extend([server(5, 1), server(6, 1), twin]),
        Err(EditError::AlreadyThere)
    );
    assert_eq!(
        rr.set_scheduler("wrong", SchedFlags::default()),
        Err(EditError::UnknownScheduler)
    );
    assert_eq!((rr.backends().len(), rr.scheduler_name()), (2, "rr"));
    assert_eq!(tiny.backends().len(), 251);
}

#[test]
fn all_at_once_is_one_by_one() {
    for name in ["wrr", "rr", "sh", "mh", "wlc", "lblc"] {
        let weights = [6, 4, 10, 2, 0, 8];
        let one_by_one = pool(name, &weights);
        let mut at_once = Pool::new(name, SchedFlags::default()).unwrap();
        at_once
            .extend((1..).zip(weights).map(|(n, weight)| server(n, weight)))
            .unwrap();
        assert_eq!(loads(&one_by_one, 100), loads(&at_once, 100), "{name}");
    }
}

#[test]
fn a_clone_goes_on_where_the_original_stands() {
    let original = pool("rr", &[1, 1, 1]);
    assert_eq!(picks(&original, 2), numbers("3 2"));
    let mut edited = original.clone();
    edited.add(server(4, 1)).unwrap();
    assert_eq!(picks(&original, 2), numbers("1 3"));
    assert_eq!(picks(&edited, 4), numbers("1 4 3 2"));
    let shared = original.clone();
    assert_eq!((pick(&original), pick(&shared), pick(&original)), (2, 1, 3));
}
