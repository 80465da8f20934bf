//! What a choice costs, for every scheduler, from 4 to 16,384 backends, on one thread and on two.
//!
//! The load-dependent ones are measured with the reports that a connection brings (one opens, an
//! older one ends), since without them nothing changes and there is nothing to find. Beside them
//! stands a straight walk over an array of structs with the same reports and, as is checked first,
//! the same choices; beside `wrr` the loop that the reference describes.
//!
//! `cargo bench -p lvs-benches --bench sched`; `-- wlc/1024` for some of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark"
)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Options, Pool, Request};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SIZES: [u32; 4] = [4, 64, 1024, 16_384];
/// A choice of these takes as long whatever the connections (`ovf`: as long as the first has room).
const FIXED: [&str; 9] = ["rr", "wrr", "dh", "sh", "mh", "fo", "ovf", "twos", "none"];
/// What a connection changes matters to these.
const BY_LOAD: [&str; 8] = ["lc", "wlc", "sed", "nq", "p2c", "mhbl", "lblc", "lblcr"];

fn weight(n: u32) -> u32 {
    n % 7 + 1
}

fn pool_of(name: &str, size: u32, index: u8, weight: impl Fn(u32) -> u32) -> Pool {
    let options = Options {
        mh_index: index,
        ..Options::default()
    };
    let mut pool = Pool::with_options(name, SchedFlags::default(), options).unwrap();
    let backend = |n| {
        let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a00_0000 + n), 80);
        Backend::new(n, endpoint, weight(n), Thresholds::default())
    };
    pool.extend((0..size).map(backend)).unwrap();
    pool
}

fn pool(name: &str, size: u32) -> Pool {
    pool_of(name, size, 16, weight)
}

fn request(n: u32) -> Request {
    Request {
        src: Addr::from_v4_bits(n.wrapping_mul(0x9e37_79b9)),
        src_port: 4000,
        dst: Addr::from_v4_bits(0xcb00_7101),
        now: Tick(n >> 12),
    }
}

/// Connections that are open: each new one ends the oldest.
struct Open<T> {
    ring: Vec<Option<T>>,
    next: usize,
}

impl<T> Open<T> {
    fn new(size: u32) -> Self {
        let ring = (0..size as usize * 3 + 7).map(|_| None).collect();
        Self { ring, next: 0 }
    }

    fn push(&mut self, new: T) -> Option<T> {
        self.next = if self.next + 1 == self.ring.len() {
            0
        } else {
            self.next + 1
        };
        self.ring[self.next].replace(new)
    }
}

fn connect<'a>(pool: &'a Pool, open: &mut Open<&'a Backend>, n: u32) -> Option<u32> {
    let backend = pool.pick(&request(n))?;
    backend.opened(true);
    if let Some(old) = open.push(backend) {
        old.closed(true);
    }
    Some(backend.id())
}

/// The straight way: an array of structs, walked for every choice.
#[derive(Clone)]
struct Plain {
    id: u32,
    weight: i32,
    active: i32,
    inactive: i32,
    flags: u32,
}

fn plain(size: u32) -> Vec<Plain> {
    let one = |n| Plain {
        id: n,
        weight: weight(n) as i32,
        active: 0,
        inactive: 0,
        flags: 0,
    };
    (0..size).rev().map(one).collect()
}

fn overhead(server: &Plain) -> i64 {
    (i64::from(server.active) << 8) + i64::from(server.inactive)
}

fn walk(name: &str, servers: &[Plain]) -> Option<usize> {
    let mut least: Option<(usize, i64, i64)> = None;
    for (at, server) in servers.iter().enumerate() {
        if server.flags != 0 || server.weight <= 0 {
            continue;
        }
        let weight = i64::from(server.weight);
        let (over, weight) = match name {
            "lc" => (overhead(server), 1),
            "wlc" => (overhead(server), weight),
            _ => (i64::from(server.active) + 1, weight),
        };
        if name == "nq" && server.active == 0 {
            return Some(at);
        }
        if least.is_none_or(|(_, o, w)| o * weight > over * w) {
            least = Some((at, over, weight));
        }
    }
    least.map(|(at, ..)| at)
}

#[inline(always)]
fn connect_plain(name: &str, servers: &mut [Plain], open: &mut Open<usize>) -> Option<u32> {
    let at = walk(name, servers)?;
    servers[at].active += 1;
    if let Some(old) = open.push(at) {
        servers[old].active -= 1;
    }
    Some(servers[at].id)
}

/// The reference's loop for `wrr`.
fn literal_wrr(weights: &[i64], cl: &mut usize, cw: &mut i64, mw: i64, di: i64) -> usize {
    loop {
        while *cl < weights.len() {
            *cl += 1;
            if weights[*cl - 1] >= *cw {
                return *cl - 1;
            }
        }
        *cl = 0;
        *cw -= di;
        if *cw <= 0 {
            *cw = mw;
        }
    }
}

fn two_threads(iterations: u64, work: impl Fn(u32, u64) + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let work = &work;
            scope.spawn(move || work(thread << 24, iterations));
        }
    });
    start.elapsed()
}

