//! What a host or router on the way makes of the options of a packet, as Linux does it: it writes its
//! address into IPv4's record route and the time into timestamps (RFC 791, 3.1), both again into those of
//! an answer, and refuses hop-by-hop options of IPv6 that ask for it (RFC 8200, 4.2).
//!
//! In: a packet with options. Out: the options changed in place, or why the packet goes no further. The
//! header checksum is left as it was until [`seal`]: an error in between quotes the packet with the old
//! one, as Linux's errors do. Never: a longer or shorter header.
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, options, parse};
//! let mut buffer = [0; 128];
//! let route = [7, 7, 4, 0, 0, 0, 0, 0];
//! let ip = build::Ip { options: &route, ..build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?) };
//! let length = build::udp(&mut buffer, &ip, 1, 2, b"hello")?;
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! options::receive(&mut frame, &packet, packet.flow.dst.addr, 0, |_| false).unwrap();
//! options::seal(&mut frame, &packet);
//! assert_eq!(frame.bytes()[34..42], [7, 7, 8, 10, 0, 0, 1, 0]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array, set, set_u16, u8_at, u32_at};
use crate::checksum;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::parse::{IPV4_LEN, IPV6_LEN, number};
use lvs_core::{Addr, Family};

/// The most bytes of options that a header has.
const MOST: usize = 40;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
/// CIPSO: what it means is known only where labels are set up, and refused elsewhere.
const LABEL: u8 = 134;
const ROUTER_ALERT: u8 = 148;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;
/// Flags of a timestamp option: times alone, with addresses, at addresses that the sender gave.
const TIMES: u8 = 0;
const TIMES_AND_ADDRESSES: u8 = 1;
const PRESPECIFIED: u8 = 3;

/// Why a packet goes no further for its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Without a word: a source route (`accept_source_route` is off, RFC 7126, 4.3), padding that is none,
    /// an unknown option that says so.
    Silently,
    /// The sender is told what is wrong ("parameter problem").
    Problem {
        /// Code of the ICMP message: 0, or 2 of `ICMPv6` for an option that nobody knows.
        code: u8,
        /// Bytes from the start of the IP header to it.
        pointer: u16,
    },
}

/// Where something was recorded that leaving the host may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Bytes from the start of the IP header to the recorded address.
    route: Option<u8>,
}

