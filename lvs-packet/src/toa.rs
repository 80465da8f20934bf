//! TOA: the client's address in an option of TCP, for a server behind FULLNAT.
//!
//! ```text
//!   kind 254 · length 8  · client's port · client's IPv4 address
//!   kind 254 · length 20 · client's port · client's IPv6 address      all in network order
//! ```
//!
//! The kernel modules for servers that are in use look for the option on the segments that complete
//! the handshake: the last ACK, and data that comes in its place. It stands first among the options,
//! before anything that could end their list. An option takes no sequence number; what it takes is
//! room, which [`lower_mss`] makes in advance: a server that announces less gets segments into which
//! the option fits.
//!
//! What comes in is a parsed frame, what goes out the frame grown by the option, all checksums as true
//! as they were. A segment without room is left as it is, and said to be.
//!
//! ```
//! use lvs_core::Endpoint;
//! use lvs_packet::{Frame, Offload, TcpFlags, build, checksum, parse, toa};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("198.51.100.7".parse()?, "192.0.2.10".parse()?);
//! let ack = build::Tcp { flags: TcpFlags::ACK, ..build::Tcp::syn(40000, 80) };
//! let length = build::tcp(&mut buffer[32..], &ip, &ack, b"GET /")?;
//! let mut frame = Frame::new(&mut buffer, 32, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! let client: Endpoint = "198.51.100.7:40000".parse()?;
//! let packet = toa::insert(&mut frame, &packet, client, 1500).unwrap();
//! assert_eq!(toa::read(&frame, &packet), Some(client));
//! assert_eq!(checksum::verify(&frame, &packet), Some(true));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array, set, set_u16, u8_at, u16_at};
use crate::checksum::{self, Delta};
use crate::frame::{Frame, PartialChecksum};
use crate::packet::{Fragment, Kind, Packet};
use lvs_core::{Addr, Endpoint, Family};

/// The option's kind, one of those for experiments (RFC 4727).
pub const KIND: u8 = 254;
/// Length of the option with an IPv4 address.
pub const LENGTH_V4: u8 = 8;
/// Length of the option with an IPv6 address.
pub const LENGTH_V6: u8 = 20;

/// A TCP header without options, and the longest with them.
const TCP_LEN: usize = 20;
const TCP_MAX: usize = 60;
const DATA_OFFSET: usize = 12;
const CHECKSUM: usize = 16;
/// An option whose length is a byte of its own, and the two that have none.
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const MSS_LEN: u8 = 4;

/// The option does not fit: into the header, before the frame, or into the MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// How many bytes the option takes for a client of a family.
#[must_use]
pub const fn length(family: Family) -> u8 {
    match family {
        Family::V4 => LENGTH_V4,
        Family::V6 => LENGTH_V6,
    }
}

/// Puts the client's endpoint into a TCP segment, and answers what the packet is now. A frame that
/// stands for several segments has it in each, and each carries that much less.
///
/// # Errors
/// [`NoRoom`]; the frame is unchanged. Also for what is no whole TCP packet.
pub fn insert(
    frame: &mut Frame<'_>,
    packet: &Packet,
    client: Endpoint,
    mtu: u32,
) -> Result<Packet, NoRoom> {
    if packet.kind != Kind::Tcp || packet.fragment != Fragment::None {
        return Err(NoRoom);
    }
    let option = length(client.addr.family());
    let added = usize::from(option);
    let at = packet.transport();
    let header = header_len(frame, packet).ok_or(NoRoom)?;
    let longer = packet.end + u32::from(option);
    if header + added > TCP_MAX || frame.headroom() < added {
        return Err(NoRoom);
    }
    match &mut frame.offload.segmentation {
        Some(cut) if cut.size > u16::from(option) => {
            cut.size -= u16::from(option);
            cut.header_len = cut.header_len.saturating_add(u16::from(option));
        }
        Some(_) => return Err(NoRoom),
        None if longer - u32::from(packet.l3) > mtu => return Err(NoRoom),
        None => {}
    }
    // What stands before the gap moves; a checksum that is still to be computed begins there.
    let partial = frame.offload.checksum;
    frame.open_gap(at + TCP_LEN, added).map_err(|_| NoRoom)?;
    frame.offload.checksum = partial;

    let packet = Packet {
        end: longer,
        ..*packet
    };
    let mut delta = lengthen_ip(frame, &packet, option);
    let Some(segment) = frame.bytes_mut().get_mut(at..) else {
        return Ok(packet);
    };
    let offset = u16_at(segment, DATA_OFFSET).unwrap_or_default();
    let grown = offset + (u16::from(option / 4) << 12);
    set_u16(segment, DATA_OFFSET, grown);
    delta = delta.word(offset, grown);
    write(segment, client, option);
    let written = segment.get(TCP_LEN..TCP_LEN + added).unwrap_or_default();
    delta = delta.plus(checksum::sum(written));
    let now = u16_at(segment, CHECKSUM).unwrap_or_default();
    let then = match is_partial(partial, &packet) {
        // It holds the sum of the pseudo header, of which only the length has changed.
        true => Delta::NONE.plus(u16::from(option)).apply_to_sum(now),
        false => delta.apply(now),
    };
    set_u16(segment, CHECKSUM, then);
    Ok(packet)
}

