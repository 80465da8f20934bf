//! A packet socket bound to an interface, from `socket()` until the interface is gone.
//!
//! In: what to be. Out: a socket with its options set, or an [`OpenError`]. It knows rings only as
//! memory that the kernel was asked for; their layout is the rings' own affair.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::config::{Fanout, FanoutMode};
use crate::error::OpenError;
use crate::sys;

/// What is known about the interface behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Up: frames pass.
    Up,
    /// Down for now; frames pass again when it is up, without reopening.
    Down,
    /// Deleted, or moved to another network namespace. The port is of no use any more; open
    /// another one when there is an interface again.
    Gone,
}

/// A packet socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    ifindex: u32,
}

/// An instruction of a classic BPF program that refuses everything: `ret #0`.
const REFUSE: libc::sock_filter = libc::sock_filter {
    code: 0x06, // BPF_RET | BPF_K
    jt: 0,
    jf: 0,
    k: 0,
};

const fn failed(call: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::System { call, source }
}

impl Socket {
    /// A socket that is not bound yet.
    pub(crate) fn new(ifindex: u32) -> Result<Self, OpenError> {
        let fd = sys::packet_socket().map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::NotPermitted,
            _ => OpenError::System {
                call: "socket(AF_PACKET)",
                source,
            },
        })?;
        Ok(Self { fd, ifindex })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sets an option of the packet layer.
    pub(crate) fn packet_option<T: Copy>(&self, name: i32, value: &T) -> io::Result<()> {
        sys::set_option(self.fd(), libc::SOL_PACKET, name, value)
    }

    /// Sets a packet option without which there is no port.
    pub(crate) fn need<T: Copy>(
        &self,
        call: &'static str,
        name: i32,
        value: &T,
    ) -> Result<(), OpenError> {
        self.packet_option(name, value).map_err(failed(call))
    }

    /// Turns virtio-net headers on.
    pub(crate) fn vnet_headers(&self) -> Result<(), OpenError> {
        self.packet_option(libc::PACKET_VNET_HDR, &1_i32)
            .map_err(|_| OpenError::NoVnetHeader)
    }

    /// Makes room for frames in flight; beyond the system's limit if we may.
    pub(crate) fn buffer(&self, force: i32, name: i32, bytes: usize) -> Result<(), OpenError> {
        // The kernel doubles the value for its own bookkeeping.
        let half = i32::try_from(bytes / 2).unwrap_or(i32::MAX / 2);
        sys::set_option(self.fd(), libc::SOL_SOCKET, force, &half)
            .or_else(|_| sys::set_option(self.fd(), libc::SOL_SOCKET, name, &half))
            .map_err(failed("setsockopt(SO_SNDBUF or SO_RCVBUF)"))
    }

    /// Hears nothing until [`Self::open_ears`], although bound.
    pub(crate) fn shut_ears(&self) -> Result<(), OpenError> {
        let mut refuse = REFUSE;
        let program = libc::sock_fprog {
            len: 1,
            filter: &raw mut refuse,
        };
        sys::set_option(
            self.fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            &program,
        )
        .map_err(failed("setsockopt(SO_ATTACH_FILTER)"))
    }

    /// Hears everything from now on.
    pub(crate) fn open_ears(&self) -> Result<(), OpenError> {
        sys::set_option(self.fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32)
            .map_err(failed("setsockopt(SO_DETACH_FILTER)"))
    }

    /// Binds to the interface; `protocol` 0 is for sending only.
    pub(crate) fn bind(&self, protocol: u16) -> Result<(), OpenError> {
        let ifindex = self.ifindex;
        // The kernel reads 0 as "all interfaces".
        if ifindex == 0 {
            return Err(OpenError::NoSuchInterface { ifindex });
        }
        sys::bind_packet(self.fd(), ifindex, protocol).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => OpenError::NoSuchInterface { ifindex },
                Some(libc::ENETDOWN) => OpenError::InterfaceDown { ifindex },
                _ => OpenError::System {
                    call: "bind(AF_PACKET)",
                    source,
                },
            }
        })?;
        let bound = sys::bound_to(self.fd()).map_err(failed("getsockname"))?;
        if !matches!(bound.hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) {
            return Err(OpenError::NotEthernet {
                ifindex,
                hardware: bound.hardware,
            });
        }
        self.clear_error();
        match self.link() {
            Link::Up => Ok(()),
            Link::Down => Err(OpenError::InterfaceDown { ifindex }),
            Link::Gone => Err(OpenError::NoSuchInterface { ifindex }),
        }
    }

    /// Joins a fanout group.
    pub(crate) fn join(&self, fanout: Fanout) -> Result<(), OpenError> {
        let mode = match fanout.mode {
            FanoutMode::Hash => libc::PACKET_FANOUT_HASH,
            FanoutMode::LoadBalance => libc::PACKET_FANOUT_LB,
            FanoutMode::Cpu => libc::PACKET_FANOUT_CPU,
            FanoutMode::Rollover => libc::PACKET_FANOUT_ROLLOVER,
            FanoutMode::Random => libc::PACKET_FANOUT_RND,
            FanoutMode::QueueMapping => libc::PACKET_FANOUT_QM,
        };
        // Within a group it is the group that ignores what goes out, not its members.
        let flags = mode | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        let argument = u32::from(fanout.group) | (flags << 16);
        self.packet_option(libc::PACKET_FANOUT, &argument)
            .map_err(|source| OpenError::Fanout {
                group: fanout.group,
                source,
            })
    }

    /// Asks the kernel for a ring; `Ok(false)` if it has no memory for it.
    pub(crate) fn request_ring<T: Copy>(&self, name: i32, request: &T) -> io::Result<bool> {
        match self.packet_option(name, request) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the error that makes `poll` return at once.
    pub(crate) fn clear_error(&self) {
        let _ = sys::get_option::<1>(self.fd(), libc::SOL_SOCKET, libc::SO_ERROR);
    }

    /// How the interface is, asked now.
    pub(crate) fn link(&self) -> Link {
        // A socket loses its interface for good when that is deleted, even if another one gets the
        // same number later.
        match sys::bound_to(self.fd()) {
            Ok(bound) if bound.ifindex == Some(self.ifindex) => {}
            _ => return Link::Gone,
        }
        match sys::interface_flags(self.fd(), self.ifindex) {
            Some(flags) if flags & libc::IFF_UP != 0 => Link::Up,
            Some(_) => Link::Down,
            None => Link::Gone,
        }
    }

    /// Packets, drops and freezes since the last call (the kernel's counters start anew).
    pub(crate) fn statistics(&self) -> [u32; 3] {
        sys::get_option(self.fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS).unwrap_or_default()
    }
}
