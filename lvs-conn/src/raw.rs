//! What the processor does wider than the compiler may assume, and prefetching: with `mapping.rs`
//! the crate's only unsafe code.
//!
//! In: references and values. Out: values. Never: a write to memory.

use crate::mapping::Zero;
use crate::sync::AtomicU64;
#[cfg(any(test, not(all(target_arch = "x86_64", not(any(miri, lvs_loom))))))]
use crate::sync::Ordering;

/// Tells the processor that `value`'s cache line will be read soon.
#[inline(always)]
#[allow(unsafe_code, reason = "the intrinsic takes a pointer")]
#[cfg_attr(
    any(not(target_arch = "x86_64"), lvs_loom),
    expect(unused_variables, reason = "a hint")
)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(lvs_loom)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching has no effect on memory, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast()) };
    }
}

/// A bucket's words: two halves of 32 bits each, the lower first.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Halves(pub(crate) [AtomicU64; 8]);

#[allow(unsafe_code, reason = "says that zeroed memory is a bucket")]
// SAFETY: made of atomic integers only.
unsafe impl Zero for Halves {
    fn zero() -> Self {
        Self(Default::default())
    }
}

impl Halves {
    /// A bit for each half that equals `value` under `mask`. Its loads acquire.
    #[cfg(all(target_arch = "x86_64", not(any(miri, lvs_loom))))]
    #[inline(always)]
    #[allow(unsafe_code, reason = "the compiler has no atomic loads of 16 bytes")]
    pub(crate) fn equal(&self, value: u32, mask: u32) -> u32 {
        use core::arch::x86_64::{__m128i, _mm_set1_epi32};
        // SAFETY: SSE2 is part of x86-64.
        let value = unsafe { _mm_set1_epi32(value.cast_signed()) };
        // SAFETY: the same.
        let mask = unsafe { _mm_set1_epi32(mask.cast_signed()) };
        let found: u32;
        // SAFETY: what it does is what eight atomic loads of 8 bytes would do, in any order: each
        // aligned half of such a load is one access of the processor's (Intel SDM 3A, 9.1.1; AMD
        // APM 2, 7.3.2), every load of which acquires; and as the block may touch memory for all the
        // compiler knows, nothing moves across it. The words are initialised, and 64 bytes long
        // and aligned.
        unsafe {
            core::arch::asm!(
                "movdqa {a}, {mask}",
                "movdqa {b}, {mask}",
                "movdqa {c}, {mask}",
                "movdqa {d}, {mask}",
                "pand {a}, xmmword ptr [{words}]",
                "pand {b}, xmmword ptr [{words} + 16]",
                "pand {c}, xmmword ptr [{words} + 32]",
                "pand {d}, xmmword ptr [{words} + 48]",
                "pcmpeqd {a}, {value}",
                "pcmpeqd {b}, {value}",
                "pcmpeqd {c}, {value}",
                "pcmpeqd {d}, {value}",
                "packssdw {a}, {b}",
                "packssdw {c}, {d}",
                "packsswb {a}, {c}",
                "pmovmskb {found:e}, {a}",
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                mask = in(xmm_reg) mask,
                value = in(xmm_reg) value,
                words = in(reg) self.0.as_ptr(),
                found = lateout(reg) found,
                options(nostack, preserves_flags),
            );
        }
        let _: __m128i = mask;
        found
    }

