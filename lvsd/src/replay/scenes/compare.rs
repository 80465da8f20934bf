//! Frames that a director sent, beside those that the kernel sent: byte for byte, apart from the
//! fields that the kernel draws.
//!
//! The kernel's value of a drawn field is taken over, and the checksums that cover it are carried
//! along; then everything has to be the same. The fields, and why (IPVS 3.7):
//!
//! - the identification of IPv4 packets that the director itself originates without DF (outer
//!   headers, ICMP errors, echo replies): from a counter of the kernel's that starts anywhere;
//! - the identification in IPv6 fragment headers: random;
//! - the flow label of the director's own IPv6 packets (errors, echo replies, resets): a hash with a
//!   key drawn at boot;
//! - the source port of GUE: another such hash;
//! - the times in IPv4's timestamp option: the clock's.
//!
//! Of answers (errors, echo replies, resets) the Ethernet destination is taken over too: ours go back
//! to where the packet came from, the kernel asks its routes for the way to the sender.
//!
//! Bytes behind an IP packet, which only fill an Ethernet frame up, are no part of it: the kernel cuts
//! them off, ours may carry them on.
//!
//! And of fragments, the moment at which each leaves, and their order: the kernel sends none before
//! it has all.

use super::super::machine::Origin;
use super::fields;
use super::pieces;
use lvs_packet::{Frame, Offload, checksum, parse};
use std::time::Duration;

const ETHERNET: usize = 14;
const IPIP: u8 = 4;
const UDP: u8 = 17;

/// A frame of one of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'f> {
    /// Its number in its capture, from 1.
    pub(crate) number: usize,
    /// When it was seen, or came of what was seen then.
    pub(crate) time: Duration,
    /// The frame.
    pub(crate) bytes: &'f [u8],
    /// How much of it can be compared.
    pub(crate) kept: usize,
    /// Where ours comes from.
    pub(crate) origin: Origin,
}

/// The first difference between what the kernel sent to a side and what the director did, and when.
pub(crate) fn difference(kernel: &[Side<'_>], ours: &[Side<'_>]) -> Option<(Duration, String)> {
    let (theirs, own) = (packets(kernel), packets(ours));
    (0..theirs.len().max(own.len())).find_map(|place| {
        let (their, our) = (theirs.get(place), own.get(place));
        let first = their.or(our)?.first()?;
        let told = match (their, our) {
            (Some(their), Some(our)) => packet(their, our)?,
            (Some(_), None) => format!(
                "packet {}: expected {}, came nothing",
                first.number,
                fields::summary(first.bytes)
            ),
            _ => format!(
                "behind the last packet: expected nothing, came {}",
                fields::summary(first.bytes)
            ),
        };
        Some((first.time, told))
    })
}

/// The frames that make a packet each.
fn packets<'s, 'f>(frames: &'s [Side<'f>]) -> Vec<Vec<&'s Side<'f>>> {
    let packets = pieces::packets(frames.iter().map(|frame| frame.bytes));
    let frames_of = |places: Vec<usize>| places.iter().filter_map(|&at| frames.get(at)).collect();
    packets.into_iter().map(frames_of).collect()
}

/// What differs between two packets, each in one frame or in several.
fn packet(kernel: &[&Side<'_>], ours: &[&Side<'_>]) -> Option<String> {
    let number = kernel.first().map_or(0, |frame| frame.number);
    if kernel.len() != ours.len() {
        let sizes = |frames: &[&Side<'_>]| {
            let sizes = frames.iter().map(|frame| frame.bytes.len().to_string());
            sizes.collect::<Vec<_>>().join(", ")
        };
        return Some(format!(
            "packet {number}: expected frames of {} bytes, came {}",
            sizes(kernel),
            sizes(ours)
        ));
    }
    kernel.iter().zip(ours).find_map(|(their, our)| {
        let mut bytes = our.bytes.to_vec();
        let told = frame(their.bytes, their.kept, &mut bytes, our.origin)?;
        Some(format!("packet {}: {told}", their.number))
    })
}

/// What differs between two frames.
fn frame(kernel: &[u8], kept: usize, ours: &mut [u8], origin: Origin) -> Option<String> {
    adopt(kernel, ours, origin);
    let both = kernel.iter().zip(ours.iter()).take(kept);
    let different = both.enumerate().filter(|(_, (a, b))| a != b);
    let told = |(at, (their, our)): (usize, (&u8, &u8))| {
        let field = fields::name(kernel, at);
        (
            field.ends_with("checksum"),
            format!("byte {at} ({field}): expected {their:#04x}, came {our:#04x}"),
        )
    };
    let mut told = different.map(told);
    if let Some((is_sum, first)) = told.next() {
        // A checksum is only different because of something behind it.
        let cause = told.find(|(sum, _)| is_sum && !sum);
        let cause = cause.map_or_else(String::new, |(_, cause)| format!(", and {cause}"));
        return Some(format!(
            "{first}{cause}; expected {}, came {}",
            fields::summary(kernel),
            fields::summary(ours),
        ));
    }
    (kernel.len() != packet_end(ours)).then(|| {
        format!(
            "expected {}, came {}",
            fields::summary(kernel),
            fields::summary(ours)
        )
    })
}

