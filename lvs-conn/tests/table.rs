//! The table beside a plain map, and its collector beside a plain list of deadlines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use lvs_conn::{
    DestinationId, Direction, Event, Inserted, NewConnection, Table, TableConfig, Timeouts,
};
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Protocol, Tick, state::tcp};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

fn table(capacity: usize) -> Arc<Table> {
    Arc::new(
        Table::new(&TableConfig {
            capacity,
            ..TableConfig::default()
        })
        .unwrap(),
    )
}

fn new(client: u16, now: Tick) -> NewConnection {
    NewConnection {
        client: Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + u32::from(client)), client),
        virtual_endpoint: "10.0.0.1:80".parse().unwrap(),
        destination: "10.2.0.1:8080".parse().unwrap(),
        dest: DestinationId {
            index: u32::from(client) % 7,
            generation: 3,
        },
        now,
        ..NewConnection::default()
    }
}

fn request(new: &NewConnection) -> Flow {
    Flow::new(new.protocol, new.client, new.virtual_endpoint)
}

fn reply(new: &NewConnection) -> Flow {
    Flow::new(new.protocol, new.destination, new.client)
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16),
    Unlink(u16),
    Touch(u16),
    Rearm(u16, u32),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..200_u16;
    prop_oneof![
        4 => client.clone().prop_map(Step::Insert),
        1 => client.clone().prop_map(Step::Unlink),
        2 => client.clone().prop_map(Step::Touch),
        2 => (client, prop_oneof![0..2000_u32, 0..10_000_000_u32]).prop_map(|(c, t)| Step::Rearm(c, t)),
        2 => prop_oneof![0..100_u32, 0..70_000_u32, 0..20_000_000_u32].prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// After each step the same connections are found, from both sides, as a map holds; and each
    /// ends in the tick in which its deadline passes, not before and not after.
    #[test]
    fn it_is_a_map_with_deadlines(start: u32, steps in prop::collection::vec(step(), 1..150)) {
        let table = table(128);
        let mut handle = table.register();
        let mut now = Tick(start);
        let mut map: HashMap<u16, (NewConnection, Tick)> = HashMap::new();
        table.collect(now, usize::MAX, &mut |_| {});
        let last = steps.len() - 1;
        for (number, step) in steps.into_iter().enumerate() {
            let guard = handle.pin();
            match step {
                Step::Insert(client) => {
                    let wanted = new(client, now);
                    match guard.insert(&wanted) {
                        Ok(Inserted::New(_)) => {
                            prop_assert!(!map.contains_key(&client) && map.len() < 128);
                            map.insert(client, (wanted, now + 3 * Tick::PER_SECOND));
                        }
                        Ok(Inserted::Existing(conn)) => {
                            prop_assert!(map.contains_key(&client));
                            prop_assert_eq!(conn.client(), wanted.client);
                        }
                        Err(_) => prop_assert!(map.len() == 128),
                    }
                }
                Step::Unlink(client) => {
                    if let Some(hit) = guard.lookup(&request(&new(client, now))) {
                        hit.conn.unlink(now);
                        prop_assert!(map.remove(&client).is_some());
                    }
                }
                Step::Touch(client) => {
                    if let Some(hit) = guard.lookup(&reply(&new(client, now))) {
                        hit.conn.touch(now);
                        let timeout = hit.conn.timeout();
                        map.get_mut(&client).unwrap().1 = now + timeout;
                    }
                }
                Step::Rearm(client, timeout) => {
                    if let Some(hit) = guard.lookup(&request(&new(client, now))) {
                        hit.conn.rearm(timeout, now);
                        map.get_mut(&client).unwrap().1 = now + timeout;
                    }
                }
                Step::Wait(ticks) => now = now + ticks,
            }
            drop(guard);
            table.collect(now, usize::MAX, &mut |_| {});
            map.retain(|_, (_, deadline)| deadline.is_after(now));
            prop_assert_eq!(table.len(), map.len());
            let mut seen = 0;
            table.scan(&mut handle, |conn| seen += usize::from(map.contains_key(&conn.client().port)));
            prop_assert_eq!(seen, map.len());
            // All of them now and then, and a few after each step.
            let some = |client: &u16| {
                number == last || number % 32 == 0 || usize::from(*client) % 32 == number % 32
            };
            let guard = handle.pin();
            for client in (0..200).filter(some) {
                let wanted = new(client, now);
                let expected = map.contains_key(&client);
                let found = guard.lookup(&request(&wanted));
                prop_assert_eq!(found.map(|hit| hit.direction), expected.then_some(Direction::FromClient));
                let found = guard.lookup(&reply(&wanted));
                prop_assert_eq!(found.map(|hit| hit.direction), expected.then_some(Direction::FromServer));
            }
        }
    }
}

