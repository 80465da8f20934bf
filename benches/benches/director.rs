//! What the director costs for a packet, from parsing to the finished frame, in memory: batches of
//! 32 frames of 64 bytes (78 over IPv6). The frames are rewritten in place, so each batch is first
//! restored from a template; `restore` is what that costs alone, and is contained in all others.
//!
//! `cargo bench -p lvs-benches --bench director`; `-- nat-request/1` for some of it. Times are for
//! one packet, of the processor's time. The connections of `first` are ended in between, outside of what is measured.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lvs_benches::director::{BATCH, Case, Lab};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

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
        let mut lab = Lab::new(Case::NatRequest, flows);
        group.bench_function(BenchmarkId::new("restore", flows), |b| {
            b.iter_custom(|packets| time(&mut lab, packets, Lab::restore));
        });
    }
    for (name, case) in Case::ALL {
        for flows in [1, 10_000, largest] {
            if case == Case::First && flows != largest {
                continue;
            }
            let mut lab = Lab::new(case, flows);
            group.bench_function(BenchmarkId::new(name, flows), |b| {
                b.iter_custom(|packets| time(&mut lab, packets, Lab::batch));
            });
            lab.check();
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = packets
}
criterion_main!(benches);
