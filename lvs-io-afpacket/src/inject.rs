//! Giving a frame to the host's own stack.
//!
//! In: a frame that was claimed from the host but is meant for it. Out: the same frame, received by
//! the host on `lo`. The sender's address stays; the link-layer addresses become zero, which is
//! what `lo` has, and VLAN tags go, for `lo` has no VLANs. The host sees it arrive on `lo`, so a socket bound to another interface does not
//! get it, and a strict `rp_filter` (1) on `lo` or `all` refuses it.

use lvs_core::DropReason;
use lvs_packet::{Frame, Offload};

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
    /// [`Self::flush`]. Its link-layer header is overwritten.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn inject(&mut self, frame: &mut Frame<'_>) -> Result<(), DropReason> {
        let (bytes, offload) = readdress(frame)?;
        self.sender.send(bytes, &offload)
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

const ADDRESSES: usize = 12;
const VLAN_TAG: usize = 4;

/// The frame as `lo` has it: without tags, with addresses of zero.
fn readdress<'a>(frame: &'a mut Frame<'_>) -> Result<(&'a [u8], Offload), DropReason> {
    let mut offload = frame.offload;
    let mut rest = frame.bytes_mut();
    // What a tag takes is at its end: the addresses in front of it are overwritten anyway.
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = rest.get(ADDRESSES..ADDRESSES + 2) {
        rest = rest.get_mut(VLAN_TAG..).unwrap_or_default();
        if let Some(partial) = &mut offload.checksum {
            partial.start = partial.start.saturating_sub(4);
        }
    }
    let Some(addresses) = rest.first_chunk_mut::<ADDRESSES>() else {
        return Err(DropReason::Truncated);
    };
    *addresses = [0; ADDRESSES];
    Ok((rest, offload))
}