#[test]
fn a_batch_finds_what_single_lookups_find() {
    let table = table(5000);
    let mut handle = table.register();
    let now = Tick(7);
    let guard = handle.pin();
    for client in 0..4000 {
        guard.insert(&new(client, now)).unwrap();
    }
    let mut flows: Vec<Flow> = (0..5000).map(|client| request(&new(client, now))).collect();
    flows.extend((0..5000).map(|client| reply(&new(client, now))));
    flows.push(Flow::NONE);
    let mut hits = vec![None; flows.len()];
    guard.lookup_batch(&flows, &mut hits);
    for (flow, hit) in flows.iter().zip(&hits) {
        let single = guard.lookup(flow);
        assert_eq!(
            hit.map(|h| (h.conn, h.direction)),
            single.map(|h| (h.conn, h.direction))
        );
    }
    assert_eq!(hits.iter().flatten().count(), 8000);
}

#[test]
fn every_method_has_its_reply() {
    for (method, local, from, to) in [
        (
            ForwardMethod::Masquerade,
            None,
            "10.2.0.1:8080",
            "10.1.0.5:40000",
        ),
        (
            ForwardMethod::DirectRoute,
            None,
            "10.0.0.1:80",
            "10.1.0.5:40000",
        ),
        (ForwardMethod::Tunnel, None, "10.0.0.1:80", "10.1.0.5:40000"),
        (
            ForwardMethod::FullNat,
            Some("10.3.0.1:1025"),
            "10.2.0.1:8080",
            "10.3.0.1:1025",
        ),
    ] {
        let table = table(8);
        let mut handle = table.register();
        let guard = handle.pin();
        let wanted = NewConnection {
            method,
            local: local.map(|text| text.parse().unwrap()),
            client: "10.1.0.5:40000".parse().unwrap(),
            ..new(0, Tick(0))
        };
        let Ok(Inserted::New(conn)) = guard.insert(&wanted) else {
            panic!()
        };
        let reply = Flow::new(Protocol::Tcp, from.parse().unwrap(), to.parse().unwrap());
        let hit = guard.lookup(&reply).unwrap();
        assert_eq!(
            (hit.conn, hit.direction),
            (conn, Direction::FromServer),
            "{method}"
        );
        assert_eq!(conn.local(), wanted.local);
        assert_eq!(conn.dest(), wanted.dest);
    }
}

#[test]
fn a_full_table_says_so_and_goes_on() {
    let table = table(100);
    let mut handle = table.register();
    let now = Tick(0);
    let guard = handle.pin();
    for client in 0..100 {
        assert!(guard.insert(&new(client, now)).is_ok());
    }
    assert!(guard.insert(&new(100, now)).is_err());
    assert!(guard.lookup(&request(&new(50, now))).is_some());
    drop(guard);
    assert_eq!((table.full(), table.len()), (1, 100));
    let later = now + Tick::seconds(4);
    assert_eq!(table.collect(later, usize::MAX, &mut |_| {}), 100);
    assert!(handle.pin().insert(&new(100, later)).is_ok());
}

#[test]
fn a_shorter_timeout_is_kept_to_the_tick() {
    let table = table(8);
    let timeouts = Timeouts::default();
    let mut handle = table.register();
    let now = Tick(u32::MAX - 100);
    {
        let guard = handle.pin();
        let Ok(Inserted::New(conn)) = guard.insert(&new(1, now)) else {
            panic!()
        };
        for (direction, flags) in [
            (Direction::FromClient, 0x02),
            (Direction::FromServer, 0x12),
            (Direction::FromClient, 0x10),
        ] {
            conn.advance(direction, Event::tcp(flags), now, &timeouts);
        }
        assert_eq!(conn.state(), tcp::ESTABLISHED);
    }
    assert_eq!(
        table.collect(now, usize::MAX, &mut |_| {}),
        0,
        "into the wheel for 900 s"
    );
    let reset = now + Tick::seconds(5);
    {
        let guard = handle.pin();
        let hit = guard.lookup(&request(&new(1, now))).unwrap();
        let moved = hit
            .conn
            .advance(Direction::FromClient, Event::tcp(0x04), reset, &timeouts);
        assert_eq!(moved.to, tcp::CLOSE);
        assert!(moved.activity.is_some());
    }
    let end = reset + Tick::seconds(10);
    assert_eq!(
        table.collect(Tick(end.0.wrapping_sub(1)), usize::MAX, &mut |_| {}),
        0
    );
    assert_eq!(table.collect(end, usize::MAX, &mut |_| {}), 1);
}

