//! What the director costs for a packet, from parsing to the finished frame, in memory: batches of
//! 32 frames of 64 bytes (78 over IPv6). The frames are rewritten in place, so each batch is first
//! restored from a template; `restore` is what that costs alone, and is contained in all others.
//!
//! `cargo bench -p lvs-benches --bench director`; `-- nat-request/1` for some of it. Times are for
//! one packet, of the processor's time. The connections of `first` are ended in between, outside of what is measured.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lvs_benches::director::{BATCH, Case, Lab};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What this thread has used of a processor: on a busy machine, waiting for one is not the director's.
fn clock() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The time of `packets` packets, taken over whole batches.
fn time(lab: &mut Lab, packets: u64, mut batch: impl FnMut(&mut Lab)) -> Duration {
    let batches = packets.div_ceil(BATCH as u64);
    let mut left = batches;
    let mut spent = Duration::ZERO;
    while left > 0 {
        let start = clock();
        while left > 0 && !lab.is_full() {
            batch(lab);
            left -= 1;
        }
        let whole = lab.case() == Case::Cycle;
        if lab.is_full() && whole {
            // The end belongs to the connection.
            lab.clear();
        }
        spent += clock().saturating_sub(start);
        if lab.is_full() {
            lab.clear();
        }
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "of a count that a bench can reach"
    )]
    let share = packets as f64 / (batches * BATCH as u64) as f64;
    spent.mul_f64(share)
}

fn packets(c: &mut Criterion) {
    // `cargo bench -- --test` runs each once: it shall not take minutes.
    let test = std::env::args().any(|argument| argument == "--test");
    let largest = if test { 1000 } else { 1_000_000 };
    let mut group = c.benchmark_group("director");
    for flows in [1, largest] {
        let mut lab = None;
        group.bench_function(BenchmarkId::new("restore", flows), |b| {
            let lab = lab.get_or_insert_with(|| Lab::new(Case::NatRequest, flows));
            b.iter_custom(|packets| time(lab, packets, Lab::restore));
        });
    }
    for (name, case) in Case::ALL {
        // Eight million take a gigabyte and some seconds: for those who are asked for.
        let huge = if test { 2000 } else { 8_000_000 };
        for flows in [1, 10_000, largest, huge] {
            let alone = case.makes_connections() && flows != largest;
            let small = flows == huge && case != Case::NatRequest && case != Case::NatReply;
            if alone || small {
                continue;
            }
            // Made if it is asked for: some take seconds.
            let mut lab = None;
            group.bench_function(BenchmarkId::new(name, flows), |b| {
                let lab = lab.get_or_insert_with(|| Lab::new(case, flows));
                b.iter_custom(|packets| time(lab, packets, Lab::batch));
            });
            if let Some(lab) = lab {
                lab.check();
            }
        }
    }
    group.finish();
}

/// Two workers at once, each with connections of its own in one table, beside one of them alone: the
/// time of a packet of each. Twice the work in the same time is what there can be.
fn workers(c: &mut Criterion) {
    let test = std::env::args().any(|argument| argument == "--test");
    let flows = if test { 1000 } else { 100_000 };
    let mut group = c.benchmark_group("workers");
    let mut labs = None;
    for workers in [1, 2] {
        group.bench_function(BenchmarkId::new("nat-request", workers), |b| {
            let labs = labs.get_or_insert_with(|| Lab::pair(Case::NatRequest, flows));
            b.iter_custom(|packets| {
                let start = Barrier::new(workers);
                let run = |lab: &mut Lab| {
                    start.wait();
                    let begun = Instant::now();
                    for _ in 0..packets.div_ceil(BATCH as u64) {
                        lab.batch();
                    }
                    begun.elapsed()
                };
                std::thread::scope(|scope| {
                    let threads: Vec<_> = labs
                        .iter_mut()
                        .take(workers)
                        .map(|lab| scope.spawn(|| run(lab)))
                        .collect();
                    let times = threads.into_iter().filter_map(|thread| thread.join().ok());
                    times.max().unwrap_or_default()
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = packets, workers
}
criterion_main!(benches);
