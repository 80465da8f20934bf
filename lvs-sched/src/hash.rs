//! The hashes that IPVS's schedulers agree on (IPVS 1.5, 1.7).
//!
//! In come folded addresses, out come bucket numbers. No keys to choose: every director that runs
//! these rules sends a client to the same server.

/// The kernel's multiplicative hash: the upper `bits` (1 to 32) of `value * 0x61C88647`.
#[inline]
pub(crate) const fn hash32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61C8_8647) >> (32 - bits)
}

/// Maglev's first key: where a server, or a client, starts.
pub(crate) const OFFSET_KEY: u64 = 2_654_435_761;
/// Maglev's second key: how far a server steps.
pub(crate) const SKIP_KEY: u64 = 2_654_446_892;

const fn round(v: [u64; 4]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = v;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// The low 32 bits of SipHash-1-3 of one little-endian 32-bit word, both key words being `key`.
#[inline]
pub(crate) const fn siphash(word: u32, key: u64) -> u32 {
    let last = (4 << 56) | word as u64;
    let mut v = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key ^ last,
    ];
    v = round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    v = round(round(round(v)));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low word, as the kernel takes it"
    )]
    let hash = (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32;
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_ipvs_1_11() {
        for (value, h8, h10, h1, h2) in [
            (0xC633_6401, 96, 385, 0x2215_D3FD, 0x73E8_F8DA),
            (0xC633_6402, 194, 776, 0x7696_235A, 0x3F1A_1E8C),
            (0x0A00_0001, 39, 159, 0x0308_0CE4, 0x48F9_D0C1),
            (0xCB00_7101, 50, 200, 0xB7D1_A81B, 0xF4D0_7108),
            (0xC000_020A, 162, 651, 0x13D0_99C4, 0xB8DA_5C3A),
        ] {
            assert_eq!((hash32(value, 8), hash32(value, 10)), (h8, h10));
            assert_eq!(
                (siphash(value, OFFSET_KEY), siphash(value, SKIP_KEY)),
                (h1, h2)
            );
        }
        assert_eq!(hash32(0xC633_6401 + 40000, 8), 4);
        assert_eq!(siphash(0xC633_6401 + 40000, OFFSET_KEY), 0xE384_05A3);
    }
}
