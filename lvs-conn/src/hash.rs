//! Keyed hashing of endpoints and flows.
//!
//! A client picks its address and port; without the key it cannot pick its bucket. An endpoint
//! is one block over IPv4, two over IPv6; a block goes through four rounds of AES where the processor
//! has them, and all of them through SipHash-1-3 elsewhere.
//!
//! In: endpoints and flows. Out: 64 bits. Never: a hash that two tables share.

use crate::raw::AesKey;
use lvs_core::{Endpoint, Flow, Protocol};
use std::hash::{BuildHasher, RandomState};

/// The hash of a table and its key.
///
/// Where the processor has AES instructions, an endpoint is a block that goes through four rounds
/// with five secret keys, and half of what comes out is the hash. Its bits differ as those of random
/// numbers do: two inputs of a known difference become outputs of a known difference with a
/// probability of at most 2^-113, whatever the inputs (Keliher and Sui, 2007). It is no cipher: who could read hashes could find the key. Nobody
/// can, and the cost is a nanosecond. Elsewhere it is SipHash-1-3 (Aumasson and Bernstein, 2012).
#[derive(Clone, Copy)]
pub struct FlowHash(Kind);

/// The two hashes, for whoever chooses once and hashes often.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Aes(AesKey),
    Sip(SipHash13),
}

impl std::fmt::Debug for FlowHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is nobody's business.
        f.write_str(match self.0 {
            Kind::Aes(_) => "FlowHash::aes(..)",
            Kind::Sip(_) => "FlowHash::siphash(..)",
        })
    }
}

impl Default for FlowHash {
    /// With a key from the system's randomness.
    fn default() -> Self {
        let word = |n: u32| RandomState::new().hash_one(n);
        Self::with_key(word(1), word(2))
    }
}

impl FlowHash {
    /// The quicker one on this processor, with a key of the caller's: for tests.
    #[must_use]
    pub fn with_key(k0: u64, k1: u64) -> Self {
        Self::aes(k0, k1).unwrap_or_else(|| Self::siphash(k0, k1))
    }

    /// Rounds of AES; `None` where the processor has none.
    #[must_use]
    pub fn aes(k0: u64, k1: u64) -> Option<Self> {
        let sip = SipHash13 { k0, k1 };
        let keys = core::array::from_fn(|n| [sip.words([n as u64]), sip.words([!(n as u64)])]);
        AesKey::new(keys).map(|key| Self(Kind::Aes(key)))
    }

    /// SipHash-1-3.
    #[must_use]
    pub const fn siphash(k0: u64, k1: u64) -> Self {
        Self(Kind::Sip(SipHash13 { k0, k1 }))
    }

    #[inline]
    pub(crate) const fn kind(&self) -> &Kind {
        &self.0
    }

    /// The hash of an endpoint.
    #[inline]
    pub(crate) fn endpoint(&self, protocol: Protocol, endpoint: &Endpoint) -> u64 {
        match &self.0 {
            Kind::Aes(key) => key.endpoint(protocol, endpoint),
            Kind::Sip(key) => key.endpoint(protocol, endpoint),
        }
    }

    /// The hash of a whole flow.
    pub(crate) fn flow(&self, flow: &Flow) -> u64 {
        match &self.0 {
            Kind::Aes(key) => key.flow(flow),
            Kind::Sip(key) => key.flow(flow),
        }
    }
}

/// A keyed hash of blocks of two words.
pub(crate) trait Hasher: Copy {
    /// The hash of one to three blocks, of which the last one tells how many they are.
    fn hash<const N: usize>(&self, blocks: [[u64; 2]; N]) -> u64;

    /// The hash of an endpoint.
    #[inline(always)]
    fn endpoint(&self, protocol: Protocol, endpoint: &Endpoint) -> u64 {
        let Endpoint { addr, port } = endpoint;
        let port = (u64::from(*port) << 8) | u64::from(protocol.number());
        if addr.is_v4() {
            self.hash([[(u64::from(addr.low_word()) << 32) | port, 0]])
        } else {
            self.hash([[addr.hi, addr.lo], [port, 1]])
        }
    }

