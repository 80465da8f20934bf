//! The kernel boundary, lowest layer: one function for each system call, typed arguments in,
//! `io::Result` out.
//!
//! Nothing here keeps state or decides anything. It must never be used from outside of the crate.

mod map;
mod option;
mod transfer;

pub(crate) use map::Mapping;
pub(crate) use option::{get_option, set_option};
pub(crate) use transfer::{kick, receive_frame, send_frame};

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes of a virtio-net header without mergeable buffers (virtio 1.2, 5.1.6).
pub(crate) const VNET_HEADER: usize = 10;

/// Every protocol, in the byte order of `sockaddr_ll`.
#[expect(clippy::cast_possible_truncation, reason = "ETH_P_ALL is 3")]
pub(crate) const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();

/// Turns the -1 of a system call into its error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls that return a length.
fn check_length(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `socket(AF_PACKET, SOCK_RAW)`, non-blocking, closed on exec, hearing nothing yet.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain integers go in.
    let fd = check(unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    })?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The size of a `T` as the kernel wants to hear it.
fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

const EMPTY_ADDRESS: libc::sockaddr_ll = libc::sockaddr_ll {
    sll_family: 0,
    sll_protocol: 0,
    sll_ifindex: 0,
    sll_hatype: 0,
    sll_pkttype: 0,
    sll_halen: 0,
    sll_addr: [0; 8],
};

/// `bind` to an interface; `protocol` 0 hears nothing and is for sending.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into().unwrap_or_default(),
        sll_protocol: protocol,
        sll_ifindex: ifindex.cast_signed(),
        ..EMPTY_ADDRESS
    };
    // SAFETY: the address lives through the call and its length is the length of its type.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    })?;
    Ok(())
}

/// Where a packet socket is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundTo {
    /// `None` once the interface is gone.
    pub(crate) ifindex: Option<u32>,
    /// `ARPHRD_*`.
    pub(crate) hardware: u16,
}

/// `getsockname` of a packet socket.
pub(crate) fn bound_to(fd: BorrowedFd<'_>) -> io::Result<BoundTo> {
    let mut address = EMPTY_ADDRESS;
    let mut length = length_of::<libc::sockaddr_ll>();
    // SAFETY: both outputs live through the call; `length` is the room that `address` offers.
    check(unsafe {
        libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length)
    })?;
    Ok(BoundTo {
        ifindex: u32::try_from(address.sll_ifindex).ok(),
        hardware: address.sll_hatype,
    })
}

/// The `IFF_*` flags of an interface, or `None` if there is none with this number.
pub(crate) fn interface_flags(fd: BorrowedFd<'_>, ifindex: u32) -> Option<i32> {
    // SAFETY: all-zero bytes are a valid `ifreq`: names, integers and plain unions.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = ifindex.cast_signed();
    // SAFETY: SIOCGIFNAME reads and writes one `ifreq`, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) }).ok()?;
    // SAFETY: SIOCGIFFLAGS reads and writes one `ifreq`, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) }).ok()?;
    // SAFETY: SIOCGIFFLAGS has filled this member of the union.
    Some(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
}
