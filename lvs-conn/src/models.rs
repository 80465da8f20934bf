//! Models of each step of the table's protocol, in all orders that two preemptions allow:
//!
//! ```text
//! RUSTFLAGS="--cfg lvs_loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p lvs-conn --release --lib models
//! ```
//!
//! Tables here have one or two entries, and a bundle of free entries two. loom follows atomics,
//! fences and the collector's lock; what it cannot see is the length of a wait, and orders that a
//! processor may take but loom's C11 model of relaxed values does not.

use crate::conn::{Conn, Direction};
use crate::entry::Entry;
use crate::hash::FlowHash;
use crate::mapping::Slab;
use crate::new_connection::NewConnection;
use crate::pool::{Pool, Stock};
use crate::table::{Inserted, Table, TableConfig};
use loom::thread;
use lvs_core::{Addr, Endpoint, Flow, Tick};
use std::sync::Arc;

fn table(capacity: usize) -> Arc<Table> {
    let config = TableConfig {
        capacity,
        hash: FlowHash::with_key(1, 2),
    };
    Arc::new(Table::new(&config).unwrap())
}

fn connection(client: u16) -> NewConnection {
    NewConnection {
        client: Endpoint::new(Addr::from_v4_bits(u32::from(client)), client),
        virtual_endpoint: Endpoint::new(Addr::from_v4_bits(77), 80),
        destination: Endpoint::new(Addr::from_v4_bits(88), 8080),
        ..NewConnection::default()
    }
}

/// One whose time is not over in any model.
fn long(client: u16) -> NewConnection {
    NewConnection {
        timeout: 1_000_000,
        ..connection(client)
    }
}

fn request(client: u16) -> Flow {
    let new = connection(client);
    Flow::new(new.protocol, new.client, new.virtual_endpoint)
}

fn reply(client: u16) -> Flow {
    let new = connection(client);
    Flow::new(new.protocol, new.destination, new.client)
}

const LATER: Tick = Tick(100_000);

fn whole(conn: Conn<'_>, client: u16) {
    let new = connection(client);
    assert_eq!(conn.client(), new.client);
    assert_eq!(conn.destination(), new.destination);
}

#[test]
fn of_two_that_insert_one_wins() {
    loom::model(|| {
        let table = table(2);
        let insert = |table: Arc<Table>| {
            let mut handle = table.register();
            let guard = handle.pin();
            match guard.insert(&connection(1)).unwrap() {
                Inserted::New(_) => 1,
                Inserted::Existing(conn) => {
                    whole(conn, 1);
                    0
                }
            }
        };
        let other = Arc::clone(&table);
        let other = thread::spawn(move || insert(other));
        let wins = insert(Arc::clone(&table)) + other.join().unwrap();
        assert_eq!((wins, table.len()), (1, 1));
    });
}

#[test]
fn what_is_found_is_whole() {
    loom::model(|| {
        let table = table(1);
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            assert!(handle.pin().insert(&connection(1)).is_ok());
        });
        let mut handle = table.register();
        let guard = handle.pin();
        if let Some(hit) = guard.lookup(&reply(1)) {
            assert_eq!(hit.direction, Direction::FromServer);
            whole(hit.conn, 1);
            // The request's key is older.
            assert!(guard.lookup(&request(1)).is_some());
        }
        drop(guard);
        other.join().unwrap();
        assert!(handle.pin().lookup(&reply(1)).is_some());
    });
}

/// The collector ends a connection and another takes its memory, while a worker looks.
#[test]
fn what_was_found_stays_what_it_is() {
    loom::model(|| {
        let table = table(1);
        let mut handle = table.register();
        assert!(handle.pin().insert(&connection(1)).is_ok());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            let guard = handle.pin();
            if let Some(hit) = guard.lookup(&request(1)) {
                whole(hit.conn, 1);
                whole(hit.conn, 1);
            }
        });
        let mut ended = table.collect(LATER, 9, &mut |conn| whole(*conn, 1));
        if ended == 1 {
            assert!(handle.pin().insert(&long(2)).is_ok());
        }
        other.join().unwrap();
        ended += table.collect(LATER, 9, &mut |conn| whole(*conn, 1));
        assert_eq!(ended, 1);
        assert!(handle.pin().lookup(&request(1)).is_none());
    });
}

