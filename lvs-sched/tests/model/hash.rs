//! The hashes of IPVS 1.5 and 1.7, from their definitions.

use lvs_core::Addr;

pub fn fold(addr: Addr) -> u32 {
    match addr.v4_bits() {
        Some(bits) => bits,
        None => addr
            .v6_octets()
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .fold(0, |x, word| x ^ word),
    }
}

pub fn hash32(value: u32, bits: u32) -> u32 {
    (u64::from(value) * 0x61C8_8647 % (1 << 32)) as u32 >> (32 - bits)
}

/// SipHash-1-3 from its definition, over four bytes.
pub fn siphash(word: u32, key: u64) -> u32 {
    let mut v = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    };
    let mut bytes = [0u8; 8];
    bytes[..4].copy_from_slice(&word.to_le_bytes());
    bytes[7] = 4;
    let message = u64::from_le_bytes(bytes);
    v[3] ^= message;
    round(&mut v);
    v[0] ^= message;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}
