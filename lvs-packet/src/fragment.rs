//! Fragments: what a piece says of its datagram, pieces made one again, and packets cut into pieces.
//!
//! In: frames and what [`crate::parse()`] says of them. Out: numbers, or frames in a buffer of the
//! caller's. Never: a piece whose bytes are not those of the packet, or a length that lies. What a
//! cut packet left to the hardware must be finished before ([`crate::checksum::finish_partial`]).
//!
//! ```
//! use lvs_packet::{Fragment, Frame, Offload, build, fragment, parse};
//! let mut buffer = [0; 2048];
//! let ip = build::Ip { fragment: 0, ..build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?) };
//! let length = build::udp(&mut buffer, &ip, 40001, 53, &[7; 1472])?;
//! let frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! // 1500 bytes over a link of 1400: 1396 and 124.
//! let mut scratch = [0; 2048];
//! let mut lengths = Vec::new();
//! let mut pieces = fragment::cut(&frame, &packet, 1400, 0).unwrap();
//! while let Some(piece) = pieces.next_into(&mut scratch, 0).unwrap() {
//!     let packet = parse(&piece).unwrap();
//!     assert_ne!(packet.fragment, Fragment::None);
//!     lengths.push(packet.ip_len());
//! }
//! assert_eq!(lengths, [1396, 124]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array, length_field, set, set_u16, u8_at, u16_at};
use crate::checksum;
use crate::frame::{Frame, Offload};
use crate::packet::{Fragment, Packet};
use crate::parse::{IPV4_LEN, IPV6_LEN, MAX_EXTENSION_HEADERS, number};
use lvs_core::{DropReason, Family};

/// Length of the fragment header of IPv6 (RFC 8200, 4.5).
const HEADER_LEN: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// What a fragment says of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What all pieces of the datagram have in common beside their addresses: 16 bits in IPv4
    /// (where the protocol belongs to it too), 32 in IPv6.
    pub identification: u32,
    /// Where its payload stands in that of the datagram, in bytes: a multiple of 8.
    pub offset: u16,
    /// How many bytes of the datagram's payload it has.
    pub len: u16,
    /// Whether others follow.
    pub more: bool,
    /// Where its payload starts, in bytes from the start of the frame.
    pub start: u16,
    /// Where the headers end that every piece repeats; in IPv6 the fragment header follows.
    pub unfragmentable: u16,
    /// Where the number of the header behind them stands (IPv6: the one that says "fragment").
    number_at: u16,
}

impl Piece {
    /// No piece at all.
    pub const NONE: Self = Self {
        identification: 0,
        offset: 0,
        len: 0,
        more: false,
        start: 0,
        unfragmentable: 0,
        number_at: 0,
    };

    /// Where the piece behind it starts.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.offset as u32 + self.len as u32
    }
}

/// Reads the place of a fragment, also of an atomic one; `None` for what is none.
#[must_use]
pub fn piece(frame: &Frame<'_>, packet: &Packet) -> Option<Piece> {
    if packet.fragment == Fragment::None || !packet.is_ip() {
        return None;
    }
    let l3 = packet.ip();
    let header = frame.bytes().get(l3..packet.tail())?;
    match packet.family {
        Family::V4 => {
            let field = u16_at(header, 6)?;
            let start = usize::from(u8_at(header, 0)? & 0xf) * 4;
            Some(Piece {
                identification: u32::from(u16_at(header, 4)?),
                offset: (field & OFFSET) << 3,
                len: u16::try_from(header.len().checked_sub(start)?).ok()?,
                more: field & MORE_FRAGMENTS != 0,
                start: offset(l3 + start)?,
                unfragmentable: offset(l3 + start)?,
                number_at: offset(l3 + 9)?,
            })
        }
        Family::V6 => {
            let (number_at, at) = fragment_header(header)?;
            let [_, _, o0, o1, i0, i1, i2, i3] = *array::<HEADER_LEN>(header, at)?;
            let field = u16::from_be_bytes([o0, o1]);
            let start = at + HEADER_LEN;
            Some(Piece {
                identification: u32::from_be_bytes([i0, i1, i2, i3]),
                offset: field & 0xfff8,
                len: u16::try_from(header.len().checked_sub(start)?).ok()?,
                more: field & 1 != 0,
                start: offset(l3 + start)?,
                unfragmentable: offset(l3 + at)?,
                number_at: offset(l3 + number_at)?,
            })
        }
    }
}

