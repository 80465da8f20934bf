//! Lives of connections beside the ordinary ones: templates, controlled ones, ones for one packet;
//! clocks that err, small slices, threads that vanish, and clients that mean harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use lvs_conn::{Conn, ConnKind, Direction, Guard, Inserted, NewConnection, Table, TableConfig};
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Protocol, Tick};
use std::sync::Arc;

const MINUTE: u32 = Tick::seconds(60);

fn table(capacity: usize) -> Arc<Table> {
    Arc::new(Table::new(&TableConfig::with_capacity(capacity)).unwrap())
}

fn new(client: u32, now: Tick) -> NewConnection {
    NewConnection {
        client: Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + client), 4000),
        virtual_endpoint: "10.0.0.1:80".parse().unwrap(),
        destination: "10.2.0.1:8080".parse().unwrap(),
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

fn insert<'g>(guard: &'g Guard<'_>, new: &NewConnection) -> Conn<'g> {
    match guard.insert(new).unwrap() {
        Inserted::New(conn) => conn,
        Inserted::Existing(_) => panic!("{new:?} is there"),
    }
}

fn end(table: &Table, now: Tick) -> usize {
    table.collect(now, usize::MAX, &mut |_| {})
}

/// A template of the protocol that a firewall mark's has.
fn template(timeout: u32) -> NewConnection {
    NewConnection {
        protocol: Protocol::Ip,
        client: "10.1.0.0:0".parse().unwrap(),
        virtual_endpoint: "0.0.0.7:0".parse().unwrap(),
        kind: ConnKind::Template,
        timeout,
        ..new(0, Tick(0))
    }
}

#[test]
fn templates_and_packets_do_not_meet() {
    {
        let table = table(8);
        let mut handle = table.register();
        {
            let guard = handle.pin();
            for new in [
                template(100),
                NewConnection {
                    kind: ConnKind::Template,
                    ..new(1, Tick(0))
                },
            ] {
                let made = insert(&guard, &new);
                assert_eq!(made.kind(), ConnKind::Template);
                assert!(guard.lookup(&request(&new)).is_none());
                assert!(guard.lookup(&reply(&new)).is_none());
                assert_eq!(guard.lookup_template(&request(&new)), Some(made));
                assert!(guard.lookup_template(&reply(&new)).is_none());
                assert!(
                    matches!(guard.insert(&new), Ok(Inserted::Existing(other)) if other == made)
                );
            }
            // A connection of the same flow is another matter.
            let conn = insert(&guard, &new(1, Tick(0)));
            assert_eq!(guard.lookup(&request(&new(1, Tick(0)))).unwrap().conn, conn);
        }
        assert_eq!(end(&table, Tick(100_000)), 3);
        assert!(
            handle
                .pin()
                .lookup_template(&request(&template(0)))
                .is_none()
        );
    }
}

/// IPVS 2.4, rule 4.
#[test]
fn what_controls_others_gets_another_minute() {
    let table = table(8);
    let mut handle = table.register();
    {
        let guard = handle.pin();
        let parent = insert(&guard, &template(10));
        let child = insert(
            &guard,
            &NewConnection {
                control: Some(parent.id()),
                timeout: MINUTE + 5,
                ..new(1, Tick(0))
            },
        );
        assert_eq!((child.control(), parent.children()), (Some(parent), 1));
    }
    assert_eq!(end(&table, Tick(10)), 0);
    {
        let guard = handle.pin();
        let parent = guard.lookup_template(&request(&template(0))).unwrap();
        assert_eq!(
            (parent.timeout(), parent.expires_in(Tick(10))),
            (MINUTE, MINUTE)
        );
    }
    // The child ends; the parent keeps its minute.
    assert_eq!(end(&table, Tick(MINUTE + 5)), 1);
    assert_eq!(end(&table, Tick(MINUTE + 9)), 0);
    assert_eq!(end(&table, Tick(MINUTE + 10)), 1);
    assert!(table.is_empty());
}

/// UDP's timeout is that of many persistent services: of a connection and its template that are due at
/// the same moment the kernel ends the connection first, and the template with it.
#[test]
fn what_controls_others_ends_with_them_at_the_same_moment() {
    for late in [0, 3 * MINUTE] {
        let table = table(8);
        let mut handle = table.register();
        {
            let guard = handle.pin();
            let parent = insert(&guard, &template(300));
            let child = NewConnection {
                control: Some(parent.id()),
                timeout: 300,
                ..new(1, Tick(0))
            };
            insert(&guard, &child);
        }
        assert_eq!(end(&table, Tick(299)), 0);
        assert_eq!(end(&table, Tick(300 + late)), 2);
    }
}

