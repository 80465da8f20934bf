//! What a change of the rules costs with 10,000 services of 10 destinations: one change at a time, and
//! the whole set replaced by one that differs in nothing, in one weight, in every weight, in every
//! destination, in everything. Each is measured from the call until the workers see it.
//!
//! `cargo bench -p lvs-benches --bench rules`; `-- one/` for some of it.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a benchmark"
)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lvs_core::{Addr, DestinationSpec, Endpoint, ForwardMethod, Protocol, ServiceKey, ServiceSpec};
use lvs_director::{Director, DirectorConfig, Rule};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DESTINATIONS: u32 = 10;

fn key(n: u32) -> ServiceKey {
    let addr = Addr::from_v4_bits(0x0a00_0000 + n / 4);
    let vip = Endpoint::new(addr, 80 + (n % 4) as u16);
    ServiceKey::Endpoint {
        protocol: Protocol::Tcp,
        vip,
    }
}

fn destination(service: u32, n: u32, weight: u32) -> DestinationSpec {
    let addr = Addr::from_v4_bits(0x0a80_0000 + service * DESTINATIONS + n);
    let mut spec = DestinationSpec::new(Endpoint::new(addr, 8080), ForwardMethod::Masquerade);
    spec.weight = weight;
    spec
}

/// Services from `first` on, with servers that are `shift` further and weigh `weight`.
fn rules(services: u32, first: u32, shift: u32, weight: u32) -> Vec<Rule<'static>> {
    (first..first + services)
        .map(|n| Rule {
            service: ServiceSpec::new(key(n), "wrr"),
            destinations: (0..DESTINATIONS)
                .map(|d| destination(n + shift, d, weight))
                .collect(),
        })
        .collect()
}

fn director(services: u32) -> Arc<Director> {
    let config = DirectorConfig {
        connections: 1 << 12,
        workers: 2,
    };
    let director = Director::new(&config).unwrap();
    director.replace(&rules(services, 0, 0, 1)).unwrap();
    director
}

fn size() -> u32 {
    // `cargo bench -- --test` runs each once: it shall not take minutes.
    let test = std::env::args().any(|argument| argument == "--test");
    if test { 100 } else { 10_000 }
}

fn one(c: &mut Criterion) {
    let services = size();
    let director = director(services);
    let mut group = c.benchmark_group("one");
    let mut n = 0;
    group.bench_function("weight", |b| {
        b.iter(|| {
            n += 1;
            let spec = destination(n % services, n % 3, 2 + n % 5);
            director.edit_destination(&key(n % services), &spec)
        });
    });
    group.bench_function("destination-added", |b| {
        b.iter_custom(|count| {
            timed(count, || {
                n += 1;
                let (key, spec) = (key(n % services), destination(n % services, 200, 1));
                let start = Instant::now();
                director.add_destination(&key, &spec).unwrap();
                let spent = start.elapsed();
                director.delete_destination(&key, spec.endpoint).unwrap();
                spent
            })
        });
    });
    group.bench_function("destination-deleted", |b| {
        b.iter_custom(|count| {
            timed(count, || {
                n += 1;
                let (key, spec) = (key(n % services), destination(n % services, 200, 1));
                director.add_destination(&key, &spec).unwrap();
                let start = Instant::now();
                director.delete_destination(&key, spec.endpoint).unwrap();
                start.elapsed()
            })
        });
    });
    group.bench_function("service-added-and-deleted", |b| {
        let spec = ServiceSpec::new(key(services), "wrr");
        b.iter(|| {
            director.add_service(&spec).unwrap();
            director.delete_service(&spec.key).unwrap();
        });
    });
}

fn timed(count: u64, mut once: impl FnMut() -> Duration) -> Duration {
    (0..count).map(|_| once()).sum()
}

fn whole(c: &mut Criterion) {
    let services = size();
    let mut group = c.benchmark_group("whole");
    group.sample_size(10);
    let before = director(services);
    let same = rules(services, 0, 0, 1);
    group.bench_function("nothing-differs", |b| b.iter(|| before.replace(&same)));
    let mut heavier = rules(services, 0, 0, 1);
    let mut turn = 0;
    group.bench_function("one-weight-differs", |b| {
        b.iter(|| {
            turn += 1;
            if let Some(spec) = heavier.first_mut().and_then(|r| r.destinations.first_mut()) {
                spec.weight = 2 + turn % 2;
            }
            before.replace(&heavier)
        });
    });
    for (name, after) in [
        ("every-weight-differs", rules(services, 0, 0, 5)),
        ("every-destination-differs", rules(services, 0, services, 1)),
        ("everything-differs", rules(services, services, services, 1)),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || director(services),
                |director| director.replace(&after).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("from-nothing", |b| {
        b.iter_batched_ref(
            || director(0),
            |director| director.replace(&same).unwrap(),
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = one, whole
}
criterion_main!(benches);
