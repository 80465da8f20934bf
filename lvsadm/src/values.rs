//! Values on the command line: numbers as `strtol` reads them, addresses as `inet_aton` does.

use crate::names::Names;
use lvs_core::{Addr, Protocol};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A decimal number within bounds. Leading blanks and a sign are allowed, nothing may follow.
pub(crate) fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i64 = trimmed.parse().ok()?;
    (min..=max).contains(&value).then_some(value)
}

/// [`number`] for 32 bits without sign.
pub(crate) fn number32(text: &str, min: u32, max: u32) -> Option<u32> {
    number(text, i64::from(min), i64::from(max)).and_then(|n| u32::try_from(n).ok())
}

/// An IPv4 address in one to four parts, each decimal, octal (`010`) or hexadecimal (`0xa`); the
/// last part fills what is left: `10.1` is 10.0.0.1.
pub(crate) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = Vec::with_capacity(4);
    for part in text.split('.') {
        parts.push(ipv4_part(part)?);
    }
    let last = parts.pop()?;
    let mut bits = 0u32;
    let mut shift = 32;
    for part in &parts {
        if *part > 255 || shift == 8 {
            return None;
        }
        shift -= 8;
        bits |= part << shift;
    }
    let room = if shift == 32 {
        u32::MAX
    } else {
        (1 << shift) - 1
    };
    (last <= room).then(|| Ipv4Addr::from_bits(bits | last))
}

fn ipv4_part(part: &str) -> Option<u32> {
    let (digits, radix) = match part.strip_prefix('0') {
        Some("") => ("0", 10),
        Some(rest) => match rest.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16),
            None => (rest, 8),
        },
        None => (part, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// `host[:port]`, `[ipv6]:port` or `ipv6`; the port is `None` if it is not there.
///
/// Hosts and services may be names; those of services need a protocol.
pub(crate) fn address(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(Addr, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = self::port(after.strip_prefix(':')?, protocol, names)?;
        if let Some(addr) = ipv4(host) {
            // An IPv4 address in brackets loses its port.
            return Some((addr.into(), None));
        }
        return Some((ipv6(host)?, Some(port)));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((ipv6(text)?, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if host.contains(':') || (port.is_none() && number(host, 0, i64::MAX).is_some()) {
        return None;
    }
    let addr = match ipv4(host) {
        Some(addr) => addr.into(),
        None => names.resolve(host)?,
    };
    match port {
        Some(port) => Some((addr, Some(self::port(port, protocol, names)?))),
        None => Some((addr, None)),
    }
}

/// An IPv6 address; an IPv4 address in the form of one cannot stand in a packet.
fn ipv6(text: &str) -> Option<Addr> {
    let addr: Ipv6Addr = text.parse().ok()?;
    addr.to_ipv4_mapped().is_none().then(|| addr.into())
}

fn port(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, 65535) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_strtol() {
        assert_eq!(number(" +5", 0, 9), Some(5));
        for wrong in [
            "",
            "5x",
            "0x10",
            "-1",
            "10",
            "5 ",
            "+-5",
            "99999999999999999999",
        ] {
            assert_eq!(number(wrong, 0, 9), None, "{wrong}");
        }
    }

    #[test]
    fn short_addresses_are_those_of_inet_aton() {
        for (text, address) in [
            ("10.1", "10.0.0.1"),
            ("255.255", "255.0.0.255"),
            ("010.0x0a.1", "8.10.0.1"),
            ("1.2.3.4", "1.2.3.4"),
            ("80", "0.0.0.80"),
            ("0", "0.0.0.0"),
        ] {
            assert_eq!(ipv4(text).unwrap().to_string(), address, "{text}");
        }
        for wrong in [
            "",
            "300.0.0.1",
            "1.2.3.4.5",
            "1..2",
            "08",
            "1.2.3.+4",
            "a",
            "256.1",
        ] {
            assert_eq!(ipv4(wrong), None, "{wrong}");
        }
    }
}
