//! Where the slots of a `TPACKET_V2` ring are.
//!
//! The kernel lays slots out in blocks that no slot crosses. Slots are an odd number of cache lines
//! long, so that the same field of neighbouring slots falls into different sets of the cache: with
//! a power of two, a batch of headers would compete for a few lines.

use crate::error::OpenError;
use crate::socket::Socket;
use crate::sys::Mapping;

const LINE: usize = 64;
/// Blocks are what the kernel allocates in one piece, a power of two of pages.
const BLOCK: usize = 256 << 10;
/// The same for slots of which few fit in the one above.
const LARGE_BLOCK: usize = 2 << 20;
/// The fewest slots that are of use.
const FEWEST: usize = 64;

/// The places of the slots in a ring's memory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    slot: usize,
    per_block: usize,
    block: usize,
    blocks: usize,
}

impl Layout {
    /// At least `slots` slots of at least `size` bytes.
    pub(super) fn new(slots: usize, size: usize) -> Self {
        let lines = size.div_ceil(LINE);
        let slot = (lines + usize::from(lines.is_multiple_of(2))) * LINE;
        let block = if slot > BLOCK / 16 {
            LARGE_BLOCK
        } else {
            BLOCK
        };
        let per_block = block / slot;
        Self {
            slot,
            per_block,
            block,
            blocks: slots.max(FEWEST).div_ceil(per_block),
        }
    }

    /// Bytes of a slot.
    pub(super) const fn slot_size(&self) -> usize {
        self.slot
    }

    /// How many slots there are.
    pub(super) const fn slots(&self) -> usize {
        self.per_block * self.blocks
    }

    /// Bytes of the whole ring.
    pub(super) const fn bytes(&self) -> usize {
        self.block * self.blocks
    }

    /// Where the slot `index` begins; a multiple of 64.
    pub(super) const fn offset(&self, index: usize) -> usize {
        index / self.per_block * self.block + index % self.per_block * self.slot
    }

    /// Half of it, if that is of use.
    fn halved(&self) -> Option<Self> {
        let blocks = self.blocks / 2;
        (blocks * self.per_block >= FEWEST).then(|| Self {
            blocks,
            ..self.clone()
        })
    }

    /// Asks the kernel for this ring, and for half as long as it has no memory for it. Returns
    /// what it gave.
    pub(super) fn request(mut self, socket: &Socket, name: i32) -> Result<Self, OpenError> {
        let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        loop {
            let request = libc::tpacket_req {
                tp_block_size: word(self.block),
                tp_block_nr: word(self.blocks),
                tp_frame_size: word(self.slot),
                tp_frame_nr: word(self.slots()),
            };
            let refused = |source| OpenError::RingRefused {
                bytes: self.bytes(),
                source,
            };
            if socket.request_ring(name, &request).map_err(refused)? {
                return Ok(self);
            }
            self = self
                .halved()
                .ok_or_else(|| refused(std::io::Error::from_raw_os_error(libc::ENOMEM)))?;
        }
    }

    /// Maps the ring that the kernel gave.
    pub(super) fn map(&self, socket: &Socket) -> Result<Mapping, OpenError> {
        map(socket, self.bytes())
    }
}

/// Maps a ring.
pub(super) fn map(socket: &Socket, bytes: usize) -> Result<Mapping, OpenError> {
    Mapping::new(socket.fd(), bytes).map_err(|source| OpenError::System {
        call: "mmap of a ring",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_or_cross_blocks_or_collide_in_the_cache() {
        for size in [256, 512, 2048, 9000, 16_384, 65_536, 66_000] {
            let layout = Layout::new(500, size);
            assert!(layout.slots() >= 500 && layout.slot_size() >= size);
            assert!(layout.bytes() < 500 * size * 5 / 4 + LARGE_BLOCK);
            let mut end = 0;
            for index in 0..layout.slots() {
                let start = layout.offset(index);
                assert!(start >= end && start.is_multiple_of(LINE));
                end = start + layout.slot_size();
                assert_eq!(start / layout.block, (end - 1) / layout.block);
            }
            assert!(end <= layout.bytes());
            let sets: std::collections::HashSet<_> = (0..layout.per_block.min(64))
                .map(|index| layout.offset(index) / LINE % 64)
                .collect();
            assert_eq!(sets.len(), layout.per_block.min(64));
        }
    }

    #[test]
    fn a_ring_is_halved_down_to_what_is_of_use() {
        let mut layout = Layout::new(2000, 2048);
        let mut sizes = vec![layout.slots()];
        while let Some(half) = layout.halved() {
            layout = half;
            sizes.push(layout.slots());
        }
        assert_eq!(sizes, [2108, 992, 496, 248, 124]);
    }
}
