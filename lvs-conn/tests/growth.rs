//! A table's limit is not its size: memory is taken as connections come. A binary of its own, because
//! what is measured is the whole process's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use lvs_conn::{NewConnection, Table, TableConfig};
use lvs_core::{Addr, Endpoint};
use std::sync::Arc;

const MIB: usize = 1 << 20;
const LIMIT: usize = 8 << 20;

/// Bytes of the process that are in memory.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * PAGE
}

#[test]
fn memory_is_taken_as_connections_come() {
    let before = resident();
    let table = Arc::new(Table::new(&TableConfig::with_capacity(LIMIT)).unwrap());
    let taken = || resident().saturating_sub(before) / MIB;
    assert!(table.memory() / MIB > 1000);
    assert!(taken() < 2, "{} MiB for nothing", taken());
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
    grow(1);
    // A page of each part; they may be huge.
    assert!(taken() <= 8, "{} MiB for one", taken());
    grow(1000);
    let few = taken();
    // A thousand reach every page of the index, if it has huge ones: 48 MiB of it.
    assert!(few <= 56, "{few} MiB for a thousand");
    grow(100_000);
    let more = taken();
    assert!(more <= 72, "{more} MiB for a hundred thousand");
    println!("8M at most: {few} MiB with 1000, {more} MiB with 100,000");
}
