//! The virtio-net header (virtio 1.2, 5.1.6) as [`Offload`] and back.
//!
//! Ten bytes in the host's byte order: flags, GSO type, header length, GSO size, checksum start,
//! checksum offset. Bytes in, values out; no I/O.

use lvs_packet::{Offload, PartialChecksum, SegmentKind, Segmentation};

use crate::sys::VNET_HEADER;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The longest header that one packet of a segmented frame repeats, and with it the part of a large
/// frame that the kernel copies into one piece; more would make it look for a large piece of memory
/// for nothing, less is made up for by the kernel.
const LINEAR: usize = 256;

/// Reads a header; `None` if it describes a segmentation that has no name here.
#[inline]
pub(crate) const fn decode(header: [u8; VNET_HEADER]) -> Option<Offload> {
    let [flags, gso, h0, h1, s0, s1, c0, c1, o0, o1] = header;
    let checksum = if flags & NEEDS_CHECKSUM == 0 {
        None
    } else {
        Some(PartialChecksum {
            start: u16::from_ne_bytes([c0, c1]),
            offset: u16::from_ne_bytes([o0, o1]),
        })
    };
    let kind = match gso & !GSO_ECN {
        GSO_NONE => {
            return Some(Offload {
                checksum,
                segmentation: None,
            });
        }
        GSO_TCP_V4 => SegmentKind::TcpV4,
        GSO_TCP_V6 => SegmentKind::TcpV6,
        GSO_UDP_L4 => SegmentKind::Udp,
        _ => return None,
    };
    Some(Offload {
        checksum,
        segmentation: Some(Segmentation {
            kind,
            size: u16::from_ne_bytes([s0, s1]),
            header_len: u16::from_ne_bytes([h0, h1]),
            ecn: gso & GSO_ECN != 0,
        }),
    })
}

/// Writes the header of a frame of `length` bytes.
///
/// The header length tells the kernel how much of the frame to keep in one piece: all of a small
/// one, the headers of a large one.
#[inline]
pub(crate) fn encode(offload: &Offload, length: usize, whole: bool) -> [u8; VNET_HEADER] {
    let linear = if whole { length } else { length.min(LINEAR) };
    let [h0, h1] = u16::try_from(linear).unwrap_or(u16::MAX).to_ne_bytes();
    let (gso, size) = match &offload.segmentation {
        None => (GSO_NONE, 0),
        Some(segmentation) => {
            let kind = match segmentation.kind {
                SegmentKind::TcpV4 => GSO_TCP_V4,
                SegmentKind::TcpV6 => GSO_TCP_V6,
                SegmentKind::Udp => GSO_UDP_L4,
            };
            let ecn = if segmentation.ecn { GSO_ECN } else { 0 };
            (kind | ecn, segmentation.size)
        }
    };
    let [s0, s1] = size.to_ne_bytes();
    let (flags, start, offset) = match &offload.checksum {
        None => (0, 0, 0),
        Some(partial) => (NEEDS_CHECKSUM, partial.start, partial.offset),
    };
    let [c0, c1] = start.to_ne_bytes();
    let [o0, o1] = offset.to_ne_bytes();
    [flags, gso, h0, h1, s0, s1, c0, c1, o0, o1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_round_trip() {
        for kind in [SegmentKind::TcpV4, SegmentKind::TcpV6, SegmentKind::Udp] {
            for ecn in [false, true] {
                let offload = Offload {
                    checksum: Some(PartialChecksum {
                        start: 34,
                        offset: 16,
                    }),
                    segmentation: Some(Segmentation {
                        kind,
                        size: 1448,
                        header_len: 200,
                        ecn,
                    }),
                };
                assert_eq!(decode(encode(&offload, 200, true)), Some(offload));
            }
        }
        assert_eq!(
            decode(encode(&Offload::default(), 60, true)),
            Some(Offload::default())
        );
    }

    #[test]
    fn the_layout_is_virtio_s() {
        let offload = Offload {
            checksum: Some(PartialChecksum {
                start: 34,
                offset: 16,
            }),
            segmentation: Some(Segmentation {
                kind: SegmentKind::TcpV6,
                size: 1440,
                header_len: 74,
                ecn: true,
            }),
        };
        let mut expected = vec![1, 0x84];
        for word in [256_u16, 1440, 34, 16] {
            expected.extend(word.to_ne_bytes());
        }
        assert_eq!(encode(&offload, 65_000, false).to_vec(), expected);
    }

    #[test]
    fn an_unknown_segmentation_is_not_guessed() {
        assert_eq!(decode([0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