/// A collector that comes late ends in the order of time, and the minute begins when it comes.
#[test]
fn what_controlled_others_when_its_time_was_over_gets_a_minute_from_now() {
    let table = table(8);
    let mut handle = table.register();
    {
        let guard = handle.pin();
        let parent = insert(&guard, &template(10));
        let child = NewConnection {
            control: Some(parent.id()),
            timeout: MINUTE + 5,
            ..new(1, Tick(0))
        };
        insert(&guard, &child);
    }
    assert_eq!(end(&table, Tick(1)), 0);
    assert_eq!(end(&table, Tick(MINUTE + 9)), 1);
    assert_eq!(end(&table, Tick(2 * MINUTE + 8)), 0);
    assert_eq!(end(&table, Tick(2 * MINUTE + 9)), 1);
}

#[test]
fn an_unlinked_parent_waits_for_its_children_unseen() {
    let table = table(8);
    let mut handle = table.register();
    {
        let guard = handle.pin();
        let parent = insert(&guard, &template(10));
        let control = Some(parent.id());
        insert(
            &guard,
            &NewConnection {
                control,
                timeout: 20,
                ..new(1, Tick(0))
            },
        );
        parent.unlink(Tick(0));
        assert!(guard.lookup_template(&request(&template(0))).is_none());
        // Its place can be taken, by one that has its own children.
        insert(&guard, &template(5));
    }
    assert_eq!(end(&table, Tick(5)), 1);
    assert_eq!(end(&table, Tick(20)), 1);
    assert_eq!((end(&table, Tick(20 + MINUTE)), table.len()), (1, 0));
}

/// IPVS 2.4, rule 5.
#[test]
fn a_chain_ends_together_but_for_an_assured_template() {
    for assured in [false, true] {
        let table = table(8);
        let mut handle = table.register();
        {
            let guard = handle.pin();
            let parent = insert(&guard, &template(MINUTE));
            parent.set_state(u8::from(assured));
            let control = Some(parent.id());
            let child = insert(
                &guard,
                &NewConnection {
                    control,
                    ..new(1, Tick(0))
                },
            );
            child.expire_chain(Tick(0));
        }
        assert_eq!(end(&table, Tick(0)), if assured { 1 } else { 2 });
    }
}

#[test]
fn one_packet_is_counted_and_never_found() {
    let table = table(8);
    let mut handle = table.register();
    let one = NewConnection {
        kind: ConnKind::OnePacket,
        protocol: Protocol::Udp,
        ..new(1, Tick(0))
    };
    {
        let guard = handle.pin();
        for _ in 0..3 {
            insert(&guard, &one);
            assert!(guard.lookup(&request(&one)).is_none());
        }
    }
    assert_eq!((table.len(), end(&table, Tick(0)), table.len()), (3, 3, 0));
}

#[test]
fn nothing_ends_early_when_the_clock_goes_back() {
    let table = table(64);
    let mut handle = table.register();
    let start = Tick(1_000_000);
    let back = Tick(400_000);
    end(&table, start);
    insert(&handle.pin(), &new(1, start));
    end(&table, start);
    insert(&handle.pin(), &new(2, back));
    // An endless budget comes to an end.
    assert_eq!(end(&table, back), 1, "what the later clock calls over");
    assert_eq!(end(&table, Tick(start.0 - 1)), 0);
    assert_eq!(end(&table, start + Tick::seconds(3)), 1);
}

#[test]
fn ticks_wrap() {
    let table = table(64);
    let mut handle = table.register();
    let mut now = Tick(u32::MAX - 1000);
    for client in 0..40 {
        end(&table, now);
        insert(
            &handle.pin(),
            &NewConnection {
                timeout: 100,
                ..new(client, now)
            },
        );
        now = now + 50;
    }
    assert_eq!(table.len(), 2);
    assert_eq!(end(&table, now + 50), 2);
}

/// However small the slices, everything ends, once; and no slice is larger than it may be.
#[test]
fn small_slices_lose_nothing() {
    let table = table(5000);
    let mut handle = table.register();
    for client in 0..5000 {
        let timeout = [1, 100, 300, 70_000, 20_000_000][client as usize % 5];
        insert(
            &handle.pin(),
            &NewConnection {
                timeout,
                ..new(client, Tick(0))
            },
        );
    }
    let mut seen = vec![0; 5000];
    let mut all = 0;
    for round in 0.. {
        let mut slice = 0;
        let now = Tick(round * 50_000);
        table.collect(now, 7, &mut |conn| {
            slice += 1;
            let bits = conn.client().addr.v4_bits().unwrap();
            seen[(bits - 0x0a01_0000) as usize] += 1;
        });
        assert!(slice <= 7);
        all += slice;
        if all == 5000 {
            break;
        }
    }
    assert!(seen.iter().all(|times| *times == 1));
    assert!(table.is_empty());
    for client in 0..5000 {
        insert(&handle.pin(), &new(client, Tick(0)));
    }
}

