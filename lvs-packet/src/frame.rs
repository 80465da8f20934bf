//! A frame in its buffer: bytes, the room before them, and what the kernel left undone.
//!
//! A [`Frame`] comes from a ring (or a test's array), is rewritten in place and goes to another
//! ring. It never allocates and never moves to another buffer.

use crate::parse::{ETHERNET_LEN, IPV4_LEN};
use lvs_core::DropReason;

/// A transport checksum that is still to be computed (`CHECKSUM_PARTIAL`): the field holds the sum
/// of the pseudo header, not complemented (virtio 1.2, 5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where summing begins, in bytes from the start of the frame.
    pub start: u16,
    /// Where the checksum stands, in bytes from `start`.
    pub offset: u16,
}

/// What kind of packets a segmented frame stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of equal size (`UDP_SEGMENT`).
    Udp,
}

/// A frame that stands for several packets (GSO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// What the packets are.
    pub kind: SegmentKind,
    /// Payload bytes of each packet but the last.
    pub size: u16,
    /// Length of the headers that each packet repeats, as the kernel says it; a hint only.
    pub header_len: u16,
    /// CWR is set on the first packet only (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
}

/// What the sender left to the hardware; travels with the frame (the virtio-net header's content).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// A checksum still to be computed.
    pub checksum: Option<PartialChecksum>,
    /// The frame stands for several packets.
    pub segmentation: Option<Segmentation>,
}

/// A frame, from its Ethernet header to its end, with the free bytes before and behind it.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    // Of 32 bits, so that their sum cannot overflow: one comparison bounds it.
    start: u32,
    len: u32,
    /// What is left to be done to it.
    pub offload: Offload,
}

/// What [`Frame::open_front`] lends.
pub(crate) struct Front<'a, const LENGTH: usize> {
    /// The moved Ethernet header.
    pub(crate) ethernet: &'a mut [u8; ETHERNET_LEN],
    /// The room, of undefined content.
    pub(crate) room: &'a mut [u8; LENGTH],
    /// What follows it: as much as every IP header has.
    pub(crate) inner: &'a mut [u8; IPV4_LEN],
}

/// The longest buffer: 4 GB.
const LONGEST: usize = u32::MAX as usize;

/// A place in a buffer.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "no buffer is longer")]
const fn narrow(place: usize) -> u32 {
    place as u32
}

