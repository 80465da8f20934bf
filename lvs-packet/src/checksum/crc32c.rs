//! CRC32c (Castagnoli), which SCTP uses (RFC 9260, appendix A). Four tables, four bytes a step.

const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The register before the first byte.
pub(super) const START: u32 = u32::MAX;

static TABLES: [[u32; 256]; 4] = tables();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler"
)]
const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut level = 1;
    while level < 4 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[level - 1][byte];
            tables[level][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        level += 1;
    }
    tables
}

/// The CRC32c of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    !extend(START, bytes)
}

/// The register after `bytes`.
pub(super) fn extend(mut crc: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3] = &TABLES;
    // A table has an entry for each value of a byte.
    let of = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes(*word)).to_le_bytes();
        crc = of(t3, a) ^ of(t2, b) ^ of(t1, c) ^ of(t0, d);
    }
    for byte in tail {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ of(t0, low ^ byte);
    }
    crc
}
