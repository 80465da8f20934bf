//! What the connection table costs, beside the memory's own floor and beside what else one could
//! take, in one run.
//!
//! `cargo bench -p lvs-benches --bench conn` measures 64k, 1M and 4M live connections;
//! `-- --max 8M` goes up to 8M, `-- --only 1048576` measures one size, `-- --no-peers` ours alone,
//! `-- --lookups` only what looks up in batches, `-- --smoke` (and `-- --test`) only shows that it runs.
//!
//! All figures are nanoseconds for one operation: of rounds of a thousand, the one that a tenth of
//! them beat, so that what else the machine does disturbs little. Compare within one run.

#![allow(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_arguments,
    missing_docs,
    reason = "a measurement on the terminal"
)]

#[path = "conn/peers.rs"]
mod peers;

use lvs_benches::connections::Random;
use lvs_conn::{Direction, Inserted, NewConnection, Table, TableConfig, Timeouts};
use lvs_core::{Addr, Endpoint, Flow, Protocol, Tick};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Operations of a round.
const ROUND: usize = 1024;
/// A timeout that no bench waits for.
const LONG: u32 = Tick::seconds(1_000_000);

/// Connection number `n`: another client for each, sixteen services, some hundred servers.
fn connection(n: usize, timeout: u32) -> NewConnection {
    let mix = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    NewConnection {
        client: Endpoint::new(
            Addr::from_v4_bits(0x0b00_0000 + (n as u32 >> 3)),
            1024 + (mix as u16 & 0x1fff) * 7 + (n as u16 & 7),
        ),
        virtual_endpoint: Endpoint::new(Addr::from_v4_bits(0xc000_0200 + (mix as u32 & 15)), 80),
        destination: Endpoint::new(Addr::from_v4_bits(0x0a00_0000 + (n as u32 % 200)), 8080),
        timeout,
        ..NewConnection::default()
    }
}

fn request(n: usize) -> Flow {
    let new = connection(n, 0);
    Flow::new(Protocol::Tcp, new.client, new.virtual_endpoint)
}

fn reply(n: usize) -> Flow {
    let new = connection(n, 0);
    Flow::new(Protocol::Tcp, new.destination, new.client)
}

/// A tenth of the rounds were quicker: for one operation, in nanoseconds.
fn decile(rounds: &mut [Duration], operations: usize) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 10].as_nanos() as f64 / operations as f64
}

/// `rounds` times: `prepare`, which is not measured, and `run`, which is.
fn measure<T>(rounds: usize, mut prepare: impl FnMut() -> T, mut run: impl FnMut(&mut T)) -> f64 {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mut input = prepare();
        let start = Instant::now();
        run(&mut input);
        times.push(start.elapsed());
    }
    decile(&mut times, ROUND)
}

struct Plan {
    sizes: Vec<usize>,
    rounds: usize,
    peers: bool,
    lookups_only: bool,
}

fn plan() -> Plan {
    let mut arguments = std::env::args().skip(1);
    let mut plan = Plan {
        sizes: vec![64 << 10, 1 << 20, 4 << 20],
        rounds: 2000,
        peers: true,
        lookups_only: false,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" | "--test" => {
                plan.sizes = vec![8 << 10];
                plan.rounds = 5;
            }
            "--only" => {
                let size = arguments.next().and_then(|size| size.parse().ok());
                plan.sizes = size.into_iter().collect();
            }
            "--no-peers" => plan.peers = false,
            "--lookups" => (plan.peers, plan.lookups_only) = (false, true),
            "--max" if arguments.next().is_some_and(|max| max == "8M") => {
                plan.sizes.push(8 << 20);
            }
            _ => {}
        }
    }
    plan
}

fn table(live: usize) -> Arc<Table> {
    Arc::new(Table::new(&TableConfig::with_capacity(live)).unwrap())
}

fn fill(table: &Arc<Table>, live: usize, short: impl Fn(usize) -> bool) {
    let mut handle = table.register();
    for from in (0..live).step_by(64) {
        let guard = handle.pin();
        for n in from..live.min(from + 64) {
            let timeout = if short(n) { 1 } else { LONG };
            let made = guard.insert(&connection(n, timeout)).unwrap();
            assert!(matches!(made, Inserted::New(_)));
        }
    }
    table.collect(Tick(0), usize::MAX, &mut |_| {});
}

