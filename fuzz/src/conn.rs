//! The connection table: any sequence of what its users do, against a plain map.

use arbitrary::{Arbitrary, Unstructured};
use lvs_conn::{
    ConnKind, Direction, Event, FlowHash, Inserted, NewConnection, Table, TableConfig, Timeouts,
};
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Protocol, Tick};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Arbitrary, Debug)]
enum Step {
    Insert {
        flow: u8,
        timeout: u32,
        method: u8,
        one_packet: bool,
    },
    Template {
        flow: u8,
        timeout: u32,
    },
    Lookup(u8),
    Batch(Vec<u8>),
    Advance {
        flow: u8,
        reply: bool,
        flags: u8,
    },
    Rearm {
        flow: u8,
        timeout: u32,
    },
    Unlink(u8),
    Expire(u8),
    Collect {
        budget: u16,
    },
    Wait(u32),
    Back(u16),
}

#[derive(Arbitrary, Debug)]
struct Input {
    siphash: bool,
    keys: (u64, u64),
    start: u32,
    steps: Vec<Step>,
}

fn client(flow: u8) -> Endpoint {
    Endpoint::new(Addr::from_v4_bits(0x0a00_0000 + u32::from(flow)), 1000)
}

fn new(flow: u8, now: Tick) -> NewConnection {
    NewConnection {
        client: client(flow),
        virtual_endpoint: Endpoint::new(Addr::from_v4_bits(0xc000_0201), 80),
        destination: Endpoint::new(Addr::from_v4_bits(0x0a63_0000 + u32::from(flow % 3)), 8080),
        local: Some(Endpoint::new(
            Addr::from_v4_bits(0x0a64_0000),
            2000 + u16::from(flow),
        )),
        now,
        ..NewConnection::default()
    }
}

fn request(flow: u8) -> Flow {
    let new = new(flow, Tick(0));
    Flow::new(Protocol::Tcp, new.client, new.virtual_endpoint)
}

fn reply(flow: u8, method: ForwardMethod) -> Flow {
    let new = new(flow, Tick(0));
    match method {
        ForwardMethod::Masquerade => Flow::new(Protocol::Tcp, new.destination, new.client),
        ForwardMethod::FullNat => Flow::new(
            Protocol::Tcp,
            new.destination,
            new.local.unwrap_or_default(),
        ),
        _ => request(flow).reversed(),
    }
}

/// Each connection is found exactly while the map has it, from both sides; each ends exactly once,
/// and in the end nothing is left.
pub fn conn(data: &[u8]) {
    if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) {
        replay(input);
    }
}

fn replay(input: Input) {
    const CAPACITY: usize = 100;
    let config = TableConfig {
        capacity: CAPACITY,
        hash: if input.siphash {
            FlowHash::siphash(input.keys.0, input.keys.1)
        } else {
            FlowHash::with_key(input.keys.0, input.keys.1)
        },
    };
    let Ok(table) = Table::new(&config) else {
        return;
    };
    let table = Arc::new(table);
    let timeouts = Timeouts::default();
    let mut handle = table.register();
    let mut now = Tick(input.start);
    // What must be found: not whether it has ended yet, which is the collector's, but its method.
    let mut map: HashMap<u8, ForwardMethod> = HashMap::new();
    let (mut made, mut ended) = (0, 0);
    for step in input.steps {
        let guard = handle.pin();
        match step {
            Step::Insert {
                flow,
                timeout,
                method,
                one_packet,
            } => {
                let method = [
                    ForwardMethod::Masquerade,
                    ForwardMethod::DirectRoute,
                    ForwardMethod::FullNat,
                ][usize::from(method % 3)];
                let kind = if one_packet {
                    ConnKind::OnePacket
                } else {
                    ConnKind::Normal
                };
                let new = NewConnection {
                    timeout: timeout % (1 << 28),
                    method,
                    kind,
                    ..new(flow, now)
                };
                match guard.insert(&new) {
                    Ok(Inserted::New(_)) => {
                        made += 1;
                        if !one_packet {
                            assert!(map.insert(flow, method).is_none());
                        }
                    }
                    Ok(Inserted::Existing(_)) => assert!(!one_packet && map.contains_key(&flow)),
                    Err(_) => assert!(made - ended == CAPACITY),
                }
            }
            Step::Template { flow, timeout } => {
                let new = NewConnection {
                    kind: ConnKind::Template,
                    timeout: timeout % 1000,
                    ..new(flow, now)
                };
                if let Ok(Inserted::New(template)) = guard.insert(&new) {
                    made += 1;
                    assert_eq!(guard.lookup_template(&request(flow)), Some(template));
                }
            }
            Step::Lookup(flow) => {
                let found = guard.lookup(&request(flow));
                assert_eq!(found.is_some(), map.contains_key(&flow));
                if let (Some(hit), Some(method)) = (found, map.get(&flow)) {
                    assert_eq!(
                        (hit.conn.client(), hit.direction),
                        (client(flow), Direction::FromClient)
                    );
                    let back = guard.lookup(&reply(flow, *method)).map(|hit| hit.conn);
                    assert_eq!(back, Some(hit.conn));
                }
            }
            Step::Batch(flows) => {
                let flows: Vec<Flow> = flows.into_iter().map(request).collect();
                let mut hits = vec![None; flows.len()];
                guard.lookup_batch(&flows, &mut hits);
                for (flow, hit) in flows.iter().zip(hits) {
                    assert_eq!(
                        guard.lookup(flow).map(|hit| hit.conn),
                        hit.map(|hit| hit.conn)
                    );
                }
            }
            Step::Advance {
                flow,
                reply: back,
                flags,
            } => {
                let key = match (back, map.get(&flow)) {
                    (true, Some(method)) => reply(flow, *method),
                    _ => request(flow),
                };
                if let Some(hit) = guard.lookup(&key) {
                    hit.conn
                        .advance(hit.direction, Event::tcp(flags), now, &timeouts);
                }
            }
            Step::Rearm { flow, timeout } => {
                if let Some(hit) = guard.lookup(&request(flow)) {
                    hit.conn.rearm(timeout % (1 << 28), now);
                }
            }
            Step::Unlink(flow) => {
                if let Some(hit) = guard.lookup(&request(flow)) {
                    hit.conn.unlink(now);
                    assert!(map.remove(&flow).is_some());
                }
            }
            Step::Expire(flow) => {
                if let Some(hit) = guard.lookup(&request(flow)) {
                    hit.conn.expire(now);
                }
            }
            Step::Collect { budget } => {
                drop(guard);
                ended += table.collect(now, usize::from(budget), &mut |conn| {
                    assert!(!conn.is_live());
                });
                // What was taken out of the index and waits for its end is gone for the map, too.
                let guard = handle.pin();
                map.retain(|flow, _| guard.lookup(&request(*flow)).is_some());
            }
            Step::Wait(ticks) => now = now + ticks % (1 << 26),
            Step::Back(ticks) => now = Tick(now.0.wrapping_sub(u32::from(ticks))),
        }
        assert_eq!(table.len(), made - ended);
    }
    // In the end everything ends, once.
    for _ in 0..10 {
        now = now + (1 << 27);
        ended += table.collect(now, usize::MAX, &mut |_| {});
    }
    assert_eq!((made, table.len()), (ended, 0));
}
