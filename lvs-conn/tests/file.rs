//! A table in a file outlives its process, however that ends; what is no table is refused.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use lvs_conn::{
    Attached, Conn, ConnKind, DestinationId, Direction, Event, FileError, FlowHash, Inserted,
    NewConnection, Table, TableConfig, Timeouts,
};
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Tick, state::tcp};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const LONG: u32 = Tick::seconds(1000);

/// One test at a time: a process that another test starts has, until it begins, all files of this one
/// open, and their locks with them.
static TURN: Mutex<()> = Mutex::new(());

/// A path that is removed in the end.
struct Place(
    PathBuf,
    #[expect(dead_code, reason = "held until the end")] MutexGuard<'static, ()>,
);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lvs-conn-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self(path, turn)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config(capacity: usize) -> TableConfig {
    TableConfig::with_capacity(capacity)
}

fn new(n: u32, now: Tick) -> NewConnection {
    let method = [
        ForwardMethod::Masquerade,
        ForwardMethod::DirectRoute,
        ForwardMethod::FullNat,
    ][n as usize % 3];
    let port = u16::try_from(n % 60_000).unwrap();
    NewConnection {
        client: Endpoint::new(Addr::from_v4_bits(0x0a00_0000 + n / 60_000), port),
        virtual_endpoint: "192.0.2.10:80".parse().unwrap(),
        destination: "10.1.0.2:8080".parse().unwrap(),
        local: (n % 3 == 2).then(|| Endpoint::new(Addr::from_v4_bits(0x0a63_0001), port)),
        method,
        dest: DestinationId {
            index: n % 5,
            generation: n,
        },
        mark: !n,
        timeout: LONG,
        now,
        ..NewConnection::default()
    }
}

fn request(new: &NewConnection) -> Flow {
    Flow::new(new.protocol, new.client, new.virtual_endpoint)
}

fn reply(new: &NewConnection) -> Flow {
    match new.method {
        ForwardMethod::Masquerade => Flow::new(new.protocol, new.destination, new.client),
        ForwardMethod::FullNat => Flow::new(new.protocol, new.destination, new.local.unwrap()),
        _ => request(new).reversed(),
    }
}

fn attach(path: &Path, now: Tick) -> (Arc<Table>, Attached) {
    let (table, attached) = Table::attach(path, FlowHash::default(), now).unwrap();
    (Arc::new(table), attached)
}

#[test]
fn what_was_there_is_there_again() {
    let place = Place::new("again");
    let now = Tick(u32::MAX - 5);
    let timeouts = Timeouts::default();
    {
        let table = Arc::new(Table::create(&place.0, &config(3000)).unwrap());
        let mut handle = table.register();
        let guard = handle.pin();
        let template = NewConnection {
            kind: ConnKind::Template,
            ..new(2999, now)
        };
        let Ok(Inserted::New(template)) = guard.insert(&template) else {
            panic!()
        };
        for n in 0..2000 {
            let new = NewConnection {
                control: Some(template.id()),
                ..new(n, now)
            };
            let Ok(Inserted::New(conn)) = guard.insert(&new) else {
                panic!()
            };
            if n % 2 == 0 {
                conn.advance(Direction::FromClient, Event::tcp(2), now, &timeouts);
            }
            if n % 7 == 0 {
                conn.unlink(now);
            }
            conn.count_in_packet();
        }
        let busy = Table::attach(&place.0, FlowHash::default(), now);
        assert!(matches!(busy, Err(FileError::InUse)), "{busy:?}");
    }
    let later = now + Tick::seconds(30);
    let (table, attached) = attach(&place.0, later);
    let ended = 2000_usize.div_ceil(7);
    assert_eq!(
        attached,
        Attached {
            kept: 2001 - ended,
            dropped: ended
        }
    );
    assert_eq!(table.len(), 2001 - ended);
    let mut handle = table.register();
    {
        let guard = handle.pin();
        let template = guard.lookup_template(&request(&new(2999, now))).unwrap();
        assert_eq!(template.children() as usize, 2000 - ended);
        for n in 0..2000 {
            let new = new(n, now);
            let hits =
                [request(&new), reply(&new)].map(|flow| guard.lookup(&flow).map(|hit| hit.conn));
            assert_eq!(hits[0], hits[1]);
            assert_eq!(hits[0].is_some(), n % 7 != 0);
            let Some(conn) = hits[0] else { continue };
            assert_eq!(
                (conn.dest(), conn.mark(), conn.in_packets()),
                (new.dest, new.mark, 1)
            );
            let syn_sent = if n % 2 == 0 { tcp::SYN_RECV } else { tcp::NONE };
            assert_eq!((conn.state(), conn.last_seen()), (syn_sent, now));
            assert_eq!(conn.control(), Some(template));
        }
        // There is room where something ended, and behind.
        for n in 3000..3000 + u32::try_from(3000 - table.len()).unwrap() {
            // With one key: a table full of FULLNAT's two fills its index first.
            let new = NewConnection {
                method: ForwardMethod::Masquerade,
                local: None,
                ..new(n, later)
            };
            assert!(matches!(guard.insert(&new), Ok(Inserted::New(_))));
        }
        assert!(guard.insert(&new(9999, later)).is_err());
    }
    // All end, once, each when its time is over: those of SYN_RECV after 60 s.
    let mut seen = 0;
    let syns = (0..2000).filter(|n| n % 2 == 0 && n % 7 != 0).count();
    seen += table.collect(now + Tick::seconds(60), usize::MAX, &mut |_| {});
    assert_eq!(seen, syns);
    for hour in 1..4 {
        seen += table.collect(now + Tick::seconds(3600 * hour), usize::MAX, &mut |_| {});
    }
    assert_eq!((seen, table.len()), (3000, 0));
}