fn offset(at: usize) -> Option<u16> {
    u16::try_from(at).ok()
}

/// Where the number of the fragment header and where that header stand in an IPv6 packet.
fn fragment_header(packet: &[u8]) -> Option<(usize, usize)> {
    let mut number_at = 6;
    let mut at = IPV6_LEN;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let units = match u8_at(packet, number_at)? {
            number::FRAGMENT => return Some((number_at, at)),
            number::HOP_BY_HOP | number::ROUTING | number::DESTINATION_OPTIONS => {
                (usize::from(u8_at(packet, at + 1)?) + 1) * 8
            }
            number::AUTHENTICATION => (usize::from(u8_at(packet, at + 1)?) + 2) * 4,
            _ => return None,
        };
        number_at = at;
        at += units;
    }
    None
}

/// Makes the datagram of its first piece: `frame` has that piece, and behind it the payloads of all
/// others in order. `ce`: one of them had experienced congestion, and so has the whole.
///
/// # Errors
/// [`DropReason::BadFragment`] if `packet` is no first piece, or the whole is longer than 16 bits can
/// say; the frame is unchanged.
pub fn reunite(frame: &mut Frame<'_>, packet: &Packet, ce: bool) -> Result<(), DropReason> {
    const BAD: DropReason = DropReason::BadFragment;
    let piece = piece(frame, packet).ok_or(BAD)?;
    let l3 = packet.ip();
    let length = frame.len().checked_sub(l3).ok_or(BAD)?;
    if piece.offset != 0 || length > usize::from(u16::MAX) {
        return Err(BAD);
    }
    match packet.family {
        Family::V4 => {
            let start = usize::from(piece.start);
            let header = frame.bytes_mut().get_mut(l3..start).ok_or(BAD)?;
            set_u16(header, 2, length_field(length));
            let field = u16_at(header, 6).ok_or(BAD)?;
            set_u16(header, 6, field & DONT_FRAGMENT);
            if ce {
                let tos = u8_at(header, 1).ok_or(BAD)?;
                set(header, 1, [tos | 3]);
            }
            set_u16(header, 10, 0);
            let checksum = checksum::full(header);
            set_u16(header, 10, checksum);
        }
        Family::V6 => {
            let at = usize::from(piece.unfragmentable);
            let next = u8_at(frame.bytes(), at).ok_or(BAD)?;
            frame.close_gap(at, HEADER_LEN)?;
            let bytes = frame.bytes_mut();
            set(bytes, usize::from(piece.number_at), [next]);
            set_u16(bytes, l3 + 4, length_field(length - HEADER_LEN - IPV6_LEN));
            if ce {
                let class = u8_at(bytes, l3 + 1).ok_or(BAD)?;
                set(bytes, l3 + 1, [class | 0x30]);
            }
        }
    }
    Ok(())
}

/// The pieces of a packet, one after the other.
#[derive(Clone, Debug)]
pub struct Pieces<'f> {
    /// All that each piece repeats: up to the IPv4 header's end, or to where an IPv6 fragment header
    /// goes.
    head: &'f [u8],
    payload: &'f [u8],
    packet: Packet,
    /// Where in `head` the number of the header behind it stands (IPv6).
    number_at: usize,
    identification: u32,
    /// Payload bytes that fit into a piece.
    most: usize,
    /// Payload bytes of each piece but the last.
    size: usize,
    /// Payload bytes that have been given.
    given: usize,
    /// Of a packet that is itself a piece: where it starts, and whether it is not the last.
    base: u16,
    more: bool,
    /// They say that they may not be cut again.
    dont_fragment: bool,
}

