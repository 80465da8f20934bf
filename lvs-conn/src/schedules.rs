//! Whole tables under random schedules, longer than loom can look through: workers that make, find,
//! move and end connections, a collector, and somebody who looks through the table or makes room.
//!
//! ```text
//! RUSTFLAGS="--cfg lvs_loom --cfg lvs_shuttle" cargo test -p lvs-conn --release --lib schedules
//! ```
//!
//! shuttle stops a thread at any access to an atomic and takes all of them as sequentially consistent:
//! what it finds are wrong protocols, not wrong orderings, which are loom's (`models.rs`). Half of the
//! schedules change threads at random, half stop one for long while the others go on (PCT). Each comes
//! from a seed; a failure prints how to have it again.

use crate::conn::{Conn, DestinationId, Direction};
use crate::hash::FlowHash;
use crate::new_connection::{ConnKind, NewConnection};
use crate::protocol::Event;
use crate::table::{Inserted, MAX_HANDLES, Table, TableConfig};
use crate::timeouts::Timeouts;
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Tick};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;

/// Few, so that everybody meets everybody.
const CLIENTS: u16 = 4;
const CAPACITY: usize = 6;
const STEPS: usize = 12;
/// As many schedules a test; `LVS_SHUTTLE` says otherwise.
const SCHEDULES: usize = 2000;

fn check(schedule: impl Fn() + Send + Sync + 'static) {
    /// How often a thread is stopped for long.
    const DEPTH: usize = 4;
    let wanted = std::env::var("LVS_SHUTTLE").ok();
    let schedules = wanted.and_then(|n| n.parse().ok()).unwrap_or(SCHEDULES);
    let schedule = Arc::new(schedule);
    let same = Arc::clone(&schedule);
    shuttle::check_random(move || same(), schedules / 2);
    shuttle::check_pct(move || schedule(), schedules / 2, DEPTH);
}

/// Connection `n`: clients share endpoints, so that some are in a crowd, and each method is there.
fn new(n: u16, now: Tick) -> NewConnection {
    let methods = [
        ForwardMethod::Masquerade,
        ForwardMethod::FullNat,
        ForwardMethod::DirectRoute,
    ];
    let method = methods[usize::from(n) % 3];
    NewConnection {
        client: Endpoint::new(Addr::from_v4_bits(10 + u32::from(n % 2)), 1000),
        virtual_endpoint: Endpoint::new(Addr::from_v4_bits(77), 80 + n),
        destination: Endpoint::new(Addr::from_v4_bits(88), 8080 + n),
        local: (method == ForwardMethod::FullNat)
            .then(|| Endpoint::new(Addr::from_v4_bits(99), 5000 + n)),
        method,
        dest: DestinationId {
            index: n.into(),
            generation: 7,
        },
        mark: n.into(),
        timeout: 3,
        now,
        ..NewConnection::default()
    }
}

fn flows(n: u16) -> [Flow; 2] {
    let new = new(n, Tick(0));
    let request = Flow::new(new.protocol, new.client, new.virtual_endpoint);
    let reply = match new.method {
        ForwardMethod::Masquerade => Flow::new(new.protocol, new.destination, new.client),
        ForwardMethod::FullNat => Flow::new(new.protocol, new.destination, new.local.unwrap()),
        _ => request.reversed(),
    };
    [request, reply]
}

/// What is found is what was looked for, and stays so while the guard is held.
fn whole(conn: Conn<'_>, n: u16) {
    let new = new(n, Tick(0));
    assert_eq!(conn.mark(), new.mark);
    assert_eq!(conn.dest(), new.dest);
    assert_eq!(
        (conn.client(), conn.virtual_endpoint()),
        (new.client, new.virtual_endpoint)
    );
    assert_eq!(conn.destination(), new.destination);
    if conn.kind() == ConnKind::Normal {
        assert_eq!(conn.local(), new.local);
    }
}

fn worker(table: &Arc<Table>, timeouts: &Timeouts, made: &AtomicUsize) {
    let mut handle = table.register();
    let mut random = thread_rng();
    let mut now = Tick(0);
    for _ in 0..STEPS {
        let guard = handle.pin();
        for _ in 0..2 {
            let n = random.gen_range(0..CLIENTS);
            let found = guard.lookup(&flows(n)[random.gen_range(0..2)]);
            if let Some(hit) = found {
                whole(hit.conn, n);
                match random.gen_range(0..6) {
                    0 => hit.conn.unlink(now),
                    1 => hit.conn.expire_chain(now),
                    2 => hit.conn.rearm(random.gen_range(0..5), now),
                    _ => {
                        let flags = [0x02, 0x10, 0x11, 0x04][random.gen_range(0..4)];
                        hit.conn
                            .advance(hit.direction, Event::tcp(flags), now, timeouts);
                    }
                }
                whole(hit.conn, n);
                continue;
            }
            // With a template above it, now and then.
            let control = (random.gen_range(0..3) == 0).then(|| template(&guard, n, now, made));
            let wanted = NewConnection {
                control: control.flatten(),
                ..new(n, now)
            };
            if let Ok(Inserted::New(conn)) = guard.insert(&wanted) {
                made.fetch_add(1, SeqCst);
                whole(conn, n);
            }
        }
        drop(guard);
        now = now + random.gen_range(0..3_u32);
    }
}

fn template(
    guard: &crate::Guard<'_>,
    n: u16,
    now: Tick,
    made: &AtomicUsize,
) -> Option<crate::ConnId> {
    let wanted = NewConnection {
        kind: ConnKind::Template,
        local: None,
        ..new(n, now)
    };
    match guard.insert(&wanted) {
        Ok(Inserted::New(conn)) => {
            made.fetch_add(1, SeqCst);
            Some(conn.id())
        }
        Ok(Inserted::Existing(conn)) => Some(conn.id()),
        Err(_) => None,
    }
}

