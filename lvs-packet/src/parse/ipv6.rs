//! The IPv6 header and its extension headers (RFC 8200).

use super::{IPV6_LEN, Network, number};
use crate::bytes::u16_at;
use crate::packet::Fragment;
use lvs_core::{Addr, DropReason, Family};

/// Longer chains are refused (RFC 8504, 5.3 allows such a limit).
pub(crate) const MAX_EXTENSION_HEADERS: usize = 32;

/// The upper-layer header that a chain leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upper {
    pub(super) protocol: u8,
    pub(super) at: usize,
    pub(super) fragment: Fragment,
    pub(super) second_unit: bool,
}

/// Checks the header at `l3` and the chain behind it. With `segmented`, a payload length of 0
/// stands for the rest of the frame (BIG TCP).
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l3: usize, segmented: bool) -> Result<Network, DropReason> {
    let rest = bytes.get(l3..).ok_or(DropReason::Truncated)?;
    let header: &[u8; IPV6_LEN] = rest.first_chunk().ok_or(DropReason::Truncated)?;
    let [version, class, _, _, l0, l1, next, ttl, addresses @ ..] = header;
    if version >> 4 != 6 {
        return Err(DropReason::BadVersion);
    }
    let mut total = IPV6_LEN + usize::from(u16::from_be_bytes([*l0, *l1]));
    if total == IPV6_LEN && segmented {
        total = rest.len();
    }
    let packet = rest.get(..total).ok_or(DropReason::BadTotalLength)?;
    let (src, dst) = addresses_of(addresses);
    if src.is_v4() || dst.is_v4() || src.is_multicast() {
        return Err(DropReason::BadAddress);
    }
    let upper = match *next {
        number::TCP | number::UDP | number::ICMPV6 => Upper {
            protocol: *next,
            at: IPV6_LEN,
            fragment: Fragment::None,
            second_unit: false,
        },
        _ => chain(packet, *next, true)?,
    };
    Ok(Network {
        family: Family::V6,
        l3,
        l4: l3 + upper.at,
        end: l3 + total,
        protocol: upper.protocol,
        src,
        dst,
        ttl: *ttl,
        tos: (version << 4) | (class >> 4),
        dont_fragment: true,
        fragment: upper.fragment,
        second_unit: upper.second_unit,
    })
}

/// Source and destination from the last 32 bytes of a header.
#[inline(always)]
pub(super) fn addresses_of(octets: &[u8; 32]) -> (Addr, Addr) {
    let (&[h0, h1, h2, h3], _) = octets.as_chunks::<8>() else {
        return (Addr::UNSPECIFIED, Addr::UNSPECIFIED);
    };
    let addr = |hi, lo| Addr {
        hi: u64::from_be_bytes(hi),
        lo: u64::from_be_bytes(lo),
    };
    (addr(h0, h1), addr(h2, h3))
}

/// Follows the extension headers of `packet`, which starts with its IPv6 header, from the first
/// one's number on. A routing header is passed over even if segments are left, as IPVS does: it sees
/// packets before its host routes them on. Unless it is `whole`, `packet` may end before the packet does.
#[cold]
pub(super) fn chain(packet: &[u8], first: u8, whole: bool) -> Result<Upper, DropReason> {
    const BAD: DropReason = DropReason::BadExtensionHeader;
    let mut upper = Upper {
        protocol: first,
        at: IPV6_LEN,
        fragment: Fragment::None,
        second_unit: false,
    };
    let mut fragmented = false;
    for index in 0..=MAX_EXTENSION_HEADERS {
        let extension = match upper.protocol {
            number::HOP_BY_HOP if index > 0 => return Err(BAD),
            number::HOP_BY_HOP
            | number::ROUTING
            | number::FRAGMENT
            | number::AUTHENTICATION
            | number::DESTINATION_OPTIONS => packet.get(upper.at..).ok_or(BAD)?,
            _ => return Ok(upper),
        };
        let &[next, units, ..] = extension.first_chunk::<8>().ok_or(BAD)?;
        let mut length = (usize::from(units) + 1) * 8;
        match upper.protocol {
            number::AUTHENTICATION => length = (usize::from(units) + 2) * 4,
            number::FRAGMENT if fragmented => return Err(BAD),
            number::FRAGMENT => {
                fragmented = true;
                length = 8;
                let field = u16_at(extension, 2).ok_or(BAD)?;
                upper.fragment = fragment(field, extension.len() - length, whole)?;
                upper.second_unit = field >> 3 == 1;
            }
            _ => {}
        }
        if length > extension.len() {
            return Err(BAD);
        }
        upper.protocol = next;
        upper.at += length;
        if upper.fragment == Fragment::Later {
            // What follows is the middle of something.
            return Ok(upper);
        }
    }
    Err(BAD)
}

/// A piece of `length` bytes of a datagram (RFC 8200, 4.5).
fn fragment(field: u16, length: usize, whole: bool) -> Result<Fragment, DropReason> {
    let offset = usize::from(field & 0xfff8);
    let more = field & 1 != 0;
    if offset == 0 && !more {
        return Ok(Fragment::Atomic);
    }
    let uneven = more && !length.is_multiple_of(8);
    if whole && (uneven || length == 0 || offset + length > usize::from(u16::MAX)) {
        return Err(DropReason::BadFragment);
    }
    Ok(if offset == 0 {
        Fragment::First
    } else {
        Fragment::Later
    })
}
