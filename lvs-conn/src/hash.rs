//! Keyed hashing of flows: SipHash-1-3 of a fixed number of words.
//!
//! A client picks its address and port; without the key it cannot pick its bucket. Specialised to
//! two words for IPv4 and five for IPv6, which is the cost of half the general form.

use crate::raw::hash_lanes;
use lvs_core::{Endpoint, Flow, Protocol};
use std::hash::{BuildHasher, RandomState};

/// Keys that are hashed side by side.
pub(crate) const LANES: usize = 8;

/// Hashes flows with a key.
pub trait FlowHasher: Send + Sync + 'static {
    /// 64 bits of which each depends on all of the flow and of the key.
    fn hash(&self, flow: &Flow) -> u64;

    /// The same of one endpoint.
    fn hash_endpoint(&self, protocol: Protocol, endpoint: Endpoint) -> u64 {
        self.hash(&Flow::new(protocol, endpoint, Endpoint::default()))
    }
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012) with a 128-bit key.
#[derive(Clone, Copy)]
pub struct SipHash13 {
    k0: u64,
    k1: u64,
}

impl std::fmt::Debug for SipHash13 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SipHash13 { .. }") // the key is nobody's business
    }
}

impl Default for SipHash13 {
    /// With a key from the system's randomness.
    fn default() -> Self {
        Self {
            k0: RandomState::new().hash_one(1),
            k1: RandomState::new().hash_one(2),
        }
    }
}

