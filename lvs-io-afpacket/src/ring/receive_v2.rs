//! The receive ring of `TPACKET_V2`: one slot per frame.
//!
//! ```text
//!   slot   0        32       52          mac-10     mac                    slot size
//!          │ header │ sender │ headroom   │ vnet hdr │ frame …               │
//!          └ status
//! ```
//!
//! Slots belong to us from the moment their status says `USER` until it is set back. They are taken
//! and given back in order. A frame that exceeds its slot waits, whole, in the socket's queue
//! (`PACKET_COPY_THRESH`), and its slot says so; it is read into a buffer of this ring. So slots
//! can be small and lie close together, and 64 KB frames pass all the same, through few buffers
//! that stay in the cache.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use lvs_core::DropReason;
use lvs_packet::{Frame, Offload};

use super::layout::Layout;
use super::{Frames, Refused, VLAN_TAG, Vlans, insert_vlan, reserve_for};
use crate::config::PortConfig;
use crate::error::{Concession, OpenError};
use crate::socket::Socket;
use crate::sys::{self, Mapping, VNET_HEADER};
use crate::vnet;

/// Where the packet header and the sender's address end, and what may be overwritten begins.
const HEADERS: usize = libc::TPACKET2_HDRLEN;
/// Where `sll_pkttype` stands.
const PACKET_TYPE: usize = 32 + std::mem::offset_of!(libc::sockaddr_ll, sll_pkttype);
/// The largest frame that the queue can bring: an IP packet of 64 KB, Ethernet and two VLAN tags.
const LARGEST: usize = 65_536 + 14 + 8;

/// A receive ring of slots.
#[derive(Debug)]
pub(crate) struct RingV2 {
    memory: Mapping,
    layout: Layout,
    /// The next slot to be taken.
    next: usize,
    /// Buffers for frames from the queue, each with headroom.
    large: Box<[u8]>,
    large_size: usize,
    headroom: usize,
    other_stations: bool,
    pub(crate) others: Vlans,
    pub(crate) refused: Refused,
}

impl RingV2 {
    /// Gives the socket a ring; smaller than configured if memory is short.
    pub(crate) fn open(
        socket: &Socket,
        config: &PortConfig,
        concessions: &mut Vec<Concession>,
    ) -> Result<Self, OpenError> {
        socket.need("PACKET_VERSION 2", libc::PACKET_VERSION, &1_i32)?;
        socket.vnet_headers()?;
        let reserve = u32::try_from(reserve_for(HEADERS, config.headroom)).unwrap_or(u32::MAX);
        socket.need("PACKET_RESERVE", libc::PACKET_RESERVE, &reserve)?;
        socket.need("PACKET_COPY_THRESH", libc::PACKET_COPY_THRESH, &1_i32)?;
        socket.buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, config.large_queue)?;