/// One choice; the backend itself is not touched, since what is done with it is no part of it.
#[inline]
fn choose(pool: &Pool, n: u32) {
    black_box(pool.pick(black_box(&request(n))));
}

/// What two threads pay for one word that both advance: no rule with a cursor can do better.
fn floor(c: &mut Criterion) {
    let word = AtomicU64::new(0);
    let advance = |n: u32| {
        black_box(request(n));
        black_box(word.fetch_add(1, Ordering::Relaxed));
    };
    let mut group = c.benchmark_group("shared-word");
    let mut n = 0;
    group.bench_function("threads-1", |b| {
        b.iter(|| {
            n += 1;
            advance(n);
        });
    });
    group.bench_function("threads-2", |b| {
        b.iter_custom(|iterations| {
            two_threads(iterations, |from, count| {
                (0..count as u32).for_each(|n| advance(from + n));
            })
        });
    });
}

fn fixed(c: &mut Criterion) {
    for name in FIXED {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let pool = pool(name, size);
            let mut n = 0;
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    n += 1;
                    choose(&pool, n);
                });
            });
            group.bench_function(BenchmarkId::new("threads-2", size), |b| {
                b.iter_custom(|iterations| {
                    two_threads(iterations, |from, count| {
                        (0..count as u32).for_each(|n| choose(&pool, from + n));
                    })
                });
            });
        }
    }
}

fn by_load(c: &mut Criterion) {
    for name in BY_LOAD {
        let walked = ["lc", "wlc", "sed", "nq"].contains(&name);
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            if walked {
                let (pool, mut servers) = (pool(name, size), plain(size));
                let (mut ours, mut theirs) = (Open::new(size), Open::new(size));
                for n in 0..2000 {
                    let plain = connect_plain(name, &mut servers, &mut theirs);
                    assert_eq!(connect(&pool, &mut ours, n), plain, "the same choices");
                }
                group.bench_function(BenchmarkId::new("straight-walk", size), |b| {
                    b.iter(|| connect_plain(black_box(name), &mut servers, &mut theirs));
                });
            }
            let pool = pool(name, size);
            let mut open = Open::new(size);
            let mut n = 0;
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    n += 1;
                    connect(&pool, &mut open, n)
                });
            });
            group.bench_function(BenchmarkId::new("choice-alone", size), |b| {
                b.iter(|| {
                    n += 1;
                    choose(&pool, n);
                });
            });
            group.bench_function(BenchmarkId::new("threads-2", size), |b| {
                b.iter_custom(|iterations| {
                    two_threads(iterations, |from, count| {
                        let mut open = Open::new(size);
                        for n in 0..count as u32 {
                            black_box(connect(&pool, &mut open, from + n));
                        }
                        for backend in open.ring.into_iter().flatten() {
                            backend.closed(true);
                        }
                    })
                });
            });
        }
    }
}

/// The weights on which the reference's loop spends its time walking past everybody.
fn uneven_weights(c: &mut Criterion) {
    let mut group = c.benchmark_group("wrr-uneven");
    for size in SIZES {
        let weight = move |n: u32| if n == size / 2 { 65_535 } else { n % 2 + 1 };
        let pool = pool_of("wrr", size, 12, weight);
        let weights: Vec<i64> = (0..size).rev().map(|n| weight(n).into()).collect();
        let (mut cl, mut cw) = (0, 1);
        for n in 0..20_000 {
            let at = literal_wrr(&weights, &mut cl, &mut cw, 65_535, 1);
            let ours = pool.pick(&request(n)).unwrap().id();
            assert_eq!(ours, size - 1 - at as u32, "the same sequence");
        }
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| choose(&pool, 1));
        });
        group.bench_function(BenchmarkId::new("literal-loop", size), |b| {
            b.iter(|| literal_wrr(black_box(&weights), &mut cl, &mut cw, 65_535, 1));
        });
    }
}

fn building(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for (index, slots) in [(12, 4093), (16, 65_521)] {
        let pool = pool_of("mh", 1000, index, |_| 1);
        let edit = |weight| {
            let mut edited = pool.clone();
            pool.backends()[0].set_weight(weight);
            edited.updated(&pool.backends()[0]);
            edited
        };
        // 2 and 3 are other numbers of turns than 1; 0 is not, since the last weight counts.
        let mut heavier = false;
        group.bench_function(BenchmarkId::new("mh-1000-another-weight", slots), |b| {
            b.iter(|| {
                heavier = !heavier;
                edit(if heavier { 3 } else { 2 })
            });
        });
        pool.backends()[0].set_weight(1);
        group.bench_function(BenchmarkId::new("mh-1000-quiesced", slots), |b| {
            b.iter(|| edit(0));
        });
    }
    for name in ["wrr", "wlc", "twos"] {
        let pool = pool(name, 1024);
        let extra = Backend::new(5000, Endpoint::default(), 3, Thresholds::default());
        group.bench_function(BenchmarkId::new(name, 1024), |b| {
            b.iter(|| {
                let mut edited = pool.clone();
                edited.add(Arc::clone(&extra)).unwrap();
                edited
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    targets = floor, fixed, by_load, uneven_weights, building
}
criterion_main!(benches);