/// A worker unlinks a connection that the collector ends at the same time, and another one looks:
/// the memory waits for both.
#[test]
fn the_end_waits_for_who_unlinks() {
    loom::model(|| {
        let table = table(1);
        let mut handle = table.register();
        assert!(handle.pin().insert(&connection(1)).is_ok());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            let guard = handle.pin();
            if let Some(hit) = guard.lookup(&request(1)) {
                hit.conn.unlink(Tick(0));
                whole(hit.conn, 1);
            }
        });
        let mut ended = table.collect(LATER, 9, &mut |_| {});
        {
            let guard = handle.pin();
            if let Some(hit) = guard.lookup(&reply(1)) {
                ended += table.collect(LATER, 9, &mut |_| {});
                let _ = guard.insert(&long(2));
                whole(hit.conn, 1);
            }
        }
        other.join().unwrap();
        ended += table.collect(LATER, 9, &mut |_| {});
        assert_eq!(ended, 1);
        // Nothing of it is left: the table has room again, and finds only what is new.
        assert!(handle.pin().insert(&long(2)).is_ok());
        assert!(handle.pin().lookup(&reply(1)).is_none());
    });
}

/// A timeout is shortened while the collector puts the connection into the wheel: one of the two
/// sees the other.
#[test]
fn a_shortened_timeout_is_not_lost() {
    loom::model(|| {
        let table = table(1);
        let mut handle = table.register();
        assert!(handle.pin().insert(&long(1)).is_ok());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            let guard = handle.pin();
            let hit = guard.lookup(&request(1)).unwrap();
            hit.conn.rearm(10, Tick(0));
        });
        let ended = table.collect(Tick(0), 9, &mut |_| {});
        other.join().unwrap();
        assert_eq!(ended, 0);
        assert_eq!(table.collect(Tick(9), 9, &mut |_| {}), 0);
        assert_eq!(table.collect(Tick(10), 9, &mut |_| {}), 1);
    });
}

/// Of a last child's birth and its parent's end one comes first.
#[test]
fn a_parent_does_not_end_before_its_child() {
    loom::model(|| {
        let table = table(2);
        let mut handle = table.register();
        assert!(handle.pin().insert(&connection(1)).is_ok());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            let guard = handle.pin();
            let parent = guard.lookup(&request(1)).map(|hit| hit.conn.id());
            let child = NewConnection {
                control: parent,
                ..long(2)
            };
            let Ok(Inserted::New(child)) = guard.insert(&child) else {
                panic!()
            };
            child.control().is_some()
        });
        let ended = table.collect(Tick(1000), 9, &mut |_| {});
        let has_parent = other.join().unwrap();
        assert!(!(ended == 1 && has_parent));
        assert_eq!(handle.pin().lookup(&request(1)).is_some(), has_parent);
    });
}

/// Free entries pass from hand to hand; nobody has one that somebody else has.
#[test]
fn an_entry_has_one_owner() {
    loom::model(|| {
        let shared: Arc<(Pool, Slab<Entry>)> = Arc::new((Pool::new(Slab::new(1), 3), Slab::new(3)));
        {
            // Two bundles on the stack: 0 with 1, and 2.
            let (pool, entries) = &*shared;
            let stock = Stock::default();
            while pool.next(entries, &stock).is_some() {
                stock.take();
            }
            pool.push(entries, &[0, 1]);
            pool.push(entries, &[2]);
        }
        let work = |shared: &(Pool, Slab<Entry>)| {
            let (pool, entries) = shared;
            let stock = Stock::default();
            if let Some(first) = pool.next(entries, &stock) {
                let owner = &entries[first as usize].mark;
                assert_eq!(owner.swap(1, crate::sync::Ordering::Relaxed), 0);
                owner.store(0, crate::sync::Ordering::Relaxed);
            }
            pool.put_back(entries, &stock);
        };
        let other = Arc::clone(&shared);
        let other = thread::spawn(move || {
            work(&other);
            work(&other);
        });
        work(&shared);
        other.join().unwrap();
        let (pool, entries) = &*shared;
        let stock = Stock::default();
        let mut left: Vec<u32> = std::iter::from_fn(|| {
            pool.next(entries, &stock)?;
            stock.take()
        })
        .collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2]);
    });
}