/// A host that was started again has a clock that begins again.
#[test]
fn a_clock_that_begins_again_lets_nothing_end_early_or_never() {
    let place = Place::new("clock");
    let before = Tick(1_000_000);
    {
        let table = Arc::new(Table::create(&place.0, &config(10)).unwrap());
        let mut handle = table.register();
        assert!(handle.pin().insert(&new(1, before)).is_ok());
        table.collect(before + 100, usize::MAX, &mut |_| {});
    }
    let (table, _) = attach(&place.0, Tick(50));
    let left = LONG - 100;
    assert_eq!(
        table.collect(Tick(50) + (left - 1), usize::MAX, &mut |_| {}),
        0
    );
    assert_eq!(table.collect(Tick(50) + left, usize::MAX, &mut |_| {}), 1);
}

#[test]
fn what_is_no_table_is_refused_with_a_reason() {
    let place = Place::new("refused");
    drop(Table::create(&place.0, &config(100)).unwrap());
    let good = std::fs::read(&place.0).unwrap();
    let tried = |bytes: &[u8]| {
        std::fs::write(&place.0, bytes).unwrap();
        let refused = Table::attach(&place.0, FlowHash::default(), Tick(0)).unwrap_err();
        assert_eq!(std::fs::read(&place.0).unwrap(), bytes, "left as it was");
        refused
    };
    assert!(matches!(tried(b"short"), FileError::NotATable));
    assert!(matches!(tried(&vec![0; good.len()]), FileError::NotATable));
    let mut other = good.clone();
    other[8] += 1;
    assert!(matches!(tried(&other), FileError::Version { found: 2 }));
    for at in [12, 16, 24, 32] {
        let mut other = good.clone();
        other[at] ^= 4;
        assert!(matches!(tried(&other), FileError::Damaged(_)));
    }
    assert!(matches!(
        tried(&good[..good.len() - 1]),
        FileError::Damaged(_)
    ));
    assert!(matches!(
        Table::create(&place.0, &config(100)),
        Err(FileError::Io(_))
    ));
}

