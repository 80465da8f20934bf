//! The table alone, for someone who has packets of his own: a worker thread that finds the
//! connections of its batches and makes those that are missing, and a second thread that ends them.
//!
//! `cargo run --release -p lvs-conn --example own_flows`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lvs_conn::{
    Direction, Event, Inserted, NewConnection, Table, TableConfig, TableError, Timeouts,
};
use lvs_core::{Addr, Endpoint, Flow, Protocol, Tick};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const BATCH: usize = 64;

/// What a packet loop would read from its ring: a SYN of each of a thousand clients, again and
/// again.
fn batch(number: usize, service: Endpoint) -> [Flow; BATCH] {
    core::array::from_fn(|place| {
        let client = u32::try_from((number * BATCH + place) % 1000).unwrap_or(0);
        let client = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + client), 40_000);
        Flow::new(Protocol::Tcp, client, service)
    })
}

fn main() -> Result<(), TableError> {
    let table = Arc::new(Table::new(&TableConfig {
        capacity: 10_000,
        ..TableConfig::default()
    })?);
    let timeouts = Timeouts::default();
    let service = Endpoint::new(Addr::from_v4_bits(0xc000_020a), 80);
    let servers = [1, 2, 3].map(|n| Endpoint::new(Addr::from_v4_bits(0x0a00_0000 + n), 8080));
    let done = AtomicBool::new(false);

    let ended = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut ended = 0;
            let mut now = Tick(0);
            while !done.load(Relaxed) {
                // A slice; a real clock would be read here.
                ended += table.collect(now, 256, &mut |_| {});
                std::thread::yield_now();
            }
            // Two minutes later all is over: SYN_RECV lasts one.
            now = now + Tick::seconds(120);
            ended
                + table.collect(now, usize::MAX, &mut |conn| {
                    // Here the load of the server, `conn.dest()`, would go down by one.
                    assert_eq!(conn.virtual_endpoint(), service);
                })
        });
        let mut handle = table.register();
        let (mut known, mut made) = (0, 0);
        for number in 0..100 {
            let now = Tick(0);
            let flows = batch(number, service);
            let guard = handle.pin();
            let mut hits = [None; BATCH];
            guard.lookup_batch(&flows, &mut hits);
            for (flow, hit) in flows.iter().zip(hits) {
                let conn = if let Some(hit) = hit {
                    known += 1;
                    hit.conn
                } else {
                    let new = NewConnection {
                        client: flow.src,
                        virtual_endpoint: flow.dst,
                        destination: servers.get(made % 3).copied().unwrap_or_default(),
                        now,
                        ..NewConnection::default()
                    };
                    match guard.insert(&new) {
                        Ok(Inserted::New(conn)) => {
                            made += 1;
                            conn
                        }
                        Ok(Inserted::Existing(conn)) => conn,
                        Err(_) => continue, // counted in `table.full()`
                    }
                };
                conn.advance(Direction::FromClient, Event::tcp(0x02), now, &timeouts);
            }
        }
        println!("{known} packets of known connections, {made} connections made");
        println!(
            "{} live in {} bytes each",
            table.len(),
            table.memory() / table.capacity()
        );
        done.store(true, Relaxed);
        collector.join().unwrap_or(0)
    });
    println!("{ended} ended, {} left", table.len());
    Ok(())
}
