//! Connection listings as ipvsadm 1.31 was recorded to make them of a kernel's `/proc/net/ip_vs_conn`.
//!
//! `golden/connections.jsonl` has a listing a line with the table at that moment: `argv`, `connections`, `rc`,
//! `stdout`, `stderr`. Plain connections and templates of all protocols, with marks, masks and an engine's data,
//! mixed families, and times of more than 99 minutes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Daemon, Seen};
use lvs_api::{Connection, Method};
use lvs_core::{Addr, Endpoint, Protocol};
use lvsd::control::Memory;
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const RECORDING: &str = include_str!("golden/connections.jsonl");

#[derive(Deserialize)]
struct Record {
    argv: Vec<String>,
    connections: String,
    rc: u8,
    stdout: String,
    stderr: String,
}

#[test]
fn a_kernels_table_is_listed_as_ipvsadm_lists_it() {
    for line in RECORDING.lines() {
        let record: Record = serde_json::from_str(line).unwrap();
        let director = Arc::new(Memory::new());
        let table = record.connections.lines().skip(1).map(connection);
        director.set_connections(table.collect());
        let daemon = Daemon::start(director);
        let argv: Vec<&str> = record.argv.iter().map(String::as_str).collect();
        let expected = Seen {
            status: record.rc,
            stdout: record.stdout,
            stderr: record.stderr,
        };
        assert_eq!(daemon.run(&argv, ""), expected, "{argv:?}");
    }
}

const ALL: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Ip];

/// A line of `/proc/net/ip_vs_conn`.
fn connection(line: &str) -> Connection {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        protocol,
        client,
        cport,
        vip,
        vport,
        server,
        dport,
        state,
        expires,
        ref engine @ ..,
    ] = words[..]
    else {
        panic!("{line}")
    };
    let word = |place: usize| engine.get(place).map(|word: &&str| (*word).to_owned());
    Connection {
        protocol: ALL.into_iter().find(|p| p.name() == protocol).unwrap(),
        client: endpoint(client, cport),
        virtual_: endpoint(vip, vport),
        destination: endpoint(server, dport),
        local: None,
        method: Method::Nat,
        state: state.to_owned().into(),
        expires: expires.parse().unwrap(),
        engine: word(0),
        engine_data: word(1),
    }
}

fn endpoint(addr: &str, port: &str) -> Endpoint {
    let addr: Addr = if addr.contains(':') {
        addr.parse::<Ipv6Addr>().unwrap().into()
    } else {
        Ipv4Addr::from(u32::from_str_radix(addr, 16).unwrap()).into()
    };
    Endpoint::new(addr, u16::from_str_radix(port, 16).unwrap())
}