/// When all is over: what was made has ended once, nothing is found, and all entries are free again.
fn nothing_is_left(table: &Arc<Table>, made: usize, mut ended: usize) {
    for round in 1..20 {
        ended += table.collect(Tick(round * 1_000_000), 1000, &mut |_| {});
    }
    assert_eq!((ended, table.len()), (made, 0));
    let mut handle = table.register();
    let guard = handle.pin();
    for n in 0..CLIENTS {
        assert!(flows(n).iter().all(|flow| guard.lookup(flow).is_none()));
    }
    for n in 0..CAPACITY {
        let n = u16::try_from(n).unwrap();
        let wanted = NewConnection {
            client: Endpoint::new(Addr::from_v4_bits(500), n),
            method: ForwardMethod::Masquerade,
            local: None,
            ..new(n, Tick(0))
        };
        assert!(
            matches!(guard.insert(&wanted), Ok(Inserted::New(_))),
            "{n} has no room"
        );
    }
}

fn fresh() -> (Arc<Table>, Arc<Timeouts>, Arc<AtomicUsize>) {
    let config = TableConfig {
        capacity: CAPACITY,
        hash: FlowHash::with_key(1, 2),
    };
    let table = Arc::new(Table::new(&config).unwrap());
    (table, Arc::default(), Arc::new(AtomicUsize::new(0)))
}

fn start(
    (table, timeouts, made): &(Arc<Table>, Arc<Timeouts>, Arc<AtomicUsize>),
) -> thread::JoinHandle<()> {
    let (table, timeouts, made) = (Arc::clone(table), Arc::clone(timeouts), Arc::clone(made));
    thread::spawn(move || worker(&table, &timeouts, &made))
}

/// Two workers and a collector.
#[test]
fn workers_and_a_collector() {
    check(|| {
        let shared = fresh();
        let workers = [start(&shared), start(&shared)];
        let (table, _, made) = shared;
        let mut ended = 0;
        for now in 0..STEPS {
            let now = Tick(u32::try_from(now).unwrap() * 2);
            ended += table.collect(now, 3, &mut |conn| {
                whole(*conn, u16::try_from(conn.mark()).unwrap());
            });
        }
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        nothing_is_left(&table, made.load(SeqCst), ended);
    });
}

/// Two workers, a collector, and somebody who looks through the table, ends what is half-open and
/// what belongs to one destination.
#[test]
fn workers_a_collector_and_a_scan() {
    check(|| {
        let shared = fresh();
        let workers = [start(&shared), start(&shared)];
        let scanned = Arc::clone(&shared.0);
        let scanner = thread::spawn(move || {
            let mut handle = scanned.register();
            for round in 0..3 {
                scanned.scan(&mut handle, |conn| {
                    whole(*conn, u16::try_from(conn.mark()).unwrap());
                });
                scanned.relieve(&mut handle, 0, Tick(round), 2, 100);
                let dest = new(1, Tick(0)).dest;
                scanned.expire_destination(&mut handle, dest, Tick(round));
            }
        });
        let (table, _, made) = shared;
        let mut ended = 0;
        for now in 0..STEPS {
            let now = Tick(u32::try_from(now).unwrap() * 2);
            ended += table.collect(now, 2, &mut |_| {});
        }
        scanner.join().unwrap();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        nothing_is_left(&table, made.load(SeqCst), ended);
    });
}

/// A table that is too small for its workers: what is refused is refused, and nothing is lost.
#[test]
fn workers_of_a_full_table() {
    check(|| {
        let config = TableConfig {
            capacity: 2,
            hash: FlowHash::with_key(1, 2),
        };
        let table = Arc::new(Table::new(&config).unwrap());
        let made = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..MAX_HANDLES - 1)
            .map(|_| {
                let (table, made) = (Arc::clone(&table), Arc::clone(&made));
                thread::spawn(move || worker(&table, &Timeouts::default(), &made))
            })
            .collect();
        let mut ended = 0;
        for now in 0..STEPS {
            let now = Tick(u32::try_from(now).unwrap() * 2);
            ended += table.collect(now, 9, &mut |_| {});
        }
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        for round in 1..20 {
            ended += table.collect(Tick(round * 1_000_000), 1000, &mut |_| {});
        }
        assert_eq!((ended, table.len()), (made.load(SeqCst), 0));
        let mut handle = table.register();
        let guard = handle.pin();
        for n in 0..2 {
            let wanted = NewConnection {
                method: ForwardMethod::Masquerade,
                local: None,
                ..new(n, Tick(0))
            };
            assert!(matches!(guard.insert(&wanted), Ok(Inserted::New(_))));
        }
    });
}

/// The request's key is there first, and goes with the reply's.
#[test]
fn what_is_found_by_its_reply_is_found_by_its_request() {
    check(|| {
        let shared = fresh();
        let other = start(&shared);
        let table = shared.0;
        let mut handle = table.register();
        for _ in 0..STEPS {
            let guard = handle.pin();
            for n in 0..CLIENTS {
                let [request, reply] = flows(n);
                let Some(hit) = guard.lookup(&reply) else {
                    continue;
                };
                whole(hit.conn, n);
                assert_eq!(hit.direction, Direction::FromServer);
                let again = guard.lookup(&request);
                // Unless it was unlinked meanwhile.
                assert!(again.is_some() || !hit.conn.is_live());
            }
        }
        other.join().unwrap();
    });
}