/// Whatever bytes the entries are, attaching ends, and what it keeps can be found and ends.
#[test]
fn garbage_in_the_entries_is_survived() {
    let place = Place::new("garbage");
    let table = Arc::new(Table::create(&place.0, &config(500)).unwrap());
    let mut handle = table.register();
    for n in 0..400 {
        assert!(handle.pin().insert(&new(n, Tick(0))).is_ok());
    }
    drop((handle, table));
    let mut bytes = std::fs::read(&place.0).unwrap();
    let mut seed = 1_u64;
    for byte in bytes.iter_mut().skip(4096) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if seed >> 61 == 0 {
            *byte ^= seed.to_le_bytes()[5];
        }
    }
    std::fs::write(&place.0, &bytes).unwrap();
    let (table, attached) = attach(&place.0, Tick(7));
    assert!(attached.kept + attached.dropped <= 500);
    let mut handle = table.register();
    let mut found = 0;
    table.scan(&mut handle, |conn: &Conn<'_>| {
        found += 1;
        assert!(conn.last_seen() == Tick(7) || Tick(7).is_after(conn.last_seen()));
    });
    assert_eq!(found, attached.kept);
    let mut ended = 0;
    for day in 0..400 {
        ended += table.collect(
            Tick(7) + Tick::seconds(86_400).wrapping_mul(day),
            usize::MAX,
            &mut |_| {},
        );
    }
    assert_eq!((ended, table.len()), (attached.kept, 0));
}

/// The part of the next test that is killed: makes, moves and ends connections as fast as it can.
#[test]
#[ignore = "runs as a child of the test below"]
fn churn_until_killed() {
    let Some(path) = std::env::var_os("LVS_CONN_FILE") else {
        return;
    };
    let (table, _) = Table::open(path, &config(20_000), Tick(0)).unwrap();
    let table = Arc::new(table);
    let timeouts = Timeouts::default();
    let mut handle = table.register();
    // Those that shall be there whatever happens.
    for n in 0..1000 {
        assert!(handle.pin().insert(&new(n, Tick(0))).is_ok());
    }
    println!("begun");
    std::io::stdout().flush().unwrap();
    std::thread::scope(|scope| {
        for worker in 1..3_u32 {
            let (table, timeouts) = (&table, &timeouts);
            scope.spawn(move || {
                let mut handle = table.register();
                for round in 0_u32.. {
                    let guard = handle.pin();
                    let n = worker * 10_000 + round % 6000;
                    let new = NewConnection {
                        timeout: 20 + n % 50,
                        ..new(n, Tick(round / 200))
                    };
                    if let Ok(Inserted::New(conn)) = guard.insert(&new) {
                        let now = Tick(round / 200);
                        conn.advance(Direction::FromClient, Event::Other, now, timeouts);
                        if round % 11 == 0 {
                            conn.unlink(now);
                        }
                    }
                }
            });
        }
        for now in 0.. {
            table.collect(Tick(now / 10 % 100_000), 200, &mut |_| {});
        }
    });
}

/// A process is killed in the middle of everything, again and again on the same file: what was there
/// and long done is there, what is there is whole, found from both sides, and ends.
#[test]
fn a_killed_process_leaves_a_whole_table() {
    let place = Place::new("killed");
    let mut dropped = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "churn_until_killed", "--nocapture"])
            .env("LVS_CONN_FILE", &place.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines
                .map_while(Result::ok)
                .any(|line| line.contains("begun"))
        );
        std::thread::sleep(std::time::Duration::from_micros(3000 + round * 1700));
        child.kill().unwrap();
        child.wait().unwrap();

        let (table, attached) = attach(&place.0, Tick(0));
        dropped += attached.dropped;
        let mut handle = table.register();
        let guard = handle.pin();
        for n in 0..1000 {
            let new = new(n, Tick(0));
            let conn = guard.lookup(&request(&new)).unwrap().conn;
            assert_eq!(guard.lookup(&reply(&new)).unwrap().conn, conn);
            assert_eq!((conn.dest(), conn.mark()), (new.dest, new.mark));
        }
        drop(guard);
        let mut flows = Vec::new();
        table.scan(&mut handle, |conn| {
            let flow = Flow::new(conn.protocol(), conn.client(), conn.virtual_endpoint());
            assert_eq!(conn.mark(), !conn.dest().generation, "{conn:?}");
            flows.push((flow, conn.mark()));
        });
        assert_eq!(flows.len(), attached.kept);
        let guard = handle.pin();
        for (flow, mark) in flows {
            assert_eq!(guard.lookup(&flow).unwrap().conn.mark(), mark);
        }
    }
    println!("{dropped} entries were on the way in or out");
    let (table, attached) = attach(&place.0, Tick(0));
    let mut ended = 0;
    for hour in 1..4 {
        ended += table.collect(Tick(Tick::seconds(3600 * hour)), usize::MAX, &mut |_| {});
    }
    assert_eq!((ended, table.len()), (attached.kept, 0));
}

