//! Keyed hashing of endpoints and flows.
//!
//! A client picks its address and port; without the key it cannot pick its bucket. An endpoint
//! becomes one word (as it is over IPv4, hashed over IPv6), and words are hashed many at a time: by
//! four rounds of AES where the processor has them, by SipHash-1-3 elsewhere.

use crate::raw::{AesKey, hash_lanes};
use lvs_core::{Addr, Endpoint, Flow, Protocol};
use std::hash::{BuildHasher, RandomState};

/// Words that SipHash takes side by side.
pub(crate) const LANES: usize = 8;

/// The hash of a table and its key.
///
/// Where the processor has AES instructions, an endpoint is a block that goes through four rounds
/// with five secret keys. That is a permutation, so no two IPv4 endpoints have the same hash, and
/// the bits that choose a bucket differ as those of random numbers do: two inputs of a known
/// difference have one of a known difference with a probability of at most 2^-113, whatever the
/// inputs (Keliher and Sui, 2007). It is no cipher: who could read hashes could find the key. Nobody
/// can, and the cost is a nanosecond. Elsewhere it is SipHash-1-3 (Aumasson and Bernstein, 2012).
#[derive(Clone, Copy)]
pub struct FlowHash(Kind);

#[derive(Clone, Copy)]
enum Kind {
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

    /// The word of an endpoint, which is not a hash yet.
    #[inline]
    pub(crate) fn word(&self, protocol: Protocol, endpoint: &Endpoint) -> u64 {
        let Endpoint { addr, port } = endpoint;
        let port = (u64::from(*port) << 8) | u64::from(protocol.number());
        if addr.is_v4() {
            (u64::from(addr.low_word()) << 32) | port
        } else {
            self.long_word(*addr, port)
        }
    }

    #[inline(never)]
    fn long_word(&self, addr: Addr, port: u64) -> u64 {
        self.blocks(&[[addr.hi, addr.lo], [port, 1]])
    }

    /// Turns words into their hashes.
    #[inline]
    pub(crate) fn words(&self, words: &mut [u64]) {
        match &self.0 {
            Kind::Aes(key) => key.words(words),
            Kind::Sip(key) => key.replace(words),
        }
    }

    /// The hash of an endpoint.
    pub(crate) fn endpoint(&self, protocol: Protocol, endpoint: Endpoint) -> u64 {
        let mut word = [self.word(protocol, &endpoint)];
        self.words(&mut word);
        let [hash] = word;
        hash
    }

    /// The hash of a whole flow.
    pub(crate) fn flow(&self, flow: &Flow) -> u64 {
        let (src, dst) = (flow.src.addr, flow.dst.addr);
        let ports = (u64::from(flow.src.port) << 32)
            | (u64::from(flow.dst.port) << 16)
            | u64::from(flow.protocol.number());
        self.blocks(&[[src.hi, src.lo], [dst.hi, dst.lo], [ports, 2]])
    }

    /// The hash of blocks of two words.
    fn blocks<const N: usize>(&self, blocks: &[[u64; 2]; N]) -> u64 {
        match &self.0 {
            Kind::Aes(key) => key.blocks(blocks),
            Kind::Sip(key) => key.of(blocks.as_flattened().iter().copied(), 2 * N),
        }
    }
}

/// SipHash-1-3 with a 128-bit key.
#[derive(Clone, Copy)]
struct SipHash13 {
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
            [self.k0 ^ 0x736f_6d65_7073_6575],
            [self.k1 ^ 0x646f_7261_6e64_6f6d],
            [self.k0 ^ 0x6c79_6765_6e65_7261],
            [self.k1 ^ 0x7465_6462_7974_6573],
        ];
        for word in words.chain([(len as u64 * 8) << 56]) {
            absorb(&mut state, &[word]);
        }
        let [hash] = finish(&mut state);
        hash
    }

    fn replace(self, words: &mut [u64]) {
        for words in words.chunks_mut(LANES) {
            let mut lanes = [0; LANES];
            lanes
                .iter_mut()
                .zip(words.iter())
                .for_each(|(lane, word)| *lane = *word);
            let hashes = hash_lanes([self.k0, self.k1], lanes);
            words
                .iter_mut()
                .zip(hashes)
                .for_each(|(word, hash)| *word = hash);
        }
    }
}

/// SipHash-1-3 of [`LANES`] words side by side: written so that the compiler can use the widest
/// registers that the caller is compiled for.
#[inline(always)]
pub(crate) fn lanes([k0, k1]: [u64; 2], words: [u64; LANES]) -> [u64; LANES] {
    let mut state = [
        [k0 ^ 0x736f_6d65_7073_6575; LANES],
        [k1 ^ 0x646f_7261_6e64_6f6d; LANES],
        [k0 ^ 0x6c79_6765_6e65_7261; LANES],
        [k1 ^ 0x7465_6462_7974_6573; LANES],
    ];
    absorb(&mut state, &words);
    absorb(&mut state, &[8 << 56; LANES]);
    finish(&mut state)
}

#[inline(always)]
fn absorb<const N: usize>(state: &mut [[u64; N]; 4], words: &[u64; N]) {
    state[3]
        .iter_mut()
        .zip(words)
        .for_each(|(v3, word)| *v3 ^= word);
    round(state);
    state[0]
        .iter_mut()
        .zip(words)
        .for_each(|(v0, word)| *v0 ^= word);
}

#[inline(always)]
fn finish<const N: usize>(state: &mut [[u64; N]; 4]) -> [u64; N] {
    state[2].iter_mut().for_each(|v2| *v2 ^= 0xff);
    for _ in 0..3 {
        round(state);
    }
    let [mut hashes, v1, v2, v3] = *state;
    for (((hash, v1), v2), v3) in hashes.iter_mut().zip(v1).zip(v2).zip(v3) {
        *hash ^= v1 ^ v2 ^ v3;
    }
    hashes
}

#[inline(always)]
fn round<const N: usize>(state: &mut [[u64; N]; 4]) {
    let [v0, v1, v2, v3] = state;
    for (((v0, v1), v2), v3) in v0.iter_mut().zip(v1).zip(v2).zip(v3) {
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

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

        /// Batches of all lengths hash as one by one.
        #[test]
        fn a_batch_hashes_alike(words in prop::collection::vec(any::<u64>(), 0..40)) {
            for hash in hashes() {
                let mut all = words.clone();
                hash.words(&mut all);
                for (word, expected) in words.iter().zip(all) {
                    let mut one = [*word];
                    hash.words(&mut one);
                    prop_assert_eq!(one, [expected]);
                }
            }
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
                        [one, other].map(|end| hash.endpoint(Protocol::Tcp, end)),
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
