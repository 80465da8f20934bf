//! Giving a frame to the host's own stack.
//!
//! In: a frame that was claimed from the host but is meant for it. Out: the same frame, received by
//! the host on `lo`. The sender's address stays; the link-layer addresses become zero, which is
//! what `lo` has. The host sees it arrive on `lo`, so a socket bound to another interface does not
//! get it, and a strict `rp_filter` (1) on `lo` or `all` refuses it.

use lvs_core::DropReason;
use lvs_packet::Frame;

use crate::config::PortConfig;
use crate::error::{Concession, OpenError};
use crate::sender::Sender;
use crate::statistics::TransmitStatistics;

/// The number of `lo`, the same in every network namespace.
pub const LOOPBACK: u32 = 1;

/// The way to the host's own stack.
///
/// ```no_run
/// use lvs_io_afpacket::Injector;
/// let mut injector = Injector::open()?;
/// # let mut bytes = [0; 64];
/// # let mut frame = lvs_packet::Frame::new(&mut bytes, 0, 64, Default::default());
/// let _ = injector.inject(&mut frame);
/// let _ = injector.flush();
/// # Ok::<(), lvs_io_afpacket::OpenError>(())
/// ```
#[derive(Debug)]
pub struct Injector {
    sender: Sender,
}

impl Injector {
    /// Opens a small transmit ring on `lo`.
    ///
    /// # Errors
    /// As [`Port::open`](crate::Port::open); `lo` must be up.
    pub fn open() -> Result<Self, OpenError> {
        let mut concessions: Vec<Concession> = Vec::new();
        let config = PortConfig {
            transmit_slots: 128,
            ..PortConfig::new(LOOPBACK)
        };
        Ok(Self {
            sender: Sender::open(&config, &mut concessions)?,
        })
    }

    /// Takes a frame, from its Ethernet header on, for the host; it arrives at the next
    /// [`Self::flush`]. Its link-layer addresses are overwritten.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn inject(&mut self, frame: &mut Frame<'_>) -> Result<(), DropReason> {
        let Some(addresses) = frame.bytes_mut().first_chunk_mut::<12>() else {
            return Err(DropReason::Truncated);
        };
        *addresses = [0; 12];
        self.sender.send(frame.bytes(), &frame.offload)
    }

    /// Hands over what waits.
    ///
    /// # Errors
    /// As [`Sender::flush`].
    pub fn flush(&mut self) -> Result<(), DropReason> {
        self.sender.flush()
    }

    /// What has been handed over.
    #[must_use]
    pub const fn statistics(&self) -> TransmitStatistics {
        self.sender.statistics()
    }
}