impl SipHash13 {
    /// With a key of the caller's: for tests and for tables that must agree.
    #[must_use]
    pub const fn with_key(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// The hash of whole words in little-endian order.
    #[inline]
    #[must_use]
    pub fn words<const N: usize>(&self, words: [u64; N]) -> u64 {
        let mut state = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        for word in words {
            state[3] ^= word;
            round(&mut state);
            state[0] ^= word;
        }
        let last = (N as u64 * 8) << 56;
        state[3] ^= last;
        round(&mut state);
        state[0] ^= last;
        state[2] ^= 0xff;
        round(&mut state);
        round(&mut state);
        round(&mut state);
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

#[inline(always)]
const fn round(state: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
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
    *state = [v0, v1, v2, v3];
}

/// The two words of an IPv4 flow.
#[inline]
fn short(flow: &Flow) -> [u64; 2] {
    let (src, dst) = (flow.src.addr, flow.dst.addr);
    let ports = (u64::from(flow.src.port) << 32)
        | (u64::from(flow.dst.port) << 16)
        | u64::from(flow.protocol.number());
    [
        (u64::from(src.low_word()) << 32) | u64::from(dst.low_word()),
        ports,
    ]
}

/// The word of an IPv4 endpoint.
#[inline]
fn short_endpoint(protocol: Protocol, endpoint: Endpoint) -> u64 {
    let port = (u64::from(endpoint.port) << 8) | u64::from(protocol.number());
    (u64::from(endpoint.addr.low_word()) << 32) | port
}

/// SipHash-1-3 of the words of [`LANES`] keys side by side, word by word: written so that the
/// compiler can use the widest registers that the caller is compiled for.
#[inline(always)]
pub(crate) fn lanes<const N: usize>(key: [u64; 2], words: &[[u64; LANES]; N]) -> [u64; LANES] {
    let [k0, k1] = key;
    let mut v0 = [k0 ^ 0x736f_6d65_7073_6575; LANES];
    let mut v1 = [k1 ^ 0x646f_7261_6e64_6f6d; LANES];
    let mut v2 = [k0 ^ 0x6c79_6765_6e65_7261; LANES];
    let mut v3 = [k1 ^ 0x7465_6462_7974_6573; LANES];
    let last = [(N as u64 * 8) << 56; LANES];
    for word in words.iter().chain([&last]) {
        for (v3, word) in v3.iter_mut().zip(word) {
            *v3 ^= word;
        }
        round_lanes(&mut v0, &mut v1, &mut v2, &mut v3);
        for (v0, word) in v0.iter_mut().zip(word) {
            *v0 ^= word;
        }
    }
    for v2 in &mut v2 {
        *v2 ^= 0xff;
    }
    for _ in 0..3 {
        round_lanes(&mut v0, &mut v1, &mut v2, &mut v3);
    }
    for (((v0, v1), v2), v3) in v0.iter_mut().zip(v1).zip(v2).zip(v3) {
        *v0 ^= v1 ^ v2 ^ v3;
    }
    v0
}

#[inline(always)]
fn round_lanes(
    v0: &mut [u64; LANES],
    v1: &mut [u64; LANES],
    v2: &mut [u64; LANES],
    v3: &mut [u64; LANES],
) {
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

impl SipHash13 {
    /// [`FlowHasher::hash`] of many flows.
    #[inline]
    pub(crate) fn hash_all(&self, flows: &[Flow], hashes: &mut [u64]) {
        for (flows, hashes) in flows.chunks(LANES).zip(hashes.chunks_mut(LANES)) {
            if !flows.iter().all(|flow| flow.src.addr.is_v4()) {
                for (flow, hash) in flows.iter().zip(hashes) {
                    *hash = self.hash(flow);
                }
                continue;
            }
            let mut words = [[0; LANES]; 2];
            let [first, second] = &mut words;
            for ((flow, first), second) in flows.iter().zip(first).zip(second) {
                [*first, *second] = short(flow);
            }
            let all = hash_lanes([self.k0, self.k1], &words);
            hashes
                .iter_mut()
                .zip(all)
                .for_each(|(hash, one)| *hash = one);
        }
    }

    /// [`FlowHasher::hash_endpoint`] of the sources, or of the destinations, of many flows.
    #[inline]
    pub(crate) fn hash_ends(&self, flows: &[Flow], sources: bool, hashes: &mut [u64]) {
        let end = |flow: &Flow| if sources { flow.src } else { flow.dst };
        for (flows, hashes) in flows.chunks(LANES).zip(hashes.chunks_mut(LANES)) {
            if !flows.iter().all(|flow| end(flow).addr.is_v4()) {
                for (flow, hash) in flows.iter().zip(hashes) {
                    *hash = self.hash_endpoint(flow.protocol, end(flow));
                }
                continue;
            }
            let mut words = [[0; LANES]; 1];
            let [first] = &mut words;
            for (flow, first) in flows.iter().zip(first) {
                *first = short_endpoint(flow.protocol, end(flow));
            }
            let all = hash_lanes([self.k0, self.k1], &words);
            hashes
                .iter_mut()
                .zip(all)
                .for_each(|(hash, one)| *hash = one);
        }
    }
}

impl FlowHasher for SipHash13 {
    #[inline]
    fn hash(&self, flow: &Flow) -> u64 {
        let (src, dst) = (flow.src.addr, flow.dst.addr);
        if src.is_v4() {
            self.words(short(flow))
        } else {
            let [_, ports] = short(flow);
            self.words([src.hi, src.lo, dst.hi, dst.lo, ports])
        }
    }

    #[inline]
    fn hash_endpoint(&self, protocol: Protocol, endpoint: Endpoint) -> u64 {
        let Endpoint { addr, port } = endpoint;
        if addr.is_v4() {
            self.words([short_endpoint(protocol, endpoint)])
        } else {
            let port = (u64::from(port) << 8) | u64::from(protocol.number());
            self.words([addr.hi, addr.lo, port])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::Addr;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    fn reference(key: (u64, u64), words: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key.0, key.1);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        hasher.write(&bytes);
        hasher.finish()
    }

    proptest! {
        #[test]
        fn it_is_siphash_1_3(k0: u64, k1: u64, two: [u64; 2], five: [u64; 5]) {
            let ours = SipHash13::with_key(k0, k1);
            prop_assert_eq!(ours.words(two), reference((k0, k1), &two));
            prop_assert_eq!(ours.words(five), reference((k0, k1), &five));
        }

        /// Batches of all lengths, of one family or of both, hash as one by one.
        #[test]
        fn a_batch_hashes_alike(
            k0: u64,
            k1: u64,
            ends in prop::collection::vec(any::<(bool, u64, u64, u32, u32)>(), 0..40),
        ) {
            let ours = SipHash13::with_key(k0, k1);
            let flows: Vec<Flow> = ends
                .into_iter()
                .map(|(v6, hi, lo, v4, ports)| {
                    let [src, dst] = if v6 {
                        [Addr { hi: hi | 1, lo }, Addr { hi: lo | 1, lo: hi }]
                    } else {
                        [Addr::from_v4_bits(v4), Addr::from_v4_bits(!v4 ^ ports)]
                    };
                    let [a, b, c, d] = ports.to_be_bytes().map(u16::from);
                    let (src, dst) = (Endpoint::new(src, a << 8 | b), Endpoint::new(dst, c << 8 | d));
                    Flow::new(if v6 { Protocol::Udp } else { Protocol::Tcp }, src, dst)
                })
                .collect();
            let mut hashes = vec![0; flows.len()];
            ours.hash_all(&flows, &mut hashes);
            let expected: Vec<u64> = flows.iter().map(|flow| ours.hash(flow)).collect();
            prop_assert_eq!(&hashes, &expected);
            for sources in [true, false] {
                ours.hash_ends(&flows, sources, &mut hashes);
                let expected = flows.iter().map(|flow| {
                    ours.hash_endpoint(flow.protocol, if sources { flow.src } else { flow.dst })
                });
                prop_assert_eq!(&hashes, &expected.collect::<Vec<_>>());
            }
        }
    }
}