    /// The same in fewer instructions.
    #[cfg(all(target_arch = "x86_64", not(any(miri, lvs_loom))))]
    #[inline]
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code, reason = "the compiler has no atomic loads of 32 bytes")]
    fn equal_avx2(&self, value: u32, mask: u32) -> u32 {
        use core::arch::x86_64::_mm256_set1_epi32;
        let value = _mm256_set1_epi32(value.cast_signed());
        let mask = _mm256_set1_epi32(mask.cast_signed());
        let (low, high): (u32, u32);
        // SAFETY: as in `equal`, with 16 atomic loads of 4 bytes each in the place of 8: no half is
        // read in parts.
        unsafe {
            core::arch::asm!(
                "vpand {a}, {mask}, ymmword ptr [{words}]",
                "vpand {b}, {mask}, ymmword ptr [{words} + 32]",
                "vpcmpeqd {a}, {a}, {value}",
                "vpcmpeqd {b}, {b}, {value}",
                "vmovmskps {low:e}, {a}",
                "vmovmskps {high:e}, {b}",
                a = out(ymm_reg) _,
                b = out(ymm_reg) _,
                mask = in(ymm_reg) mask,
                value = in(ymm_reg) value,
                words = in(reg) self.0.as_ptr(),
                low = lateout(reg) low,
                high = lateout(reg) high,
                options(nostack, preserves_flags),
            );
        }
        low | (high << 8)
    }

    /// The same for other processors.
    #[cfg(not(all(target_arch = "x86_64", not(any(miri, lvs_loom)))))]
    #[inline]
    pub(crate) fn equal(&self, value: u32, mask: u32) -> u32 {
        self.equal_portable(value, mask)
    }

    #[cfg(any(test, not(all(target_arch = "x86_64", not(any(miri, lvs_loom))))))]
    fn equal_portable(&self, value: u32, mask: u32) -> u32 {
        let words = self.0.each_ref().map(|word| word.load(Ordering::Acquire));
        let halves = words
            .iter()
            .flat_map(|word| [word & u64::from(u32::MAX), word >> 32]);
        halves.enumerate().fold(0, |found, (at, half)| {
            let equal = half & u64::from(mask) == u64::from(value);
            found | (u32::from(equal) << at)
        })
    }
}

/// Which of the processor's instructions [`Work`] is compiled for.
pub(crate) trait Level: Copy {
    /// A bit for each half that equals `value` under `mask`. Its loads acquire.
    fn equal(self, halves: &Halves, value: u32, mask: u32) -> u32;
}

/// What every processor of this architecture has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common;

impl Level for Common {
    #[inline(always)]
    fn equal(self, halves: &Halves, value: u32, mask: u32) -> u32 {
        halves.equal(value, mask)
    }
}

/// Something that is compiled once for each [`Level`]. `run`, and whatever it calls that shall use
/// the level's instructions, has to be `#[inline(always)]`.
pub(crate) trait Work {
    type Done;
    fn run<L: Level>(self, level: L) -> Self::Done;
}

/// Whether this processor has all that [`Work`] is compiled for. It is asked once: single lookups are short enough
/// for the four questions to count.
#[cfg(all(target_arch = "x86_64", not(any(miri, lvs_loom))))]
#[inline(always)]
fn is_wide() -> bool {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
    const NO: u8 = 1;
    const YES: u8 = 2;
    // Relaxed: whoever asks for the first time gets the same answer.
    static ANSWER: AtomicU8 = AtomicU8::new(0);

    #[cold]
    fn ask() -> bool {
        let wide = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2");
        ANSWER.store(if wide { YES } else { NO }, Relaxed);
        wide
    }

    match ANSWER.load(Relaxed) {
        YES => true,
        NO => false,
        _ => ask(),
    }
}

/// Does the work with what this processor has.
#[cfg(all(target_arch = "x86_64", not(any(miri, lvs_loom))))]
#[inline]
#[allow(unsafe_code, reason = "calls a function of certain processors")]
pub(crate) fn with_all_there_is<W: Work>(work: W) -> W::Done {
    /// The processor has been asked for AVX2, AES and BMI.
    #[derive(Clone, Copy)]
    struct Wide(());

    impl Level for Wide {
        #[inline(always)]
        fn equal(self, halves: &Halves, value: u32, mask: u32) -> u32 {
            // SAFETY: a `Wide` is made only where the processor has been asked.
            unsafe { halves.equal_avx2(value, mask) }
        }
    }

    #[target_feature(enable = "avx2,aes,bmi1,bmi2")]
    fn wide<W: Work>(work: W) -> W::Done {
        work.run(Wide(()))
    }

    if is_wide() {
        // SAFETY: the processor was asked.
        unsafe { wide(work) }
    } else {
        work.run(Common)
    }
}

