//! The frames of a scene, as they were before the recorder's machine wrote over its own captures.
//!
//! Captures of both sides in, frames with who sent them out. Three things are known of these
//! captures that are not behaviour of a director, and are put right here, and only here:
//!
//! - Some are cut at 200 bytes a frame; what was cut off is known to be all `x`.
//! - A receiver of GUE in the same kernel shortens the outer length in the buffer that it shares
//!   with the capture. The frame's own length is true, and IPv4's header checksum is still its.
//! - The pieces of a datagram but the first leave the director in the very buffers in which they
//!   came, so that the capture shows them on the way in as they went out. Their payload is true, and
//!   the first piece shows what their headers were.

use super::super::capture::Captured;
use super::pieces::{self, Piece};
use lvs_packet::{Frame, Offload, checksum, parse};
use std::time::Duration;

const ETHERNET: usize = 14;
/// The longest transport header that translation changes, without options.
const TRANSPORT: usize = 20;
/// What it changes of an ICMP error: the headers that it quotes too.
const ERROR: usize = 8 + 40 + TRANSPORT;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// A frame of a scene.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The side on which it was seen.
    pub(crate) side: usize,
    /// Its number in the capture, from 1, as other programs count.
    pub(crate) number: usize,
    /// When.
    pub(crate) time: Duration,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes of it the capture has kept.
    pub(crate) kept: usize,
    /// Whether the director sent it; otherwise it came to the director.
    pub(crate) by_director: bool,
}

/// The frames of all sides in the order in which they were seen, but for what is not for the director.
/// `macs` are the director's own addresses; what a capture has cut off is `fill`.
pub(crate) fn frames<'c>(
    captured: impl Iterator<Item = &'c [Captured]>,
    macs: &[[u8; 6]],
    fill: u8,
) -> Vec<Recorded> {
    let mut frames: Vec<Recorded> = captured
        .zip(macs)
        .enumerate()
        .flat_map(|(side, (frames, own))| {
            let frames = frames.iter().enumerate();
            frames.map(move |(place, frame)| recorded((side, own), place, frame, fill))
        })
        .collect();
    frames.sort_by_key(|frame| frame.time);
    for frame in &mut frames {
        if frame.by_director {
            restore_outer_length(frame);
        }
    }
    restore_pieces(&mut frames, macs);
    frames.retain(|frame| {
        let own = macs.get(frame.side).copied().unwrap_or_default();
        let group = frame.bytes.first().is_some_and(|byte| byte & 1 != 0);
        // Where the director's address is not known, everything is for it.
        own == UNKNOWN || frame.by_director || group || frame.bytes.starts_with(&own)
    });
    frames
}

/// The address of a director of which none is known.
pub(crate) const UNKNOWN: [u8; 6] = [0; 6];

fn recorded((side, own): (usize, &[u8; 6]), place: usize, frame: &Captured, fill: u8) -> Recorded {
    let mut bytes = frame.bytes.clone();
    bytes.resize(frame.length, fill);
    Recorded {
        side,
        number: place + 1,
        time: frame.time,
        kept: frame.bytes.len(),
        by_director: *own != UNKNOWN && bytes.get(6..12) == Some(own),
        bytes,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*word))
}

fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

/// GUE's outer length, as it was sent.
fn restore_outer_length(frame: &mut Recorded) {
    const UDP: u8 = 17;
    let bytes = &mut frame.bytes;
    let ethertype = bytes.get(12..14).unwrap_or_default();
    let true_length = |header: usize| u16::try_from(bytes.len() - ETHERNET - header).ok();
    if ethertype == IPV4 && bytes.get(23) == Some(&UDP) {
        let header = bytes.get(ETHERNET..ETHERNET + 20).unwrap_or_default();
        let wrong = checksum::full(header) != 0;
        if let Some(length) = true_length(0).filter(|_| wrong) {
            set_word(bytes, 16, length);
        }
    } else if ethertype == IPV6 && bytes.get(20) == Some(&UDP) {
        // There is no checksum that could tell; UDP's own length does.
        let says = word(bytes, 18);
        if let Some(length) = true_length(40)
            && word(bytes, 58) == Some(length)
            && says < Some(length)
        {
            set_word(bytes, 18, length);
        }
    }
}