    /// The hash of a whole flow.
    #[inline(always)]
    fn flow(&self, flow: &Flow) -> u64 {
        let (src, dst) = (flow.src.addr, flow.dst.addr);
        let ports = (u64::from(flow.src.port) << 32)
            | (u64::from(flow.dst.port) << 16)
            | u64::from(flow.protocol.number());
        self.hash([[src.hi, src.lo], [dst.hi, dst.lo], [ports, 2]])
    }
}

impl Hasher for AesKey {
    #[inline(always)]
    fn hash<const N: usize>(&self, blocks: [[u64; 2]; N]) -> u64 {
        self.blocks(blocks)
    }
}

impl Hasher for SipHash13 {
    #[inline]
    fn hash<const N: usize>(&self, blocks: [[u64; 2]; N]) -> u64 {
        self.of(blocks.as_flattened().iter().copied(), 2 * N)
    }
}

/// SipHash-1-3 with a 128-bit key.
#[derive(Clone, Copy)]
pub(crate) struct SipHash13 {
    k0: u64,
    k1: u64,
}

impl SipHash13 {
    /// The hash of whole words in little-endian order.
    fn words<const N: usize>(self, words: [u64; N]) -> u64 {
        self.of(words.into_iter(), N)
    }

    fn of(self, words: impl Iterator<Item = u64>, len: usize) -> u64 {
        let mut state = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        for word in words.chain([(len as u64 * 8) << 56]) {
            let [.., v3] = &mut state;
            *v3 ^= word;
            state = round(state);
            let [v0, ..] = &mut state;
            *v0 ^= word;
        }
        let [.., v2, _] = &mut state;
        *v2 ^= 0xff;
        let [v0, v1, v2, v3] = round(round(round(state)));
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[inline(always)]
const fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v1);
    v0 = v0.wrapping_add(v3);
    v1 = v1.rotate_left(17) ^ v2;
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::Addr;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher as _;

    fn reference(key: (u64, u64), words: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key.0, key.1);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        hasher.write(&bytes);
        hasher.finish()
    }

    fn hashes() -> impl Iterator<Item = FlowHash> {
        [FlowHash::aes(1, 2), Some(FlowHash::siphash(1, 2))]
            .into_iter()
            .flatten()
    }

    proptest! {
        #[test]
        fn it_is_siphash_1_3(k0: u64, k1: u64, two: [u64; 2], five: [u64; 5]) {
            let ours = SipHash13 { k0, k1 };
            prop_assert_eq!(ours.words(two), reference((k0, k1), &two));
            prop_assert_eq!(ours.words(five), reference((k0, k1), &five));
        }

        /// Each bit of what is hashed turns about half of the bits of the hash.
        #[test]
        fn every_bit_counts(v4: u32, v6: (u64, u64), port: u16, bit in 0..128_u32) {
            for hash in hashes() {
                for (addr, bits) in [
                    (Addr::from_v4_bits(v4), 32),
                    (Addr { hi: v6.0 | 1 << 63, lo: v6.1 }, 127),
                ] {
                    let one = Endpoint::new(addr, port);
                    let mut other = one;
                    match bit % (bits + 16) {
                        bit if bit >= bits => other.port ^= 1 << (bit - bits),
                        bit if bit < 64 => other.addr.lo ^= 1 << bit,
                        bit => other.addr.hi ^= 1 << (bit - 64),
                    }
                    let to = Endpoint::new(Addr::from_v4_bits(7), 80);
                    let pairs = [
                        [one, other].map(|end| hash.endpoint(Protocol::Tcp, &end)),
                        [one, other].map(|end| hash.flow(&Flow::new(Protocol::Tcp, end, to))),
                        [one, other].map(|end| hash.flow(&Flow::new(Protocol::Tcp, to, end))),
                    ];
                    for [a, b] in pairs {
                        let turned = (a ^ b).count_ones();
                        prop_assert!((8..=56).contains(&turned), "{turned} of 64");
                    }
                }
            }
        }
    }
}
