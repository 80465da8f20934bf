//! The Internet checksum: whole (RFC 1071), by difference (RFC 1624), left to be finished
//! (`CHECKSUM_PARTIAL`); and SCTP's CRC32c.
//!
//! A *sum* here is a folded ones' complement sum in host order; a *checksum* is its complement, as
//! it stands in a header.
//!
//! ```
//! use lvs_packet::checksum;
//! // RFC 1624, section 4: 0xdd2f with a field that goes from 0x5555 to 0x3285 becomes 0x0000.
//! assert_eq!(checksum::update(0xdd2f, 0x5555, 0x3285), 0x0000);
//! ```

mod crc32c;
mod partial;

use crate::bytes::{array, u16_at};
use crate::frame::Frame;
use crate::packet::{Kind, Packet};
use lvs_core::Addr;

pub use crc32c::crc32c;
pub use partial::finish_partial;

/// The ones' complement sum of the 16-bit words of `bytes`, an odd last byte padded with zero.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    fold(native_sum(bytes)).to_be()
}

/// The checksum of `bytes`. Over bytes that contain a true one it is 0.
#[inline]
#[must_use]
pub fn full(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The words of `bytes` in the machine's byte order, added up in a wide accumulator. The sum's
/// bytes are swapped at the end instead of each word's (RFC 1071, 2 B).
#[inline]
fn native_sum(bytes: &[u8]) -> u64 {
    // Independent accumulators, fed with half of their width: no carry to chase, and the loop
    // becomes vector code. 2^31 blocks fit.
    const LOW: u64 = 0xffff_ffff;
    let (blocks, rest) = bytes.as_chunks::<64>();
    let mut lanes = [0_u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            let word = u64::from_ne_bytes(*word);
            *lane += (word & LOW) + (word >> 32);
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, tail) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    total + u64::from(u32::from_ne_bytes(last))
}

/// Folds the carries of a 64-bit sum back until 16 bits are left; 0 only of 0.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "halves, on purpose")]
const fn fold(total: u64) -> u16 {
    // A sum with a carry is below the largest: the carry itself makes no other.
    let (sum, carry) = (total as u32).overflowing_add((total >> 32) as u32);
    fold_long(sum + carry as u32)
}

/// The same of a 32-bit sum.
#[inline(always)]
pub(crate) const fn fold_long(sum: u32) -> u16 {
    // Both halves of the result are the sum of both halves; the carry of the lower one, which is
    // that of the sum, comes into the upper one by itself.
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Adds two sums.
#[inline]
#[must_use]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// Adds two long sums.
#[inline(always)]
const fn wrap(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// Whether the checksum of an IPv4 header without options, in words, is true.
#[inline(always)]
pub(crate) fn words_are_true(words: [[u8; 4]; 5]) -> bool {
    let [a, b, c, d, e] = words.map(|word| u64::from(u32::from_ne_bytes(word)));
    fold(a + b + c + d + e) == 0xffff
}

/// The same of a header that was read in three words, as they lie, and that is not all zeros.
#[inline(always)]
pub(crate) const fn header_is_true(first: u64, second: u64, last: u32) -> bool {
    /// The inverse of 2^16 - 1 modulo 2^64: what it makes small is a multiple.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const { assert!(INVERSE.wrapping_mul(0xffff) == 1) };
    // Words of 64 bits are as good as words of 16, and a sum of all ones in 16 bits is one that
    // 2^16 - 1 divides: a multiplication tells, where folding takes a chain of additions.
    let sum = wrap(wrap(first, second), last as u64);
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// The checksum of words in host order.
#[inline]
pub(crate) fn of_words(words: [u32; 5]) -> u16 {
    !fold(words.iter().map(|word| u64::from(*word)).sum())
}

/// A checksum after a word that it covers has changed (RFC 1624, equation 3): the same as a
/// computation in full if the checksum was true, as wrong as before if not.
#[inline]
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Delta::NONE.word(old, new).apply(checksum)
}

/// What changes of words do to a sum that covers them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delta(u64);

impl Delta {
    pub(crate) const NONE: Self = Self(0);

    /// A word changed.
    #[inline]
    pub(crate) const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// An IPv4 address changed.
    #[inline]
    pub(crate) const fn v4(self, old: Addr, new: Addr) -> Self {
        // Words of 32 bits are as good as words of 16: 2^16 is 1 modulo 2^16 - 1.
        Self(self.0 + (!old.low_word()) as u64 + new.low_word() as u64)
    }

    /// An IPv6 address changed.
    #[inline]
    pub(crate) const fn v6(self, old: Addr, new: Addr) -> Self {
        const LOW: u64 = 0xffff_ffff;
        let removed = (!old.hi >> 32) + (!old.hi & LOW) + (!old.lo >> 32) + (!old.lo & LOW);
        let added = (new.hi >> 32) + (new.hi & LOW) + (new.lo >> 32) + (new.lo & LOW);
        Self(self.0 + removed + added)
    }

    /// What else is added to the sum.
    #[inline(always)]
    pub(crate) const fn plus(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// The checksum after the changes.
    #[inline]
    pub(crate) const fn apply(self, checksum: u16) -> u16 {
        !self.apply_to_sum(!checksum)
    }

    /// A sum, not complemented, after the changes.
    #[inline]
    pub(crate) const fn apply_to_sum(self, sum: u16) -> u16 {
        // Folded apart: the header's word, which comes from memory, is added last.
        add(fold(self.0), sum)
    }
}

/// What changes of octets do to a sum that covers them: a few words, to be added up. A sum is the same
/// in every order of octets, if all words are read in the same (RFC 1071, 2 B): here they are taken
/// as the machine does, which spares it their exchange. Not to be mixed with [`Delta`].
pub(crate) mod native {
    use super::{fold_long, wrap};

    /// Adds two long sums.
    #[inline(always)]
    pub(crate) const fn add(a: u32, b: u32) -> u32 {
        let (sum, carry) = a.overflowing_add(b);
        sum + carry as u32
    }

    /// Two octets changed; the sum of a few such does not overflow.
    #[inline(always)]
    pub(crate) const fn word(old: [u8; 2], new: [u8; 2]) -> u32 {
        !u16::from_ne_bytes(old) as u32 + u16::from_ne_bytes(new) as u32
    }

    /// Four octets changed.
    #[inline(always)]
    pub(crate) const fn long(old: [u8; 4], new: [u8; 4]) -> u32 {
        add(!u32::from_ne_bytes(old), u32::from_ne_bytes(new))
    }

    /// Sixteen octets changed.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "halves, on purpose")]
    pub(crate) const fn longest(old: [u8; 16], new: [u8; 16]) -> u32 {
        let (old, new) = (u128::from_ne_bytes(old), u128::from_ne_bytes(new));
        // The complement of a sum is the sum of the complements, and one operation.
        let removed = !wrap(old as u64, (old >> 64) as u64);
        let added = wrap(new as u64, (new >> 64) as u64);
        let all = wrap(removed, added);
        add(all as u32, (all >> 32) as u32)
    }

    /// The checksum after changes of words and of what is longer that come to these sums.
    #[inline(always)]
    pub(crate) const fn apply(checksum: [u8; 2], words: u32, longer: u32) -> [u8; 2] {
        // The header's word, which comes from memory, and small ones need no carry.
        let words = words + !u16::from_ne_bytes(checksum) as u32;
        (!fold_long(add(longer, words))).to_ne_bytes()
    }
}

/// The sum of the pseudo header that TCP, UDP and `ICMPv6` checksums cover (RFC 9293, 3.1; RFC
/// 8200, 8.1). `length` is that of the transport header and its payload.
#[inline]
#[must_use]
pub const fn pseudo_header(src: Addr, dst: Addr, protocol: u8, length: u32) -> u16 {
    // With the complement of nothing taken away: the words of both addresses. The mapped prefix
    // of IPv4 addresses (0xffff) is a zero of ones' complement arithmetic.
    const LOW: u64 = 0xffff_ffff;
    let addresses = (src.hi >> 32)
        + (src.hi & LOW)
        + (src.lo >> 32)
        + (src.lo & LOW)
        + (dst.hi >> 32)
        + (dst.hi & LOW)
        + (dst.lo >> 32)
        + (dst.lo & LOW);
    fold(addresses + protocol as u64 + length as u64)
}

/// The checksum of a transport header with its payload, whose own checksum field must be 0, under
/// a pseudo header.
pub(crate) fn transport(src: Addr, dst: Addr, protocol: u8, segment: &[u8]) -> u16 {
    // No packet is 4 GB long.
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    !add(pseudo_header(src, dst, protocol, length), sum(segment))
}

/// Whether the transport checksum of a packet is true: TCP, UDP, SCTP, ICMP, `ICMPv6`. `None` if
/// that cannot be known: fragments, other protocols, UDP over IPv4 without checksum, and what is
/// left to be finished.
#[must_use]
pub fn verify(frame: &Frame<'_>, packet: &Packet) -> Option<bool> {
    if !packet.fragment.is_whole() || frame.offload.checksum.is_some() {
        return None;
    }
    let segment = frame.bytes().get(packet.transport()..packet.tail())?;
    let flow = &packet.flow;
    let with_pseudo_header =
        |segment| transport(flow.src.addr, flow.dst.addr, packet.protocol, segment) == 0;
    match packet.kind {
        Kind::Tcp => Some(with_pseudo_header(segment)),
        Kind::Udp => {
            let length = usize::from(u16_at(segment, 4)?);
            if u16_at(segment, 6)? == 0 {
                return None;
            }
            // The datagram may end before the packet.
            Some(with_pseudo_header(segment.get(..length).unwrap_or(segment)))
        }
        Kind::Sctp => {
            let stored: [u8; 4] = *array(segment, 8)?;
            Some(sctp(segment) == stored)
        }
        Kind::IcmpError | Kind::IcmpEchoRequest | Kind::IcmpOther | Kind::NeighbourSolicitation => {
            Some(match packet.flow.src.addr.is_v4() {
                true => full(segment) == 0,
                false => with_pseudo_header(segment),
            })
        }
        Kind::OtherIp | Kind::ArpRequest | Kind::NotIp => None,
    }
}

/// The checksum of an SCTP packet, as its bytes stand in the header (RFC 9260, 6.8), whatever
/// the field contains now.
pub(crate) fn sctp(packet: &[u8]) -> [u8; 4] {
    let (Some(head), Some(chunks)) = (packet.get(..8), packet.get(12..)) else {
        return [0; 4];
    };
    let crc = crc32c::extend(crc32c::START, head);
    let crc = crc32c::extend(crc, &[0; 4]);
    (!crc32c::extend(crc, chunks)).to_le_bytes()
}

#[cfg(test)]
mod tests;