/// The pieces of the packet in `frame`, each an IP packet of at most `limit` bytes and but for the last
/// as long as that and multiples of 8 allow. `identification` is that of the pieces of an IPv6 packet;
/// an IPv4 packet has its own. A piece of IPv4 can be cut again.
///
/// # Errors
/// [`DropReason::TooBig`] if `limit` has no room for headers and 8 bytes; [`DropReason::BadFragment`] for
/// what is not IP, or a piece of IPv6.
pub fn cut<'f>(
    frame: &'f Frame<'_>,
    packet: &Packet,
    limit: u32,
    identification: u32,
) -> Result<Pieces<'f>, DropReason> {
    const BAD: DropReason = DropReason::BadFragment;
    if !packet.is_ip() {
        return Err(BAD);
    }
    let l3 = packet.ip();
    let bytes = frame.bytes().get(..packet.tail()).ok_or(BAD)?;
    let header = bytes.get(l3..).ok_or(BAD)?;
    let (number_at, at) = match packet.family {
        Family::V4 => (9, usize::from(u8_at(header, 0).ok_or(BAD)? & 0xf) * 4),
        Family::V6 if packet.fragment != Fragment::None => return Err(BAD),
        Family::V6 => unfragmentable(header).ok_or(BAD)?,
    };
    let (head, payload) = bytes.split_at_checked(l3 + at).ok_or(BAD)?;
    let own = match packet.family {
        Family::V4 => 0,
        Family::V6 => HEADER_LEN,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let most = limit.saturating_sub(at + own);
    let size = most & !7;
    if size == 0 {
        return Err(DropReason::TooBig);
    }
    let field = match packet.family {
        Family::V4 => u16_at(header, 6).ok_or(BAD)?,
        Family::V6 => 0,
    };
    Ok(Pieces {
        head,
        payload,
        packet: *packet,
        number_at: l3 + number_at,
        identification,
        most,
        size,
        given: 0,
        base: field & OFFSET,
        more: field & MORE_FRAGMENTS != 0,
        dont_fragment: false,
    })
}

/// Where the number of the first header that may be cut stands in an IPv6 packet, and where that header
/// does: behind hop-by-hop options, a routing header, and destination options but those behind a routing
/// header (as Linux has it; RFC 8200, 4.5, says it of those before one).
fn unfragmentable(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut number_at, mut at) = (6, IPV6_LEN);
    let mut routed = false;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        match u8_at(packet, number_at)? {
            number::HOP_BY_HOP => {}
            number::ROUTING => routed = true,
            number::DESTINATION_OPTIONS if !routed => {}
            _ => break,
        }
        number_at = at;
        at += (usize::from(u8_at(packet, at + 1)?) + 1) * 8;
    }
    Some((number_at, at))
}