/// Where the IP packet of a frame ends; without one, the frame.
fn packet_end(bytes: &[u8]) -> usize {
    let mut copy = bytes.to_vec();
    let length = copy.len();
    let frame = Frame::new(&mut copy, 0, length, Offload::default());
    let end = parse(&frame).map(|packet| packet.end);
    end.ok()
        .and_then(|end| usize::try_from(end).ok())
        .unwrap_or(length)
}

/// Takes over what the kernel draws.
fn adopt(kernel: &[u8], ours: &mut [u8], origin: Origin) {
    let own = origin != Origin::Forwarded;
    if origin == Origin::Answer
        && let (Some(ours), Some(theirs)) = (ours.get_mut(..6), kernel.get(..6))
    {
        ours.copy_from_slice(theirs);
    }
    let get = |bytes: &[u8], at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    if ours.get(12..14) == Some(&[8, 0]) {
        const DONT_FRAGMENT: u16 = 0x4000;
        let flags = get(ours, ETHERNET + 6).unwrap_or(DONT_FRAGMENT);
        if own && flags & DONT_FRAGMENT == 0 {
            replace(kernel, ours, ETHERNET + 4, Some(ETHERNET + 10));
        }
        let mut at = ETHERNET;
        while ours.get(at).is_some_and(|version| version >> 4 == 4) {
            times(kernel, ours, at);
            // What IPIP has inside.
            match ours.get(at + 9) {
                Some(&IPIP) if ours.get(at) == Some(&0x45) => at += 20,
                _ => break,
            }
        }
        let first = flags & 0x1fff == 0;
        if origin == Origin::Tunnelled && first && ours.get(ETHERNET + 9) == Some(&UDP) {
            source_port(kernel, ours, ETHERNET + 20);
        }
    } else if ours.get(12..14) == Some(&[0x86, 0xdd]) {
        if origin == Origin::Answer
            && let (Some(ours), Some(theirs)) = (ours.get_mut(15..18), kernel.get(15..18))
        {
            // The lower half of the first byte, and two more.
            for (place, (our, their)) in ours.iter_mut().zip(theirs).enumerate() {
                let mask = if place == 0 { 0x0f } else { 0xff };
                *our = (*our & !mask) | (their & mask);
            }
        }
        let mut l4 = ETHERNET + 40;
        let mut protocol = ours.get(ETHERNET + 6).copied();
        let mut first = true;
        if protocol == Some(44) && kernel.get(ETHERNET + 6) == Some(&44) {
            replace(kernel, ours, l4 + 4, None);
            replace(kernel, ours, l4 + 6, None);
            protocol = ours.get(l4).copied();
            first = get(ours, l4 + 2).is_some_and(|field| field & 0xfff8 == 0);
            l4 += 8;
        }
        if origin == Origin::Tunnelled && first && protocol == Some(UDP) {
            source_port(kernel, ours, l4);
        }
    }
}

/// The times in the timestamp option of the IPv4 header at `at`.
fn times(kernel: &[u8], ours: &mut [u8], at: usize) {
    const TIMESTAMP: u8 = 68;
    let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or_default();
    let end = at + usize::from(byte(ours, at) & 0xf) * 4;
    let mut option = at + 20;
    while option + 4 <= end {
        let (kind, length) = match byte(ours, option) {
            0 => return,
            1 => (1, 1),
            kind => (kind, usize::from(byte(ours, option + 1))),
        };
        // Every other word is an address where the flag says so.
        let step = if byte(ours, option + 3) & 0xf == 0 {
            4
        } else {
            8
        };
        let mut word = option + step;
        while kind == TIMESTAMP && word + 4 <= option + length {
            let sum_at = at + 10;
            if word % 2 == at % 2 {
                replace(kernel, ours, word, Some(sum_at));
                replace(kernel, ours, word + 2, Some(sum_at));
            } else {
                // Its bytes are parts of three words.
                replace(kernel, ours, word, None);
                replace(kernel, ours, word + 2, None);
                replace(kernel, ours, sum_at, None);
            }
            word += step;
        }
        option += length.max(1);
    }
}

fn source_port(kernel: &[u8], ours: &mut [u8], l4: usize) {
    /// Where UDP's checksum stands, and the value that says that there is none.
    const CHECKSUM: usize = 6;
    let there = ours.get(l4 + CHECKSUM..l4 + CHECKSUM + 2) != Some(&[0, 0]);
    replace(kernel, ours, l4, there.then_some(l4 + CHECKSUM));
    if there
        && ours.get(l4 + CHECKSUM..l4 + CHECKSUM + 2) == Some(&[0, 0])
        && let Some(field) = ours.get_mut(l4 + CHECKSUM..l4 + CHECKSUM + 2)
    {
        field.fill(0xff);
    }
}

/// Replaces a word by the kernel's, and carries a checksum along.
fn replace(kernel: &[u8], ours: &mut [u8], at: usize, sum_at: Option<usize>) {
    let word = |bytes: &[u8], at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let (Some(old), Some(new)) = (word(ours, at), word(kernel, at)) else {
        return;
    };
    let mut set = |at: usize, value: u16| {
        if let Some(place) = ours.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = value.to_be_bytes();
        }
    };
    set(at, new);
    if let Some(sum_at) = sum_at
        && let Some(sum) = word(ours, sum_at)
    {
        let sum = checksum::update(sum, old, new);
        if let Some(place) = ours.get_mut(sum_at..).and_then(<[u8]>::first_chunk_mut) {
            *place = sum.to_be_bytes();
        }
    }
}
