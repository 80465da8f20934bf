//! Persistence templates: who finds them, what they hold, how they end (IPVS 2.4, 2.5).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lvs_conn::{ConnKind, Guard, Inserted, NewConnection, Table, TableConfig};
use lvs_core::{Endpoint, Flow, Protocol, Tick};
use std::sync::Arc;

const VIP: &str = "10.0.0.1:80";

fn table() -> Arc<Table> {
    let config = TableConfig {
        capacity: 16,
        ..TableConfig::default()
    };
    Arc::new(Table::new(&config).unwrap())
}

fn template(server: &str) -> NewConnection {
    NewConnection {
        client: "10.1.0.0:0".parse().unwrap(),
        virtual_endpoint: VIP.parse().unwrap(),
        destination: server.parse().unwrap(),
        kind: ConnKind::Template,
        timeout: Tick::seconds(300),
        ..NewConnection::default()
    }
}

fn found(guard: &Guard<'_>) -> Option<Endpoint> {
    let template = template(VIP);
    let flow = Flow::new(Protocol::Tcp, template.client, template.virtual_endpoint);
    assert!(guard.lookup(&flow).is_none(), "no packet finds a template");
    guard
        .lookup_template(&flow)
        .map(lvs_conn::Conn::destination)
}

/// The old one is found no more, the new one is; and the old one ends when its time is over, not
/// before, with its keys gone from the table.
#[test]
fn an_invalid_template_gives_its_place_and_keeps_its_time() {
    let (old, new) = ("10.2.0.1:80", "10.2.0.2:80");
    let table = table();
    let mut handle = table.register();
    {
        let guard = handle.pin();
        let Ok(Inserted::New(first)) = guard.insert(&template(old)) else {
            unreachable!("the table is empty");
        };
        assert_eq!(found(&guard), old.parse().ok());
        first.invalidate();
        assert!(first.is_invalid() && first.is_live());
        assert_eq!(found(&guard), None);
        let second = guard.insert(&template(new));
        assert!(matches!(second, Ok(Inserted::New(_))));
        assert_eq!(found(&guard), new.parse().ok());
    }
    let mut ended = Vec::new();
    let half = Tick(0) + Tick::seconds(150);
    table.collect(half, usize::MAX, &mut |conn| ended.push(conn.destination()));
    assert!(ended.is_empty());
    {
        let guard = handle.pin();
        let flow = Flow::new(
            Protocol::Tcp,
            template(new).client,
            template(new).virtual_endpoint,
        );
        guard.lookup_template(&flow).unwrap().touch(half);
    }
    let end = Tick(0) + Tick::seconds(300);
    table.collect(end, usize::MAX, &mut |conn| ended.push(conn.destination()));
    assert_eq!(ended, [old.parse().unwrap()]);
    assert_eq!(found(&handle.pin()), new.parse().ok());
}