        // Beyond this the kernel could not say where the frame begins.
        let size = config.receive_slot_size.clamp(512, 1 << 20);
        let wanted = Layout::new(config.receive_slots, size);
        let layout = wanted.clone().request(socket, libc::PACKET_RX_RING)?;
        if layout.bytes() < wanted.bytes() {
            concessions.push(Concession::SmallerRing {
                ring: "receive",
                wanted: wanted.bytes(),
                got: layout.bytes(),
            });
        }
        let memory = layout.map(socket)?;
        let headroom = (config.headroom.clamp(64, 4096) + VLAN_TAG).next_multiple_of(64);
        let large_size = (headroom + LARGEST).next_multiple_of(64);
        Ok(Self {
            memory,
            layout,
            next: 0,
            large: vec![0; large_size * config.large_frames.clamp(1, super::MAX_BATCH)]
                .into_boxed_slice(),
            large_size,
            headroom,
            other_stations: config.other_stations,
            others: Vlans::default(),
            refused: Refused::default(),
        })
    }

    /// Whether a frame is waiting.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        let status = self.memory.status(self.layout.offset(self.next));
        status.load(Ordering::Relaxed) & libc::TP_STATUS_USER != 0
    }

    /// Lends up to `max` frames. Returns how many slots they (and those that were refused) hold,
    /// for [`Self::release`].
    pub(crate) fn gather<'f>(
        &'f mut self,
        fd: BorrowedFd<'_>,
        max: usize,
        frames: &mut Frames<'f>,
    ) -> usize {
        let Self {
            memory,
            layout,
            next,
            large,
            large_size,
            headroom,
            other_stations,
            others,
            refused,
        } = self;
        let mut large = large.chunks_exact_mut(*large_size);
        let mut held = 0;
        while frames.len() < max && held < layout.slots() {
            let slot = layout.offset((*next + held) % layout.slots());
            let status = memory.status(slot).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                break;
            }
            // SAFETY: the status says the slot is ours; any bytes are a `tpacket2_hdr`.
            let Some(header) = (unsafe { memory.header::<libc::tpacket2_hdr>(slot) }) else {
                break;
            };
            // SAFETY: as above; any byte is a `u8`.
            let packet_type = unsafe { memory.header::<u8>(slot + PACKET_TYPE) };
            let tagged = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            let unwanted = (!*other_stations && packet_type == Some(libc::PACKET_OTHERHOST))
                || (tagged && others.has(header.tp_vlan_tci));
            let read = if status & libc::TP_STATUS_COPY == 0 {
                held += 1;
                if header.tp_snaplen < header.tp_len {
                    refused.truncated += 1;
                    continue;
                }
                // SAFETY: the slot is ours until `release`, which needs this ring exclusively, and
                // so comes after 'f has ended; each slot is lent once in a batch.
                unsafe { lend(memory, slot, layout.slot_size(), &header) }
            } else {
                let Some(buffer) = large.next() else {
                    break;
                };
                held += 1;
                from_queue(fd, buffer, *headroom, header.tp_len)
            };
            if unwanted {
                refused.other_station += 1;
                continue;
            }
            match read {
                Ok(mut frame) => {
                    if tagged {
                        insert_vlan(&mut frame, tpid(&header), header.tp_vlan_tci);
                    }
                    frames.push(frame);
                }
                Err(DropReason::BadSegmentation) => refused.segmentation += 1,
                Err(_) => refused.truncated += 1,
            }
        }
        held
    }

    /// Gives the first `held` slots back to the kernel.
    pub(crate) fn release(&mut self, held: usize) {
        for _ in 0..held {
            let slot = self.layout.offset(self.next);
            // Release: our last access to the slot's bytes comes before the kernel's next one.
            self.memory
                .status(slot)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.layout.slots();
        }
    }
}

/// The tag's EtherType; kernels before 3.14 do not tell it.
const fn tpid(header: &libc::tpacket2_hdr) -> u16 {
    if header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
        header.tp_vlan_tpid
    } else {
        0x8100
    }
}

/// The frame in a slot, with all of the slot behind the headers as its buffer.
///
/// # Safety
/// For all of `'f` the slot belongs to us, and nobody else has a reference into it.
#[inline]
unsafe fn lend<'f>(
    memory: &Mapping,
    slot: usize,
    slot_size: usize,
    header: &libc::tpacket2_hdr,
) -> Result<Frame<'f>, DropReason> {
    // SAFETY: the caller's promise; the headers before these bytes are not part of the loan.
    let buffer = unsafe { memory.bytes(slot + HEADERS, slot_size - HEADERS) };
    let buffer = buffer.ok_or(DropReason::RingTruncated)?;
    let start = usize::from(header.tp_mac).saturating_sub(HEADERS);
    let vnet: [u8; VNET_HEADER] = start
        .checked_sub(VNET_HEADER)
        .and_then(|at| buffer.get(at..)?.first_chunk())
        .copied()
        .ok_or(DropReason::RingTruncated)?;
    let offload = vnet::decode(vnet).ok_or(DropReason::BadSegmentation)?;
    let length = usize::try_from(header.tp_snaplen).unwrap_or(usize::MAX);
    if length > buffer.len().saturating_sub(start) {
        return Err(DropReason::RingTruncated);
    }
    Ok(Frame::new(buffer, start, length, offload))
}

/// The frame that was too large for its slot.
#[cold]
fn from_queue<'f>(
    fd: BorrowedFd<'_>,
    buffer: &'f mut [u8],
    headroom: usize,
    expected: u32,
) -> Result<Frame<'f>, DropReason> {
    let mut vnet = [0; VNET_HEADER];
    let mut attempt = || {
        let room = buffer.get_mut(headroom..).unwrap_or_default();
        sys::receive_frame(fd, &mut vnet, room)
    };
    // An error that waits in the socket (the interface went down) is reported before the frame,
    // and once only; the frame must still be taken, for its slot is.
    let received = match attempt() {
        Err(error) if error.raw_os_error() != Some(libc::EAGAIN) => attempt(),
        other => other,
    };
    let received = received.map_err(|_| DropReason::RingTruncated)?;
    if received.truncated || u32::try_from(received.length) != Ok(expected) {
        return Err(DropReason::RingTruncated);
    }
    let offload: Offload = vnet::decode(vnet).ok_or(DropReason::BadSegmentation)?;
    Ok(Frame::new(buffer, headroom, received.length, offload))
}
