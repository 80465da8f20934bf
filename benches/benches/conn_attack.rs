//! Clients that choose addresses and ports to collide: what they reach without the key of the hash,
//! and, for comparison, with it.
//!
//! `cargo bench -p lvs-benches --bench conn_attack` (`-- --smoke` only shows that it runs)
//!
//! The longest probe is how many buckets of 15 slots somebody looks through for the unluckiest key.
//! Times are nanoseconds for one lookup in batches of 32: the median of the batches and their
//! 999th of 1000.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a measurement on the terminal"
)]

use lvs_benches::connections::{Random, client, fill, of, request};
use lvs_conn::{FlowHash, Table, TableConfig};
use lvs_core::{Addr, Endpoint, Flow, Protocol, Tick};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const LONG: u32 = Tick::seconds(1_000_000);
const BATCH: usize = 32;

struct Size {
    capacity: usize,
    batches: usize,
}

fn table(capacity: usize, hash: FlowHash) -> Arc<Table> {
    Arc::new(Table::new(&TableConfig { capacity, hash }).unwrap())
}

/// The median and the 999th of 1000 batches of lookups, for one lookup.
fn times(table: &Arc<Table>, clients: &[Endpoint], batches: usize) -> (f64, f64) {
    let mut handle = table.register();
    let mut random = Random(7);
    let mut times: Vec<u64> = (0..batches)
        .map(|_| {
            let flows: [Flow; BATCH] =
                core::array::from_fn(|_| request(clients[random.below(clients.len())]));
            let mut hits = [None; BATCH];
            let start = Instant::now();
            let guard = handle.pin();
            guard.lookup_batch(&flows, &mut hits);
            black_box(hits.iter().flatten().map(|hit| hit.conn.state()).max());
            start.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    let one = |place: usize| times[place.min(times.len() - 1)] as f64 / BATCH as f64;
    (one(times.len() / 2), one(times.len() * 999 / 1000))
}

fn line(what: &str, table: &Arc<Table>, clients: &[Endpoint], taken: usize, batches: usize) {
    let longest = clients
        .iter()
        .map(|client| table.longest_probe(Protocol::Tcp, *client).1)
        .max();
    let (median, slow) = times(table, clients, batches);
    println!(
        "{what:<44} {taken:>9} taken   longest probe {:>3}   {median:>7.1} ns   {slow:>7.1} ns",
        longest.unwrap_or(0)
    );
}

/// The client with this number.
type Choice = fn(usize) -> Endpoint;

/// The most regular of choices against a key that nobody knows.
fn unknown(size: &Size) {
    let choices: [(&str, Choice); 5] = [
        ("random clients", client),
        ("addresses in a row", |n| {
            Endpoint::new(Addr::from_v4_bits(0x0b00_0000 + n as u32), 4000)
        }),
        ("ports in a row, addresses in a row", |n| {
            Endpoint::new(
                Addr::from_v4_bits(0x0b00_0000 + n as u32 / 60_000),
                (n % 60_000) as u16,
            )
        }),
        ("addresses 4096 apart", |n| {
            let bits = (n as u32).rotate_left(12);
            Endpoint::new(Addr::from_v4_bits(bits), 4000)
        }),
        ("IPv6, addresses 2^40 apart", |n| {
            let addr = Addr {
                hi: 0x2001_0db8 << 32,
                lo: (n as u64) << 40 | 1,
            };
            Endpoint::new(addr, 4000)
        }),
    ];
    for (what, choice) in choices {
        let table = table(size.capacity, FlowHash::default());
        let clients: Vec<Endpoint> = (0..size.capacity).map(choice).collect();
        let taken = fill(
            &table,
            clients.iter().map(|client| of(*client, LONG, Tick(0))),
        );
        line(
            &format!("key unknown: {what}"),
            &table,
            &clients,
            taken,
            size.batches,
        );
    }
}

/// Clients that all have one home, found with the key.
fn known(size: &Size) {
    let hash = FlowHash::with_key(1, 2);
    let table = table(size.capacity, hash);
    let others: Vec<Endpoint> = (0..size.capacity / 2).map(client).collect();
    fill(
        &table,
        others.iter().map(|client| of(*client, LONG, Tick(0))),
    );
    line(
        "key known: others before",
        &table,
        &others,
        others.len(),
        size.batches,
    );
    let (home, _) = table.longest_probe(Protocol::Tcp, others[0]);
    let evil: Vec<Endpoint> = (0_u32..)
        .flat_map(|n| {
            let addr = Addr::from_v4_bits(0x0c00_0000 + n);
            (1024..60_000).map(move |port| Endpoint::new(addr, port))
        })
        .filter(|client| table.longest_probe(Protocol::Tcp, *client).0 == home)
        .take(1500)
        .collect();
    let taken = fill(&table, evil.iter().map(|client| of(*client, LONG, Tick(0))));
    line(
        "key known: clients of one home",
        &table,
        &evil[..taken],
        taken,
        size.batches,
    );
    let near: Vec<Endpoint> = others
        .iter()
        .filter(|client| {
            let place = table.longest_probe(Protocol::Tcp, **client).0;
            (home..home + 64).contains(&place)
        })
        .copied()
        .collect();
    line(
        "key known: others at home beside it",
        &table,
        &near,
        near.len(),
        size.batches,
    );
    line(
        "key known: others",
        &table,
        &others,
        others.len(),
        size.batches,
    );
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke" || argument == "--test");
    let size = match smoke {
        true => Size {
            capacity: 2000,
            batches: 10,
        },
        false => Size {
            capacity: 1 << 20,
            batches: 20_000,
        },
    };
    unknown(&size);
    known(&size);
}
