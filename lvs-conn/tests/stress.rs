//! Everything at once, on real threads: workers that make, find, move and end connections of every
//! kind, others that come and go and panic, a collector in small slices, somebody who looks through the
//! table and ends parts of it. What holds in the meantime and in the end is checked; under the
//! sanitizers it also shows that the memory is kept to.
//!
//! `LVS_STRESS` is how many rounds a worker does, instead of a few hundred thousand.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use lvs_conn::{
    Conn, ConnKind, DestinationId, Event, Guard, Inserted, MAX_HANDLES, NewConnection, Table,
    TableConfig, Timeouts,
};
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Tick};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

const CAPACITY: usize = 3000;
const CONNECTIONS: u32 = 4000;
const WORKERS: u32 = 2;

fn rounds() -> u32 {
    let wanted = std::env::var("LVS_STRESS").ok();
    let few = if cfg!(debug_assertions) {
        60_000
    } else {
        300_000
    };
    wanted.and_then(|n| n.parse().ok()).unwrap_or(few)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        u32::try_from(((self.0 >> 32) * u64::from(limit)) >> 32).unwrap()
    }
}

/// Connection `n`: each method, IPv6 among them; one endpoint in eight has a crowd of hundreds.
fn new(n: u32, now: Tick) -> NewConnection {
    let methods = [
        ForwardMethod::Masquerade,
        ForwardMethod::FullNat,
        ForwardMethod::Tunnel,
        ForwardMethod::DirectRoute,
    ];
    let method = methods[n as usize % 4];
    let port = u16::try_from(n).unwrap();
    let addr = match n % 5 {
        0 => Addr {
            hi: 0xfd00 << 48,
            lo: n.into(),
        },
        _ => Addr::from_v4_bits(0x0a00_0000 + n),
    };
    let client = match n % 8 {
        7 => Endpoint::new(Addr::from_v4_bits(0x0aff_0001), 4000),
        _ => Endpoint::new(addr, port),
    };
    NewConnection {
        client,
        virtual_endpoint: Endpoint::new(Addr::from_v4_bits(0xc000_0201), port),
        destination: Endpoint::new(Addr::from_v4_bits(0x0a63_0001 + n % 3), port),
        local: (method == ForwardMethod::FullNat)
            .then(|| Endpoint::new(Addr::from_v4_bits(0x0a63_00fe), port)),
        method,
        dest: DestinationId {
            index: n % 3,
            generation: n,
        },
        mark: n,
        timeout: 50 + n % 100,
        now,
        ..NewConnection::default()
    }
}

fn flows(n: u32) -> [Flow; 2] {
    let new = new(n, Tick(0));
    let request = Flow::new(new.protocol, new.client, new.virtual_endpoint);
    let reply = match new.method {
        ForwardMethod::Masquerade => Flow::new(new.protocol, new.destination, new.client),
        ForwardMethod::FullNat => Flow::new(new.protocol, new.destination, new.local.unwrap()),
        _ => request.reversed(),
    };
    [request, reply]
}

fn whole(conn: Conn<'_>, n: u32) {
    let new = new(n, Tick(0));
    assert_eq!((conn.mark(), conn.dest()), (n, new.dest));
    assert_eq!(
        (conn.client(), conn.virtual_endpoint()),
        (new.client, new.virtual_endpoint)
    );
    assert_eq!(conn.destination(), new.destination);
    if conn.kind() == ConnKind::Normal {
        assert_eq!(conn.local(), new.local);
    }
}

#[derive(Default)]
struct Shared {
    made: AtomicUsize,
    done: AtomicU32,
    clock: AtomicU32,
    timeouts: Timeouts,
}

impl Shared {
    fn insert<'g>(&self, guard: &'g Guard<'_>, new: &NewConnection) -> Option<Conn<'g>> {
        match guard.insert(new) {
            Ok(Inserted::New(conn)) => {
                self.made.fetch_add(1, SeqCst);
                Some(conn)
            }
            Ok(Inserted::Existing(conn)) => Some(conn),
            Err(_) => None,
        }
    }

    /// One connection of a batch: found and moved, or made.
    fn step(&self, guard: &Guard<'_>, random: &mut Random, now: Tick) {
        let n = random.below(CONNECTIONS);
        let Some(hit) = guard.lookup(&flows(n)[random.below(2) as usize]) else {
            let template = (n % 16 == 3).then(|| NewConnection {
                kind: ConnKind::Template,
                local: None,
                ..new(n, now)
            });
            let template = template.and_then(|new| self.insert(guard, &new));
            let wanted = NewConnection {
                control: template.map(Conn::id),
                kind: match n % 32 {
                    9 => ConnKind::OnePacket,
                    _ => ConnKind::Normal,
                },
                ..new(n, now)
            };
            if let Some(conn) = self.insert(guard, &wanted) {
                whole(conn, n);
            }
            return;
        };
        whole(hit.conn, n);
        match random.below(40) {
            0..4 => hit.conn.unlink(now),
            4 => hit.conn.expire_chain(now),
            5 => hit.conn.rearm(random.below(200), now),
            _ => {
                let flags = [0x02, 0x12, 0x10, 0x10, 0x11, 0x04][random.below(6) as usize];
                hit.conn
                    .advance(hit.direction, Event::tcp(flags), now, &self.timeouts);
                hit.conn.count_in_packet();
            }
        }
        whole(hit.conn, n);
    }

