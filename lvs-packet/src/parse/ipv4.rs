//! The IPv4 header (RFC 791).

use super::{IPV4_LEN, Network};
use crate::checksum;
use crate::packet::Fragment;
use lvs_core::{Addr, DropReason, Family};

/// Checks the header at `l3` and reads it. With `segmented`, a total length of 0 stands for the
/// rest of the frame (BIG TCP).
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l3: usize, segmented: bool) -> Result<Network, DropReason> {
    read::<true>(bytes, l3, segmented)
}

/// The same, whatever the options are.
pub(super) fn parse_lenient(bytes: &[u8], l3: usize) -> Result<Network, DropReason> {
    read::<false>(bytes, l3, false)
}

#[inline(always)]
fn read<const STRICT: bool>(
    bytes: &[u8],
    l3: usize,
    segmented: bool,
) -> Result<Network, DropReason> {
    let rest = bytes.get(l3..).ok_or(DropReason::Truncated)?;
    let header: &[u8; IPV4_LEN] = rest.first_chunk().ok_or(DropReason::Truncated)?;
    // Five words, each loaded once.
    let (&[w0, w1, w2, w3, w4], _) = header.as_chunks::<4>() else {
        return Err(DropReason::Truncated);
    };
    let [version, tos, t0, t1] = w0;
    let [_, _, f0, f1] = w1;
    let [ttl, protocol, _, _] = w2;
    let mut header_len = IPV4_LEN;
    if version != 0x45 {
        header_len = unusual(version, rest, STRICT)?;
    } else if !checksum::words_are_true([w0, w1, w2, w3, w4]) {
        return Err(DropReason::BadIpChecksum);
    }
    let mut total = usize::from(u16::from_be_bytes([t0, t1]));
    if total == 0 && segmented {
        total = rest.len();
    }
    if total < header_len || total > rest.len() {
        return Err(DropReason::BadTotalLength);
    }
    let field = u16::from_be_bytes([f0, f1]);
    let fragment = if field & 0x3fff == 0 {
        Fragment::None
    } else {
        fragment(field, total - header_len)?
    };
    let src = Addr::from_v4_octets(w3);
    if src.low_word() >> 28 == 0xe || src.low_word() == u32::MAX {
        return Err(DropReason::BadAddress);
    }
    Ok(Network {
        family: Family::V4,
        l3,
        l4: l3 + header_len,
        end: l3 + total,
        protocol,
        src,
        dst: Addr::from_v4_octets(w4),
        ttl,
        tos,
        dont_fragment: field & 0x4000 != 0,
        fragment,
        second_unit: field & 0x1fff == 1,
    })
}

/// Another version, or another length than that without options: the length of the header, whose
/// checksum is good, and if `strict` its options.
#[cold]
fn unusual(version: u8, rest: &[u8], strict: bool) -> Result<usize, DropReason> {
    if version >> 4 != 4 {
        return Err(DropReason::BadVersion);
    }
    let header_len = usize::from(version & 0xf) * 4;
    if header_len < IPV4_LEN {
        return Err(DropReason::BadHeaderLength);
    }
    let header = rest.get(..header_len).ok_or(DropReason::Truncated)?;
    if checksum::full(header) != 0 {
        return Err(DropReason::BadIpChecksum);
    }
    if !strict {
        return Ok(header_len);
    }
    let mut options = header.get(IPV4_LEN..).unwrap_or_default();
    while let [kind, tail @ ..] = options {
        options = match (kind, tail) {
            (0, _) => break,
            (1, _) => tail,
            (_, [length, ..]) if *length >= 2 => options
                .get(usize::from(*length)..)
                .ok_or(DropReason::BadIpOptions)?,
            _ => return Err(DropReason::BadIpOptions),
        };
    }
    Ok(header_len)
}

/// A piece of `length` bytes of a datagram (RFC 791, 3.2).
#[cold]
fn fragment(field: u16, length: usize) -> Result<Fragment, DropReason> {
    let offset = usize::from(field & 0x1fff) * 8;
    let more = field & 0x2000 != 0;
    let uneven = more && !length.is_multiple_of(8);
    if uneven || length == 0 || offset + length > usize::from(u16::MAX) {
        return Err(DropReason::BadFragment);
    }
    Ok(if offset == 0 {
        Fragment::First
    } else {
        Fragment::Later
    })
}
