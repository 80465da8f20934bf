//! The crate's only unsafe code: memory that the kernel hands out as it is touched, prefetching,
//! and what the processor does wider than the compiler may assume.
//!
//! In: sizes and references. Out: slices of atomics, all zero. Never: a reference to memory that is
//! not initialised.

use crate::hash::{LANES, lanes};
use core::ops::Deref;

/// Types for which all-zero bytes are a value.
///
/// # Safety
/// A type may be `Zero` only if a block of zero bytes of its size is a valid value of it, and if it
/// has nothing to drop.
#[allow(unsafe_code, reason = "says what zeroed memory may be used as")]
pub(crate) unsafe trait Zero: Sized {
    /// The value that zero bytes are.
    #[cfg_attr(
        all(target_os = "linux", not(any(lvs_loom, miri))),
        allow(dead_code, reason = "mapped memory is zero already")
    )]
    fn zero() -> Self;
}

/// A slice of zeros of its own memory. Where the system can (Linux), pages that are never touched
/// cost address space only, and large slices are asked to lie in huge pages: a random access then
/// seldom misses the TLB.
#[derive(Debug)]
pub(crate) struct Slab<T: Zero>(memory::Memory<T>);

impl<T: Zero> Slab<T> {
    /// A slice of zeros.
    ///
    /// Aborts if the address space is used up, as any allocation does.
    pub(crate) fn new(len: usize) -> Self {
        Self(memory::Memory::new(len))
    }
}

impl<T: Zero> Deref for Slab<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.0.slice()
    }
}

#[cfg(all(target_os = "linux", not(any(lvs_loom, miri))))]
#[allow(
    unsafe_code,
    reason = "the allocator would touch every page to zero it"
)]
mod memory {
    use super::Zero;
    use core::ffi::c_void;
    use core::ptr::NonNull;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::alloc::{Layout, handle_alloc_error};

    /// What x86-64 and most others call a huge page.
    const HUGE: usize = 2 << 20;

    /// An anonymous mapping that begins with `len` values.
    #[derive(Debug)]
    pub(super) struct Memory<T> {
        first: NonNull<T>,
        len: usize,
        mapping: *mut c_void,
        mapped: usize,
    }

    // SAFETY: the mapping is owned, and everything in it is sent with it.
    unsafe impl<T: Send> Send for Memory<T> {}
    // SAFETY: only shared references to the values are handed out.
    unsafe impl<T: Sync> Sync for Memory<T> {}

    impl<T: Zero> Memory<T> {
        pub(super) fn new(len: usize) -> Self {
            let Ok(layout) = Layout::array::<T>(len.max(1)) else {
                handle_alloc_error(Layout::new::<T>());
            };
            let huge = layout.size() >= HUGE;
            let spare = if huge { HUGE } else { layout.align() };
            let mapped = layout.size().saturating_add(spare);
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            // Not reserved: capacity is a limit, and memory is taken as connections come.
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
            let mapping =
                unsafe { mmap_anonymous(core::ptr::null_mut(), mapped, protection, flags) };
            let Ok(mapping) = mapping else {
                handle_alloc_error(layout);
            };
            let before = mapping.align_offset(spare);
            // SAFETY: `before` is less than `spare`, by which the mapping is longer than the array.
            let first = unsafe { mapping.byte_add(before) };
            if huge {
                // SAFETY: the range lies in the mapping, and the advice changes no content. It is
                // no error if it is not followed.
                let _ = unsafe { madvise(first, layout.size(), Advice::LinuxHugepage) };
            }
            let Some(first) = NonNull::new(first.cast()) else {
                handle_alloc_error(layout);
            };
            Self {
                first,
                len,
                mapping,
                mapped,
            }
        }

        #[inline(always)]
        pub(super) const fn slice(&self) -> &[T] {
            // SAFETY: the mapping is aligned for `T`, long enough for `len` of them, lives as long
            // as `self`, is only ever shared, and its zero bytes are values of `T` (`Zero`).
            unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
        }
    }