    fn work(&self, table: &Arc<Table>, seed: u64, rounds: u32) {
        let mut random = Random(seed);
        let mut handle = table.register();
        let mut batch = Vec::new();
        for round in 0..rounds {
            let now = Tick(self.clock.load(Relaxed));
            let guard = handle.pin();
            for _ in 0..4 {
                self.step(&guard, &mut random, now);
            }
            if round % 64 == 0 {
                batch.clear();
                batch.extend((0..40).map(|_| random.below(CONNECTIONS)));
                let flows: Vec<Flow> = batch.iter().map(|n| flows(*n)[1]).collect();
                let mut hits = vec![None; flows.len()];
                guard.lookup_batch(&flows, &mut hits);
                for (n, hit) in batch.iter().zip(&hits) {
                    hit.iter().for_each(|hit| whole(hit.conn, *n));
                }
            }
        }
        self.done.fetch_add(1, SeqCst);
    }
}

#[test]
fn everything_at_once_leaves_nothing_behind() {
    let table = Arc::new(Table::new(&TableConfig::with_capacity(CAPACITY)).unwrap());
    let shared = Shared::default();
    let rounds = rounds();
    let mut ended = 0;
    std::thread::scope(|scope| {
        let (table, shared) = (&table, &shared);
        for worker in 0..WORKERS {
            scope.spawn(move || shared.work(table, u64::from(worker) + 1, rounds));
        }
        let working = || shared.done.load(SeqCst) < WORKERS;
        // Looks through the table, and ends parts of it.
        scope.spawn(move || {
            let mut handle = table.register();
            while working() {
                let now = Tick(shared.clock.load(Relaxed));
                table.scan(&mut handle, |conn| whole(*conn, conn.mark()));
                table.relieve(&mut handle, 0, now, 20, 1000);
                table.expire_where(&mut handle, now, |conn| conn.mark() % 97 == now.0 % 97);
                std::thread::yield_now();
            }
        });
        // Comes and goes.
        scope.spawn(move || {
            let mut random = Random(99);
            while working() {
                let mut handle = table.register();
                let now = Tick(shared.clock.load(Relaxed));
                let guard = handle.pin();
                (0..20).for_each(|_| shared.step(&guard, &mut random, now));
            }
        });
        while working() {
            let now = shared.clock.fetch_add(1, Relaxed);
            ended += table.collect(Tick(now), 100, &mut |conn| whole(*conn, conn.mark()));
            assert!(table.len() <= CAPACITY);
        }
    });
    all_is_free(&table, &shared, ended);
}

/// What was made has ended, once; nothing is found; all entries and all handles are free.
fn all_is_free(table: &Arc<Table>, shared: &Shared, mut ended: usize) {
    let made = shared.made.load(SeqCst);
    // Where time goes on: how far it came depends on the machine.
    let mut now = Tick(shared.clock.load(SeqCst)) + 1_000_000;
    for _ in 0..10 {
        ended += table.collect(now, usize::MAX, &mut |_| {});
        now = now + Tick::seconds(1000);
    }
    assert_eq!((ended, table.len()), (made, 0));
    let mut handles: Vec<_> = (0..MAX_HANDLES).map(|_| table.register()).collect();
    let guard = handles[0].pin();
    for n in 0..CONNECTIONS {
        assert!(flows(n).iter().all(|flow| guard.lookup(flow).is_none()));
    }
    for n in 0..table.capacity() {
        let port = u16::try_from(n).unwrap();
        let client = Endpoint::new(Addr::from_v4_bits(0x0b00_0001), port);
        let new = NewConnection {
            client,
            ..NewConnection::default()
        };
        assert!(guard.insert(&new).is_ok(), "{n} has no room");
    }
}

/// Workers that panic in the middle of a batch, wherever they are with it: their connections end as
/// others do, their free entries are the others' again, their handles too, and nobody waits for them.
#[test]
fn workers_that_die_in_a_batch_leak_nothing() {
    let table = Arc::new(Table::new(&TableConfig::with_capacity(CAPACITY)).unwrap());
    let shared = Shared::default();
    let mut ended = 0;
    // More than there are handles.
    for round in 0..2 * u32::try_from(MAX_HANDLES).unwrap() {
        let (table, shared) = (&table, &shared);
        let died = std::thread::scope(|scope| {
            let dying = scope.spawn(move || {
                let mut handle = table.register();
                let mut random = Random(round.into());
                let guard = handle.pin();
                for _ in 0..random.below(30) {
                    shared.step(&guard, &mut random, Tick(round));
                }
                let new = new(round, Tick(round));
                let prepared = guard.prepare(&new);
                guard.prepare_further(&prepared);
                if round % 3 == 0 {
                    let made = matches!(guard.insert_prepared(&prepared), Ok(Inserted::New(_)));
                    shared.made.fetch_add(usize::from(made), SeqCst);
                }
                if round % 5 == 0 {
                    // Not even the guard's end is seen.
                    std::mem::forget(guard);
                }
                // Silent: no panic hook is asked.
                std::panic::resume_unwind(Box::new("dies"));
            });
            dying.join().is_err()
        });
        assert!(died);
        ended += table.collect(Tick(round), 50, &mut |conn| whole(*conn, conn.mark()));
    }
    assert!(shared.made.load(SeqCst) > 1000);
    all_is_free(&table, &shared, ended);
}
