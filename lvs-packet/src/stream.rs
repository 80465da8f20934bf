//! A TCP stream that is changed on its way: text replaced by text of another length, and the numbers
//! of what follows.
//!
//! In: a whole TCP packet. Out: the same with other bytes or numbers, its lengths and checksums true.
//! Frames that stand for several packets are left alone. A number counts bytes of the stream
//! (RFC 9293, 3.4); selective acknowledgements in options are not looked at.
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, checksum, parse, stream};
//! let mut buffer = [0; 256];
//! let ip = build::Ip::new("10.2.0.1".parse()?, "10.1.0.5".parse()?);
//! let length = build::tcp(&mut buffer[64..], &ip, &build::Tcp::syn(21, 4000), b"at 10.2.0.1!")?;
//! let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! stream::replace(&mut frame, &packet, 3..11, b"192.0.2.100").unwrap();
//! let packet = parse(&frame).unwrap();
//! assert_eq!(stream::payload(&frame, &packet), Some(&b"at 192.0.2.100!"[..]));
//! assert_eq!(checksum::verify(&frame, &packet), Some(true));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{length_field, set, set_u16, u8_at, u16_at, u32_at};
use crate::checksum::{self, Delta, finish_partial};
use crate::frame::Frame;
use crate::packet::{Fragment, Kind, Packet};
use core::ops::Range;
use lvs_core::{DropReason, Family};

/// Where the numbers and the checksum stand in a TCP header.
const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
const DATA_OFFSET: usize = 12;
const CHECKSUM: usize = 16;

/// Where the payload starts, in bytes from the start of the frame; `None` for what is not one whole
/// TCP packet.
fn start(frame: &Frame<'_>, packet: &Packet) -> Option<usize> {
    let whole = packet.kind == Kind::Tcp && packet.fragment == Fragment::None;
    if !whole || frame.offload.segmentation.is_some() {
        return None;
    }
    let offset = u8_at(frame.bytes(), packet.transport() + DATA_OFFSET)?;
    Some(packet.transport() + usize::from(offset >> 4) * 4)
}

/// What a TCP packet carries; `None` for any other packet.
#[must_use]
pub fn payload<'f>(frame: &'f Frame<'_>, packet: &Packet) -> Option<&'f [u8]> {
    frame
        .bytes()
        .get(start(frame, packet)?..packet.end as usize)
}

/// The sequence number and the acknowledgement number.
#[must_use]
pub fn numbers(frame: &Frame<'_>, packet: &Packet) -> Option<(u32, u32)> {
    let header = frame.bytes().get(packet.transport()..)?;
    Some((u32_at(header, SEQUENCE)?, u32_at(header, ACKNOWLEDGED)?))
}

/// Gives the packet other numbers.
pub fn renumber(frame: &mut Frame<'_>, packet: &Packet, sequence: u32, acknowledged: u32) {
    let Some(old) = numbers(frame, packet) else {
        return;
    };
    let halves = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    };
    let mut delta = Delta::NONE;
    for (old, new) in [(old.0, sequence), (old.1, acknowledged)] {
        for (old, new) in halves(old).into_iter().zip(halves(new)) {
            delta = delta.word(old, new);
        }
    }
    // What is left to be finished is a sum that these fields do not stand in.
    let partial = frame.offload.checksum.is_some();
    let Some(header) = frame.bytes_mut().get_mut(packet.transport()..) else {
        return;
    };
    set(header, SEQUENCE, sequence.to_be_bytes());
    set(header, ACKNOWLEDGED, acknowledged.to_be_bytes());
    if !partial && let Some(checksum) = u16_at(header, CHECKSUM) {
        set_u16(header, CHECKSUM, delta.apply(checksum));
    }
}

/// Puts `text` in the place of some bytes of the payload. What was parsed before no longer
/// describes the packet, whose checksum is computed anew.
///
/// # Errors
/// [`DropReason::Truncated`] if there are no such bytes, [`DropReason::NoHeadroom`] if a longer text
/// finds fewer free bytes before the frame than it needs; the frame is as it was but for padding
/// behind the packet, and a checksum that was left to be finished.
pub fn replace(
    frame: &mut Frame<'_>,
    packet: &Packet,
    at: Range<usize>,
    text: &[u8],
) -> Result<(), DropReason> {
    let start = start(frame, packet).ok_or(DropReason::Truncated)?;
    let (from, to) = (start + at.start, start + at.end);
    if at.start > at.end || to > packet.tail() || packet.tail() > frame.len() {
        return Err(DropReason::Truncated);
    }
    frame.set_len(packet.tail())?;
    finish_partial(frame)?;
    let old = at.end - at.start;
    if text.len() > old {
        frame.open_gap(to, text.len() - old)?;
    } else {
        frame.close_gap(from, old - text.len())?;
    }
    let room = frame.bytes_mut().get_mut(from..from + text.len());
    room.ok_or(DropReason::Truncated)?.copy_from_slice(text);
    lengths_and_checksum(frame, packet);
    Ok(())
}