    impl<T> Drop for Memory<T> {
        fn drop(&mut self) {
            // SAFETY: the mapping was made in `new`, and nothing borrows from it any more.
            let _ = unsafe { munmap(self.mapping, self.mapped) };
        }
    }
}

#[cfg(not(all(target_os = "linux", not(any(lvs_loom, miri)))))]
mod memory {
    use super::Zero;

    #[derive(Debug)]
    pub(super) struct Memory<T>(Box<[T]>);

    impl<T: Zero> Memory<T> {
        pub(super) fn new(len: usize) -> Self {
            Self((0..len).map(|_| T::zero()).collect())
        }

        #[inline(always)]
        pub(super) const fn slice(&self) -> &[T] {
            &self.0
        }
    }
}

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

/// A bit for each 32-bit half of the words, the lower first, that equals `value` under `mask`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
#[allow(unsafe_code, reason = "calls a function of the processor's own")]
pub(crate) fn equal_halves(words: [u64; 8], value: u32, mask: u32) -> u32 {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { equal_halves_sse2(words, value, mask) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_halves_sse2(words: [u64; 8], value: u32, mask: u32) -> u32 {
    use core::arch::x86_64::{
        _mm_and_si128, _mm_cmpeq_epi32, _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32,
        _mm_set_epi64x, _mm_set1_epi32,
    };
    let [a, b, c, d, e, f, g, h] = words.map(u64::cast_signed);
    let value = _mm_set1_epi32(value.cast_signed());
    let mask = _mm_set1_epi32(mask.cast_signed());
    let [ab, cd, ef, gh] = [(b, a), (d, c), (f, e), (h, g)]
        .map(|(high, low)| _mm_cmpeq_epi32(_mm_and_si128(_mm_set_epi64x(high, low), mask), value));
    let all = _mm_packs_epi16(_mm_packs_epi32(ab, cd), _mm_packs_epi32(ef, gh));
    _mm_movemask_epi8(all).cast_unsigned()
}

/// The same for other processors.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub(crate) fn equal_halves(words: [u64; 8], value: u32, mask: u32) -> u32 {
    equal_halves_portable(words, value, mask)
}

#[cfg(any(all(test, not(lvs_loom)), miri, not(target_arch = "x86_64")))]
fn equal_halves_portable(words: [u64; 8], value: u32, mask: u32) -> u32 {
    let halves = words
        .iter()
        .flat_map(|word| [word & u64::from(u32::MAX), word >> 32]);
    halves.enumerate().fold(0, |found, (at, half)| {
        let equal = half & u64::from(mask) == u64::from(value);
        found | (u32::from(equal) << at)
    })
}

/// [`lanes`], compiled for the widest registers that this processor has.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[allow(unsafe_code, reason = "calls functions of certain processors")]
pub(crate) fn hash_lanes<const N: usize>(key: [u64; 2], words: &[[u64; LANES]; N]) -> [u64; LANES] {
    #[target_feature(enable = "avx512f,avx512vl")]
    fn with_avx512<const N: usize>(key: [u64; 2], words: &[[u64; LANES]; N]) -> [u64; LANES] {
        lanes(key, words)
    }
    #[target_feature(enable = "avx2")]
    fn with_avx2<const N: usize>(key: [u64; 2], words: &[[u64; LANES]; N]) -> [u64; LANES] {
        lanes(key, words)
    }
    if std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
    {
        // SAFETY: the processor was asked.
        unsafe { with_avx512(key, words) }
    } else if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was asked.
        unsafe { with_avx2(key, words) }
    } else {
        lanes(key, words)
    }
}

/// The same for other processors.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub(crate) fn hash_lanes<const N: usize>(key: [u64; 2], words: &[[u64; LANES]; N]) -> [u64; LANES] {
    lanes(key, words)
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
            let found = equal_halves(words, value, mask);
            prop_assert_eq!(found, equal_halves_portable(words, value, mask));
            prop_assert!(found & (1 << 6) != 0);
        }
    }
}
