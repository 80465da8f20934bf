//! A director that ends, however it ends, and the next one on the same table: connections go on with
//! their destinations, which are counted anew; one whose destination is in no rule is as if that had
//! been removed.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{CLIENTS, SERVERS, Site, TestRoutes, addr, endpoint, service};
use lvs_conn::{Table, TableConfig};
use lvs_core::{
    DestinationSpec, DropReason, Family, ForwardMethod, LocalAddresses, Persistence, Protocol,
    ServiceKey, ServiceSpec, Tick,
};
use lvs_director::{Adopted, Director, MarkRule, Match, Setting, Verdict};
use lvs_packet::TcpFlags;
use std::path::PathBuf;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);

/// A table's file, and copies of it as a killed process would leave them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, number: u32) -> PathBuf {
        self.0.path().join(number.to_string())
    }

    fn site(&self, number: u32, now: Tick) -> Site {
        let config = TableConfig::with_capacity(4096);
        let (table, _) = Table::open(self.path(number), &config, now).unwrap();
        let director = Director::with_table(table, 1);
        Site {
            worker: director.worker().unwrap(),
            director,
            routes: TestRoutes::default(),
            now,
        }
    }

    /// What the next process finds if this one is killed now.
    fn kill(&self, number: u32) -> u32 {
        std::fs::copy(self.path(number), self.path(number + 1)).unwrap();
        number + 1
    }
}

fn add(site: &Site, spec: &ServiceSpec<'_>, method: ForwardMethod, servers: &[&str]) {
    site.director.add_service(spec).unwrap();
    add_servers(site, &spec.key, method, servers);
}

fn add_servers(site: &Site, key: &ServiceKey, method: ForwardMethod, servers: &[&str]) {
    for server in servers {
        let server = DestinationSpec::new(endpoint(server), method);
        site.director.add_destination(key, &server).unwrap();
    }
}

/// A handshake by NAT; the server.
fn connect(site: &mut Site, client: &str, vip: &str) -> String {
    let out = site.tcp(client, vip, SYN);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS), "{client}");
    let flow = out.packet().flow;
    let syn_ack = TcpFlags(SYN.0 | ACK.0);
    let back = site.tcp(&flow.dst.to_string(), &flow.src.to_string(), syn_ack);
    assert_eq!(back.verdict, Verdict::Forward(CLIENTS));
    assert_eq!(
        site.tcp(client, vip, ACK).verdict,
        Verdict::Forward(SERVERS)
    );
    flow.dst.to_string()
}

const VIP: &str = "10.0.0.1:80";
const SERVERS_OF_VIP: [&str; 3] = ["10.2.0.1:8080", "10.2.0.2:8080", "10.2.0.3:8080"];

#[test]
fn connections_go_on_with_their_servers_and_are_counted() {
    let files = Files::new();
    let key = service(Protocol::Tcp, VIP);
    let spec = ServiceSpec::new(key, "rr");
    let clients: Vec<String> = (0..9).map(|n| format!("10.1.0.5:{}", 4000 + n)).collect();
    let mut site = files.site(0, Tick(1_000_000));
    add(&site, &spec, ForwardMethod::Masquerade, &SERVERS_OF_VIP);
    let before: Vec<_> = clients
        .iter()
        .map(|client| connect(&mut site, client, VIP))
        .collect();
    // One ends, and one has only begun.
    site.tcp(&clients[8], VIP, FIN);
    site.tcp("10.1.0.6:4000", VIP, SYN);
    let mut counts = site.counts(&key);
    counts.sort();

    // Another order, other numbers, and one destination less.
    let number = files.kill(0);
    let mut next = files.site(number, site.now + Tick::seconds(5));
    let other = service(Protocol::Tcp, "10.0.0.2:80");
    let others = ServiceSpec::new(other, "wlc");
    add(
        &next,
        &others,
        ForwardMethod::Masquerade,
        &["10.2.0.3:8080"],
    );
    let left = [SERVERS_OF_VIP[1], SERVERS_OF_VIP[0]];
    add(&next, &spec, ForwardMethod::Masquerade, &left);
    // Before it was told to whom they belong, nobody has them.
    assert!(
        next.counts(&key)
            .iter()
            .all(|(_, active, inactive)| active + inactive == 0)
    );
    let adopted = next.director.adopt();
    let gone = |server: &String| *server == SERVERS_OF_VIP[2];
    let orphans = before.iter().filter(|server| gone(server)).count();
    assert_eq!((adopted.found + adopted.orphans, orphans), (10, 3));
    assert!(adopted.orphans >= orphans);
    let mut again = next.counts(&key);
    again.sort();
    let kept: Vec<_> = counts
        .iter()
        .filter(|(server, ..)| !gone(server))
        .cloned()
        .collect();
    assert_eq!(again, kept);
    assert_eq!(next.counts(&other), [("10.2.0.3:8080".to_owned(), 0, 0)]);

    let go_on = |next: &mut Site, without: usize| {
        for (client, server) in clients.iter().zip(&before) {
            let out = next.tcp(client, VIP, ACK);
            if without > 0 && gone(server) {
                assert_eq!(out.verdict, Verdict::Drop(DropReason::DestinationGone));
                continue;
            }
            assert_eq!(out.verdict, Verdict::Forward(SERVERS));
            assert_eq!(out.flow(), format!("{client} > {server}"));
            let back = next.tcp(server, client, ACK);
            assert_eq!(back.flow(), format!("{VIP} > {client}"));
        }
    };
    go_on(&mut next, orphans);
    // Whoever is added later has what is its own, as one that comes back from the kernel's trash.
    add_servers(&next, &key, ForwardMethod::Masquerade, &SERVERS_OF_VIP[2..]);
    next.director.collect(next.now, usize::MAX);
    go_on(&mut next, 0);
    let mut all = next.counts(&key);
    all.sort();
    assert_eq!(all, counts);
    // In the end nothing is left of them.
    next.wait(1000);
    assert!(next.director.table().is_empty());
    assert!(
        next.counts(&key)
            .iter()
            .all(|(_, active, inactive)| active + inactive == 0)
    );
}