/// What is looked into, and what its server has not been told, is so afterwards.
#[test]
fn what_no_lookup_needs_is_kept_too() {
    let place = Place::new("cold");
    let now = Tick(9);
    let (helped, untold) = (
        NewConnection {
            helped: true,
            ..new(0, now)
        },
        NewConnection {
            tell: true,
            ..new(2, now)
        },
    );
    let shift = lvs_conn::Shift::default().changed(77, 5);
    {
        let table = Arc::new(Table::create(&place.0, &config(10)).unwrap());
        let mut handle = table.register();
        let guard = handle.pin();
        for new in [&helped, &untold] {
            let Ok(Inserted::New(conn)) = guard.insert(new) else {
                panic!()
            };
            conn.set_shift(Direction::FromClient, shift);
        }
    }
    let (table, _) = attach(&place.0, now);
    let mut handle = table.register();
    let guard = handle.pin();
    let [helped, untold] = [helped, untold].map(|new| guard.lookup(&request(&new)).unwrap().conn);
    assert!(helped.is_helped() && !helped.tells() && untold.tells() && !untold.is_helped());
    assert_eq!(helped.shift(Direction::FromClient), shift);
    assert_eq!(untold.local(), new(2, now).local);
}

/// A table of another capacity takes the place of the one before, with the same connections.
#[test]
fn a_capacity_can_change() {
    let place = Place::new("resized");
    let now = Tick(5);
    let open = |capacity: usize| Table::open(&place.0, &config(capacity), now);
    {
        let (table, attached) = open(3000).unwrap();
        assert_eq!((attached, table.capacity()), (Attached::default(), 3000));
        let table = Arc::new(table);
        let mut handle = table.register();
        let guard = handle.pin();
        for n in 0..3000 {
            let template = |conn: Conn<'_>| Some(conn.id());
            let control = match n % 3 {
                1 => guard
                    .lookup(&request(&new(n - 1, now)))
                    .map(|hit| hit.conn)
                    .and_then(template),
                _ => None,
            };
            let new = NewConnection {
                // FULLNAT's second keys would fill the index.
                method: ForwardMethod::Masquerade,
                local: None,
                control,
                ..new(n, now)
            };
            let Ok(Inserted::New(conn)) = guard.insert(&new) else {
                panic!()
            };
            (0..=n % 3000).for_each(|_| conn.count_in_packet());
        }
        // Two of three end, so that what is left is scattered.
        for n in (0..3000).filter(|n| n % 9 > 2) {
            guard
                .lookup(&request(&new(n, now)))
                .unwrap()
                .conn
                .unlink(now);
        }
    }
    let whole = |table: Table| {
        let table = Arc::new(table);
        let mut handle = table.register();
        let guard = handle.pin();
        for n in 0..3000 {
            let new = new(n, now);
            let found = guard.lookup(&request(&new)).map(|hit| hit.conn);
            assert_eq!(found.is_some(), n % 9 <= 2);
            let Some(conn) = found else { continue };
            assert_eq!(
                (conn.dest(), conn.mark(), conn.in_packets()),
                (new.dest, new.mark, n + 1)
            );
            let control = conn.control().map(|control| control.dest().generation);
            assert_eq!(control, (n % 3 == 1).then(|| n - 1));
        }
    };
    let kept = (0..3000).filter(|n| n % 9 <= 2).count();
    let small = open(kept - 1).unwrap_err();
    assert!(matches!(small, FileError::TooSmall { connections } if connections == kept));
    for capacity in [kept, 10_000, 3000] {
        let (table, attached) = open(capacity).unwrap();
        assert_eq!((attached.kept, table.capacity()), (kept, capacity));
        whole(table);
    }
    assert!(matches!(open(0), Err(FileError::Table(_))));
    let beside = std::fs::read_dir(place.0.parent().unwrap()).unwrap();
    let name = place.0.file_name().unwrap().to_string_lossy().into_owned();
    let mut left = beside.filter_map(|found| found.ok()?.file_name().into_string().ok());
    assert!(left.all(|found| found == name || !found.starts_with(&name)));
}
