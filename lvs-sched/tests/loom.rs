//! Every interleaving of a few threads, within loom's bounds, over the protocols of this crate.
//!
//! `RUSTFLAGS="--cfg lvs_loom" cargo test -p lvs-sched --release --test loom`
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test: what is missing is a failure"
)]
#![cfg(lvs_loom)]

use loom::thread;
use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Pool, Request};
use std::sync::Arc;

fn pool(name: &str, weights: &[u32], upper: u32) -> Arc<Pool> {
    let limits = Thresholds { upper, lower: 0 };
    let mut pool = Pool::new(name, SchedFlags::default()).unwrap();
    let backend = |(n, &weight)| Backend::new(n, Endpoint::default(), weight, limits);
    pool.extend((0..).zip(weights).map(backend)).unwrap();
    Arc::new(pool)
}

fn request() -> Request {
    Request {
        src: Addr::UNSPECIFIED,
        src_port: 0,
        dst: Addr::UNSPECIFIED,
        now: Tick(0),
    }
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// How often each was chosen when threads choose as many times as `choices` says.
fn shares(pool: &Arc<Pool>, choices: [usize; 2]) -> Vec<usize> {
    let threads = choices.map(|count| {
        let pool = Arc::clone(pool);
        thread::spawn(move || {
            let pick = |_| pool.pick(&request()).map(|backend| backend.id());
            (0..count).filter_map(pick).collect::<Vec<_>>()
        })
    });
    let mut shares = vec![0; pool.backends().len()];
    for id in threads.into_iter().flat_map(|t| t.join().unwrap()) {
        shares[id as usize] += 1;
    }
    shares
}

#[test]
fn rr_gives_each_its_turn() {
    explore(|| assert_eq!(shares(&pool("rr", &[1, 1, 0, 1], 0), [2, 1]), [1, 1, 0, 1]));
}

#[test]
fn wrr_gives_each_its_share() {
    explore(|| assert_eq!(shares(&pool("wrr", &[2, 1], 0), [2, 1]), [2, 1]));
}

#[test]
fn an_index_forgets_no_report() {
    explore(|| {
        let pool = pool("lc", &[1, 1], 0);
        let choosing = Arc::clone(&pool);
        let choosing = thread::spawn(move || choosing.pick(&request()).is_some());
        // The one that stands first, so that whoever chooses next must know of it.
        pool.backends()[0].opened(true);
        assert!(choosing.join().unwrap());
        let chosen = pool.pick(&request()).unwrap();
        let least = pool.backends().iter().map(|b| b.active()).min().unwrap();
        assert_eq!(chosen.active(), least);
    });
}

#[test]
fn choices_at_once_leave_the_index_right() {
    explore(|| {
        let pool = pool("wlc", &[1, 1], 0);
        let threads = [0, 1].map(|_| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.pick(&request()).unwrap().opened(true))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let chosen = pool.pick(&request()).unwrap();
        let least = pool.backends().iter().map(|b| b.active()).min().unwrap();
        assert_eq!(chosen.active(), least);
    });
}

#[test]
fn the_overload_flag_follows_the_count() {
    explore(|| {
        let pool = pool("rr", &[1], 2);
        let threads = [0, 1].map(|_| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let backend = &pool.backends()[0];
                backend.opened(true);
                backend.closed(true);
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(!pool.backends()[0].is_overloaded());
    });
}