/// A thread that forgets its guard and goes leaves nothing behind: its connections end, and its
/// free entries are there for the others.
#[test]
fn a_thread_may_vanish() {
    let table = table(4096);
    for round in 0..5 {
        let table = &table;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut handle = table.register();
                let guard = handle.pin();
                insert(&guard, &new(round, Tick(0)));
                std::mem::forget(guard);
            });
        });
    }
    assert_eq!(table.len(), 5);
    assert_eq!(end(&table, Tick(1000)), 5);
    let mut handle = table.register();
    let guard = handle.pin();
    for client in 0..4096 {
        insert(&guard, &new(client, Tick(1000)));
    }
}

#[test]
fn all_of_a_destination_end_at_once() {
    let table = table(1000);
    let mut handle = table.register();
    for client in 0..1000 {
        let mut new = new(client, Tick(0));
        new.timeout = MINUTE;
        new.dest.index = client % 10;
        insert(&handle.pin(), &new);
    }
    end(&table, Tick(0));
    let expired = table.expire_where(&mut handle, Tick(1), |conn| conn.dest().index == 3);
    assert_eq!((expired, end(&table, Tick(1))), (100, 100));
}

/// Whoever does not know the key cannot choose a bucket: the most regular of choices spread as
/// random ones do. A table filled to the last entry with them takes all.
#[test]
fn regular_choices_fill_the_table_to_the_last_entry() {
    {
        let choices: [fn(u32) -> (u32, u16); 3] = [
            |n| (0x0a00_0000 + n, 4000), // addresses in a row
            |n| (0x0a00_0000, u16::try_from(n % 60_000).unwrap()), // ports in a row
            |n| (0x0a00_0000 + (n << 12), 4000), // strides
        ];
        for choice in choices {
            let table = table(50_000);
            let mut handle = table.register();
            for n in 0..50_000 {
                let (address, port) = choice(n);
                let client = Endpoint::new(Addr::from_v4_bits(address), port);
                insert(
                    &handle.pin(),
                    &NewConnection {
                        client,
                        ..new(0, Tick(0))
                    },
                );
            }
        }
    }
}

/// What the documents say of a table that has nothing but FULLNAT, each of which needs two slots: two
/// thirds of the capacity are taken, and the rest refused and counted.
#[test]
fn two_thirds_of_a_table_can_be_by_fullnat() {
    let table = table(30_000);
    let mut handle = table.register();
    let mut taken = 0;
    for n in 0..30_000_u32 {
        let new = NewConnection {
            method: ForwardMethod::FullNat,
            local: Some(Endpoint::new(
                Addr::from_v4_bits(0x0a01_0000 + n / 60_000),
                u16::try_from(1024 + n % 60_000).unwrap(),
            )),
            ..new(n, Tick(0))
        };
        taken += usize::from(handle.pin().insert(&new).is_ok());
    }
    assert!((20_000..30_000).contains(&taken), "{taken}");
    assert_eq!(usize::try_from(table.full()), Ok(30_000 - taken));
}

/// One address and port for everything: a crowd that nobody has to look through. All are found from
/// both sides, all end, and nothing is left.
#[test]
fn a_client_may_have_a_crowd_of_connections_from_one_port() {
    const CROWD: u32 = 65_535;
    let methods = [
        ForwardMethod::Masquerade,
        ForwardMethod::DirectRoute,
        ForwardMethod::FullNat,
    ];
    for method in methods {
        let table = table(200_000);
        let mut handle = table.register();
        let to = |n: u32| {
            let port = u16::try_from(n).unwrap();
            NewConnection {
                virtual_endpoint: Endpoint::new("10.0.0.1".parse().unwrap(), port),
                destination: Endpoint::new("10.2.0.1".parse().unwrap(), port),
                // A local endpoint serves towards many servers.
                local: Some("10.3.0.1:1025".parse().unwrap()),
                method,
                timeout: 10,
                ..new(7, Tick(0))
            }
        };
        let back = |n: u32| {
            let new = to(n);
            match method {
                ForwardMethod::Masquerade => reply(&new),
                ForwardMethod::FullNat => {
                    Flow::new(new.protocol, new.destination, new.local.unwrap())
                }
                _ => request(&new).reversed(),
            }
        };
        for n in 0..CROWD {
            insert(&handle.pin(), &to(n));
        }
        {
            let guard = handle.pin();
            for n in 0..CROWD {
                assert!(matches!(guard.insert(&to(n)), Ok(Inserted::Existing(_))));
                let hits = [request(&to(n)), back(n)].map(|flow| guard.lookup(&flow).unwrap());
                assert_eq!(hits[0].conn, hits[1].conn);
                assert_eq!(
                    hits[0].conn.virtual_endpoint().port,
                    u16::try_from(n).unwrap()
                );
            }
            let flows: Vec<Flow> = (0..CROWD).step_by(100).map(back).collect();
            let mut hits = vec![None; flows.len()];
            guard.lookup_batch(&flows, &mut hits);
            for (n, hit) in (0..CROWD).step_by(100).zip(&hits) {
                let found = hit.unwrap().conn.virtual_endpoint().port;
                assert_eq!(found, u16::try_from(n).unwrap());
            }
            assert!(guard.lookup(&request(&to(CROWD))).is_none());
        }
        for client in 100..20_000 {
            insert(&handle.pin(), &new(client, Tick(0)));
        }
        assert_eq!(end(&table, Tick(10)), CROWD as usize);
        assert!((0..CROWD).all(|n| handle.pin().lookup(&request(&to(n))).is_none()));
        assert!((100..20_000).all(|n| handle.pin().lookup(&request(&new(n, Tick(0)))).is_some()));
    }
}

