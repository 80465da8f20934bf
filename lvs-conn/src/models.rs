//! Models of each step of the table's protocol, in all orders that two preemptions allow:
//!
//! ```text
//! RUSTFLAGS="--cfg lvs_loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p lvs-conn --release --lib models
//! ```
//!
//! Tables here have one to three entries, a bundle of free entries two, and a crowd is a client's second
//! connection. loom follows atomics,
//! fences and the collector's lock; what it cannot see is the length of a wait, and orders that a
//! processor may take but loom's C11 model of relaxed values does not.

use crate::conn::{Conn, Direction};
use crate::entry::Entry;
use crate::hash::FlowHash;
use crate::mapping::Slab;
use crate::new_connection::NewConnection;
use crate::pool::{Pool, Stock};
use crate::protocol::Event;
use crate::table::{Inserted, Table, TableConfig};
use crate::timeouts::Timeouts;
use loom::thread;
use lvs_core::{Addr, Endpoint, Flow, Protocol, Tick, state::tcp};
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

/// Connection `port` of one client's endpoint, which has a crowd from the second on.
fn crowded(port: u16) -> NewConnection {
    let virtual_endpoint = Endpoint::new(Addr::from_v4_bits(77), port);
    NewConnection {
        virtual_endpoint,
        destination: Endpoint::new(Addr::from_v4_bits(88), port),
        ..long(1)
    }
}

fn crowded_flows(port: u16) -> [Flow; 2] {
    let new = crowded(port);
    [
        Flow::new(new.protocol, new.client, new.virtual_endpoint),
        Flow::new(new.protocol, new.destination, new.client),
    ]
}

/// Two begin the crowd of one client's endpoint: both are found from both sides, whoever came second
/// and got the key of a whole flow; and of two that are the same only one is made.
#[test]
fn of_two_in_a_crowd_both_are_found() {
    for ports in [[80, 81], [81, 81]] {
        let mut model = loom::model::Builder::new();
        // Three insertions and the looks for them are long.
        model.max_branches = 10_000;
        model.check(move || {
            let table = table(3);
            // The first one, so that the others are a crowd.
            let mut handle = table.register();
            assert!(handle.pin().insert(&crowded(79)).is_ok());
            drop(handle);
            let insert = |table: Arc<Table>, port: u16| {
                let mut handle = table.register();
                let guard = handle.pin();
                let new = matches!(guard.insert(&crowded(port)).unwrap(), Inserted::New(_));
                assert!(guard.lookup(&crowded_flows(port)[0]).is_some());
                usize::from(new)
            };
            let other = Arc::clone(&table);
            let other = thread::spawn(move || insert(other, ports[1]));
            let made = insert(Arc::clone(&table), ports[0]) + other.join().unwrap();
            assert_eq!(made, if ports[0] == ports[1] { 1 } else { 2 });
            assert_eq!(table.len(), 1 + made);
            let mut handle = table.register();
            let guard = handle.pin();
            for port in [79, ports[0], ports[1]] {
                for flow in crowded_flows(port) {
                    let hit = guard.lookup(&flow).unwrap();
                    assert_eq!(hit.conn.virtual_endpoint().port, port);
                }
            }
        });
    }
}

/// A connection of a crowd is put in while somebody looks for it: by its reply it is found only when by
/// its request it is, and whole.
#[test]
fn what_is_found_in_a_crowd_is_whole() {
    loom::model(|| {
        let table = table(2);
        let mut handle = table.register();
        assert!(handle.pin().insert(&crowded(79)).is_ok());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            assert!(handle.pin().insert(&crowded(80)).is_ok());
        });
        let [request, reply] = crowded_flows(80);
        let guard = handle.pin();
        if let Some(hit) = guard.lookup(&reply) {
            assert_eq!(hit.direction, Direction::FromServer);
            assert_eq!(hit.conn.virtual_endpoint(), crowded(80).virtual_endpoint);
            assert!(guard.lookup(&request).is_some());
        }
        drop(guard);
        other.join().unwrap();
        assert!(handle.pin().lookup(&reply).is_some());
    });
}