/// Makes the length of the IP header that of the frame, and both checksums true.
fn lengths_and_checksum(frame: &mut Frame<'_>, packet: &Packet) {
    let (ip, transport) = (packet.ip(), packet.transport());
    let bytes = frame.bytes_mut();
    match packet.family {
        Family::V4 => {
            let length = length_field(bytes.len().saturating_sub(ip));
            let (Some(old), Some(checksum)) = (u16_at(bytes, ip + 2), u16_at(bytes, ip + 10))
            else {
                return;
            };
            set_u16(bytes, ip + 2, length);
            set_u16(
                bytes,
                ip + 10,
                Delta::NONE.word(old, length).apply(checksum),
            );
        }
        Family::V6 => {
            /// Bytes of an IPv6 header, which its length does not count.
            const IPV6: usize = 40;
            let length = bytes.len().saturating_sub(ip + IPV6);
            set_u16(bytes, ip + 4, length_field(length));
        }
    }
    set_u16(bytes, transport + CHECKSUM, 0);
    let flow = &packet.flow;
    let segment = bytes.get(transport..).unwrap_or_default();
    let checksum = checksum::transport(flow.src.addr, flow.dst.addr, packet.protocol, segment);
    set_u16(bytes, transport + CHECKSUM, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Offload, PartialChecksum};
    use crate::{build, parse};
    use std::vec::Vec;

    fn packet_of(src: &str, dst: &str, text: &[u8], padding: usize) -> (Vec<u8>, usize) {
        let mut buffer = std::vec![0; 256 + text.len()];
        let ip = build::Ip::new(src.parse().unwrap(), dst.parse().unwrap());
        let header = build::Tcp {
            options: &[1, 1, 1, 0],
            ..build::Tcp::syn(21, 4000)
        };
        let length = build::tcp(&mut buffer[64..], &ip, &header, text).unwrap();
        buffer.truncate(64 + length);
        buffer.resize(64 + length + padding, 0xee);
        (buffer, length + padding)
    }

    #[test]
    fn text_of_any_length_takes_the_place_of_any() {
        for (src, dst) in [("10.2.0.1", "10.1.0.5"), ("fd02::1", "fd01::5")] {
            for padding in [0, 6] {
                for (at, text, expected) in [
                    (0..0, "ab", "ab0123456789"),
                    (10..10, "ab", "0123456789ab"),
                    (0..10, "", ""),
                    (3..7, "abcd", "012abcd789"),
                    (3..7, "a", "012a789"),
                    (3..7, "abcdefghij", "012abcdefghij789"),
                ] {
                    let (mut buffer, length) = packet_of(src, dst, b"0123456789", padding);
                    let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
                    let packet = parse(&frame).unwrap();
                    replace(&mut frame, &packet, at, text.as_bytes()).unwrap();
                    let packet = parse(&frame).unwrap();
                    assert_eq!(payload(&frame, &packet), Some(expected.as_bytes()));
                    assert_eq!(checksum::verify(&frame, &packet), Some(true));
                    assert_eq!(packet.flow.src.addr, src.parse().unwrap());
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let (mut buffer, length) = packet_of("10.2.0.1", "10.1.0.5", b"0123456789", 0);
        let mut frame = Frame::new(&mut buffer[63..], 1, length, Offload::default());
        let before = frame.bytes().to_vec();
        let packet = parse(&frame).unwrap();
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
        for at in [0..11, 11..12, 5..4] {
            let refused = replace(&mut frame, &packet, at, b"");
            assert_eq!(refused, Err(DropReason::Truncated));
        }
        let refused = replace(&mut frame, &packet, 0..0, b"ab");
        assert_eq!(refused, Err(DropReason::NoHeadroom));
        assert_eq!(frame.bytes(), before);
    }

    #[test]
    fn numbers_change_with_their_checksum() {
        let (mut buffer, length) = packet_of("10.2.0.1", "10.1.0.5", b"text", 0);
        let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
        let packet = parse(&frame).unwrap();
        renumber(&mut frame, &packet, 0xffff_fff0, 7);
        assert_eq!(numbers(&frame, &packet), Some((0xffff_fff0, 7)));
        assert_eq!(checksum::verify(&frame, &packet), Some(true));
    }

    #[test]
    fn a_checksum_that_was_left_to_be_finished_is_finished_or_still_right() {
        let (mut buffer, length) = packet_of("10.2.0.1", "10.1.0.5", b"text", 0);
        let mut frame = Frame::new(&mut buffer, 64, length, Offload::default());
        let packet = parse(&frame).unwrap();
        let flow = packet.flow;
        let segment = u32::try_from(packet.tail() - packet.transport()).unwrap();
        let sum = checksum::pseudo_header(flow.src.addr, flow.dst.addr, 6, segment);
        set_u16(frame.bytes_mut(), packet.transport() + CHECKSUM, sum);
        frame.offload.checksum = Some(PartialChecksum {
            start: packet.l4,
            offset: 16,
        });
        renumber(&mut frame, &packet, 5, 6);
        assert!(frame.offload.checksum.is_some());
        replace(&mut frame, &packet, 0..4, b"longer text").unwrap();
        let packet = parse(&frame).unwrap();
        assert_eq!(checksum::verify(&frame, &packet), Some(true));
        assert_eq!(numbers(&frame, &packet), Some((5, 6)));
    }
}
