//! Values on the command line: numbers as `strtol` reads them, addresses as `inet_aton` does.

use crate::names::Names;
use lvs_core::{Addr, Protocol};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What C calls white space.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];

/// A decimal number within bounds. Leading blanks and a sign are allowed, nothing may follow.
pub(crate) fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    let trimmed = text.trim_start_matches(BLANKS);
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

/// The number at the beginning of a text, as `atoi` reads it: whatever follows is ignored, no number
/// is 0, and what does not fit into 64 and 32 bits is cut as C cuts it.
pub(crate) fn leading_number(text: &str) -> i32 {
    let trimmed = text.trim_start_matches(BLANKS);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let mut value = 0_i64;
    for digit in digits.bytes().take_while(u8::is_ascii_digit) {
        let digit = i64::from(digit - b'0');
        value = value.saturating_mul(10);
        value = if negative {
            value.saturating_sub(digit)
        } else {
            value.saturating_add(digit)
        };
    }
    #[expect(clippy::cast_possible_truncation, reason = "as atoi does")]
    let cut = value as i32;
    cut
}

/// An IPv4 address in one to four parts, each decimal, octal (`010`) or hexadecimal (`0xa`); the
/// last part fills what is left: `10.1` is 10.0.0.1. A blank ends it, whatever follows.
pub(crate) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(BLANKS).next()?;
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
/// Hosts and services may be names; those of services need a protocol. What stands in brackets and
/// is no IPv6 address is read as `host[:port]`, and the port behind the brackets is not looked at.
/// `mapped` is what `::ffff:10.0.0.1` is read as: an IPv4 address in the form of an IPv6 one cannot stand
/// in a packet.
pub(crate) fn address(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
    mapped: Option<Addr>,
) -> Option<(Addr, Option<u16>)> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (inner, outer) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            (inner, Some(after.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (addr, port) = if let Ok(v6) = inner.parse::<Ipv6Addr>() {
        let addr = match v6.to_ipv4_mapped() {
            Some(_) => mapped?,
            None => v6.into(),
        };
        (addr, outer)
    } else {
        let (host, port) = match inner.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (inner, None),
        };
        let addr = match ipv4(host) {
            Some(addr) => addr.into(),
            None => names.resolve(host)?,
        };
        (addr, port)
    };
    match port {
        Some(port) => Some((addr, Some(self::port(port, protocol, names)?))),
        None => Some((addr, None)),
    }
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
        for (text, value) in [("64", 64), (" 1e3", 1), ("-5x", -5), ("x", 0), ("", 0)] {
            assert_eq!(leading_number(text), value, "{text}");
        }
        assert_eq!(leading_number("4294967297"), 1);
        assert_eq!(leading_number("99999999999999999999"), -1);
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
            ("10.1 or so", "10.0.0.1"),
        ] {
            assert_eq!(ipv4(text).unwrap().to_string(), address, "{text}");
        }
        for wrong in [
            "",
            "300.0.0.1",
            "1.2.3.4.5",
            " 10.1",
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