/// The end of a crowd's last connection against a look for it: what was found stays, and in the end
/// nobody is told any more that there are such keys.
#[test]
fn a_crowd_ends_and_leaves_no_trace() {
    loom::model(|| {
        let table = table(2);
        let mut handle = table.register();
        {
            let guard = handle.pin();
            assert!(guard.insert(&crowded(79)).is_ok());
            let Ok(Inserted::New(second)) = guard.insert(&crowded(80)) else {
                panic!()
            };
            second.rearm(1, Tick(0));
        }
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            let mut handle = other.register();
            let guard = handle.pin();
            if let Some(hit) = guard.lookup(&crowded_flows(80)[0]) {
                assert_eq!(hit.conn.virtual_endpoint(), crowded(80).virtual_endpoint);
            }
        });
        let mut ended = table.collect(Tick(10), 9, &mut |_| {});
        other.join().unwrap();
        ended += table.collect(Tick(10), 9, &mut |_| {});
        assert_eq!(ended, 1);
        assert_eq!(table.wide_count.load(crate::sync::Ordering::Relaxed), 0);
        let guard = handle.pin();
        assert!(guard.lookup(&crowded_flows(80)[0]).is_none());
        assert!(guard.lookup(&crowded_flows(79)[1]).is_some());
    });
}

/// Two workers move one connection: its timeout is that of the state in which it ends up.
#[test]
fn the_timeout_is_that_of_the_state() {
    loom::model(|| {
        let table = table(1);
        let timeouts = Arc::new(Timeouts::default());
        let mut handle = table.register();
        assert!(handle.pin().insert(&long(1)).is_ok());
        let advance = |table: &Arc<Table>, timeouts: &Timeouts, direction, flags| {
            let mut handle = table.register();
            let guard = handle.pin();
            let conn = guard.lookup(&request(1)).unwrap().conn;
            conn.advance(direction, Event::tcp(flags), Tick(0), timeouts);
        };
        drop(handle);
        let (other, theirs) = (Arc::clone(&table), Arc::clone(&timeouts));
        let other = thread::spawn(move || {
            advance(&other, &theirs, Direction::FromServer, 0x12);
        });
        advance(&table, &timeouts, Direction::FromClient, 0x02);
        other.join().unwrap();
        let mut handle = table.register();
        let guard = handle.pin();
        let conn = guard.lookup(&request(1)).unwrap().conn;
        assert_eq!(conn.timeout(), timeouts.get(Protocol::Tcp, conn.state()));
    });
}

/// The timeouts are set while a packet moves a connection: its next packet knows the new ones.
#[test]
fn a_new_timeout_counts_from_the_next_packet_on() {
    loom::model(|| {
        let table = table(1);
        let timeouts = Arc::new(Timeouts::default());
        let mut handle = table.register();
        {
            let guard = handle.pin();
            let Ok(Inserted::New(conn)) = guard.insert(&long(1)) else {
                panic!()
            };
            conn.set_state(tcp::ESTABLISHED);
        }
        let setter = Arc::clone(&timeouts);
        let setter = thread::spawn(move || setter.set_seconds(50, 0, 0));
        let packet = |guard: &crate::Guard<'_>| {
            let conn = guard.lookup(&request(1)).unwrap().conn;
            conn.advance(Direction::FromClient, Event::tcp(0x10), Tick(0), &timeouts);
            assert_eq!(conn.state(), tcp::ESTABLISHED);
            conn.timeout()
        };
        let guard = handle.pin();
        let either = [Tick::seconds(900), Tick::seconds(50)];
        assert!(either.contains(&packet(&guard)));
        assert!(either.contains(&packet(&guard)));
        setter.join().unwrap();
        assert_eq!(packet(&guard), either[1]);
    });
}

/// Two workers take entries that never were in use while a third looks through the table: each gets
/// its own, and what the look finds live is whole. It is also what a process finds that attaches the
/// memory of one that was killed.
#[test]
fn growth_gives_each_its_own() {
    loom::model(|| {
        let table = table(2);
        let insert = |table: &Arc<Table>, client| {
            let mut handle = table.register();
            let guard = handle.pin();
            assert!(matches!(guard.insert(&long(client)), Ok(Inserted::New(_))));
        };
        let other = Arc::clone(&table);
        let other = thread::spawn(move || insert(&other, 2));
        insert(&table, 1);
        {
            let mut handle = table.register();
            let mut seen = 0;
            table.scan(&mut handle, |conn| {
                whole(*conn, conn.client().port);
                seen += 1;
            });
            assert!(seen == 1 || seen == 2);
        }
        other.join().unwrap();
        let mut handle = table.register();
        let guard = handle.pin();
        for client in [1, 2] {
            whole(guard.lookup(&request(client)).unwrap().conn, client);
        }
        assert_eq!(table.len(), 2);
    });
}
