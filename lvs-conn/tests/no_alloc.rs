//! The packet path and the collector allocate nothing. A binary of its own, because the counting
//! allocator is the whole process's.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "a test; and an allocator is unsafe by its trait"
)]

use lvs_conn::{Event, NewConnection, Table, TableConfig, Timeouts};
use lvs_core::{Addr, Endpoint, Flow, Tick};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated() {
    {
        let table = Arc::new(Table::new(&TableConfig::default()).unwrap());
        let timeouts = Timeouts::default();
        let mut handle = table.register();
        let mut scanner = table.register();
        let before = ALLOCATIONS.with(Cell::get);
        for round in 0..20_u16 {
            let now = Tick(u32::from(round) * Tick::seconds(70));
            let new = |client: u16| NewConnection {
                client: Endpoint::new(Addr::from_v4_bits(u32::from(client)), client),
                now,
                ..NewConnection::default()
            };
            let flow =
                |new: &NewConnection| Flow::new(new.protocol, new.client, new.virtual_endpoint);
            {
                let guard = handle.pin();
                for client in 0..2000 {
                    guard.insert(&new(client)).unwrap();
                }
                let flows: [Flow; 64] =
                    core::array::from_fn(|client| flow(&new(u16::try_from(client).unwrap())));
                let mut hits = [None; 64];
                guard.lookup_batch(&flows, &mut hits);
                for hit in hits.iter().flatten() {
                    hit.conn
                        .advance(hit.direction, Event::tcp(0x02), now, &timeouts);
                }
                for client in 100..200 {
                    guard.lookup(&flow(&new(client))).unwrap().conn.unlink(now);
                }
            }
            table.collect(now, 100, &mut |_| {});
            table.expire_where(&mut scanner, now, |conn| conn.client().port % 3 == 0);
            table.collect(now + Tick::seconds(69), usize::MAX, &mut |_| {});
        }
        assert_eq!(ALLOCATIONS.with(Cell::get), before);
        assert!(table.is_empty());
    }
}