/// The same for other processors.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, lvs_loom)))))]
#[inline]
pub(crate) fn with_all_there_is<W: Work>(work: W) -> W::Done {
    work.run(Common)
}

/// Keys of five rounds of AES. Only where the processor can compute them.
#[derive(Clone, Copy)]
pub(crate) struct AesKey([[u64; 2]; 5]);

#[cfg(all(target_arch = "x86_64", not(any(miri, lvs_loom))))]
#[allow(unsafe_code, reason = "calls functions of certain processors")]
impl AesKey {
    pub(crate) fn new(keys: [[u64; 2]; 5]) -> Option<Self> {
        std::arch::is_x86_feature_detected!("aes").then_some(Self(keys))
    }

    /// Hashes blocks as one: each is added to the hash of those before it.
    #[inline(always)]
    pub(crate) fn blocks<const N: usize>(&self, blocks: [[u64; 2]; N]) -> u64 {
        // SAFETY: `new` has asked the processor.
        unsafe { self.blocks_aes(blocks) }
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn blocks_aes<const N: usize>(&self, blocks: [[u64; 2]; N]) -> u64 {
        use core::arch::x86_64::{
            _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_setzero_si128, _mm_xor_si128,
        };
        let [first, rest @ ..] = self
            .0
            .map(|[low, high]| _mm_set_epi64x(high.cast_signed(), low.cast_signed()));
        let hash = blocks
            .into_iter()
            .fold(_mm_setzero_si128(), |hash, [low, high]| {
                let block = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
                let block = _mm_xor_si128(_mm_xor_si128(hash, block), first);
                rest.iter()
                    .fold(block, |block, key| _mm_aesenc_si128(block, *key))
            });
        _mm_cvtsi128_si64(hash).cast_unsigned()
    }
}

/// The same for other processors, which have none.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, lvs_loom)))))]
impl AesKey {
    pub(crate) const fn new(_: [[u64; 2]; 5]) -> Option<Self> {
        None
    }

    pub(crate) const fn blocks<const N: usize>(&self, _: [[u64; 2]; N]) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(all(test, not(lvs_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_processor_compares_as_written(mut words: [u64; 8], value: u32, bits in 0..32_u32) {
            let mask = u32::MAX << bits;
            words[3] = (words[3] >> 32 << 32) | u64::from(value);
            let value = value & mask;
            let halves = Halves(words.map(AtomicU64::new));
            let found = halves.equal(value, mask);
            prop_assert_eq!(found, halves.equal_portable(value, mask));
            prop_assert!(found & (1 << 6) != 0);
        }
    }

    /// The rounds are those of FIPS 197: the first of its appendix B, and what follows from the
    /// hash being the lower half of four of them.
    #[test]
    fn a_round_is_a_round_of_aes() {
        let block = |text: &str| {
            let bytes: Vec<u8> = (0..16)
                .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            [&bytes[..8], &bytes[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap()))
        };
        let keys = [
            "2b7e151628aed2a6abf7158809cf4f3c",
            "a0fafe1788542cb123a339392a6c7605",
            "f2c295f27a96b9435935807a7359f67f",
            "3d80477d4716fe3e1e237e446d7a883b",
            "ef44a541a8525b7fb671253bdb0bad00",
        ];
        let Some(key) = AesKey::new(keys.map(block)) else {
            return; // this processor has no AES
        };
        let hash = key.blocks([block("3243f6a8885a308d313198a2e0370734")]);
        // The state at the start of round 5.
        assert_eq!(hash, block("e0927fe8c86363c0d9b1355085b8be01")[0]);
    }
}
