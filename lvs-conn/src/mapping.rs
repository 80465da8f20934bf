//! The memory of a table: one mapping, anonymous or of a file, that holds arrays of atomics.
//!
//! In: sizes, maybe a file. Out: slices of atomics, all zero or as the last process left them.
//! Never: a pointer inside the memory, a reference to memory that is not initialised. With `raw.rs`
//! the crate's only unsafe code.

use core::ops::Deref;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Types for which all bytes are a value, zeros among them.
///
/// # Safety
/// A type may be `Zero` only if any block of bytes of its size is a valid value of it, if all of it
/// may change while it is shared, and if it has nothing to drop: if it is made of atomic integers.
#[allow(unsafe_code, reason = "says what memory may be used as")]
pub(crate) unsafe trait Zero: Sized {
    /// The value that zero bytes are.
    #[cfg_attr(
        all(target_os = "linux", not(any(lvs_loom, miri))),
        allow(dead_code, reason = "mapped memory is zero already")
    )]
    fn zero() -> Self;
}

/// A slice of a mapping's memory.
#[derive(Debug)]
pub(crate) struct Slab<T: Zero>(memory::Part<T>);

impl<T: Zero> Slab<T> {
    /// A slice of zeros in memory of its own.
    ///
    /// Aborts if the address space is used up, as any allocation does.
    #[cfg(all(test, not(lvs_shuttle)))]
    pub(crate) fn new(len: usize) -> Self {
        Self::of(&Arc::new(Mapping::anonymous(size_of::<T>() * len)), 0, len)
    }

    /// `len` values from `offset` on.
    ///
    /// # Panics
    /// If they do not lie in the mapping, or not where such values may.
    pub(crate) fn of(mapping: &Arc<Mapping>, offset: usize, len: usize) -> Self {
        Self(memory::Part::new(&mapping.0, offset, len))
    }
}

impl<T: Zero> Deref for Slab<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.0.slice()
    }
}

/// Memory. Where the system can (Linux), pages that are never touched cost address space only, and
/// those of a large anonymous mapping are asked to be huge: a random access then seldom misses the
/// TLB. Unmapped with the last slice of it.
#[derive(Debug)]
pub(crate) struct Mapping(Arc<memory::Memory>);

impl Mapping {
    /// Zeros.
    ///
    /// Aborts if the address space is used up, as any allocation does.
    pub(crate) fn anonymous(len: usize) -> Self {
        Self(Arc::new(memory::Memory::anonymous(len)))
    }

    /// The first bytes of a file, which is at least as long. What is written to them is the file's
    /// from then on, also if the process is killed.
    pub(crate) fn of_file(file: File, len: usize) -> io::Result<Self> {
        memory::Memory::of_file(file, len).map(|memory| Self(Arc::new(memory)))
    }
}

#[cfg(all(target_os = "linux", not(any(lvs_loom, miri))))]
#[allow(
    unsafe_code,
    reason = "the allocator would touch every page to zero it, and has no files"
)]
mod memory {
    use super::{Arc, File, Zero, io};
    use core::ffi::c_void;
    use core::marker::PhantomData;
    use core::ptr::NonNull;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
    use std::alloc::{Layout, handle_alloc_error};

    /// What x86-64 and most others call a huge page.
    const HUGE: usize = 2 << 20;

    /// A mapping, and the part of it that is used.
    #[derive(Debug)]
    pub(super) struct Memory {
        first: NonNull<u8>,
        len: usize,
        mapping: *mut c_void,
        mapped: usize,
        /// Holds the lock on it.
        _file: Option<File>,
    }

