//! A netlink socket: requests with their answers, dumps, notifications.
//!
//! In: messages of a [`Writer`]. Out: the kernel's messages. Never: an endless wait;
//! the kernel answers at once, and an answer that is five seconds late is an error.

use super::{DUMP, DUMP_INTERRUPTED, Message, Messages, REQUEST, Writer};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv,
    send, socket_with,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// The kernel fills at most 32 KB per datagram of a dump.
const RECEIVE: usize = 64 << 10;
/// Room for notifications while the control thread is busy.
const NOTIFICATIONS: usize = 4 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Tries of a dump during which the table keeps changing; then the last one is good enough,
/// because each change is notified as well.
const TRIES: usize = 4;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What [`Socket::receive`] found.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// One datagram.
    Messages(Messages<'a>),
    /// Nothing there now.
    Nothing,
    /// Notifications were lost (`ENOBUFS`).
    Overrun,
}

impl Socket {
    /// A socket of rtnetlink that hears those groups (bits as in `RTMGRP_`).
    pub(crate) fn route(groups: u32) -> io::Result<Self> {
        Self::open(None, groups)
    }

    /// A socket of nfnetlink.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER), 0)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER_WITHIN))?;
        if groups != 0 && sockopt::set_socket_recv_buffer_size_force(&fd, NOTIFICATIONS).is_err() {
            // Without CAP_NET_ADMIN over the machine the system's limit holds.
            sockopt::set_socket_recv_buffer_size(&fd, NOTIFICATIONS)?;
        }
        bind(&fd, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; RECEIVE],
        })
    }

    /// Makes room for requests of that size.
    pub(crate) fn reserve(&self, bytes: usize) -> io::Result<()> {
        if sockopt::socket_send_buffer_size(&self.fd)? > bytes.saturating_mul(2) {
            return Ok(());
        }
        let wanted = bytes.saturating_mul(2);
        if sockopt::set_socket_send_buffer_size_force(&self.fd, wanted).is_err() {
            sockopt::set_socket_send_buffer_size(&self.fd, wanted)?;
        }
        Ok(())
    }

    /// The number for the next request.
    pub(crate) const fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(&self.fd, bytes, SendFlags::empty())?;
        Ok(())
    }

    /// The next datagram, if there is one.
    pub(crate) fn receive(&mut self) -> io::Result<Received<'_>> {
        match recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Received::Messages(Messages(
                self.buffer.get(..length).unwrap_or_default(),
            ))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Received::Nothing),
            Err(rustix::io::Errno::NOBUFS) => Ok(Received::Overrun),
            Err(error) => Err(error.into()),
        }
    }

    /// The next datagram, waiting for it.
    pub(crate) fn wait(&mut self) -> io::Result<Messages<'_>> {
        let length = loop {
            match recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => break length,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Messages(self.buffer.get(..length).unwrap_or_default()))
    }

    /// Sends a request that the kernel acknowledges, and waits for that.
    pub(crate) fn acknowledged(&mut self, bytes: &[u8], sequence: u32) -> io::Result<()> {
        self.send(bytes)?;
        loop {
            for message in self.wait()? {
                if message.sequence != sequence {
                    continue;
                }
                match message.error() {
                    Some(0) => return Ok(()),
                    Some(code) => return Err(io::Error::from_raw_os_error(code)),
                    None => {}
                }
            }
        }
    }

    /// Asks for a whole table; `each` sees all its messages, in order.
    ///
    /// A dump that was interrupted by a change is asked for again.
    pub(crate) fn dump<T>(
        &mut self,
        kind: u16,
        fixed: &[u8],
        attributes: impl Fn(&mut Writer),
        each: impl Fn(&mut Vec<T>, Message<'_>),
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..TRIES {
            found.clear();
            let sequence = self.next_sequence();
            let mut request = Writer::default();
            request.message(kind, REQUEST | DUMP, sequence, fixed, &attributes);
            self.send(request.bytes())?;
            if !self.read_dump(sequence, &mut found, &each)? {
                break;
            }
        }
        Ok(found)
    }

    /// Whether the dump was interrupted.
    fn read_dump<T>(
        &mut self,
        sequence: u32,
        found: &mut Vec<T>,
        each: &impl Fn(&mut Vec<T>, Message<'_>),
    ) -> io::Result<bool> {
        let mut interrupted = false;
        loop {
            for message in self.wait()? {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                if message.is_done() {
                    return match message.done_code() {
                        Some(code) if code > 0 => Err(io::Error::from_raw_os_error(code)),
                        _ => Ok(interrupted),
                    };
                }
                match message.error() {
                    Some(0) => return Ok(interrupted),
                    Some(code) => return Err(io::Error::from_raw_os_error(code)),
                    None => each(found, message),
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