fn lookups(
    table: &Arc<Table>,
    flow: fn(usize) -> Flow,
    expected: Option<Direction>,
    from: usize,
    live: usize,
    batch: usize,
    rounds: usize,
    seed: u64,
) -> f64 {
    let mut handle = table.register();
    let mut random = Random(seed);
    measure(
        rounds,
        || -> Vec<Flow> {
            (0..ROUND)
                .map(|_| flow(from + random.below(live)))
                .collect()
        },
        |flows| {
            for flows in flows.chunks(batch) {
                let guard = handle.pin();
                let mut hits = [None; 64];
                let hits = &mut hits[..flows.len()];
                match expected {
                    None => guard.lookup_batch(flows, hits),
                    Some(direction) => guard.lookup_expected(flows, &[direction; 64], hits),
                }
                for hit in hits.iter().flatten() {
                    black_box(hit.conn.state());
                }
            }
        },
    )
}

/// Everything about one table of `live` connections.
fn ours(live: usize, rounds: usize, lookups_only: bool) {
    let spare = (live / 8).max(2 * ROUND);
    let table = table(live + spare);
    // What is free lies scattered, as after a while of service.
    fill(&table, live + spare, |n| n % (live / spare + 1) == 0);
    table.collect(Tick(2), usize::MAX, &mut |_| {});
    let name = "lvs-conn";
    let line = |what: &str, value: f64, floor: f64| {
        println!(
            "{live:>8} {name:<8} {what:<34} {value:>8.1} ns   {:>5.2} x floor",
            value / floor
        );
    };
    let mut random = Random(1);
    let floor = measure(
        rounds,
        || -> Vec<u32> {
            (0..ROUND)
                .map(|_| random.below(live + spare) as u32)
                .collect()
        },
        |indexes| {
            black_box(table.read_entries(indexes));
        },
    );
    line("floor: read an entry", floor, floor);
    // Numbers that are live: all whose remainder is not 0; near enough, a ninth of them misses.
    let step = live / spare + 1;
    LIVE_STEP.store(step, Relaxed);
    let all = live + spare - step;
    for batch in [32, 64] {
        let expect = Some(Direction::FromClient);
        let value = lookups(&table, live_request, None, 0, all, batch, rounds, 2);
        line(&format!("hit, request, batches of {batch}"), value, floor);
        let value = lookups(&table, live_reply, None, 0, all, batch, rounds, 3);
        line(&format!("hit, reply, batches of {batch}"), value, floor);
        let value = lookups(&table, live_request, expect, 0, all, batch, rounds, 2);
        line(&format!("hit, expected, batches of {batch}"), value, floor);
        let value = lookups(&table, request, None, 1 << 28, live, batch, rounds, 4);
        line(&format!("miss, batches of {batch}"), value, floor);
    }
    if lookups_only {
        return;
    }
    let mut handle = table.register();
    let single = measure(
        rounds,
        || -> Vec<Flow> {
            (0..ROUND)
                .map(|_| live_request(random.below(all)))
                .collect()
        },
        |flows| {
            let guard = handle.pin();
            for flow in flows.iter() {
                black_box(guard.lookup(flow).map(|hit| hit.conn.last_seen()));
            }
        },
    );
    line("hit, one by one", single, floor);
    churn(&table, live, rounds, &line, floor);
    two_threads(&table, all, rounds, &line, floor);
    busy_threads(&table, all, rounds, &line, floor);
    println!(
        "{live:>8} {name:<8} {:<34} {:>8.1} bytes",
        "memory for a connection",
        table.memory() as f64 / table.capacity() as f64
    );
}

static LIVE_STEP: AtomicUsize = AtomicUsize::new(0);

fn live(n: usize) -> usize {
    let step = LIVE_STEP.load(Relaxed);
    if n.is_multiple_of(step) { n + 1 } else { n }
}

fn live_request(n: usize) -> Flow {
    request(live(n))
}

fn live_reply(n: usize) -> Flow {
    reply(live(n))
}

fn churn(
    table: &Arc<Table>,
    live: usize,
    rounds: usize,
    line: &dyn Fn(&str, f64, f64),
    floor: f64,
) {
    let mut handle = table.register();
    let timeouts = Timeouts::default();
    let mut next = 1 << 27;
    let mut now = Tick(10);
    let (mut insert, mut advance, mut take_in, mut end) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let new: Vec<NewConnection> = (next..next + ROUND)
            .map(|n| NewConnection {
                now,
                ..connection(n + (live << 4), 250)
            })
            .collect();
        next += ROUND;
        let start = Instant::now();
        for new in new.chunks(32) {
            let guard = handle.pin();
            let mut prepared = [None; 32];
            for (new, prepared) in new.iter().zip(&mut prepared) {
                *prepared = Some(guard.prepare(new));
            }
            for prepared in prepared.iter().flatten() {
                guard.prepare_further(prepared);
            }
            for prepared in prepared.iter().flatten() {
                black_box(guard.insert_prepared(prepared).unwrap());
            }
        }
        insert.push(start.elapsed());
        let start = Instant::now();
        let guard = handle.pin();
        for new in &new {
            let flow = Flow::new(new.protocol, new.client, new.virtual_endpoint);
            let hit = guard.lookup(&flow).unwrap();
            hit.conn
                .advance(hit.direction, lvs_conn::Event::Other, now, &timeouts);
            hit.conn.touch(now);
        }
        drop(guard);
        advance.push(start.elapsed());
        let start = Instant::now();
        table.collect(now, usize::MAX, &mut |_| {});
        take_in.push(start.elapsed());
        now = now + 1000;
        let start = Instant::now();
        let ended = table.collect(now, usize::MAX, &mut |_| {});
        end.push(start.elapsed());
        assert_eq!(ended, ROUND);
    }
    line("insert with both keys", decile(&mut insert, ROUND), floor);
    line(
        "  look up warm, advance",
        decile(&mut advance, ROUND),
        floor,
    );
    line("  collector: take in", decile(&mut take_in, ROUND), floor);
    line("removal: collector ends it", decile(&mut end, ROUND), floor);
}

