//! Packets for the tests, written from the RFCs' pictures.

use lvs_core::{Addr, Endpoint, Family};

pub(super) const UDP: u8 = 17;
pub(super) const TCP: u8 = 6;

/// The one's complement sum of RFC 1071.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u32::from(b));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn octets(addr: Addr) -> Vec<u8> {
    match addr.family() {
        Family::V4 => addr.v4_octets().to_vec(),
        Family::V6 => addr.v6_octets().to_vec(),
    }
}

fn pseudo(protocol: u8, src: Addr, dst: Addr, length: usize) -> Vec<u8> {
    let mut header = [octets(src), octets(dst)].concat();
    header.extend(u32::try_from(length).unwrap().to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

fn sealed(protocol: u8, src: Addr, dst: Addr, mut segment: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = checksum(&[&pseudo(protocol, src, dst, segment.len()), &segment]);
    segment[at..at + 2].copy_from_slice(&sum);
    segment
}

/// An IP packet without options; `fragment` is the IPv4 field or the one of a fragment header.
pub(super) fn ip(protocol: u8, src: Addr, dst: Addr, payload: &[u8], fragment: u16) -> Vec<u8> {
    let length = |extra: usize| u16::try_from(payload.len() + extra).unwrap().to_be_bytes();
    let mut packet = Vec::new();
    match src.family() {
        Family::V4 => {
            packet.extend([0x45, 0]);
            packet.extend(length(20));
            packet.extend([0, 7]);
            packet.extend(fragment.to_be_bytes());
            packet.extend([64, protocol, 0, 0]);
        }
        Family::V6 => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length(if fragment == 0 { 0 } else { 8 }));
            packet.extend([if fragment == 0 { protocol } else { 44 }, 64]);
        }
    }
    packet.extend(octets(src));
    packet.extend(octets(dst));
    match src.family() {
        Family::V4 => {
            let sum = checksum(&[&packet]);
            packet[10..12].copy_from_slice(&sum);
        }
        Family::V6 if fragment != 0 => {
            packet.extend([protocol, 0]);
            packet.extend(fragment.to_be_bytes());
            packet.extend([0, 0, 0, 7]);
        }
        Family::V6 => {}
    }
    packet.extend_from_slice(payload);
    packet
}

pub(super) fn udp(src: &str, dst: &str, text: &str) -> Vec<u8> {
    let (src, dst): (Endpoint, Endpoint) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut segment = [src.port.to_be_bytes(), dst.port.to_be_bytes()].concat();
    segment.extend(u16::try_from(8 + text.len()).unwrap().to_be_bytes());
    segment.extend([0, 0]);
    segment.extend_from_slice(text.as_bytes());
    let segment = sealed(UDP, src.addr, dst.addr, segment, 6);
    ip(UDP, src.addr, dst.addr, &segment, 0)
}

pub(super) fn syn(src: &str, dst: &str) -> Vec<u8> {
    let (src, dst): (Endpoint, Endpoint) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut segment = [src.port.to_be_bytes(), dst.port.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let segment = sealed(TCP, src.addr, dst.addr, segment, 16);
    ip(TCP, src.addr, dst.addr, &segment, 0)
}

/// An ICMP error that quotes a packet.
pub(super) fn icmp_error(kind: u8, src: &str, dst: &str, quoted: &[u8]) -> Vec<u8> {
    let (src, dst): (Addr, Addr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(quoted);
    match src.family() {
        Family::V4 => {
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum);
            ip(1, src, dst, &message, 0)
        }
        Family::V6 => ip(58, src, dst, &sealed(58, src, dst, message, 2), 0),
    }
}
