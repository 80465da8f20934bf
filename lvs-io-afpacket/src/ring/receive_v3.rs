//! The receive ring of `TPACKET_V3`: blocks of frames of any length.
//!
//! ```text
//!   block  │ descriptor │ frame 1 │ frame 2 │ … │ free │      frame n: │ header │ sender │ headroom │ vnet hdr │ bytes │
//!            └ status, number of frames, offset of the first             └ offset of the next
//! ```
//!
//! A block belongs to us when its status says `USER`, which it does when it is full or its time is
//! over, and goes back as a whole when its last frame has been given back.

use std::sync::atomic::Ordering;

use lvs_core::DropReason;
use lvs_packet::Frame;

use super::layout::map;
use super::{Frames, Refused, Vlans, insert_vlan, reserve_for};
use crate::config::PortConfig;
use crate::error::{Concession, OpenError};
use crate::socket::Socket;
use crate::sys::{Mapping, VNET_HEADER};
use crate::vnet;

/// Where the packet header and the sender's address end, and what may be overwritten begins.
const HEADERS: usize = libc::TPACKET3_HDRLEN;
/// Where `sll_pkttype` stands.
const PACKET_TYPE: usize = 48 + std::mem::offset_of!(libc::sockaddr_ll, sll_pkttype);
/// Where the description of a block's content stands, behind its version and private offset.
const DESCRIPTOR: usize = std::mem::offset_of!(libc::tpacket_block_desc, hdr);
/// The fewest blocks that are of use: one being filled, one being read.
const FEWEST: usize = 2;

/// A place in the ring.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// The block; counts on.
    block: usize,
    /// Offset of the next frame within it; meaningful while `left` is not 0.
    frame: usize,
    /// Frames of the block that have not been taken yet; 0: the block has not been entered.
    left: u32,
}

/// A receive ring of blocks.
#[derive(Debug)]
pub(crate) struct RingV3 {
    memory: Mapping,
    block_size: usize,
    blocks: usize,
    next: Cursor,
    /// Where the batch that is lent ends.
    end: Cursor,
    other_stations: bool,
    pub(crate) others: Vlans,
    pub(crate) refused: Refused,
}

