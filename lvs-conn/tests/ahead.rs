//! The collector has memory ready, and a worker that makes connections waits for no page. A binary of its
//! own, because what is measured is the whole process's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use lvs_conn::{NewConnection, Table, TableConfig};
use lvs_core::{Addr, Endpoint, Tick};
use std::sync::Arc;

const MIB: usize = 1 << 20;
const LIMIT: usize = 2 << 20;

/// Bytes of the process that are in memory.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * PAGE
}

/// Pages that this thread has touched first.
fn faults() -> usize {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // After the name, which may contain anything.
    let (_, rest) = text.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
fn a_worker_waits_for_no_page() {
    let before = resident();
    let table = Arc::new(Table::new(&TableConfig::with_capacity(LIMIT)).unwrap());
    for _ in 0..50 {
        table.collect(Tick(0), 1 << 16, &mut |_| {});
    }
    let idle = resident().saturating_sub(before) / MIB;
    // The index, and two slices of 2 MiB; a huge page more of each.
    assert!(idle <= 12 + 4 + 4, "{idle} MiB for nothing");
    let mut handle = table.register();
    let mut made: u32 = 0;
    let mut grow = |to: u32| {
        let guard = handle.pin();
        for n in made..to {
            let client = Endpoint::new(Addr::from_v4_bits(n), 4000);
            let new = NewConnection {
                client,
                ..NewConnection::default()
            };
            guard.insert(&new).unwrap();
        }
        made = to;
    };
    // Code that runs for the first time.
    grow(100);
    let mut taken = 0;
    for round in 1..=20 {
        let begin = faults();
        grow(100 + round * 20_000);
        taken += faults() - begin;
        table.collect(Tick(0), 1 << 16, &mut |_| {});
    }
    // By itself it would touch 25 huge pages or 12,500 small ones; asking for the number may take one.
    assert!(taken < 10, "{taken} pages touched by a worker");
}
