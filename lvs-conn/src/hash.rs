//! Keyed hashing of flows: SipHash-1-3 of a fixed number of words.
//!
//! A client picks its address and port; without the key it cannot pick its bucket. Specialised to
//! two words for IPv4 and five for IPv6, which is the cost of half the general form.

use lvs_core::{Endpoint, Flow, Protocol};
use std::hash::{BuildHasher, RandomState};

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

impl FlowHasher for SipHash13 {
    #[inline]
    fn hash(&self, flow: &Flow) -> u64 {
        let (src, dst) = (flow.src.addr, flow.dst.addr);
        let ports = (u64::from(flow.src.port) << 32)
            | (u64::from(flow.dst.port) << 16)
            | u64::from(flow.protocol.number());
        if src.is_v4() {
            self.words([
                (u64::from(src.low_word()) << 32) | u64::from(dst.low_word()),
                ports,
            ])
        } else {
            self.words([src.hi, src.lo, dst.hi, dst.lo, ports])
        }
    }

    #[inline]
    fn hash_endpoint(&self, protocol: Protocol, endpoint: Endpoint) -> u64 {
        let Endpoint { addr, port } = endpoint;
        let port = (u64::from(port) << 8) | u64::from(protocol.number());
        if addr.is_v4() {
            self.words([(u64::from(addr.low_word()) << 32) | port])
        } else {
            self.words([addr.hi, addr.lo, port])
        }
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

    proptest! {
        #[test]
        fn it_is_siphash_1_3(k0: u64, k1: u64, two: [u64; 2], five: [u64; 5]) {
            let ours = SipHash13::with_key(k0, k1);
            prop_assert_eq!(ours.words(two), reference((k0, k1), &two));
            prop_assert_eq!(ours.words(five), reference((k0, k1), &five));
        }
    }
}
