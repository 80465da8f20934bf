//! What else one could take for a table of connections: maps of other crates, asked for the same.
//!
//! In: how many connections. Out: a line a map. A map has one key for each connection, and is asked one by
//! one: none offers more.

use super::{ROUND, decile, measure, request};
use hashbrown::HashMap;
use lvs_benches::connections::Random;
use lvs_core::Flow;
use parking_lot::RwLock;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// All of them, with so many live connections.
pub(super) fn all(live: usize, rounds: usize) {
    let hasher = ahash::RandomState::new;
    peer("dashmap", live, rounds, |n| {
        Box::new(dashmap::DashMap::with_capacity_and_hasher(n, hasher()))
    });
    peer("papaya", live, rounds, |n| {
        let builder = papaya::HashMap::builder().capacity(n).hasher(hasher());
        Box::new(builder.build())
    });
    peer("scc", live, rounds, |n| {
        Box::new(scc::HashMap::with_capacity_and_hasher(n, hasher()))
    });
    peer("RwLock<hashbrown> x 64", live, rounds, |n| {
        let shard = || RwLock::new(HashMap::with_capacity_and_hasher(n / 64, hasher()));
        Box::new(Sharded {
            shards: (0..64).map(|_| shard()).collect(),
            hasher: hasher(),
        })
    });
}

/// What a map of another crate holds for a connection: with its key as much as an entry does.
#[derive(Clone)]
struct Value([u64; 10]);

trait Peer: Sync {
    fn insert(&self, flow: Flow, value: Value);
    fn get(&self, flow: &Flow) -> u64;
    fn remove(&self, flow: &Flow);
}

impl Peer for dashmap::DashMap<Flow, Value, ahash::RandomState> {
    fn insert(&self, flow: Flow, value: Value) {
        self.insert(flow, value);
    }

    fn get(&self, flow: &Flow) -> u64 {
        self.get(flow).map_or(0, |value| value.0[9])
    }

    fn remove(&self, flow: &Flow) {
        self.remove(flow);
    }
}

impl Peer for papaya::HashMap<Flow, Value, ahash::RandomState> {
    fn insert(&self, flow: Flow, value: Value) {
        self.pin().insert(flow, value);
    }

    fn get(&self, flow: &Flow) -> u64 {
        self.pin().get(flow).map_or(0, |value| value.0[9])
    }

    fn remove(&self, flow: &Flow) {
        self.pin().remove(flow);
    }
}

impl Peer for scc::HashMap<Flow, Value, ahash::RandomState> {
    fn insert(&self, flow: Flow, value: Value) {
        let _ = self.insert_sync(flow, value);
    }

    fn get(&self, flow: &Flow) -> u64 {
        self.read_sync(flow, |_, value| value.0[9]).unwrap_or(0)
    }

    fn remove(&self, flow: &Flow) {
        self.remove_sync(flow);
    }
}

/// 64 maps, each behind a lock of readers and writers.
struct Sharded {
    shards: Vec<RwLock<HashMap<Flow, Value, ahash::RandomState>>>,
    hasher: ahash::RandomState,
}

impl Sharded {
    fn shard(&self, flow: &Flow) -> &RwLock<HashMap<Flow, Value, ahash::RandomState>> {
        &self.shards[self.hasher.hash_one(flow) as usize % 64]
    }
}

impl Peer for Sharded {
    fn insert(&self, flow: Flow, value: Value) {
        self.shard(&flow).write().insert(flow, value);
    }

    fn get(&self, flow: &Flow) -> u64 {
        self.shard(flow)
            .read()
            .get(flow)
            .map_or(0, |value| value.0[9])
    }

    fn remove(&self, flow: &Flow) {
        self.shard(flow).write().remove(flow);
    }
}

/// Bytes of memory that the process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// One of them.
fn peer(name: &str, live: usize, rounds: usize, make: impl FnOnce(usize) -> Box<dyn Peer>) {
    let before = resident();
    let map = make(live);
    for n in 0..live {
        map.insert(request(n), Value([n as u64; 10]));
    }
    let memory = (resident().saturating_sub(before)) as f64 / live as f64;
    let mut random = Random(1);
    let hit = measure(
        rounds,
        || -> Vec<Flow> { (0..ROUND).map(|_| request(random.below(live))).collect() },
        |flows| {
            flows.iter().for_each(|flow| {
                black_box(map.get(flow));
            });
        },
    );
    let mut random = Random(2);
    let miss = measure(
        rounds,
        || -> Vec<Flow> {
            (0..ROUND)
                .map(|_| request((1 << 28) + random.below(live)))
                .collect()
        },
        |flows| {
            flows.iter().for_each(|flow| {
                black_box(map.get(flow));
            });
        },
    );
    let next = AtomicU64::new(1 << 27);
    let (mut insert, mut remove) = (vec![], vec![]);
    for _ in 0..rounds {
        let from = next.fetch_add(ROUND as u64, Relaxed) as usize;
        let flows: Vec<Flow> = (from..from + ROUND).map(request).collect();
        let start = Instant::now();
        flows
            .iter()
            .for_each(|flow| map.insert(*flow, Value([1; 10])));
        insert.push(start.elapsed());
        let start = Instant::now();
        flows.iter().for_each(|flow| map.remove(flow));
        remove.push(start.elapsed());
    }
    println!(
        "{live:>8} {name:<24} hit {hit:>7.1}  miss {miss:>7.1}  insert (one key) {:>7.1}  remove (one key) {:>7.1}  {memory:>6.1} bytes",
        decile(&mut insert, ROUND),
        decile(&mut remove, ROUND),
    );
}
