//! What a change of the rules costs with 10,000 services of 10 destinations: one change at a time, and
//! the whole set replaced by one that differs in nothing, in one weight, in every weight, in every
//! destination, in everything. Each is measured from the call until the workers see it. And what a
//! worker's packets feel of it: the times of its batches while another thread does nothing but replace
//! the set.
//!
//! `cargo bench -p lvs-benches --bench rules`; `-- one/` for some of it, `-- batches` for the last.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a benchmark"
)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lvs_benches::director::{Case, Lab};
use lvs_core::{
    Addr, DestinationSpec, Endpoint, ForwardMethod, Protocol, ServiceKey, ServiceSpec, Tick,
};
use lvs_director::{Director, DirectorConfig, Rule};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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

/// How long batches of a worker take, alone and while its rules are replaced again and again: each time
/// all but the service that its packets are for.
fn batches(_: &mut Criterion) {
    let wanted = |argument: String| argument.starts_with('-') || "batches".contains(&argument);
    if !std::env::args().skip(1).all(wanted) {
        return;
    }
    let services = size();
    let mut lab = Lab::new(Case::NatRequest, 10_000);
    let director = Arc::clone(lab.director());
    let own: Vec<Rule<'_>> = director
        .services()
        .iter()
        .map(|status| Rule {
            service: ServiceSpec::new(status.key, status.scheduler),
            destinations: status.destinations.iter().map(|found| found.spec).collect(),
        })
        .collect();
    // Behind the service of the packets, whose addresses they do not share.
    let sets = [services, 3 * services].map(|first| {
        let mut set = own.clone();
        set.extend(rules(services, first, services, 1));
        set
    });
    let run = |lab: &mut Lab, replace: bool| {
        let done = AtomicBool::new(false);
        // Written once: a new page would wait for the other thread, which gives memory back.
        let mut batches = vec![Duration::MAX; 1 << 22];
        batches.clear();
        std::thread::scope(|scope| {
            let control = scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(3);
                let (mut times, mut now) = (Vec::new(), Tick(0));
                while times.is_empty() || (services > 100 && Instant::now() < end) {
                    let start = Instant::now();
                    if replace {
                        director
                            .replace(sets.get(times.len() % 2).unwrap())
                            .unwrap();
                    } else {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    times.push(start.elapsed());
                    // Two minutes later what is gone is forgotten.
                    now = now + Tick::seconds(130);
                    director.tick(now);
                }
                done.store(true, Relaxed);
                times
            });
            loop {
                let start = Instant::now();
                lab.batch();
                batches.push(start.elapsed());
                if done.load(Relaxed) {
                    break;
                }
            }
            (batches, control.join().unwrap())
        })
    };
    for (name, replace) in [("alone", false), ("beside replacements", true)] {
        let (mut batches, mut times) = run(&mut lab, replace);
        batches.sort_unstable();
        times.sort_unstable();
        let at = |share: f64| batches[((batches.len() - 1) as f64 * share) as usize];
        println!(
            "batches/{name}: {} batches of 32, half within {:?}, 99.9 % {:?}, 99.99 % {:?}, slowest {:?}; \
             {} rounds, middle {:?}, longest {:?}",
            batches.len(),
            at(0.5),
            at(0.999),
            at(0.9999),
            at(1.0),
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1],
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = one, whole, batches
}
criterion_main!(benches);
