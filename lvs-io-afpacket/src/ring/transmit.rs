//! The transmit ring (`TPACKET_V2`): copies of small frames, sent by one system call a batch.
//!
//! ```text
//!   slot   0        32         42                 slot size
//!          │ header │ vnet hdr │ frame …          │
//!          └ status
//!
//!   oldest ──── waiting for the kernel ──── next ──── ours, or still in a driver's hands ────
//! ```
//!
//! A slot goes round: `AVAILABLE` (ours), `SEND_REQUEST` (waiting for [`kick`]), `SENDING` (a
//! driver reads it), `AVAILABLE`. The kernel looks at slots in order, and only inside of a kick;
//! so between kicks those that wait can be taken back.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use super::layout::Layout;
use crate::config::PortConfig;
use crate::error::{Concession, OpenError};
use crate::socket::Socket;
use crate::sys::{Mapping, VNET_HEADER, kick};

/// Where the kernel looks for the virtio-net header.
const DATA: usize = libc::TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();
/// Where `tp_len` stands.
const LENGTH: usize = std::mem::offset_of!(libc::tpacket2_hdr, tp_len);

/// What a flush could not send, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Frames that the kernel called malformed; they are gone.
    pub(crate) malformed: usize,
    /// Frames that still wait.
    pub(crate) waiting: usize,
    /// Why they wait.
    pub(crate) error: Option<i32>,
}

/// A ring of slots that go out.
#[derive(Debug)]
pub(crate) struct TransmitRing {
    memory: Mapping,
    layout: Layout,
    /// The next slot to be filled; counts on.
    next: usize,
    /// The first slot that may still wait for a kick.
    oldest: usize,
}

impl TransmitRing {
    /// Gives the socket a ring; smaller than configured if memory is short.
    pub(crate) fn open(
        socket: &Socket,
        config: &PortConfig,
        concessions: &mut Vec<Concession>,
    ) -> Result<Self, OpenError> {
        socket.need("PACKET_VERSION 2", libc::PACKET_VERSION, &1_i32)?;
        socket.vnet_headers()?;
        let size = config.transmit_slot_size.clamp(256, 1 << 16);
        let wanted = Layout::new(config.transmit_slots, size);
        let layout = wanted.clone().request(socket, libc::PACKET_TX_RING)?;
        if layout.bytes() < wanted.bytes() {
            concessions.push(Concession::SmallerRing {
                ring: "transmit",
                wanted: wanted.bytes(),
                got: layout.bytes(),
            });
        }
        Ok(Self {
            memory: layout.map(socket)?,
            layout,
            next: 0,
            oldest: 0,
        })
    }

    /// The longest frame that a slot holds.
    pub(crate) const fn largest(&self) -> usize {
        self.layout.slot_size() - DATA - VNET_HEADER
    }

    const fn slot(&self, number: usize) -> usize {
        self.layout.offset(number % self.layout.slots())
    }

    /// Frames that wait for a flush.
    #[inline]
    pub(crate) const fn waiting(&self) -> usize {
        self.next.wrapping_sub(self.oldest)
    }

    /// Copies a frame into the next slot; `false` if that is not free or too small.
    #[inline]
    pub(crate) fn push(&mut self, header: &[u8; VNET_HEADER], frame: &[u8]) -> bool {
        if frame.len() > self.largest() || self.waiting() >= self.layout.slots() {
            return false;
        }
        let slot = self.slot(self.next);
        // Acquire: the driver's last read of the slot comes before our writes.
        if self.memory.status(slot).load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
            return false;
        }
        let length = VNET_HEADER + frame.len();
        // SAFETY: the status says the slot is ours; the references end before it changes.
        let bytes = unsafe { self.memory.bytes(slot + LENGTH, DATA - LENGTH + length) };
        let Some((head, data)) = bytes.and_then(|bytes| bytes.split_at_mut_checked(DATA - LENGTH))
        else {
            return false;
        };
        let Some((vnet, body)) = data.split_first_chunk_mut::<VNET_HEADER>() else {
            return false;
        };
        if let Some(field) = head.first_chunk_mut::<4>() {
            *field = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes();
        }
        *vnet = *header;
        body.copy_from_slice(frame);
        // Release: the kernel sees the bytes when it sees the request.
        self.memory
            .status(slot)
            .store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, fd: BorrowedFd<'_>) -> Flushed {
        let mut flushed = Flushed::default();
        while self.waiting() != 0 {
            let before = self.waiting();
            let result = kick(fd);
            self.advance();
            if self.waiting() == 0 {
                break;
            }
            if self.status(self.oldest) == libc::TP_STATUS_WRONG_FORMAT {
                // The kernel does not pass a slot that it cannot read.
                self.remove_oldest();
                flushed.malformed += 1;
                continue;
            }
            match result {
                // It ran out of send buffer half-way, which it does not call an error.
                Ok(()) if self.waiting() < before => {}
                Ok(()) => {
                    flushed.error = Some(libc::EAGAIN);
                    break;
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => {
                    flushed.error = error.raw_os_error();
                    break;
                }
            }
        }
        flushed.waiting = self.waiting();
        flushed
    }

    /// Takes back all that waits; returns how many frames that were.
    pub(crate) fn discard(&mut self) -> usize {
        self.advance();
        let count = self.waiting();
        for number in 0..count {
            let slot = self.slot(self.oldest.wrapping_add(number));
            // Release keeps our earlier writes before the change of hands; the kernel is not
            // looking, see above.
            self.memory
                .status(slot)
                .store(libc::TP_STATUS_AVAILABLE, Ordering::Release);
        }
        self.next = self.oldest;
        count
    }

    fn status(&self, number: usize) -> u32 {
        self.memory
            .status(self.slot(number))
            .load(Ordering::Acquire)
    }

    /// Moves `oldest` to the slot where the kernel goes on: the first that it has not accepted.
    fn advance(&mut self) {
        // In the usual case it has accepted all of them, and the last one tells.
        let stuck = |status| {
            matches!(
                status,
                libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_WRONG_FORMAT
            )
        };
        if self.waiting() != 0 && !stuck(self.status(self.next.wrapping_sub(1))) {
            self.oldest = self.next;
        }
        while self.waiting() != 0 && !stuck(self.status(self.oldest)) {
            self.oldest = self.oldest.wrapping_add(1);
        }
    }

    /// Removes the frame at which the kernel stands, by moving those behind it up by one slot:
    /// slow, and rare, for it takes a frame whose offload makes no sense.
    #[cold]
    fn remove_oldest(&mut self) {
        let count = self.waiting();
        for number in 1..count {
            let to = self.slot(self.oldest.wrapping_add(number - 1)) + LENGTH;
            let from = self.slot(self.oldest.wrapping_add(number)) + LENGTH;
            // SAFETY: both slots wait, so the kernel does not touch them outside of a kick.
            let from = unsafe { self.memory.bytes(from, self.layout.slot_size() - LENGTH) };
            // SAFETY: as above; two slots do not overlap.
            let to = unsafe { self.memory.bytes(to, self.layout.slot_size() - LENGTH) };
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
        self.memory
            .status(self.slot(self.oldest))
            .store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.next = self.next.wrapping_sub(1);
        // Its status was SEND_REQUEST, or WRONG_FORMAT if the frame removed stood alone.
        self.memory
            .status(self.slot(self.next))
            .store(libc::TP_STATUS_AVAILABLE, Ordering::Release);
    }
}
