//! Which header field stands at an offset of a frame.
//!
//! For people: frames and an offset in, words out.

use lvs_packet::{Frame, Kind, Offload, parse};

const ETHERNET: usize = 14;

/// The name of the field at `at`.
pub(crate) fn name(bytes: &[u8], at: usize) -> String {
    match at {
        0..6 => "Ethernet destination".to_owned(),
        6..12 => "Ethernet source".to_owned(),
        12..14 => "EtherType".to_owned(),
        _ => network(bytes, bytes.get(12..14) == Some(&[8, 0]), ETHERNET, at, ""),
    }
}

/// In the IP packet at `l3`.
fn network(bytes: &[u8], v4: bool, l3: usize, at: usize, depth: &str) -> String {
    let byte = |place: usize| bytes.get(place).copied().unwrap_or_default();
    let (field, l4, protocol) = if v4 {
        let field = match at - l3 {
            0 => "version and header length",
            1 => "type of service",
            2..4 => "total length",
            4..6 => "identification",
            6..8 => "flags and fragment offset",
            8 => "TTL",
            9 => "protocol",
            10..12 => "header checksum",
            12..16 => "source address",
            16..20 => "destination address",
            _ => "options",
        };
        let l4 = l3 + usize::from(byte(l3) & 0x0f) * 4;
        let later = u16::from_be_bytes([byte(l3 + 6), byte(l3 + 7)]) & 0x1fff != 0;
        (field, l4, if later { None } else { Some(byte(l3 + 9)) })
    } else {
        let field = match at - l3 {
            0..2 => "version, traffic class",
            2..4 => "flow label",
            4..6 => "payload length",
            6 => "next header",
            7 => "hop limit",
            8..24 => "source address",
            _ => "destination address",
        };
        (field, l3 + 40, Some(byte(l3 + 6)))
    };
    if at < l4 {
        let family = if v4 { "IPv4" } else { "IPv6" };
        return format!("{depth}{family} {field}");
    }
    match protocol {
        Some(protocol) => transport(bytes, protocol, l4, at, depth),
        None => format!("{depth}payload of a fragment"),
    }
}

/// What an IP header carries at `l4`.
fn transport(bytes: &[u8], protocol: u8, l4: usize, at: usize, depth: &str) -> String {
    let byte = |place: usize| bytes.get(place).copied().unwrap_or_default();
    let field = match (protocol, at - l4) {
        (6 | 17 | 132, 0..2) => "source port",
        (6 | 17 | 132, 2..4) => "destination port",
        (6, 4..8) => "sequence number",
        (6, 8..12) => "acknowledgement number",
        (6, 12) => "data offset",
        (6, 13) => "flags",
        (6, 14..16) => "window",
        (6, 16..18) | (17, 6..8) | (1 | 58, 2..4) | (132, 8..12) => "checksum",
        (17, 4..6) => "length",
        (1 | 58, 0) => "type",
        (1 | 58, 1) => "code",
        (1 | 58, 4..8) => "rest of the header",
        (44, 0..2) => "next header",
        (44, 2..4) => "fragment offset",
        (44, 4..8) => "identification",
        (47, 0..4) => "flags and protocol",
        _ => "payload",
    };
    let name = match protocol {
        1 => "ICMP",
        4 | 41 => return network(bytes, protocol == 4, l4, at, "inner "),
        6 => "TCP",
        17 => "UDP",
        44 if at - l4 >= 8 => return transport(bytes, byte(l4), l4 + 8, at, depth),
        44 => "fragment header",
        47 => "GRE",
        58 => "ICMPv6",
        132 => "SCTP",
        _ => "unknown protocol",
    };
    if matches!(protocol, 1 | 58) && at - l4 >= 8 && byte(l4) < 128 {
        let v4 = protocol == 1;
        return network(bytes, v4, l4 + 8, at, "quoted ");
    }
    format!("{depth}{name} {field}")
}

/// A frame in a few words: `tcp 10.1.0.5:4000>10.0.0.1:80 S, 54 bytes`.
pub(crate) fn summary(bytes: &[u8]) -> String {
    let mut copy = bytes.to_vec();
    let length = copy.len();
    let frame = Frame::new(&mut copy, 0, length, Offload::default());
    match parse(&frame) {
        Ok(packet) if packet.kind == Kind::NotIp => format!("not IP, {length} bytes"),
        Ok(packet) => format!(
            "{}, {length} bytes",
            super::super::packets::describe(&frame, &packet)
        ),
        Err(reason) => format!("{length} bytes that are no packet ({reason})"),
    }
}
