//! What a watcher sees, and when.

use crate::host::net::{InterfaceChange, NetSnapshot, NetWatcher, RouteAnswer};
use crate::host::testing::{in_namespace_async, ip, until_async};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

type Events = UnboundedReceiver<crate::host::net::InterfaceEvent>;

fn started() -> (Arc<ArcSwap<NetSnapshot>>, Events) {
    let (watcher, events) = NetWatcher::open().unwrap();
    let snapshots = watcher.snapshots();
    tokio::spawn(watcher.run());
    (snapshots, events)
}

async fn expect(events: &mut Events, name: &str, change: InterfaceChange) {
    let within = std::time::Duration::from_secs(10);
    let wanted = async {
        loop {
            let event = events.recv().await.unwrap();
            if &*event.interface.name == name && event.change == change {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(within, wanted).await;
    assert!(waited.is_ok(), "{name} {change}");
}

#[test]
fn sees_the_life_of_an_interface() {
    in_namespace_async(|| async {
        let (snapshots, mut events) = started();
        expect(&mut events, "lo", InterfaceChange::Appeared).await;
        ip("link add n0 type veth peer name p0");
        expect(&mut events, "n0", InterfaceChange::Appeared).await;
        ip("link set p0 up");
        ip("link set n0 up");
        expect(&mut events, "n0", InterfaceChange::Up).await;
        ip("link set n0 mtu 1400");
        expect(&mut events, "n0", InterfaceChange::Mtu).await;
        ip("link set n0 address 02:00:00:00:00:01");
        expect(&mut events, "n0", InterfaceChange::Mac).await;
        let net = snapshots.load_full();
        let n0 = net.interface_named("n0").unwrap();
        assert_eq!((n0.mtu, n0.mac), (1400, Some([2, 0, 0, 0, 0, 1])));
        assert!(n0.running && !n0.loopback);
        ip("link set p0 down");
        expect(&mut events, "n0", InterfaceChange::Down).await;
        ip("link del n0");
        expect(&mut events, "n0", InterfaceChange::Gone).await;
        assert!(snapshots.load().interface_named("n0").is_none());
    });
}

#[test]
fn sees_ports_of_a_bridge_come_and_go() {
    in_namespace_async(|| async {
        let (snapshots, mut events) = started();
        ip("link add n0 type veth peer name p0");
        ip("link add br0 type bridge");
        expect(&mut events, "n0", InterfaceChange::Appeared).await;
        ip("link set n0 master br0");
        expect(&mut events, "n0", InterfaceChange::Joined).await;
        let net = snapshots.load_full();
        let index = |name| net.interface_named(name).unwrap().index;
        assert_eq!(
            net.interface_named("n0").unwrap().port_of,
            Some(index("br0"))
        );
        assert_eq!(net.interface_named("br0").unwrap().port_of, None);
        ip("link set n0 nomaster");
        expect(&mut events, "n0", InterfaceChange::Left).await;
        assert_eq!(
            snapshots.load().interface_named("n0").unwrap().port_of,
            None
        );
    });
}

#[test]
fn sees_routes_addresses_and_neighbours_come_and_go() {
    in_namespace_async(|| async {
        let (snapshots, _events) = started();
        let far = "203.0.113.1".parse().unwrap();
        let near = "10.0.0.9".parse().unwrap();
        let route = |to| snapshots.load().route(to);
        ip("link add n0 type veth peer name p0");
        ip("link set p0 up");
        ip("link set n0 up");
        ip("addr add 10.0.0.1/24 dev n0");
        ip("route add default via 10.0.0.254");
        until_async("the default route", || {
            matches!(route(far), RouteAnswer::Unicast { .. })
        })
        .await;
        until_async("the address", || {
            snapshots.load().is_local("10.0.0.1".parse().unwrap())
        })
        .await;
        let index = snapshots.load().interface_named("n0").unwrap().index;
        ip("neigh add 10.0.0.9 dev n0 lladdr 02:00:00:00:00:09 nud permanent");
        let mac = || snapshots.load().neighbour(index, near);
        until_async("the neighbour", || mac() == Some([2, 0, 0, 0, 0, 9])).await;
        ip("neigh del 10.0.0.9 dev n0");
        until_async("no neighbour", || mac().is_none()).await;
        // The kernel removes these routes without a word about each.
        ip("link set n0 down");
        until_async("no route", || route(far) == RouteAnswer::Unreachable).await;
        assert_eq!(route(near), RouteAnswer::Unreachable);
    });
}

#[test]
fn a_burst_is_read_in_few_dumps_and_nothing_is_missed() {
    in_namespace_async(|| async {
        let (snapshots, _events) = started();
        ip("link add n0 type veth peer name p0");
        ip("link set p0 up");
        ip("link set n0 up");
        ip("addr add 10.0.0.1/24 dev n0");
        let batch = tempfile::NamedTempFile::new().unwrap();
        let lines: String = (0..4000)
            .map(|i| format!("route add 20.{}.{}.0/24 via 10.0.0.2\n", i / 256, i % 256))
            .collect();
        std::fs::write(batch.path(), lines).unwrap();
        let before = snapshots.load().generation();
        // All at once: the watcher's task does not run meanwhile.
        ip(&format!("-batch {}", batch.path().display()));
        let last = "20.15.159.1".parse().unwrap();
        until_async("the last route", || snapshots.load().hop(last).is_some()).await;
        let read = snapshots.load().generation() - before;
        assert!(read < 50, "{read} snapshots for 4000 routes");
        for i in 0..4000u32 {
            let to = lvs_core::Addr::from_v4_bits(0x1400_0001 + (i << 8));
            assert!(snapshots.load().hop(to).is_some(), "{to}");
        }
    });
}

#[test]
fn lost_notifications_are_made_good() {
    in_namespace_async(|| async {
        let (mut watcher, _events) = NetWatcher::open().unwrap();
        watcher.shrink_for_test();
        let snapshots = watcher.snapshots();
        ip("link add n0 type veth peer name p0");
        ip("link set n0 up");
        let batch = tempfile::NamedTempFile::new().unwrap();
        let mut lines: String = (0..2000)
            .map(|i| {
                let (high, low) = (i / 256, i % 256);
                format!(
                    "neigh add 10.0.{high}.{low} lladdr 02:00:00:00:00:09 dev n0 nud permanent\n"
                )
            })
            .collect();
        lines.push_str("neigh del 10.0.0.0 dev n0\n");
        std::fs::write(batch.path(), lines).unwrap();
        ip(&format!("-batch {}", batch.path().display()));
        tokio::spawn(watcher.run());
        until_async("n0", || snapshots.load().interface_named("n0").is_some()).await;
        let index = snapshots.load().interface_named("n0").unwrap().index;
        let known = |i: u32| {
            let addr = lvs_core::Addr::from_v4_bits(0x0a00_0000 + i);
            snapshots.load().neighbour(index, addr).is_some()
        };
        until_async("all neighbours", || !known(0) && (1..2000).all(known)).await;
    });
}
