//! FTP (RFC 959, RFC 2428): where its data connections will be.
//!
//! In: lines of the control connection. Out: the port of `PORT` and `EPRT`, when the server opens,
//! and of the replies 227 and 229, when the client does; the text of 227, which names the server's
//! address. Only a line at the start of a packet counts, as in the kernel.

use super::{Expected, Helper, Opener, Text};
use core::fmt::Write;
use core::ops::Range;
use lvs_core::Endpoint;

/// The helper of FTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ftp;

impl Helper for Ftp {
    fn client_said(&self, payload: &[u8]) -> Option<Expected> {
        let (command, rest) = payload.split_at_checked(5)?;
        let port = if command.eq_ignore_ascii_case(b"PORT ") {
            six_numbers(rest)?.1
        } else if command.eq_ignore_ascii_case(b"EPRT ") {
            extended(rest)?
        } else {
            return None;
        };
        Some(Expected {
            opener: Opener::Server,
            port,
            replace: None,
        })
    }

    fn server_said(&self, payload: &[u8]) -> Option<Expected> {
        let (code, rest) = payload.split_at_checked(4)?;
        let (port, replace) = match code {
            b"227 " => {
                let (at, port) = first_six_numbers(rest)?;
                (port, Some(at.start + code.len()..at.end + code.len()))
            }
            b"229 " => {
                let open = rest.iter().position(|byte| *byte == b'(')?;
                (extended(rest.get(open + 1..)?)?, None)
            }
            _ => return None,
        };
        Some(Expected {
            opener: Opener::Client,
            port,
            replace,
        })
    }

    fn write(&self, endpoint: Endpoint, text: &mut Text) {
        let [a, b, c, d] = endpoint.addr.v4_octets();
        let [high, low] = endpoint.port.to_be_bytes();
        // 23 bytes at the most.
        let _ = write!(text, "{a},{b},{c},{d},{high},{low}");
    }
}

/// A decimal number of at most five digits and what follows it.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text
        .iter()
        .take(5)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = text.split_at_checked(digits)?;
    if digits.is_empty() {
        return None;
    }
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((value, rest))
}

/// `h1,h2,h3,h4,p1,p2`: its length and its port.
fn six_numbers(text: &[u8]) -> Option<(usize, u16)> {
    let mut rest = text;
    let mut port = 0;
    for place in 0..6 {
        if place > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        let (value, after) = number(rest)?;
        let value = u8::try_from(value).ok()?;
        if place >= 4 {
            port = (port << 8) | u16::from(value);
        }
        rest = after;
    }
    (port != 0).then_some((text.len() - rest.len(), port))
}

/// The first six numbers of a text: where they stand and their port.
fn first_six_numbers(text: &[u8]) -> Option<(Range<usize>, u16)> {
    let starts = text
        .iter()
        .enumerate()
        .filter(|(at, byte)| byte.is_ascii_digit() && !is_digit_before(text, *at));
    starts.into_iter().find_map(|(at, _)| {
        let (length, port) = six_numbers(text.get(at..)?)?;
        Some((at..at + length, port))
    })
}

fn is_digit_before(text: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .and_then(|before| text.get(before))
        .is_some_and(u8::is_ascii_digit)
}

/// `|family|address|port|`, the first two of which may be empty (RFC 2428, 2 and 3); any character
/// may stand for the bar.
fn extended(text: &[u8]) -> Option<u16> {
    let (bar, rest) = text.split_first()?;
    let mut fields = rest.split(|byte| byte == bar);
    let port = fields.nth(2)?;
    // A field that is not followed by a bar is not whole.
    fields.next()?;
    let (port, after) = number(port)?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    after.is_empty().then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say() {
        let said = |text: &str| {
            Ftp.server_said(text.as_bytes())
                .map(|found| (found.port, found.replace.map(|at| text[at].to_owned())))
        };
        let numbers = Some("10,2,0,1,4,1".to_owned());
        for text in [
            "227 Entering Passive Mode (10,2,0,1,4,1).\r\n",
            "227 =10,2,0,1,4,1\r\n",
            "227 Entering Passive Mode 10,2,0,1,4,1\r\n",
        ] {
            assert_eq!(said(text), Some((1025, numbers.clone())), "{text}");
        }
        let text = "229 Entering Extended Passive Mode (|||6446|)\r\n";
        assert_eq!(said(text), Some((6446, None)));
        for text in [
            "227 Entering Passive Mode (10,2,0,1,4)",
            "227 (10,2,0,1,4,256)",
            "227 (10,2,0,1,0,0)",
            "229 (|||6446",
            "229 (|||x|)",
            "229 (|||0|)",
            "229 (|||65536|)",
            "226 10,2,0,1,4,1",
            "227",
            "",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn what_clients_say() {
        let said = |text: &str| Ftp.client_said(text.as_bytes()).map(|found| found.port);
        assert_eq!(said("PORT 10,1,0,5,16,1\r\n"), Some(4097));
        assert_eq!(said("port 10,1,0,5,16,1\r\n"), Some(4097));
        assert_eq!(said("EPRT |1|10.1.0.5|6275|\r\n"), Some(6275));
        assert_eq!(said("EPRT |2|fd01::5|6275|\r\n"), Some(6275));
        for text in [
            "PORT 10,1,0,5,16\r\n",
            "EPRT |2|fd01::5|\r\n",
            "PASV\r\n",
            "PORT ",
            "",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn the_text_of_227() {
        let mut text = Text::new();
        Ftp.write("192.0.2.100:1025".parse().unwrap(), &mut text);
        assert_eq!(text.as_bytes(), b"192,0,2,100,4,1");
    }
}