    // SAFETY: the mapping is owned, and who sends it sends all that is in it.
    unsafe impl Send for Memory {}
    // SAFETY: only `Part` hands out references, shared ones to atomics.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(super) fn anonymous(len: usize) -> Self {
            let spare = if len >= HUGE { HUGE } else { 0 };
            let mapped = len.max(1).saturating_add(spare);
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            // Not reserved: capacity is a limit, and memory is taken as connections come.
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
            let mapping =
                unsafe { mmap_anonymous(core::ptr::null_mut(), mapped, protection, flags) };
            let Ok(mapping) = mapping else {
                handle_alloc_error(Layout::new::<u64>());
            };
            let before = if spare == 0 {
                0
            } else {
                mapping.align_offset(HUGE)
            };
            // SAFETY: `before` is less than `spare`, by which the mapping is longer.
            let first = unsafe { mapping.byte_add(before) };
            if spare != 0 {
                // SAFETY: the range lies in the mapping, and the advice changes no content. It is
                // no error if it is not followed.
                let _ = unsafe { madvise(first, len, Advice::LinuxHugepage) };
            }
            let Some(first) = NonNull::new(first.cast()) else {
                handle_alloc_error(Layout::new::<u64>());
            };
            Self {
                first,
                len,
                mapping,
                mapped,
                _file: None,
            }
        }

        pub(super) fn of_file(file: File, len: usize) -> io::Result<Self> {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let null = core::ptr::null_mut();
            // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
            // The file is locked by this process, and what others write to it all the same is
            // seen as other values of atomics.
            let mapping = unsafe { mmap(null, len, protection, MapFlags::SHARED, &file, 0) }?;
            let Some(first) = NonNull::new(mapping.cast()) else {
                return Err(io::ErrorKind::OutOfMemory.into());
            };
            Ok(Self {
                first,
                len,
                mapping,
                mapped: len,
                _file: Some(file),
            })
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: the mapping was made by `self`, and nothing borrows from it any more.
            let _ = unsafe { munmap(self.mapping, self.mapped) };
        }
    }

    #[derive(Debug)]
    pub(super) struct Part<T> {
        first: NonNull<T>,
        len: usize,
        _memory: Arc<Memory>,
        holds: PhantomData<T>,
    }

    // SAFETY: as `Memory`.
    unsafe impl<T: Send> Send for Part<T> {}
    // SAFETY: only shared references to the values are handed out.
    unsafe impl<T: Sync> Sync for Part<T> {}

    impl<T: Zero> Part<T> {
        pub(super) fn new(memory: &Arc<Memory>, offset: usize, len: usize) -> Self {
            let end = size_of::<T>()
                .checked_mul(len)
                .and_then(|size| size.checked_add(offset));
            assert!(end.is_some_and(|end| end <= memory.len));
            // SAFETY: the offset is not behind the end of the mapping, as was just asserted.
            let first: NonNull<T> = unsafe { memory.first.add(offset) }.cast();
            assert!(first.is_aligned());
            Self {
                first,
                len,
                _memory: Arc::clone(memory),
                holds: PhantomData,
            }
        }

        #[inline(always)]
        pub(super) const fn slice(&self) -> &[T] {
            // SAFETY: the memory is aligned for `T` and long enough for `len` of them, as `new` has
            // asserted, lives as long as `self`, is only ever shared, and any bytes are values of
            // `T` (`Zero`).
            unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
        }
    }
}

#[cfg(not(all(target_os = "linux", not(any(lvs_loom, miri)))))]
mod memory {
    use super::{Arc, File, Zero, io};

    /// Here each part has memory of its own.
    #[derive(Debug)]
    pub(super) struct Memory;

    impl Memory {
        pub(super) const fn anonymous(_: usize) -> Self {
            Self
        }

        pub(super) fn of_file(_: File, _: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[derive(Debug)]
    pub(super) struct Part<T>(Box<[T]>);

    impl<T: Zero> Part<T> {
        pub(super) fn new(_: &Arc<Memory>, _: usize, len: usize) -> Self {
            Self((0..len).map(|_| T::zero()).collect())
        }

        #[inline(always)]
        pub(super) const fn slice(&self) -> &[T] {
            &self.0
        }
    }
}