/// Gives later pieces that came in the headers that they had.
fn restore_pieces(frames: &mut [Recorded], macs: &[[u8; 6]]) {
    // What came with an address of the director on another side, or with no sense at all.
    let written_over = |frame: &Recorded| {
        let from = frame.bytes.get(6..12).unwrap_or_default();
        let mut copy = frame.bytes.clone();
        let length = copy.len();
        let whole = Frame::new(&mut copy, 0, length, Offload::default());
        macs.iter().any(|mac| mac == from) || parse(&whole).is_err()
    };
    let suspects: Vec<usize> = frames
        .iter()
        .enumerate()
        .filter(|(_, frame)| !frame.by_director && written_over(frame))
        .map(|(at, _)| at)
        .collect();
    for at in suspects {
        let Some(restored) = restored_piece(frames, at) else {
            continue;
        };
        if let Some(frame) = frames.get_mut(at) {
            frame.bytes = restored;
        }
    }
}

fn restored_piece(frames: &[Recorded], at: usize) -> Option<Vec<u8>> {
    let came = frames.get(at).filter(|frame| !frame.by_director)?;
    let other_side = |frame: &&Recorded| frame.by_director && frame.side != came.side;
    let sent = || frames.iter().filter(other_side);
    // What goes out has other Ethernet addresses than what came in; here it has not.
    let left = sent().find(|frame| frame.bytes.ends_with(&came.bytes))?;
    let piece = pieces::piece(&left.bytes)?;
    let first_sent = sent().find_map(|frame| {
        let first = pieces::piece(&frame.bytes)?;
        (first.key == piece.key && first.offset == 0).then_some(first)
    })?;
    let payload = |piece: &Piece, bytes: &[u8]| bytes.get(piece.payload..).map(<[u8]>::to_vec);
    let left_payload = payload(&piece, &left.bytes)?;
    // The piece that came first, by the end of its payload; of several, the nearest in time.
    let mut candidates: Vec<(&Recorded, Piece)> = frames
        .iter()
        .filter(|frame| frame.side == came.side && !frame.by_director)
        .filter_map(|frame| Some((frame, pieces::piece(&frame.bytes)?)))
        .filter(|(frame, first)| first.offset == 0 && same_tail(frame, first, &first_sent, frames))
        .collect();
    candidates.sort_by_key(|(frame, _)| frame.time.abs_diff(came.time));
    let (first, header) = candidates.first()?;
    let first_payload = payload(header, &first.bytes)?.len();
    let added = first_sent.length.checked_sub(first_payload)?;
    let offset = piece.offset.checked_sub(added)?;
    let mut bytes = first.bytes.get(..header.payload)?.to_vec();
    bytes.extend_from_slice(&left_payload);
    pieces::renumber(&mut bytes, header, offset, piece.more);
    Some(bytes)
}

/// Whether the payload of `first`, which came, ends as that of the piece that was sent.
fn same_tail(frame: &Recorded, first: &Piece, sent: &Piece, frames: &[Recorded]) -> bool {
    let Some(ours) = frame.bytes.get(first.payload..) else {
        return false;
    };
    // Behind the transport header, which translation changes.
    let protocol = match frame.bytes.get(12..14) {
        Some([0x08, 0x00]) => frame.bytes.get(ETHERNET + 9),
        // The number that the fragment header begins with.
        _ => frame.bytes.get(first.payload.saturating_sub(8)),
    };
    let changed = match protocol {
        Some(1 | 58) => ERROR,
        _ => TRANSPORT,
    };
    let tail = ours.get(changed.min(ours.len())..).unwrap_or_default();
    frames.iter().any(|other| {
        other.by_director
            && pieces::piece(&other.bytes)
                .is_some_and(|piece| piece.key == sent.key && piece.offset == 0)
            && other.bytes.ends_with(tail)
    })
}
