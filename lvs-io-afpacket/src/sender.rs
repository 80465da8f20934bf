//! The sending half of a port.
//!
//! In: frames, as bytes and what is left to do to them. Out: the interface. Small frames are copied
//! into the ring and leave together at [`Sender::flush`]; large ones are handed to the kernel at
//! once, behind those that stand before them. Order is kept. It never blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use lvs_core::DropReason;
use lvs_packet::Offload;

use crate::config::PortConfig;
use crate::error::{Concession, OpenError};
use crate::ring::TransmitRing;
use crate::socket::{Link, Socket};
use crate::statistics::TransmitStatistics;
use crate::{sys, vnet};

/// After how many flushes in a row that sent nothing the waiting frames are given up: an interface
/// that accepts nothing for so long had better not get stale frames later.
const PATIENCE: u32 = 16;

/// The shortest frame that means something: an Ethernet header.
const SHORTEST: usize = 14;

/// The sending half of a [`Port`](crate::Port).
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    ring: TransmitRing,
    /// For large frames: on a socket with a ring the kernel takes every `sendmsg` for a flush.
    large: Socket,
    /// Frames go past the queueing discipline.
    bypass: bool,
    /// Flushes in a row that sent nothing.
    stuck: u32,
    statistics: TransmitStatistics,
}

impl Sender {
    pub(crate) fn open(
        config: &PortConfig,
        concessions: &mut Vec<Concession>,
    ) -> Result<Self, OpenError> {
        let socket = Socket::new(config.ifindex)?;
        let ring = TransmitRing::open(&socket, config, concessions)?;
        let bypass = prepare(&socket, config)?;
        if config.qdisc_bypass && !bypass {
            concessions.push(Concession::NoBypass);
        }
        let large = Socket::new(config.ifindex)?;
        large.vnet_headers()?;
        prepare(&large, config)?;
        Ok(Self {
            socket,
            ring,
            large,
            bypass,
            stuck: 0,
            statistics: TransmitStatistics::default(),
        })
    }

    /// Takes a frame to be sent. A small one is copied and leaves at the next [`Self::flush`] (or
    /// before, if the ring is full); one that exceeds a slot leaves at once, behind all others.
    ///
    /// # Errors
    /// The frame was not taken: [`DropReason::TransmitFull`] if the interface does not keep up,
    /// [`DropReason::InterfaceDown`] if it is down or gone, [`DropReason::TransmitFailed`] if the
    /// kernel calls the frame malformed or too long.
    #[inline]
    pub fn send(&mut self, frame: &[u8], offload: &Offload) -> Result<(), DropReason> {
        if frame.len() < SHORTEST {
            return Err(DropReason::TransmitFailed);
        }
        if frame.len() > self.ring.largest() {
            return self.send_large(frame, offload);
        }
        let header = vnet::encode(offload, frame.len(), true);
        if !self.ring.push(&header, frame) {
            // Full: what waits may leave, and make room.
            self.flush()?;
            if !self.ring.push(&header, frame) {
                return Err(DropReason::TransmitFull);
            }
        }
        self.count(frame);
        Ok(())
    }

    const fn count(&mut self, frame: &[u8]) {
        self.statistics.frames += 1;
        self.statistics.bytes += frame.len() as u64;
    }

    fn send_large(&mut self, frame: &[u8], offload: &Offload) -> Result<(), DropReason> {
        self.flush()?;
        if self.ring.waiting() != 0 {
            // Overtaking those that wait would reorder flows.
            return Err(DropReason::TransmitFull);
        }
        let header = vnet::encode(offload, frame.len(), false);
        let mut result = sys::send_frame(self.large.fd(), &header, frame);
        if let Err(error) = &result
            && self.end_bypass(error.raw_os_error())
        {
            result = sys::send_frame(self.large.fd(), &header, frame);
        }
        match result {
            Ok(()) => {
                self.statistics.large += 1;
                self.count(frame);
                Ok(())
            }
            Err(error) => Err(reason(&error)),
        }
    }

    /// Past the queueing discipline a driver must take a frame as it is, or it is lost: nobody cuts
    /// a segmented frame for an interface that cannot, and nobody keeps one while it is busy. An
    /// interface that refuses a frame so gets all others, in their order, through the discipline.
    /// Returns whether that is new.
    #[cold]
    fn end_bypass(&mut self, error: Option<i32>) -> bool {
        if !self.bypass || error != Some(libc::ENOBUFS) {
            return false;
        }
        self.bypass = false;
        [&self.socket, &self.large].iter().all(|socket| {
            socket
                .packet_option(libc::PACKET_QDISC_BYPASS, &0_i32)
                .is_ok()
        })
    }

    /// Sends what waits: one system call a batch, none if nothing waits. Frames that the interface
    /// does not take now go on waiting for the next flush.
    ///
    /// # Errors
    /// [`DropReason::InterfaceDown`] if the interface is down or gone: what waited is discarded,
    /// and counted.
    #[inline]
    pub fn flush(&mut self) -> Result<(), DropReason> {
        if self.ring.waiting() == 0 {
            return Ok(());
        }
        self.flush_ring()
    }

    fn flush_ring(&mut self) -> Result<(), DropReason> {
        let before = self.ring.waiting();
        let mut flushed = self.ring.flush(self.socket.fd());
        self.statistics.malformed += flushed.malformed as u64;
        if flushed.error.is_some() && self.end_bypass(flushed.error) {
            flushed = self.ring.flush(self.socket.fd());
            self.statistics.malformed += flushed.malformed as u64;
        }
        self.statistics.flushes += 1;
        let Some(error) = flushed.error else {
            self.stuck = 0;
            return Ok(());
        };
        if matches!(error, libc::ENETDOWN | libc::ENXIO | libc::ENODEV) {
            self.stuck = 0;
            self.statistics.interface_down += self.ring.discard() as u64;
            return Err(DropReason::InterfaceDown);
        }
        if flushed.waiting < before {
            self.stuck = 0;
        } else {
            self.stuck += 1;
        }
        if self.stuck >= PATIENCE {
            self.stuck = 0;
            self.statistics.discarded += self.ring.discard() as u64;
        }
        Ok(())
    }

    /// Frames that wait for a flush.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.ring.waiting()
    }

    /// Whether frames go past the queueing discipline: configured, and no frame refused yet.
    #[must_use]
    pub const fn bypasses(&self) -> bool {
        self.bypass
    }

    /// How the interface is. Enters the kernel.
    #[must_use]
    pub fn link(&self) -> Link {
        self.socket.link()
    }

    /// What has gone out since the port was opened.
    #[must_use]
    pub const fn statistics(&self) -> TransmitStatistics {
        self.statistics
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

/// What both sockets have in common. Returns whether they bypass the queueing discipline.
fn prepare(socket: &Socket, config: &PortConfig) -> Result<bool, OpenError> {
    socket.buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, config.send_buffer)?;
    let bypass = config.qdisc_bypass
        && socket
            .packet_option(libc::PACKET_QDISC_BYPASS, &1_i32)
            .is_ok();
    // Protocol 0: it hears nothing.
    socket.bind(0)?;
    Ok(bypass)
}

/// Why a frame was not sent.
fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => DropReason::InterfaceDown,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TransmitFull,
        _ => DropReason::TransmitFailed,
    }
}
