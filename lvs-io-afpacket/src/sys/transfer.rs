//! Single frames and the transmit ring's doorbell. No call here blocks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::{VNET_HEADER, check_length};

/// Asks the kernel to send what stands in the transmit ring.
pub(crate) fn kick(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address: null pointers with length 0.
    check_length(unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            ptr::null(),
            0,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            ptr::null(),
            0,
        )
    })?;
    Ok(())
}

/// A message header for two buffers and nothing else.
fn message(parts: &mut [libc::iovec; 2]) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers and lengths of 0.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    message
}

/// Sends one frame, past the ring.
pub(crate) fn send_frame(
    fd: BorrowedFd<'_>,
    header: &[u8; VNET_HEADER],
    frame: &[u8],
) -> io::Result<()> {
    let mut parts = [
        libc::iovec {
            iov_base: header.as_ptr().cast_mut().cast(),
            iov_len: header.len(),
        },
        libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        },
    ];
    let message = message(&mut parts);
    // SAFETY: `sendmsg` only reads the two buffers, which live through the call.
    check_length(unsafe {
        libc::sendmsg(
            fd.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })?;
    Ok(())
}

/// What [`receive_frame`] brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes of the frame in the buffer.
    pub(crate) length: usize,
    /// The frame was longer than the buffer.
    pub(crate) truncated: bool,
}

/// Takes one frame from the socket's queue (the way of frames that exceed a slot).
pub(crate) fn receive_frame(
    fd: BorrowedFd<'_>,
    header: &mut [u8; VNET_HEADER],
    buffer: &mut [u8],
) -> io::Result<Received> {
    let mut parts = [
        libc::iovec {
            iov_base: header.as_mut_ptr().cast(),
            iov_len: header.len(),
        },
        libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        },
    ];
    let mut message = message(&mut parts);
    // SAFETY: the kernel writes no more into the two buffers than their lengths, and both live
    // through the call.
    let length = check_length(unsafe {
        libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT)
    })?;
    Ok(Received {
        length: length.saturating_sub(VNET_HEADER),
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
    })
}
