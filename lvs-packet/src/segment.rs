//! Frames that stand for several packets (GSO), cut into these packets in software, for what the
//! hardware or the kernel behind the ring cannot cut: packets that are to go into a tunnel.
//!
//! The result is what the kernel's segmentation gives: IPv4 identifications count up, sequence
//! numbers advance, FIN and PSH stand on the last packet and CWR on the first only, lengths are
//! right and every checksum is finished. The jumbo option of BIG TCP goes.
//!
//! ```
//! use lvs_packet::{Frame, Offload, Segmentation, SegmentKind, build, parse, segment};
//! let mut buffer = [0; 4096];
//! let ip = build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?);
//! let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40001, 80), &[7; 3000])?;
//! let kind = SegmentKind::TcpV4;
//! let segmentation = Some(Segmentation { kind, size: 1400, header_len: 54, ecn: false });
//! let frame = Frame::new(&mut buffer, 0, length, Offload { checksum: None, segmentation });
//! let packet = parse(&frame).unwrap();
//! let mut segments = segment::segments(&frame, &packet).unwrap();
//! assert_eq!(segments.len(), 3);
//! let mut scratch = [0; 2048];
//! while let Some(segment) = segments.next_into(&mut scratch, 64).unwrap() {
//!     assert!(segment.len() <= 1400 + 54 && segment.headroom() == 64);
//! }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array, length_field, set, set_u16, u8_at, u16_at, u32_at};
use crate::checksum;
use crate::frame::{Frame, Offload, PartialChecksum, SegmentKind};
use crate::packet::{Kind, Packet, TcpFlags};
use crate::parse::{IPV6_LEN, TCP_LEN, UDP_LEN, number};
use lvs_core::{DropReason, Family};

/// A hop-by-hop header that holds nothing but the jumbo option (RFC 2675), as BIG TCP has it.
const JUMBO_LEN: usize = 8;

/// The packets of a frame, one after the other.
#[derive(Clone, Debug)]
pub struct Segments<'f> {
    /// All up to and with the transport header.
    head: &'f [u8],
    payload: &'f [u8],
    packet: Packet,
    /// Payload bytes of each packet but the last.
    size: usize,
    /// Length of a jumbo header behind the IPv6 header, which is left out.
    jumbo: usize,
    /// How many packets have been given.
    given: usize,
    /// Checksums are left to be finished.
    left: bool,
}

/// The packets that `frame` stands for; a frame that stands for itself is one. `packet` is what
/// [`crate::parse()`] says of the frame.
///
/// # Errors
/// [`DropReason::BadSegmentation`] if the frame's content is not what its segmentation says: another
/// protocol, a fragment, a size of 0.
pub fn segments<'f>(frame: &'f Frame<'_>, packet: &Packet) -> Result<Segments<'f>, DropReason> {
    const BAD: DropReason = DropReason::BadSegmentation;
    let bytes = frame.bytes();
    let l4 = packet.transport();
    let bytes = bytes.get(..packet.tail()).ok_or(BAD)?;
    let header_len = match packet.kind {
        _ if !packet.fragment.is_whole() => return Err(BAD),
        Kind::Tcp => usize::from(u8_at(bytes, l4 + 12).ok_or(BAD)? >> 4) * 4,
        Kind::Udp => UDP_LEN,
        _ => return Err(BAD),
    };
    let (head, payload) = bytes.split_at_checked(l4 + header_len).ok_or(BAD)?;
    let size = match frame.offload.segmentation {
        None => payload.len().max(1),
        Some(segmentation) => {
            let fits = match segmentation.kind {
                SegmentKind::TcpV4 => packet.kind == Kind::Tcp && packet.family == Family::V4,
                SegmentKind::TcpV6 => packet.kind == Kind::Tcp && packet.family == Family::V6,
                SegmentKind::Udp => packet.kind == Kind::Udp,
            };
            if !fits || segmentation.size == 0 {
                return Err(BAD);
            }
            usize::from(segmentation.size)
        }
    };
    Ok(Segments {
        head,
        payload,
        packet: *packet,
        size,
        jumbo: jumbo_len(head, packet),
        given: 0,
        left: false,
    })
}

/// Length of a jumbo header, if the packet has one.
fn jumbo_len(head: &[u8], packet: &Packet) -> usize {
    let at = packet.ip() + IPV6_LEN;
    if packet.family == Family::V6
        && u8_at(head, packet.ip() + 6) == Some(number::HOP_BY_HOP)
        && let Some([_, 0, 0xc2, 4, ..]) = array::<JUMBO_LEN>(head, at)
    {
        return JUMBO_LEN;
    }
    0
}

