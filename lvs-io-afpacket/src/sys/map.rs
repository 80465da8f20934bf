//! The memory of a ring, shared with the kernel: status words, headers, bytes.
//!
//! A ring is a field of slots (or blocks), each of which belongs to one side at a time. Its status
//! word says to which, and is the only word that both sides touch at once; it is always accessed as
//! an atomic:
//!
//! ```text
//!   kernel: write slot; smp_mb/smp_wmb; status := USER    pairs with   status.load(Acquire); read slot
//!   we:     last access to slot; status.store(KERNEL, Release)  pairs with  kernel: read status; smp_rmb; write slot
//! ```
//!
//! Every offset is checked against the length of the mapping; none can lead outside.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::mm::{MapFlags, ProtFlags};

/// A ring's memory; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone; the pointer is not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference only atomics are reached safely; the other accesses are
// `unsafe` and their callers promise exclusive ownership of the slot.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the `length` bytes of the ring that `fd` has been given.
    pub(crate) fn new(fd: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// Whether `length` bytes at `offset` are inside.
    #[inline]
    const fn holds(&self, offset: usize, length: usize) -> bool {
        length <= self.length && offset <= self.length - length
    }

    /// The status word at `offset`.
    ///
    /// An offset outside of the mapping or not on a word's boundary gives a word that always says
    /// "the kernel's" (0); no layout that this crate computes has one.
    #[inline]
    pub(crate) fn status(&self, offset: usize) -> &AtomicU32 {
        static NOWHERE: AtomicU32 = AtomicU32::new(0);
        if !self.holds(offset, 4) || !offset.is_multiple_of(4) {
            return &NOWHERE;
        }
        // SAFETY: inside of the mapping, checked above.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned (the base is a page's), valid as long as `self`, and both sides access
        // a status word atomically only.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// A copy of the header at `offset`, or `None` outside of the mapping.
    ///
    /// # Safety
    /// The slot belongs to us (its status said so, loaded with `Acquire`), and any bytes are a
    /// valid `T`.
    #[inline]
    pub(crate) unsafe fn header<T: Copy>(&self, offset: usize) -> Option<T> {
        if !self.holds(offset, size_of::<T>()) {
            return None;
        }
        // SAFETY: inside of the mapping, checked above.
        let header = unsafe { self.base.add(offset) };
        // SAFETY: in bounds, and by the caller's promise not written to meanwhile and valid as a
        // `T`; the read asks for no alignment.
        Some(unsafe { header.cast::<T>().read_unaligned() })
    }

    /// The bytes `offset..offset + length`, or `None` if they are not all inside.
    ///
    /// # Safety
    /// For all of `'a` the slot belongs to us, the mapping lives, and nobody else holds a reference
    /// to any of these bytes.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(&self, offset: usize, length: usize) -> Option<&'a mut [u8]> {
        if !self.holds(offset, length) {
            return None;
        }
        // SAFETY: inside of the mapping, checked above.
        let start = unsafe { self.base.add(offset) };
        // SAFETY: in bounds; exclusive and alive for 'a by the caller's promise; bytes need no
        // alignment, and the kernel has initialised every page.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and length, and whoever lends
        // bytes of it promised that they do not outlive it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