impl RingV3 {
    /// Gives the socket a ring; smaller than configured if memory is short. `Ok(None)` if this
    /// kernel has no such ring.
    pub(crate) fn open(
        socket: &Socket,
        config: &PortConfig,
        concessions: &mut Vec<Concession>,
    ) -> Result<Option<Self>, OpenError> {
        if socket.packet_option(libc::PACKET_VERSION, &2_i32).is_err() {
            return Ok(None);
        }
        socket.vnet_headers()?;
        let reserve = u32::try_from(reserve_for(HEADERS, config.headroom)).unwrap_or(u32::MAX);
        socket.need("PACKET_RESERVE", libc::PACKET_RESERVE, &reserve)?;
        let block_size = config
            .block_size
            .clamp(128 << 10, 64 << 20)
            .next_power_of_two();
        let wanted = config.blocks.max(FEWEST);
        let mut blocks = wanted;
        let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        loop {
            let request = libc::tpacket_req3 {
                tp_block_size: word(block_size),
                tp_block_nr: word(blocks),
                tp_frame_size: 2048,
                tp_frame_nr: word(block_size / 2048 * blocks),
                tp_retire_blk_tov: config.block_timeout_ms.max(1),
                tp_sizeof_priv: 0,
                tp_feature_req_word: 0,
            };
            match socket.request_ring(libc::PACKET_RX_RING, &request) {
                Ok(true) => break,
                Ok(false) if blocks / 2 >= FEWEST => blocks /= 2,
                Ok(false) => {
                    return Err(OpenError::RingRefused {
                        bytes: blocks * block_size,
                        source: std::io::Error::from_raw_os_error(libc::ENOMEM),
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
                Err(source) => {
                    return Err(OpenError::RingRefused {
                        bytes: blocks * block_size,
                        source,
                    });
                }
            }
        }
        if blocks < wanted {
            concessions.push(Concession::SmallerRing {
                ring: "receive",
                wanted: wanted * block_size,
                got: blocks * block_size,
            });
        }
        Ok(Some(Self {
            memory: map(socket, blocks * block_size)?,
            block_size,
            blocks,
            next: Cursor::default(),
            end: Cursor::default(),
            other_stations: config.other_stations,
            others: Vlans::default(),
            refused: Refused::default(),
        }))
    }

    const fn offset(&self, block: usize) -> usize {
        (block % self.blocks) * self.block_size
    }

    /// Whether a frame is waiting.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.next.left != 0 || {
            let status = self
                .memory
                .status(self.offset(self.next.block) + DESCRIPTOR);
            status.load(Ordering::Relaxed) & libc::TP_STATUS_USER != 0
        }
    }

    /// Lends up to `max` frames, until [`Self::release`].
    pub(crate) fn gather<'f>(&'f mut self, max: usize, frames: &mut Frames<'f>) {
        let mut at = self.next;
        while frames.len() < max && at.block.wrapping_sub(self.next.block) < self.blocks {
            let block = self.offset(at.block);
            if at.left == 0 {
                let status = self
                    .memory
                    .status(block + DESCRIPTOR)
                    .load(Ordering::Acquire);
                if status & libc::TP_STATUS_USER == 0 {
                    break;
                }
                // SAFETY: the status says the block is ours; the header is plain integers.
                let Some(descriptor) = (unsafe {
                    self.memory
                        .header::<libc::tpacket_hdr_v1>(block + DESCRIPTOR)
                }) else {
                    break;
                };
                at.left = descriptor.num_pkts;
                at.frame = usize::try_from(descriptor.offset_to_first_pkt).unwrap_or(usize::MAX);
                if at.left == 0 {
                    at.block = at.block.wrapping_add(1);
                    continue;
                }
            }
            // SAFETY: the block is ours; the header is plain integers.
            let header = unsafe {
                self.memory
                    .header::<libc::tpacket3_hdr>(block.saturating_add(at.frame))
            };
            let Some(header) = header else {
                break;
            };
            let start = block + at.frame;
            let length = match usize::try_from(header.tp_next_offset) {
                Ok(0) | Err(_) => self.block_size.saturating_sub(at.frame),
                Ok(length) => length,
            };
            at.frame = at.frame.saturating_add(length);
            at.left -= 1;
            if at.left == 0 {
                at.block = at.block.wrapping_add(1);
            }
            // SAFETY: the block is ours; any byte is a `u8`.
            let packet_type = unsafe { self.memory.header::<u8>(start + PACKET_TYPE) };
            let tag = tag(&header);
            if (!self.other_stations && packet_type == Some(libc::PACKET_OTHERHOST))
                || tag.is_some_and(|(_, tci)| self.others.has(tci))
            {
                self.refused.other_station += 1;
                continue;
            }
            // SAFETY: the block is ours until `release`, which needs this ring exclusively and so
            // comes after 'f has ended; frames follow one another, and each is lent once.
            match unsafe { lend(&self.memory, start, length, &header) } {
                Ok(mut frame) => {
                    if let Some((tpid, tci)) = tag {
                        insert_vlan(&mut frame, tpid, tci);
                    }
                    frames.push(frame);
                }
                Err(DropReason::BadSegmentation) => self.refused.segmentation += 1,
                Err(_) => self.refused.truncated += 1,
            }
        }
        self.end = at;
    }

    /// Takes the frames lent last back, and gives blocks that are used up to the kernel.
    pub(crate) fn release(&mut self) {
        while self.next.block != self.end.block {
            let block = self.offset(self.next.block);
            // Release: our last access to the block's bytes comes before the kernel's next one.
            self.memory
                .status(block + DESCRIPTOR)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next.block = self.next.block.wrapping_add(1);
        }
        self.next = self.end;
    }
}

/// The EtherType and control information of the tag that the kernel took out.
#[inline]
fn tag(header: &libc::tpacket3_hdr) -> Option<(u16, u16)> {
    if header.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tpid = if header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
        header.hv1.tp_vlan_tpid
    } else {
        0x8100
    };
    let tci = u16::try_from(header.hv1.tp_vlan_tci & 0xffff).unwrap_or_default();
    Some((tpid, tci))
}

/// The frame at `start`, with all bytes behind its headers and up to the next one as its buffer.
///
/// # Safety
/// For all of `'f` the block belongs to us, and nobody else has a reference into this frame.
#[inline]
unsafe fn lend<'f>(
    memory: &Mapping,
    start: usize,
    length: usize,
    header: &libc::tpacket3_hdr,
) -> Result<Frame<'f>, DropReason> {
    let room = length
        .checked_sub(HEADERS)
        .ok_or(DropReason::RingTruncated)?;
    if header.tp_snaplen < header.tp_len {
        return Err(DropReason::RingTruncated);
    }
    // SAFETY: the caller's promise; the headers before these bytes are not part of the loan.
    let buffer = unsafe { memory.bytes(start + HEADERS, room) };
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