/// The lengths in the IP header; what they do to the sum that TCP's checksum covers.
fn lengthen_ip(frame: &mut Frame<'_>, packet: &Packet, by: u8) -> Delta {
    let at = packet.ip();
    let bytes = frame.bytes_mut();
    match packet.family {
        Family::V4 => {
            let old = u16_at(bytes, at + 2).unwrap_or_default();
            // A frame for several segments may exceed the field; then it holds 0 and goes on so.
            let new = match old {
                0 => 0,
                old => old.wrapping_add(u16::from(by)),
            };
            set_u16(bytes, at + 2, new);
            let sum = u16_at(bytes, at + 10).unwrap_or_default();
            set_u16(bytes, at + 10, checksum::update(sum, old, new));
        }
        Family::V6 => {
            let old = u16_at(bytes, at + 4).unwrap_or_default();
            if old != 0 {
                set_u16(bytes, at + 4, old.wrapping_add(u16::from(by)));
            }
        }
    }
    Delta::NONE.plus(u16::from(by))
}

fn write(segment: &mut [u8], client: Endpoint, option: u8) {
    set(segment, TCP_LEN, [KIND, option]);
    set_u16(segment, TCP_LEN + 2, client.port);
    match client.addr.family() {
        Family::V4 => set(segment, TCP_LEN + 4, client.addr.v4_octets()),
        Family::V6 => set(segment, TCP_LEN + 4, client.addr.v6_octets()),
    }
}

/// The client that a segment names: what a server reads.
#[must_use]
pub fn read(frame: &Frame<'_>, packet: &Packet) -> Option<Endpoint> {
    let header = header_len(frame, packet)?;
    let at = packet.transport();
    let options = frame.bytes().get(at + TCP_LEN..at + header)?;
    let found = find(options, KIND)?;
    let port = u16_at(options, found + 2)?;
    let addr = match *options.get(found + 1)? {
        LENGTH_V4 => Addr::from_v4_octets(*array(options, found + 4)?),
        LENGTH_V6 => Addr::from_v6_octets(*array(options, found + 4)?),
        _ => return None,
    };
    Some(Endpoint::new(addr, port))
}

/// Lowers the largest segment that a SYN announces by `by` bytes, to make room for what will be put
/// into the segments. Answers whether it did; without the option nothing is changed.
pub fn lower_mss(frame: &mut Frame<'_>, packet: &Packet, by: u8) -> bool {
    let Some(header) = header_len(frame, packet) else {
        return false;
    };
    let partial = is_partial(frame.offload.checksum, packet);
    let at = packet.transport();
    let Some(segment) = frame.bytes_mut().get_mut(at..at + header) else {
        return false;
    };
    let options = segment.get(TCP_LEN..).unwrap_or_default();
    let Some(found) = find(options, MSS) else {
        return false;
    };
    let value = TCP_LEN + found + 2;
    let (Some(&MSS_LEN), Some(old)) = (options.get(found + 1), u16_at(segment, value)) else {
        return false;
    };
    let new = old.saturating_sub(u16::from(by));
    set_u16(segment, value, new);
    if !partial {
        let sum = u16_at(segment, CHECKSUM).unwrap_or_default();
        // At an odd place its bytes belong to two words, each the other half.
        let (old, new) = match value.is_multiple_of(2) {
            true => (old, new),
            false => (old.swap_bytes(), new.swap_bytes()),
        };
        set_u16(segment, CHECKSUM, checksum::update(sum, old, new));
    }
    true
}

/// Where an option of this kind stands; a list that is broken before has none.
fn find(options: &[u8], kind: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match u8_at(options, at)? {
            END => return None,
            NOTHING => at += 1,
            found => {
                let length = usize::from(u8_at(options, at + 1)?);
                if length < 2 || at + length > options.len() {
                    return None;
                }
                if found == kind {
                    return Some(at);
                }
                at += length;
            }
        }
    }
}

/// Length of the TCP header, which lies within the packet.
fn header_len(frame: &Frame<'_>, packet: &Packet) -> Option<usize> {
    if packet.kind != Kind::Tcp || packet.fragment == Fragment::Later {
        return None;
    }
    let at = packet.transport();
    let length = usize::from(u8_at(frame.bytes(), at + DATA_OFFSET)? >> 4) * 4;
    (length >= TCP_LEN && at + length <= packet.tail()).then_some(length)
}

fn is_partial(partial: Option<PartialChecksum>, packet: &Packet) -> bool {
    partial.is_some_and(|partial| partial.start == packet.l4)
}