/// The connection that a batch gives a reply by FULLNAT is its server's, however many servers its local
/// endpoint serves towards, and whether they differ in address or in port; of none, there is none.
#[test]
fn replies_to_a_shared_local_endpoint_are_told_apart() {
    let table = table(1000);
    let mut handle = table.register();
    let to = |n: u16| {
        let server = Addr::from_v4_bits(0x0a02_0001 + u32::from(n / 3));
        NewConnection {
            destination: Endpoint::new(server, 8080 + n % 3),
            local: Some("10.3.0.1:1025".parse().unwrap()),
            method: ForwardMethod::FullNat,
            ..new(u32::from(n), Tick(0))
        }
    };
    let back = |n: u16| Flow::new(to(n).protocol, to(n).destination, to(n).local.unwrap());
    for n in 0..12 {
        insert(&handle.pin(), &to(n));
    }
    let guard = handle.pin();
    let flows: Vec<Flow> = (0..15).map(back).collect();
    let mut hits = vec![None; flows.len()];
    guard.lookup_batch(&flows, &mut hits);
    for (n, hit) in (0..15).zip(&hits) {
        let found = hit.map(|hit| (hit.conn.client(), hit.direction));
        let wanted = (n < 12).then(|| (to(n).client, Direction::FromServer));
        assert_eq!(found, wanted, "{n}");
    }
}

#[test]
fn both_directions_of_every_method_are_found() {
    let table = table(100);
    let mut handle = table.register();
    let guard = handle.pin();
    let methods = [
        (ForwardMethod::Masquerade, "10.2.0.1:8080", "10.1.0.9:4000"),
        (ForwardMethod::DirectRoute, "10.0.0.1:80", "10.1.0.9:4000"),
        (ForwardMethod::FullNat, "10.2.0.1:8080", "10.3.0.1:1025"),
    ];
    for (number, (method, from, to)) in methods.into_iter().enumerate() {
        let new = NewConnection {
            method,
            client: "10.1.0.9:4000".parse().unwrap(),
            protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][number],
            local: (method == ForwardMethod::FullNat).then(|| "10.3.0.1:1025".parse().unwrap()),
            ..new(0, Tick(0))
        };
        let conn = insert(&guard, &new);
        let back = Flow::new(new.protocol, from.parse().unwrap(), to.parse().unwrap());
        let nobody = Flow::new(new.protocol, new.destination, new.virtual_endpoint);
        let flows = [request(&new), back, nobody, Flow::NONE];
        let mut hits = [None; 4];
        guard.lookup_batch(&flows, &mut hits);
        for (flow, hit) in flows.iter().zip(&hits) {
            let single = guard.lookup(flow);
            assert_eq!(
                single.map(|hit| hit.direction),
                hit.map(|hit| hit.direction)
            );
        }
        assert!(
            hits[..2]
                .iter()
                .all(|hit| hit.is_some_and(|hit| hit.conn == conn))
        );
        assert!(hits[2..].iter().all(Option::is_none));
    }
}

/// Two million connections in 256 MiB, everything counted.
#[test]
fn two_million_fit_in_256_mib() {
    let table = Table::new(&TableConfig::with_capacity(2_000_000)).unwrap();
    let others = 128 * 128 + 4 * 256 * 8 * 4 + 4096; // seats, wheel, the rest
    assert!(table.memory() + others <= 256 << 20, "{}", table.memory());
}