fn two_threads(
    table: &Arc<Table>,
    all: usize,
    rounds: usize,
    line: &dyn Fn(&str, f64, f64),
    floor: f64,
) {
    let one = lookups(table, live_request, None, 0, all, 32, rounds, 5);
    let both: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (6..8)
            .map(|seed| {
                scope.spawn(move || lookups(table, live_request, None, 0, all, 32, rounds, seed))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let rate = both.iter().map(|ns| 1.0 / ns).sum::<f64>();
    line("hit, batches of 32, two threads", 1.0 / rate, floor);
    line(
        &format!("  one thread costs {:.2} x that", one * rate),
        one,
        floor,
    );
}

/// The same with 5 % writes and a collector beside them, whose time is taken from theirs: medians, not
/// deciles.
fn busy_threads(
    table: &Arc<Table>,
    all: usize,
    rounds: usize,
    line: &dyn Fn(&str, f64, f64),
    floor: f64,
) {
    // Later than anybody before, and long before what is live ends; what the wheel has to move for
    // that, it moves now.
    let now = AtomicU32::new(1 << 22);
    table.collect(Tick(1 << 22), usize::MAX, &mut |_| {});
    let rate = |threads: usize| {
        let left = AtomicUsize::new(threads);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while left.load(Relaxed) != 0 {
                    let now = Tick(now.fetch_add(1, Relaxed));
                    table.collect(now, usize::MAX, &mut |_| {});
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let (left, now) = (&left, &now);
                    scope.spawn(move || {
                        let ns = busy(table, all, rounds, thread, now);
                        left.fetch_sub(1, Relaxed);
                        1.0 / ns
                    })
                })
                .collect();
            let rates = workers.into_iter().map(|worker| worker.join().unwrap());
            rates.sum::<f64>()
        })
    };
    let (one, two) = (rate(1), rate(2));
    line("  with 5 % inserts and a collector", 1.0 / two, floor);
    let times = two / one;
    line(
        &format!("  one thread costs {times:.2} x that"),
        1.0 / one,
        floor,
    );
}

/// The median of an operation of one thread: nineteen lookups and an insertion, in batches of 32.
fn busy(table: &Arc<Table>, all: usize, rounds: usize, thread: usize, now: &AtomicU32) -> f64 {
    let mut handle = table.register();
    let mut random = Random(8 + thread as u64);
    let mut next = (3 + thread) << 29;
    let mut spent = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let flows: Vec<Flow> = (0..ROUND)
            .map(|_| live_request(random.below(all)))
            .collect();
        let now = Tick(now.load(Relaxed));
        let new: Vec<NewConnection> = (next..next + ROUND / 19)
            .map(|n| NewConnection {
                now,
                ..connection(n, 2)
            })
            .collect();
        next += new.len();
        let mut new = new.as_slice();
        let start = Instant::now();
        for (n, flows) in flows.chunks(32).enumerate() {
            let guard = handle.pin();
            let mut hits = [None; 32];
            guard.lookup_batch(flows, &mut hits);
            for hit in hits.iter().flatten() {
                black_box(hit.conn.state());
            }
            let (these, rest) = new.split_at(new.len().min(1 + n % 3));
            new = rest;
            for new in these {
                // A table that is full for a moment refuses it.
                let _ = black_box(guard.insert(new));
            }
        }
        spent.push(start.elapsed());
    }
    spent.sort_unstable();
    spent[rounds / 2].as_nanos() as f64 / (ROUND + ROUND / 19) as f64
}

fn main() {
    let plan = plan();
    for &live in &plan.sizes {
        ours(live, plan.rounds, plan.lookups_only);
        if !plan.peers {
            continue;
        }
        peers::all(live, plan.rounds);
    }
}
