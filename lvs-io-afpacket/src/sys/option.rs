//! Socket options: plain values in and out.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{check, length_of};

/// `setsockopt` with a plain value.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: `value` lives through the call, and the kernel reads no more than its size.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    })?;
    Ok(())
}

/// `getsockopt` of `N` 32-bit words, the shape of every option that is read here.
pub(crate) fn get_option<const N: usize>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
) -> io::Result<[u32; N]> {
    let mut value = [0_u32; N];
    let mut length = length_of::<[u32; N]>();
    // SAFETY: both outputs live through the call; `length` is the room that `value` offers.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}