impl<'a> Frame<'a> {
    /// The frame `buffer[start..start + len]`; cut to the buffer if it would not fit.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize, offload: Offload) -> Self {
        // Of a longer buffer nobody gets to see the rest.
        let (buffer, _) = buffer.split_at_mut(buffer.len().min(LONGEST));
        let start = start.min(buffer.len());
        let len = len.min(buffer.len() - start);
        Self {
            buffer,
            start: narrow(start),
            len: narrow(len),
            offload,
        }
    }

    #[inline(always)]
    const fn start(&self) -> usize {
        self.start as usize
    }

    #[inline(always)]
    const fn end(&self) -> usize {
        self.start() + self.len()
    }

    /// The bytes of the frame.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer
            .get(self.start()..self.end())
            .unwrap_or_default()
    }

    /// The first `N` bytes from its start on, also those that are behind its end: for who knows, or will
    /// ask, how long it is. `None` if there are fewer in the buffer.
    #[inline(always)]
    pub(crate) fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        let start = self.start();
        self.buffer.get(start..start + N)?.first_chunk()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub(crate) fn head_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let start = self.start();
        self.buffer.get_mut(start..start + N)?.first_chunk_mut()
    }

    /// All bytes, to be changed.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self) -> Option<&mut [u8]> {
        self.buffer.get_mut(self.start()..self.end())
    }

    /// The bytes of the frame, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start()..self.end())
            .unwrap_or_default()
    }

    /// Its length.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has no bytes.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Free bytes before it.
    #[inline]
    #[must_use]
    pub const fn headroom(&self) -> usize {
        self.start()
    }

    /// Free bytes behind it.
    #[inline]
    #[must_use]
    pub const fn tailroom(&self) -> usize {
        self.buffer.len() - self.end()
    }

    /// Makes `length` bytes of room at `at` by moving what stands before (the link-layer header)
    /// towards the front, and keeps the partial checksum true. What the gap contains is undefined.
    ///
    /// # Errors
    /// [`DropReason::NoHeadroom`] if there are fewer free bytes before the frame; the frame is
    /// unchanged.
    #[inline]
    pub fn open_gap(&mut self, at: usize, length: usize) -> Result<(), DropReason> {
        if length > self.start() || at > self.len() {
            return Err(DropReason::NoHeadroom);
        }
        let start = self.start() - length;
        // Ethernet without tags, nearly always: through registers.
        let untagged = match at {
            14 => self
                .buffer
                .get(self.start()..)
                .and_then(<[u8]>::first_chunk),
            _ => None,
        };
        if let Some(&untagged) = untagged {
            let to: Option<&mut [u8; 14]> = self
                .buffer
                .get_mut(start..)
                .and_then(<[u8]>::first_chunk_mut);
            if let Some(to) = to {
                *to = untagged;
            }
        } else {
            self.buffer
                .copy_within(self.start()..self.start() + at, start);
        }
        self.len = narrow(self.len() + length);
        self.start = narrow(start);
        if let Some(partial) = &mut self.offload.checksum {
            // A start that does not fit cannot be meant: no header chain is 64 KB long.
            let moved = usize::from(partial.start).saturating_add(length);
            partial.start = u16::try_from(moved).map_err(|_| DropReason::NoHeadroom)?;
        }
        Ok(())
    }

    /// Makes `LENGTH` bytes of room behind an Ethernet header without tags, and cuts the frame at
    /// `end`: what [`Frame::set_len`] and [`Frame::open_gap`] do, for a length that the compiler
    /// knows. `None`, and nothing changed, where there is no room, or something is left to be done
    /// to the frame.
    #[inline(always)]
    pub(crate) fn open_front<const LENGTH: usize>(
        &mut self,
        end: usize,
    ) -> Option<Front<'_, LENGTH>> {
        let done = self.offload.checksum.is_none() && self.offload.segmentation.is_none();
        if !done || end > self.len() {
            return None;
        }
        let old = self.start();
        let start = old.checked_sub(LENGTH)?;
        let front = self.buffer.get_mut(start..)?;
        let (ethernet, rest) = front.split_first_chunk_mut()?;
        let (room, rest) = rest.split_first_chunk_mut()?;
        let inner = rest.first_chunk_mut()?;
        // The old header ends where the room does.
        *ethernet = *room.last_chunk()?;
        self.len = narrow(end + LENGTH);
        self.start = narrow(start);
        Some(Front {
            ethernet,
            room,
            inner,
        })
    }

    /// Takes `length` bytes at `at` away by moving what stands before towards the end; the
    /// reverse of [`Frame::open_gap`]. A partial checksum that begins in or behind the gap moves
    /// with it.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] if the frame ends before; it is unchanged.
    pub fn close_gap(&mut self, at: usize, length: usize) -> Result<(), DropReason> {
        if at > self.len() || length > self.len() - at {
            return Err(DropReason::Truncated);
        }
        self.buffer
            .copy_within(self.start()..self.start() + at, self.start() + length);
        self.start = narrow(self.start() + length);
        self.len = narrow(self.len() - length);
        if let Some(partial) = &mut self.offload.checksum
            && usize::from(partial.start) >= at
        {
            let moved = usize::from(partial.start).saturating_sub(length);
            partial.start = u16::try_from(moved).unwrap_or(0);
        }
        Ok(())
    }

    /// Sets the length: cuts the end off, or takes bytes of undefined content from the tailroom.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] if the buffer ends before; the frame is unchanged.
    pub const fn set_len(&mut self, length: usize) -> Result<(), DropReason> {
        if length > self.buffer.len() - self.start() {
            return Err(DropReason::Truncated);
        }
        self.len = narrow(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_moves_the_front_and_the_partial_checksum() {
        let mut buffer = [0, 0, 0, 0, 1, 2, 3, 4];
        let checksum = Some(PartialChecksum {
            start: 3,
            offset: 0,
        });
        let mut frame = Frame::new(
            &mut buffer,
            4,
            4,
            Offload {
                checksum,
                segmentation: None,
            },
        );
        frame.open_gap(2, 3).unwrap();
        assert_eq!(frame.bytes()[..2], [1, 2]);
        assert_eq!(frame.bytes()[5..], [3, 4]);
        assert_eq!(frame.offload.checksum.unwrap().start, 6);
        assert_eq!(frame.open_gap(2, 2), Err(DropReason::NoHeadroom));
        assert_eq!((frame.len(), frame.headroom(), frame.tailroom()), (7, 1, 0));
    }

    #[test]
    fn lengths_stay_inside_the_buffer() {
        let mut buffer = [0; 8];
        let mut frame = Frame::new(&mut buffer, 6, 10, Offload::default());
        assert_eq!(frame.len(), 2);
        assert_eq!(frame.set_len(3), Err(DropReason::Truncated));
        frame.set_len(1).unwrap();
        assert_eq!((frame.len(), frame.tailroom()), (1, 1));
    }
}