impl Pieces<'_> {
    /// Bytes from the start of the frame that each piece repeats, an IPv6 fragment header not among them.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.head.len()
    }

    /// Payload bytes that have not been given.
    #[must_use]
    pub fn left(&self) -> usize {
        self.payload.len().saturating_sub(self.given)
    }

    /// The most payload bytes that a piece may have, if it is the last.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// Keeps the DF bit of an IPv4 packet in its pieces.
    #[must_use]
    pub const fn keep_dont_fragment(mut self) -> Self {
        self.dont_fragment = self.packet.dont_fragment;
        self
    }

    /// The pieces behind the first `given` payload bytes: those that have been given before.
    #[must_use]
    pub const fn behind(mut self, given: usize) -> Self {
        self.given = given;
        self
    }

    /// Length of the longest piece as a frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.head.len() + HEADER_LEN + self.size.min(self.payload.len())
    }

    /// Writes the next piece into `scratch`, behind `headroom` free bytes, and gives it as a frame of its
    /// own; `None` after the last.
    ///
    /// # Errors
    /// [`DropReason::BadFragment`] if `scratch` is too short.
    pub fn next_into<'s>(
        &mut self,
        scratch: &'s mut [u8],
        headroom: usize,
    ) -> Result<Option<Frame<'s>>, DropReason> {
        let size = if self.left() <= self.most {
            self.most
        } else {
            self.size
        };
        self.next_of(size, scratch, headroom)
    }

    /// As [`Pieces::next_into`], with this many payload bytes, if there are as many: a multiple of 8 but
    /// for the last piece.
    ///
    /// # Errors
    /// [`DropReason::BadFragment`] if `scratch` is too short, or `size` is 0 or no multiple of 8 though it
    /// leaves something.
    pub fn next_of<'s>(
        &mut self,
        size: usize,
        scratch: &'s mut [u8],
        headroom: usize,
    ) -> Result<Option<Frame<'s>>, DropReason> {
        const BAD: DropReason = DropReason::BadFragment;
        let rest = self.payload.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let payload = rest.get(..size).unwrap_or(rest);
        let last = payload.len() == rest.len();
        if payload.is_empty() || (!last && !payload.len().is_multiple_of(8)) {
            return Err(BAD);
        }
        let own = match self.packet.family {
            Family::V4 => 0,
            Family::V6 => HEADER_LEN,
        };
        let length = self.head.len() + own + payload.len();
        let mut frame = Frame::new(scratch, headroom, length, Offload::default());
        if frame.len() != length {
            return Err(BAD);
        }
        let bytes = frame.bytes_mut();
        let (head, tail) = bytes
            .split_at_mut_checked(length - payload.len())
            .ok_or(BAD)?;
        tail.copy_from_slice(payload);
        head.get_mut(..self.head.len())
            .ok_or(BAD)?
            .copy_from_slice(self.head);
        let units = u16::try_from(self.given / 8).map_err(|_| BAD)?;
        let units = self.base.checked_add(units).ok_or(BAD)?;
        if units > OFFSET {
            return Err(BAD);
        }
        let more = !last || self.more;
        self.head_of_piece(head, payload.len(), units, more);
        self.given += payload.len();
        Ok(Some(frame))
    }

    fn head_of_piece(&self, head: &mut [u8], payload: usize, units: u16, more: bool) {
        let l3 = self.packet.ip();
        let length = head.len() - l3 + payload;
        match self.packet.family {
            Family::V4 => {
                let Some(header) = head.get_mut(l3..) else {
                    return;
                };
                set_u16(header, 2, length_field(length));
                let more = if more { MORE_FRAGMENTS } else { 0 };
                let kept = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
                set_u16(header, 6, units | more | kept);
                if self.given > 0 {
                    only_copied_options(header.get_mut(IPV4_LEN..).unwrap_or_default());
                }
                set_u16(header, 10, 0);
                let checksum = checksum::full(header);
                set_u16(header, 10, checksum);
            }
            Family::V6 => {
                set_u16(head, l3 + 4, length_field(length - IPV6_LEN));
                let next = u8_at(head, self.number_at).unwrap_or_default();
                set(head, self.number_at, [number::FRAGMENT]);
                let [o0, o1] = (units << 3 | u16::from(more)).to_be_bytes();
                let [i0, i1, i2, i3] = self.identification.to_be_bytes();
                let fragment = [next, 0, o0, o1, i0, i1, i2, i3];
                set(head, self.head.len(), fragment);
            }
        }
    }
}

/// What later pieces have of IPv4's options: those with the copied flag (RFC 791, 3.1), and no operation
/// in the place of the others, as Linux does.
fn only_copied_options(mut options: &mut [u8]) {
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    loop {
        let length = match options {
            [] | [0, ..] => return,
            [NO_OPERATION, ..] => 1,
            [_, length, ..] if *length >= 2 => usize::from(*length),
            // The parser has let none of these pass.
            _ => return,
        };
        let Some((option, rest)) = options.split_at_mut_checked(length) else {
            return;
        };
        if option.first().is_some_and(|kind| kind & COPIED == 0) {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests;