impl Segments<'_> {
    /// Leaves the transport checksums to whoever gets the packets ([`crate::PartialChecksum`]).
    #[must_use]
    pub const fn leave_checksums(mut self) -> Self {
        self.left = true;
        self
    }

    /// How many packets are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len().div_ceil(self.size).max(1) - self.given
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the longest packet as a frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.head.len() - self.jumbo + self.size.min(self.payload.len())
    }

    /// Writes the next packet into `scratch`, behind `headroom` free bytes, and gives it as a frame
    /// of its own; `None` after the last. What was parsed of the whole describes it too, but for
    /// [`Packet::end`], the flags that only one packet has, and offsets behind a jumbo header: parse
    /// it again to know more than its flow.
    ///
    /// # Errors
    /// [`DropReason::BadSegmentation`] if `scratch` is shorter than headroom and
    /// [`Segments::frame_len`] together, or a packet's length exceeds 16 bits.
    pub fn next_into<'s>(
        &mut self,
        scratch: &'s mut [u8],
        headroom: usize,
    ) -> Result<Option<Frame<'s>>, DropReason> {
        const BAD: DropReason = DropReason::BadSegmentation;
        if self.is_empty() {
            return Ok(None);
        }
        let first = self.given == 0;
        let last = self.len() == 1;
        let from = self.given * self.size;
        let rest = self.payload.get(from..).unwrap_or_default();
        let payload = rest.get(..self.size).unwrap_or(rest);
        let length = self.head.len() - self.jumbo + payload.len();
        if length - self.packet.ip() > usize::from(u16::MAX) {
            return Err(BAD);
        }
        let mut frame = Frame::new(scratch, headroom, length, Offload::default());
        if frame.len() != length {
            return Err(BAD);
        }
        let index = self.given;
        self.given += 1;
        let bytes = frame.bytes_mut();
        let (head, tail) = bytes
            .split_at_mut_checked(length - payload.len())
            .ok_or(BAD)?;
        tail.copy_from_slice(payload);
        self.copy_head(head).ok_or(BAD)?;
        self.network(head, index, payload.len());
        let l4 = self.packet.transport() - self.jumbo;
        let segment = bytes.get_mut(l4..).ok_or(BAD)?;
        let (checksum_at, without) = match self.packet.kind {
            Kind::Tcp => {
                tcp(segment, from, first, last);
                (16, false)
            }
            _ => {
                let field = length_field(segment.len());
                // Without a checksum before, none after, unless it was to be finished.
                let none = u16_at(segment, 6) == Some(0) && self.packet.family == Family::V4;
                set_u16(segment, 4, field);
                (6, none)
            }
        };
        set_u16(segment, checksum_at, 0);
        if !without {
            let flow = &self.packet.flow;
            let (src, dst) = (flow.src.addr, flow.dst.addr);
            let protocol = self.packet.protocol;
            let checksum = if self.left {
                let length = u32::try_from(segment.len()).map_err(|_| BAD)?;
                checksum::pseudo_header(src, dst, protocol, length)
            } else {
                match checksum::transport(src, dst, protocol, segment) {
                    0 if self.packet.kind == Kind::Udp => 0xffff,
                    checksum => checksum,
                }
            };
            set_u16(segment, checksum_at, checksum);
            frame.offload.checksum = self.left.then_some(PartialChecksum {
                start: u16::try_from(l4).map_err(|_| BAD)?,
                offset: u16::try_from(checksum_at).map_err(|_| BAD)?,
            });
        }
        Ok(Some(frame))
    }

    /// The headers as they are, without a jumbo header.
    fn copy_head(&self, to: &mut [u8]) -> Option<()> {
        if self.jumbo == 0 {
            to.copy_from_slice(self.head);
            return Some(());
        }
        let at = self.packet.ip() + IPV6_LEN;
        let (before, behind) = to.split_at_mut_checked(at)?;
        before.copy_from_slice(self.head.get(..at)?);
        behind.copy_from_slice(self.head.get(at + self.jumbo..)?);
        // The header behind the jumbo header is now the first.
        set(to, self.packet.ip() + 6, [u8_at(self.head, at)?]);
        Some(())
    }

    /// Length, identification and header checksum of the packet of this index.
    fn network(&self, head: &mut [u8], index: usize, payload: usize) {
        let l3 = self.packet.ip();
        let length = head.len() - l3 + payload;
        let l4 = self.packet.transport() - l3;
        let Some(ip) = head.get_mut(l3..) else {
            return;
        };
        match self.packet.family {
            Family::V4 => {
                set_u16(ip, 2, length_field(length));
                let ident = u16_at(ip, 4).unwrap_or_default();
                let [_, _, .., i0, i1] = index.to_be_bytes();
                set_u16(ip, 4, ident.wrapping_add(u16::from_be_bytes([i0, i1])));
                set_u16(ip, 10, 0);
                let checksum = checksum::full(ip.get(..l4).unwrap_or_default());
                set_u16(ip, 10, checksum);
            }
            Family::V6 => set_u16(ip, 4, length_field(length - IPV6_LEN)),
        }
    }
}

/// Sequence number and flags of the packet whose payload starts `from` bytes into the whole.
fn tcp(segment: &mut [u8], from: usize, first: bool, last: bool) {
    let Some(header) = segment.first_chunk_mut::<TCP_LEN>() else {
        return;
    };
    let sequence = u32_at(header, 4).unwrap_or_default();
    let advanced = sequence.wrapping_add(u32::try_from(from).unwrap_or_default());
    set(header, 4, advanced.to_be_bytes());
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, flags, ..] = header;
    if !last {
        *flags &= !(TcpFlags::FIN.0 | TcpFlags::PSH.0);
    }
    if !first {
        *flags &= !TcpFlags::CWR.0;
    }
}