/// Whether a packet may have options: what its IP header is longer by than the shortest one.
#[inline]
#[must_use]
pub const fn may_be_in(packet: &Packet) -> bool {
    let shortest = match packet.family {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    packet.is_ip() && (packet.l4.saturating_sub(packet.l3) as usize) > shortest
}

/// Whether a packet has IPv4 options.
#[inline]
pub(crate) const fn are_in(packet: &Packet) -> bool {
    matches!(packet.family, Family::V4) && may_be_in(packet)
}

/// What the host `own` does with the options of a packet that arrives. `time`: milliseconds since midnight
/// UT, or with the highest bit set any other; `is_own`: whether an address is the host's.
///
/// # Errors
/// The packet goes no further; options before the one that is wrong have been changed.
pub fn receive(
    frame: &mut Frame<'_>,
    packet: &Packet,
    own: Addr,
    time: u32,
    mut is_own: impl FnMut(Addr) -> bool,
) -> Result<Recorded, Refused> {
    if packet.family == Family::V6 {
        return hop_by_hop(frame, packet).map(|()| Recorded::default());
    }
    let header = header(frame, packet);
    let mut recorded = Recorded::default();
    let mut seen = Seen::default();
    let mut at = IPV4_LEN;
    while let Some(&kind) = header.get(at) {
        match kind {
            END => {
                header.get_mut(at..).unwrap_or_default().fill(END);
                break;
            }
            NO_OPERATION => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let rest = header.get_mut(at..).unwrap_or_default();
        let length = rest.get(1).copied().filter(|length| *length >= 2);
        let option = length.and_then(|length| rest.get_mut(..usize::from(length)));
        let option = option.ok_or_else(|| problem(at))?;
        match kind {
            RECORD_ROUTE => {
                let place = record_route(option, own, &mut seen).map_err(|by| problem(at + by))?;
                recorded.route = place.and_then(|place| u8::try_from(at + place).ok());
            }
            TIMESTAMP => {
                timestamp(option, own, time, &mut is_own, &mut seen)
                    .map_err(|by| problem(at + by))?;
            }
            LOOSE_ROUTE | STRICT_ROUTE => {
                source_route(option, &mut seen).map_err(|by| problem(at + by))?;
            }
            LABEL => return Err(problem(at + if option.len() < 8 { 1 } else { 2 })),
            ROUTER_ALERT if option.len() < 4 => return Err(problem(at + 1)),
            _ => {}
        }
        at += option.len();
    }
    if seen.source_route {
        return Err(Refused::Silently);
    }
    Ok(recorded)
}

/// Hop-by-hop options, if the packet has any.
fn hop_by_hop(frame: &Frame<'_>, packet: &Packet) -> Result<(), Refused> {
    /// What Linux takes of a packet (`max_hbh_opts_number`).
    const MANY: usize = 8;
    const PAD_1: u8 = 0;
    const PAD_N: u8 = 1;
    const ALERT: u8 = 5;
    const SECURITY_LABEL: u8 = 7;
    const JUMBO: u8 = 0xc2;
    const BAD: Refused = Refused::Silently;
    let bytes = frame.bytes().get(packet.ip()..packet.tail());
    let bytes = bytes.unwrap_or_default();
    if u8_at(bytes, 6) != Some(number::HOP_BY_HOP) {
        return Ok(());
    }
    let units = usize::from(u8_at(bytes, IPV6_LEN + 1).ok_or(BAD)?);
    let header = bytes.get(..IPV6_LEN + (units + 1) * 8).ok_or(BAD)?;
    let (mut at, mut padding, mut count) = (IPV6_LEN + 2, 0, 0);
    while let Some(&kind) = header.get(at) {
        let length = match kind {
            PAD_1 => 1,
            _ => usize::from(u8_at(header, at + 1).ok_or(BAD)?) + 2,
        };
        let option = header.get(at..at + length).ok_or(BAD)?;
        let problem = |code, by| {
            let pointer = u16::try_from(at + by).unwrap_or(u16::MAX);
            Err(Refused::Problem { code, pointer })
        };
        if matches!(kind, PAD_1 | PAD_N) {
            padding += length;
            // More than aligns anything, or something written into it (RFC 4942, 2.1.9.5).
            if padding > 7 || option.iter().skip(2).any(|byte| *byte != 0) {
                return Err(BAD);
            }
        } else {
            padding = 0;
            count += 1;
            match kind {
                _ if count > MANY => return Err(BAD),
                ALERT if length != 4 => return Err(BAD),
                ALERT => {}
                JUMBO => {
                    let of_packet = u32_at(option, 2).unwrap_or_default();
                    if length != 6 || at & 3 != 2 {
                        return Err(BAD);
                    }
                    if of_packet <= u32::from(u16::MAX) {
                        return problem(0, 2);
                    }
                    if header.get(4..6) != Some(&[0, 0]) {
                        return problem(0, 0);
                    }
                }
                SECURITY_LABEL => return Err(BAD),
                // What to do with an unknown one is written in its highest bits.
                _ => match kind >> 6 {
                    0 => {}
                    1 => return Err(BAD),
                    3 if packet.flow.dst.addr.is_multicast() => return Err(BAD),
                    _ => return problem(2, 0),
                },
            }
        }
        at += length;
    }
    Ok(())
}

/// The packet leaves with another source address: that is the one which its record route gets.
pub fn leave_from(frame: &mut Frame<'_>, packet: &Packet, recorded: Recorded, own: Addr) {
    if let Some(at) = recorded.route {
        set(header(frame, packet), usize::from(at), own.v4_octets());
    }
}

/// Makes the header checksum true again. Nothing for a packet without options.
#[inline]
pub fn seal(frame: &mut Frame<'_>, packet: &Packet) {
    if are_in(packet) {
        let header = header(frame, packet);
        set_u16(header, 10, 0);
        let sum = checksum::full(header);
        set_u16(header, 10, sum);
    }
}

/// The IPv4 header with its options.
fn header<'f>(frame: &'f mut Frame<'_>, packet: &Packet) -> &'f mut [u8] {
    let range = packet.ip()..packet.transport();
    frame.bytes_mut().get_mut(range).unwrap_or_default()
}

fn problem(at: usize) -> Refused {
    Refused::Problem {
        code: 0,
        pointer: u16::try_from(at).unwrap_or(u16::MAX),
    }
}

/// Options that may be there once.
#[derive(Default)]
struct Seen {
    route: bool,
    times: bool,
    source_route: bool,
}

/// Where the next entry goes, counted from 0, if the option has room left for `length` bytes.
///
/// An error is the offset, in the option, of what is wrong.
fn room(option: &[u8], least: u8, length: usize) -> Result<Option<usize>, usize> {
    let pointer = match u8_at(option, 2) {
        Some(pointer) if option.len() >= usize::from(least) - 1 => pointer,
        _ => return Err(1),
    };
    if pointer < least {
        return Err(2);
    }
    let place = usize::from(pointer) - 1;
    match option.len().checked_sub(place) {
        None | Some(0) => Ok(None),
        Some(left) if left < length => Err(2),
        Some(_) => Ok(Some(place)),
    }
}

fn advance(option: &mut [u8], by: u8) {
    let pointer = u8_at(option, 2).unwrap_or_default();
    set(option, 2, [pointer.saturating_add(by)]);
}

fn record_route(option: &mut [u8], own: Addr, seen: &mut Seen) -> Result<Option<usize>, usize> {
    if core::mem::replace(&mut seen.route, true) {
        return Err(0);
    }
    let place = room(option, 4, 4)?;
    if let Some(place) = place {
        set(option, place, own.v4_octets());
        advance(option, 4);
    }
    Ok(place)
}

fn timestamp(
    option: &mut [u8],
    own: Addr,
    time: u32,
    is_own: &mut impl FnMut(Addr) -> bool,
    seen: &mut Seen,
) -> Result<(), usize> {
    if core::mem::replace(&mut seen.times, true) {
        return Err(0);
    }
    let Some(place) = room(option, 5, 4)? else {
        let (missed, flag) = overflow(option);
        return match flag {
            PRESPECIFIED => Ok(()),
            _ if missed == 15 => Err(3),
            _ => {
                set(option, 3, [(missed + 1) << 4 | flag]);
                Ok(())
            }
        };
    };
    let time = time.to_be_bytes();
    match overflow(option).1 {
        TIMES => {
            set(option, place, time);
            advance(option, 4);
        }
        TIMES_AND_ADDRESSES => {
            room(option, 5, 8)?;
            set(option, place, own.v4_octets());
            set(option, place + 4, time);
            advance(option, 8);
        }
        PRESPECIFIED => {
            room(option, 5, 8)?;
            let asked = array::<4>(option, place).copied().unwrap_or_default();
            if is_own(Addr::from_v4_octets(asked)) {
                set(option, place + 4, time);
                advance(option, 8);
            }
        }
        _ => {}
    }
    Ok(())
}

/// How many hosts had no room, and the flag.
fn overflow(option: &[u8]) -> (u8, u8) {
    let field = u8_at(option, 3).unwrap_or_default();
    (field >> 4, field & 0xf)
}

fn source_route(option: &[u8], seen: &mut Seen) -> Result<(), usize> {
    match option {
        [_, _] => Err(1),
        [_, _, pointer, ..] if *pointer < 4 => Err(2),
        _ if core::mem::replace(&mut seen.source_route, true) => Err(0),
        _ => Ok(()),
    }
}

/// The options of an answer: those of the packet that say something of its way, with `own` in them
/// once more, for the way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    bytes: [u8; MOST],
    len: usize,
}

impl Echo {
    pub(crate) const NONE: Self = Self {
        bytes: [END; MOST],
        len: 0,
    };

    /// Those of the answer from `own` to a packet with this header, which [`receive`] has been through.
    #[cold]
    pub(crate) fn to(header: &[u8], own: Addr) -> Self {
        let mut echo = Self::NONE;
        for wanted in [RECORD_ROUTE, TIMESTAMP, LABEL] {
            if let Some(option) = find(header.get(IPV4_LEN..).unwrap_or_default(), wanted) {
                echo.push(option, own);
            }
        }
        echo.len = echo.len.next_multiple_of(4).min(MOST);
        echo
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, option: &[u8], own: Addr) {
        let end = self.len + option.len();
        let Some(to) = self.bytes.get_mut(self.len..end) else {
            return;
        };
        to.copy_from_slice(option);
        self.len = end;
        // Times are those of this moment, which `receive` has written last.
        let last = usize::from(u8_at(option, 2).unwrap_or_default());
        let last = last.checked_sub(5).and_then(|at| array::<4>(option, at));
        let time = u32::from_be_bytes(last.copied().unwrap_or_default());
        let mut seen = Seen::default();
        // What has no room left stays as it is.
        let _ = match option.first() {
            Some(&RECORD_ROUTE) => record_route(to, own, &mut seen).map(|_| ()),
            Some(&TIMESTAMP) if room(option, 5, 4).is_ok_and(|room| room.is_some()) => {
                timestamp(to, own, time, &mut |addr| addr == own, &mut seen)
            }
            _ => Ok(()),
        };
    }
}

/// The first option of a kind, before any that is malformed.
fn find(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let length = match options {
            [] | [END, ..] => return None,
            [NO_OPERATION, ..] => 1,
            [_, length, ..] if *length >= 2 => usize::from(*length),
            _ => return None,
        };
        let (option, rest) = options.split_at_checked(length)?;
        if option.first() == Some(&wanted) {
            let good = match wanted {
                RECORD_ROUTE => room(option, 4, 4).is_ok(),
                TIMESTAMP => room(option, 5, 4).is_ok() && overflow(option).0 < 15,
                _ => true,
            };
            return good.then_some(option);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offload, build, parse};
    use std::vec::Vec;

    fn own() -> Addr {
        "10.0.0.1".parse().unwrap()
    }

    /// The options behind `receive`, or why not.
    fn received(options: &[u8]) -> Result<Vec<u8>, Refused> {
        let ip = build::Ip {
            options,
            ..build::Ip::new("10.1.0.5".parse().unwrap(), own())
        };
        let mut buffer = [0; 128];
        let length = build::udp(&mut buffer, &ip, 1, 2, b"x").unwrap();
        let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
        let packet = crate::parse::despite_options(&frame).unwrap();
        receive(&mut frame, &packet, own(), 0x8000_0007, |addr| {
            addr == own()
        })?;
        seal(&mut frame, &packet);
        assert!(parse(&frame).is_ok());
        Ok(frame.bytes()[34..34 + options.len()].to_vec())
    }

    #[test]
    fn what_a_host_writes() {
        for (came, goes) in [
            (
                &[7, 7, 4, 0, 0, 0, 0, 0][..],
                &[7, 7, 8, 10, 0, 0, 1, 0][..],
            ),
            (&[7, 7, 8, 9, 9, 9, 9, 0], &[7, 7, 8, 9, 9, 9, 9, 0]),
            (&[7, 3, 4, 0], &[7, 3, 4, 0]),
            (&[0, 7, 7, 7], &[0, 0, 0, 0]),
            (&[68, 8, 9, 0, 0, 0, 0, 0], &[68, 8, 9, 0x10, 0, 0, 0, 0]),
            (&[68, 8, 5, 0, 0, 0, 0, 0], &[68, 8, 9, 0, 0x80, 0, 0, 7]),
            (
                &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
                &[68, 12, 13, 1, 10, 0, 0, 1, 0x80, 0, 0, 7],
            ),
            (
                &[68, 12, 5, 3, 10, 0, 0, 1, 0, 0, 0, 0],
                &[68, 12, 13, 3, 10, 0, 0, 1, 0x80, 0, 0, 7],
            ),
            (
                &[68, 12, 5, 3, 10, 0, 0, 2, 0, 0, 0, 0],
                &[68, 12, 5, 3, 10, 0, 0, 2, 0, 0, 0, 0],
            ),
            (&[30, 4, 9, 9], &[30, 4, 9, 9]),
        ] {
            assert_eq!(received(came).as_deref(), Ok(goes));
        }
    }

    #[test]
    fn what_is_refused_and_where() {
        let at = |pointer| Refused::Problem { code: 0, pointer };
        for (came, refused) in [
            (&[7, 0, 4, 0][..], at(20)),
            (&[1, 1, 1, 7], at(23)),
            (&[7, 40, 4, 0], at(20)),
            (&[7, 2, 0, 0], at(21)),
            (&[7, 7, 3, 0, 0, 0, 0, 0], at(22)),
            (&[7, 7, 6, 0, 0, 0, 0, 0], at(22)),
            (&[7, 3, 4, 7, 3, 4, 0, 0], at(23)),
            (&[68, 8, 9, 0xf0, 0, 0, 0, 0], at(23)),
            (&[68, 8, 3, 0, 0, 0, 0, 0], at(22)),
            (&[68, 8, 5, 1, 0, 0, 0, 0], at(22)),
            (&[134, 8, 0, 0, 0, 1, 1, 2], at(22)),
            (&[148, 3, 0, 0], at(21)),
            (&[131, 7, 4, 10, 2, 0, 1, 0], Refused::Silently),
            (&[137, 7, 8, 10, 2, 0, 1, 0], Refused::Silently),
        ] {
            assert_eq!(received(came), Err(refused), "{came:?}");
        }
    }

    #[test]
    fn hop_by_hop_options() {
        const UNKNOWN: u8 = 0x1e;
        let with = |options: &[u8]| {
            let mut payload = std::vec![17, 0];
            payload.extend_from_slice(options);
            payload.extend_from_slice(&[0, 1, 0, 2, 0, 8, 0, 0]);
            let ip = build::Ip::new("fd01::5".parse().unwrap(), "fd00::1".parse().unwrap());
            let mut buffer = [0; 128];
            let length = build::ip(&mut buffer, &ip, number::HOP_BY_HOP, &payload).unwrap();
            let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
            let packet = parse(&frame).unwrap();
            let own = packet.flow.dst.addr;
            receive(&mut frame, &packet, own, 0, |_| true).map(|_| ())
        };
        let problem = |code, pointer| Err(Refused::Problem { code, pointer });
        for (options, outcome) in [
            ([1, 4, 0, 0, 0, 0], Ok(())),
            ([5, 2, 0, 0, 1, 0], Ok(())),
            ([UNKNOWN, 4, 0, 0, 0, 0], Ok(())),
            ([UNKNOWN | 0x40, 4, 0, 0, 0, 0], Err(Refused::Silently)),
            ([UNKNOWN | 0x80, 4, 0, 0, 0, 0], problem(2, 42)),
            ([UNKNOWN | 0xc0, 4, 0, 0, 0, 0], problem(2, 42)),
            ([0xc2, 4, 0, 1, 0, 0], problem(0, 42)),
            ([0xc2, 4, 0, 0, 255, 255], problem(0, 44)),
            ([1, 4, 0, 0, 0, 9], Err(Refused::Silently)),
            ([UNKNOWN, 9, 0, 0, 0, 0], Err(Refused::Silently)),
            ([5, 4, 0, 0, 0, 0], Err(Refused::Silently)),
            ([7, 4, 0, 0, 0, 0], Err(Refused::Silently)),
        ] {
            assert_eq!(with(&options), outcome, "{options:?}");
        }
    }
}
