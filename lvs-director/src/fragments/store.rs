//! Pieces that wait: copies in slots of fixed size, chained by their offset.
//!
//! All memory is taken at the start. A slot is in one chain or free.

use lvs_packet::fragment::{self, Piece};
use lvs_packet::{Frame, Packet};
use std::fmt;

/// Pieces that wait at once.
const SLOTS: u16 = 256;
/// The longest frame that is held, in bytes: Ethernet's with tags, and some.
pub(crate) const SLOT: usize = 2048;

/// A piece that waits.
pub(crate) struct Slot {
    pub(crate) packet: Packet,
    pub(crate) piece: Piece,
    length: usize,
    next: Option<u16>,
    bytes: [u8; SLOT],
}

impl Slot {
    /// The frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The pieces of a datagram, by offset.
#[derive(Debug, Default)]
pub(super) struct Chain {
    first: Option<u16>,
    len: usize,
}

impl Chain {
    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

/// All slots of a worker.
pub(super) struct Store {
    slots: Box<[Slot]>,
    free: Chain,
}

impl Default for Store {
    fn default() -> Self {
        let slot = |number: u16| Slot {
            packet: Packet::NONE,
            piece: Piece::NONE,
            length: 0,
            next: (number + 1 < SLOTS).then_some(number + 1),
            bytes: [0; SLOT],
        };
        Self {
            slots: (0..SLOTS).map(slot).collect(),
            free: Chain {
                first: Some(0),
                len: usize::from(SLOTS),
            },
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(super) const fn used(&self) -> usize {
        SLOTS as usize - self.free.len
    }

    pub(super) const fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Copies a piece into a free slot of `chain`, in its place; whether that could be.
    pub(super) fn put(&mut self, chain: &mut Chain, frame: &Frame<'_>, packet: &Packet) -> bool {
        let bytes = frame.bytes();
        let bytes = bytes.get(..packet.end as usize).unwrap_or(bytes);
        let Some(piece) = fragment::piece(frame, packet) else {
            return false;
        };
        if bytes.len() > SLOT || frame.offload.checksum.is_some() {
            return false;
        }
        let Some(number) = self.free.first else {
            return false;
        };
        let (before, behind) = self.neighbours(chain, piece.offset);
        let Some(slot) = self.slots.get_mut(usize::from(number)) else {
            return false;
        };
        self.free.first = slot.next;
        self.free.len -= 1;
        slot.packet = *packet;
        slot.piece = piece;
        slot.length = bytes.len();
        slot.next = behind;
        if let Some(to) = slot.bytes.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
        }
        match before.and_then(|before| self.slots.get_mut(usize::from(before))) {
            Some(before) => before.next = Some(number),
            None => chain.first = Some(number),
        }
        chain.len += 1;
        true
    }

    /// The slots between which a piece of this offset belongs.
    fn neighbours(&self, chain: &Chain, offset: u16) -> (Option<u16>, Option<u16>) {
        let (mut before, mut behind) = (None, chain.first);
        while let Some(number) = behind
            && let Some(slot) = self.slots.get(usize::from(number))
            && slot.piece.offset < offset
        {
            before = behind;
            behind = slot.next;
        }
        (before, behind)
    }

    /// Takes the first slot out of a chain: it is free, and may be read until the next is put.
    pub(super) fn pop(&mut self, chain: &mut Chain) -> Option<&Slot> {
        let number = chain.first?;
        let slot = self.slots.get_mut(usize::from(number))?;
        chain.first = slot.next;
        chain.len = chain.len.saturating_sub(1);
        slot.next = self.free.first;
        self.free.first = Some(number);
        self.free.len += 1;
        Some(slot)
    }

    /// Frees a whole chain; how many slots it had.
    pub(super) fn free(&mut self, chain: &mut Chain) -> u32 {
        let mut freed = 0;
        while self.pop(chain).is_some() {
            freed += 1;
        }
        freed
    }

    /// The pieces of a chain, by offset.
    pub(super) fn iter(&self, chain: &Chain) -> impl Iterator<Item = &Slot> {
        let slot = |number: Option<u16>| self.slots.get(usize::from(number?));
        std::iter::successors(slot(chain.first), move |before| slot(before.next))
    }
}
