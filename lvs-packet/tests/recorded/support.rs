//! Recorded conversations: captures of both sides of a director, and its configuration.

use lvs_core::{Addr, Endpoint, Family, ForwardMethod, Protocol, TunnelChecksum, TunnelKind};
use pcap_file::pcap::PcapReader;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A frame of a capture.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) side: Side,
    /// Seconds and microseconds, of one clock for both sides.
    pub(crate) time: (u32, u32),
    pub(crate) bytes: Vec<u8>,
    /// Length on the wire, and how much of it the capture kept; `bytes` is complete, a payload
    /// that was cut off is known to be all `x`.
    pub(crate) length: usize,
    pub(crate) captured: usize,
    pub(crate) by_director: bool,
}

/// A line of the configuration: a service with its only server.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) protocol: Protocol,
    pub(crate) vip: Endpoint,
    pub(crate) server: Option<Endpoint>,
    pub(crate) method: ForwardMethod,
    pub(crate) tunnel: TunnelKind,
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) services: Vec<Service>,
    pub(crate) frames: Vec<Recorded>,
    pub(crate) mtu: usize,
    pub(crate) pmtu_disc: bool,
    pub(crate) nat_icmp_send: bool,
    pub(crate) schedule_icmp: bool,
}

impl Case {
    pub(crate) fn service(&self, protocol: Protocol, vip: Endpoint) -> Option<&Service> {
        self.services
            .iter()
            .find(|service| (service.protocol, service.vip) == (protocol, vip))
    }

    pub(crate) fn serving(&self, protocol: Protocol, server: Endpoint) -> Option<&Service> {
        self.services
            .iter()
            .find(|service| (service.protocol, service.server) == (protocol, Some(server)))
    }

    pub(crate) fn is_vip(&self, addr: Addr) -> bool {
        self.services.iter().any(|service| service.vip.addr == addr)
    }

    pub(crate) fn director_at_servers(&self, family: Family) -> Addr {
        match family {
            Family::V4 => "10.2.0.254".parse().unwrap(),
            Family::V6 => "fd02::fe".parse().unwrap(),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All conversations.
pub(crate) fn cases() -> Vec<Case> {
    let index = fs::read_to_string(folder().join("index.jsonl")).unwrap();
    // Fragments are reassembled before a rewriter sees them, and nothing here synchronises.
    let left_out = |case: &Case| {
        ["fragments", "sync"]
            .iter()
            .any(|of| case.name.starts_with(of))
    };
    let cases = index.lines().map(case);
    cases.filter(|case| !left_out(case)).collect()
}

fn case(line: &str) -> Case {
    let line: Value = serde_json::from_str(line).unwrap();
    let name = line["name"].as_str().unwrap().to_string();
    let sysctl = |key: &str, default: i64| line["sysctl"][key].as_i64().unwrap_or(default) != 0;
    let mut services: Vec<Service> = Vec::new();
    for command in line["config"].as_array().unwrap() {
        configure(&mut services, command.as_str().unwrap());
    }
    let mtu = match name.as_str() {
        name if name.contains("mtu1300") => 1300,
        name if name.starts_with("toobig") || name.starts_with("pmtu-disc") => 1400,
        _ => 1500,
    };
    let mut frames = read(&name, Side::Client);
    frames.extend(read(&name, Side::Server));
    frames.sort_by_key(|frame| frame.time);
    if name.starts_with("tcp-gue") {
        frames.iter_mut().for_each(restore_outer_length);
    }
    Case {
        mtu,
        services,
        frames,
        pmtu_disc: sysctl("pmtu_disc", 1),
        nat_icmp_send: sysctl("nat_icmp_send", 0),
        schedule_icmp: sysctl("schedule_icmp", 0),
        name,
    }
}

/// One invocation of ipvsadm.
fn configure(services: &mut Vec<Service>, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let value = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).copied()
    };
    let has = |flag: &str| words.contains(&flag);
    let known = [
        ("-t", Protocol::Tcp),
        ("-u", Protocol::Udp),
        ("--sctp-service", Protocol::Sctp),
    ];
    let Some((protocol, vip)) = known
        .iter()
        .find_map(|(flag, protocol)| Some((*protocol, value(flag)?.parse().unwrap())))
    else {
        return;
    };
    if has("-A") {
        services.push(Service {
            protocol,
            vip,
            server: None,
            method: ForwardMethod::DirectRoute,
            tunnel: TunnelKind::Ipip,
        });
        return;
    }
    let service = services
        .iter_mut()
        .find(|service| (service.protocol, service.vip) == (protocol, vip))
        .unwrap();
    if value("-w") != Some("0") {
        service.server = Some(value("-r").unwrap().parse().unwrap());
    }
    service.method = match (has("-m"), has("-i")) {
        (true, _) => ForwardMethod::Masquerade,
        (_, true) => ForwardMethod::Tunnel,
        _ => ForwardMethod::DirectRoute,
    };
    let checksum = match (has("--tun-csum"), has("--tun-remcsum")) {
        (true, _) => TunnelChecksum::Full,
        (_, true) => TunnelChecksum::Remote,
        _ => TunnelChecksum::None,
    };
    service.tunnel = match value("--tun-type") {
        Some("gue") => TunnelKind::Gue {
            port: value("--tun-port").unwrap().parse().unwrap(),
            checksum,
        },
        Some("gre") => TunnelKind::Gre { checksum },
        _ => TunnelKind::Ipip,
    };
}

fn read(name: &str, side: Side) -> Vec<Recorded> {
    let suffix = match side {
        Side::Client => "client",
        Side::Server => "server",
    };
    let file = fs::File::open(folder().join(format!("{name}.{suffix}.pcap"))).unwrap();
    let mut reader = PcapReader::new(file).unwrap();
    let mut frames = Vec::new();
    // Raw: captures that were cut short name lengths beyond what they kept.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.unwrap();
        let mut bytes = packet.data.to_vec();
        // The link's own chatter: groups, and what is not IP.
        if bytes[0] & 1 != 0 || !matches!(bytes[12..14], [8, 0] | [0x86, 0xdd]) {
            continue;
        }
        let captured = bytes.len();
        let length = packet.orig_len as usize;
        bytes.resize(length, b'x');
        // 02:00:0a:09:00:01 and 02:00:0a:02:00:fe.
        let director = match side {
            Side::Client => [2, 0, 0x0a, 9, 0, 1],
            Side::Server => [2, 0, 0x0a, 2, 0, 0xfe],
        };
        frames.push(Recorded {
            side,
            time: (packet.ts_sec, packet.ts_frac),
            by_director: bytes[6..12] == director,
            bytes,
            length,
            captured,
        });
    }
    frames
}

/// The receiver of these captures shortened the outer length by its 12 bytes of UDP and GUE in the
/// buffer that it shares with the capture; the header checksum is that of the true length.
fn restore_outer_length(frame: &mut Recorded) {
    let outer_is_udp = match frame.bytes[12] {
        8 => frame.bytes[23] == 17,
        _ => frame.bytes[20] == 17,
    };
    if frame.side == Side::Server && outer_is_udp {
        let at = if frame.bytes[12] == 8 { 16 } else { 18 };
        let header = if frame.bytes[12] == 8 { 0 } else { 40 };
        let length = u16::try_from(frame.length - 14 - header).unwrap();
        frame.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}
