//! Fragments in frames: what they belong to, and which of them make a datagram.
//!
//! Bytes in, places and lengths out; of the outermost IP header only.

use lvs_packet::checksum;

const ETHERNET: usize = 14;
const IPV6_LEN: usize = 40;
/// The next header's number of a fragment header.
const FRAGMENT: u8 = 44;

/// What the fragments of a datagram have in common: addresses, identification, protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Vec<u8>);

/// A fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Of which datagram.
    pub(crate) key: Key,
    /// Where its payload stands in the datagram's.
    pub(crate) offset: usize,
    /// Whether more follow.
    pub(crate) more: bool,
    /// Where its payload starts in the frame.
    pub(crate) payload: usize,
    /// The length of that.
    pub(crate) length: usize,
}

/// The fragment in a frame; `None` if there is a whole packet, or none.
pub(crate) fn piece(bytes: &[u8]) -> Option<Piece> {
    let word =
        |at: usize| -> Option<u16> { Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)) };
    let length = bytes.len();
    if bytes.get(12..14)? == [8, 0] {
        let field = word(ETHERNET + 6)?;
        if field & 0x3fff == 0 {
            return None;
        }
        let payload = ETHERNET + usize::from(bytes.get(ETHERNET)? & 0x0f) * 4;
        let mut key = bytes.get(ETHERNET + 12..ETHERNET + 20)?.to_vec();
        key.extend_from_slice(bytes.get(ETHERNET + 4..ETHERNET + 6)?);
        key.push(*bytes.get(ETHERNET + 9)?);
        return Some(Piece {
            key: Key(key),
            offset: usize::from(field & 0x1fff) * 8,
            more: field & 0x2000 != 0,
            payload,
            length: length.checked_sub(payload)?,
        });
    }
    if bytes.get(12..14)? != [0x86, 0xdd] || *bytes.get(ETHERNET + 6)? != FRAGMENT {
        return None;
    }
    let header = ETHERNET + IPV6_LEN;
    let field = word(header + 2)?;
    let mut key = bytes.get(ETHERNET + 8..header)?.to_vec();
    key.extend_from_slice(bytes.get(header + 4..header + 8)?);
    Some(Piece {
        key: Key(key),
        offset: usize::from(field & 0xfff8),
        more: field & 1 != 0,
        payload: header + 8,
        length: length.checked_sub(header + 8)?,
    })
}

/// Makes the frame, which has the headers of the first fragment `first`, another piece of it.
pub(crate) fn renumber(bytes: &mut [u8], first: &Piece, offset: usize, more: bool) {
    let units = u16::try_from(offset / 8).unwrap_or(u16::MAX);
    let length = |less: usize| u16::try_from(bytes.len().saturating_sub(less)).unwrap_or(u16::MAX);
    let v4 = bytes.get(12..14) == Some(&[8, 0]);
    let (length_at, length, field_at, field) = if v4 {
        let more = if more { 0x2000 } else { 0 };
        (ETHERNET + 2, length(ETHERNET), ETHERNET + 6, units | more)
    } else {
        let header = ETHERNET + IPV6_LEN;
        let field = (units << 3) | u16::from(more);
        (ETHERNET + 4, length(header), header + 2, field)
    };
    for (at, value) in [(length_at, length), (field_at, field)] {
        if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = value.to_be_bytes();
        }
    }
    if v4 && let Some(header) = bytes.get_mut(ETHERNET..first.payload) {
        let at = 10..12;
        if let Some(field) = header.get_mut(at.clone()) {
            field.fill(0);
        }
        let sum = checksum::full(header).to_be_bytes();
        if let Some(field) = header.get_mut(at) {
            field.copy_from_slice(&sum);
        }
    }
}

/// The packet that these frames are the fragments of, if they are all there.
pub(crate) fn assembled(frames: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut pieces: Vec<(Piece, &[u8])> = frames
        .iter()
        .filter_map(|frame| Some((piece(frame)?, frame.as_slice())))
        .collect();
    pieces.sort_by_key(|(piece, _)| piece.offset);
    let mut payload: Vec<u8> = Vec::new();
    let mut is_complete = false;
    for (piece, frame) in &pieces {
        if piece.offset > payload.len() {
            return None;
        }
        payload.truncate(piece.offset);
        payload.extend_from_slice(frame.get(piece.payload..)?);
        is_complete |= !piece.more;
    }
    let (first, frame) = pieces.first().filter(|_| is_complete)?;
    let mut whole = frame.get(..first.payload)?.to_vec();
    whole.extend_from_slice(&payload);
    renumber(&mut whole, first, 0, false);
    if whole.get(12..14) == Some(&[0x86, 0xdd]) {
        let header = ETHERNET + IPV6_LEN;
        let next = *whole.get(header)?;
        whole.drain(header..header + 8);
        *whole.get_mut(ETHERNET + 6)? = next;
        let length = u16::try_from(whole.len() - header).ok()?;
        *whole.get_mut(ETHERNET + 4..)?.first_chunk_mut()? = length.to_be_bytes();
    }
    Some(whole)
}

/// Which frames make a packet: each whole one alone, the fragments of a datagram together, in the
/// order of their offsets. In the order in which the packets were complete.
pub(crate) fn packets<'f>(frames: impl Iterator<Item = &'f [u8]>) -> Vec<Vec<usize>> {
    struct Packet {
        key: Option<Key>,
        /// Offset, place among the frames, end, whether more follow.
        pieces: Vec<(usize, usize, usize, bool)>,
    }
    impl Packet {
        fn is_complete(&self) -> bool {
            let mut covered = 0;
            for &(offset, _, end, more) in &self.pieces {
                if offset > covered {
                    return false;
                }
                covered = covered.max(end);
                if !more {
                    return true;
                }
            }
            false
        }
    }
    let mut packets: Vec<Packet> = Vec::new();
    for (place, bytes) in frames.enumerate() {
        let Some(piece) = piece(bytes) else {
            packets.push(Packet {
                key: None,
                pieces: vec![(0, place, 0, false)],
            });
            continue;
        };
        let end = piece.offset + piece.length;
        let row = (piece.offset, place, end, piece.more);
        let open =
            |packet: &&mut Packet| packet.key.as_ref() == Some(&piece.key) && !packet.is_complete();
        if let Some(packet) = packets.iter_mut().find(open) {
            packet.pieces.push(row);
            packet.pieces.sort_unstable();
        } else {
            packets.push(Packet {
                key: Some(piece.key),
                pieces: vec![row],
            });
        }
    }
    let last = |packet: &Packet| packet.pieces.iter().map(|&(_, place, ..)| place).max();
    packets.sort_by_key(last);
    let places = |packet: Packet| packet.pieces.iter().map(|&(_, place, ..)| place).collect();
    packets.into_iter().map(places).collect()
}