#[test]
fn what_has_no_destination_begins_anew_where_the_setting_says_so() {
    let files = Files::new();
    let spec = ServiceSpec::new(service(Protocol::Tcp, VIP), "rr");
    let mut site = files.site(0, Tick(7));
    add(&site, &spec, ForwardMethod::Masquerade, &["10.2.0.1:8080"]);
    connect(&mut site, "10.1.0.5:4000", VIP);
    let mut next = files.site(files.kill(0), site.now);
    next.director
        .settings()
        .set(Setting::ExpireNodestConn, 1)
        .unwrap();
    add(&next, &spec, ForwardMethod::Masquerade, &["10.2.0.2:8080"]);
    assert_eq!(
        next.director.adopt(),
        Adopted {
            found: 0,
            orphans: 1
        }
    );
    let out = next.tcp("10.1.0.5:4000", VIP, SYN);
    assert_eq!(out.flow(), "10.1.0.5:4000 > 10.2.0.2:8080");
}

/// FULLNAT's ports are taken, also those of connections whose destination is missing.
#[test]
fn local_ports_stay_taken_until_their_connections_end() {
    let files = Files::new();
    let key = service(Protocol::Tcp, VIP);
    let spec = ServiceSpec {
        local: LocalAddresses::new(&[addr("10.2.0.250")]).unwrap(),
        ..ServiceSpec::new(key, "rr")
    };
    let mut site = files.site(0, Tick(7));
    add(&site, &spec, ForwardMethod::FullNat, &["10.2.0.1:8080"]);
    let mut taken: Vec<String> = Vec::new();
    let mut open = |site: &mut Site, n: u32| {
        let out = site.tcp(&format!("10.1.0.5:{}", 4000 + n), VIP, SYN);
        assert_eq!(out.verdict, Verdict::Forward(SERVERS));
        let from = out.packet().flow.src.to_string();
        assert!(!taken.contains(&from), "{from} is another's");
        taken.push(from);
    };
    (0..20).for_each(|n| open(&mut site, n));
    let mut next = files.site(files.kill(0), site.now);
    // The rules come later than the connections.
    assert_eq!(next.director.adopt().orphans, 20);
    add(&next, &spec, ForwardMethod::FullNat, &["10.2.0.1:8080"]);
    // The next worker begins to look where the first one did.
    (20..60).for_each(|n| open(&mut next, n));
    next.wait(70);
    assert!(next.director.table().is_empty());
}

/// Persistence, by address and port, by address, of FTP, and by mark; each with connections.
#[test]
fn templates_remember_their_destinations() {
    let files = Files::new();
    let persistence = Some(Persistence {
        timeout: 3000,
        netmask: u32::MAX,
    });
    let mark = ServiceKey::FwMark {
        family: Family::V4,
        mark: 7,
    };
    let keys = [
        (service(Protocol::Tcp, VIP), VIP),
        (service(Protocol::Tcp, "10.0.0.3:0"), "10.0.0.3:443"),
        (service(Protocol::Tcp, "10.0.0.4:21"), "10.0.0.4:21"),
        (mark, "10.0.0.9:99"),
    ];
    let begin = |site: &Site, servers: &[&str]| {
        let rule = MarkRule {
            destination: Match::parse(["10.0.0.9"]).unwrap(),
            ..MarkRule::new(7)
        };
        site.director.set_marks(&[rule]).unwrap();
        for (key, _) in keys {
            let spec = ServiceSpec {
                persistence,
                ..ServiceSpec::new(key, "rr")
            };
            add(site, &spec, ForwardMethod::Masquerade, servers);
        }
    };
    let mut site = files.site(0, Tick(7));
    begin(&site, &["10.2.0.1:8080", "10.2.0.2:8080"]);
    let clients: Vec<String> = (1..5).map(|n| format!("10.1.0.{n}")).collect();
    let ask = |site: &mut Site, port: u16| -> Vec<String> {
        let mut servers = Vec::new();
        for (_, vip) in keys {
            for client in &clients {
                let server = connect(site, &format!("{client}:{port}"), vip);
                servers.push(format!("{client} {vip} {server}"));
            }
        }
        servers
    };
    let before = ask(&mut site, 4000);
    let mut next = files.site(files.kill(0), site.now);
    begin(&next, &["10.2.0.2:8080", "10.2.0.1:8080"]);
    assert_eq!(
        next.director.adopt(),
        Adopted {
            found: 32,
            orphans: 0
        }
    );
    for (key, _) in keys {
        assert_eq!(
            next.counts(&key)
                .iter()
                .map(|(_, active, _)| active)
                .sum::<u32>(),
            4
        );
    }
    assert_eq!(ask(&mut next, 5000), before);
    next.wait(4000);
    assert!(next.director.table().is_empty());
}