#[test]
fn memory_is_not_used_again_while_a_batch_holds_it() {
    let table = table(1);
    let (mut first, mut second) = (table.register(), table.register());
    let now = Tick(0);
    assert!(first.pin().insert(&new(1, now)).is_ok());
    let guard = first.pin();
    let conn = guard.lookup(&request(&new(1, now))).unwrap().conn;
    let later = now + Tick::seconds(10);
    assert_eq!(
        table.collect(later, usize::MAX, &mut |_| {}),
        0,
        "the batch goes on"
    );
    assert!(
        guard.lookup(&request(&new(1, now))).is_none(),
        "but nobody finds it any more"
    );
    assert!(second.pin().insert(&new(2, later)).is_err());
    assert_eq!(
        conn.client(),
        new(1, now).client,
        "what the batch holds is what it was"
    );
    drop(guard);
    assert_eq!(table.collect(later, usize::MAX, &mut |_| {}), 1);
    assert!(second.pin().insert(&new(2, later)).is_ok());
}

#[test]
fn two_workers_agree_on_one_connection() {
    let table = table(40_000);
    let winners: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let table = &table;
                scope.spawn(move || {
                    let mut handle = table.register();
                    (0..20_000_u16)
                        .filter(|client| {
                            let guard = handle.pin();
                            let made = guard.insert(&new(*client, Tick(0))).unwrap();
                            matches!(made, Inserted::New(_))
                        })
                        .count()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!((winners, table.len()), (20_000, 20_000));
}

/// Two workers, a collector and churn; in the end nothing is left and nothing was ended twice.
#[test]
fn a_soak_leaves_nothing_behind() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    const END: Tick = Tick(1_000_000);
    let table = table(3000);
    let (made, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut ended = 0;
    std::thread::scope(|scope| {
        for worker in 0..2_u16 {
            let (table, made, done) = (&table, &made, &done);
            scope.spawn(move || {
                let timeouts = Timeouts::default();
                let mut handle = table.register();
                let mut seed = u64::from(worker) + 1;
                for round in 0..60_000_u32 {
                    let now = Tick(round / 10);
                    let guard = handle.pin();
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let client = u16::try_from((seed >> 33) % 2000).unwrap();
                    match guard.lookup(&request(&new(client, now))) {
                        Some(hit) if seed & (3 << 20) == 0 => hit.conn.unlink(now),
                        Some(hit) => {
                            assert_eq!(hit.conn.client(), new(client, now).client);
                            let flags = [0x02, 0x10, 0x11, 0x04][(seed >> 40) as usize % 4];
                            hit.conn
                                .advance(hit.direction, Event::tcp(flags), now, &timeouts);
                        }
                        None => {
                            if let Ok(Inserted::New(_)) = guard.insert(&new(client, now)) {
                                made.fetch_add(1, SeqCst);
                            }
                        }
                    }
                }
                done.fetch_add(1, SeqCst);
            });
        }
        let mut now = Tick(0);
        while done.load(SeqCst) < 2 {
            now = now + 1;
            ended += table.collect(Tick(now.0 % 6000), 64, &mut |_| {});
        }
    });
    ended += table.collect(END, usize::MAX, &mut |_| {});
    assert_eq!((ended, table.len()), (made.load(SeqCst), 0));
    let mut handle = table.register();
    table.scan(&mut handle, |conn| panic!("{conn:?} is left"));
    let guard = handle.pin();
    for client in 0..3000 {
        assert!(
            guard.insert(&new(client, END)).is_ok(),
            "all entries are free again"
        );
    }
}
