//! The crate's only unsafe code: memory that the kernel hands out as it is touched, and prefetching.
//!
//! In: sizes and references. Out: slices of atomics, all zero. Never: a reference to memory that is
//! not initialised.

/// Types for which all-zero bytes are a value.
///
/// # Safety
/// A type may be `Zero` only if a block of zero bytes of its size is a valid value of it.
#[allow(unsafe_code, reason = "says what zeroed memory may be used as")]
pub(crate) unsafe trait Zero: Sized {
    /// The value that zero bytes are.
    #[cfg_attr(
        not(lvs_loom),
        allow(dead_code, reason = "loom's types are built one by one")
    )]
    fn zero() -> Self;
}

/// A slice of zeros. Pages that are never touched cost address space only.
///
/// # Panics
/// If the address space is used up, as for any allocation.
#[cfg(not(lvs_loom))]
#[allow(unsafe_code, reason = "a vector of zeros would touch every page")]
pub(crate) fn zeroed<T: Zero>(len: usize) -> Box<[T]> {
    use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
    let Ok(layout) = Layout::array::<T>(len) else {
        handle_alloc_error(Layout::new::<T>());
    };
    if layout.size() == 0 {
        return Box::default();
    }
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    let slice = std::ptr::slice_from_raw_parts_mut(memory, len);
    // SAFETY: the block was allocated by the global allocator with the layout of `[T; len]`, is
    // owned by nobody else, and its zero bytes are `len` values of `T` (`Zero`).
    unsafe { Box::from_raw(slice) }
}

#[cfg(lvs_loom)]
pub(crate) fn zeroed<T: Zero>(len: usize) -> Box<[T]> {
    (0..len).map(|_| T::zero()).collect()
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
