//! The receiving half of a port.
//!
//! In: frames from an interface. Out: the same, lent in place. It never copies a frame that fits a
//! slot, never blocks, and enters the kernel only for frames that exceed a slot.

use std::os::fd::{AsFd, BorrowedFd};

use lvs_packet::Frame;

use crate::config::{PortConfig, RingVersion};
use crate::error::{Concession, OpenError};
use crate::ring::{Frames, MAX_BATCH, Refused, RingV2, RingV3};
use crate::socket::{Link, Socket};
use crate::statistics::ReceiveStatistics;
use crate::sys;

#[derive(Debug)]
enum Ring {
    V2(RingV2),
    V3(RingV3),
}

/// The receiving half of a [`Port`](crate::Port).
#[derive(Debug)]
pub struct Receiver {
    socket: Socket,
    ring: Ring,
    statistics: ReceiveStatistics,
}

impl Receiver {
    pub(crate) fn open(
        config: &PortConfig,
        concessions: &mut Vec<Concession>,
    ) -> Result<Self, OpenError> {
        let socket = Socket::new(config.ifindex)?;
        let blocks = match config.version {
            RingVersion::V2 => None,
            RingVersion::V3 => {
                let ring = RingV3::open(&socket, config, concessions)?;
                if ring.is_none() {
                    concessions.push(Concession::OlderRing);
                }
                ring
            }
        };
        let ring = match blocks {
            Some(ring) => Ring::V3(ring),
            None => Ring::V2(RingV2::open(&socket, config, concessions)?),
        };
        socket.need(
            "PACKET_IGNORE_OUTGOING",
            libc::PACKET_IGNORE_OUTGOING,
            &1_i32,
        )?;
        // Between being bound and being a member of its group a port would get copies of frames
        // that other members get as well.
        socket.shut_ears()?;
        socket.bind(sys::ALL_PROTOCOLS)?;
        if let Some(fanout) = config.fanout {
            socket.join(fanout)?;
        }
        socket.open_ears()?;
        Ok(Self {
            socket,
            ring,
            statistics: ReceiveStatistics::default(),
        })
    }

    /// Lends up to `max` (and [`MAX_BATCH`]) waiting frames to `f`, in the order of arrival, to be
    /// read and changed in place; afterwards their slots are the kernel's again. `None`, and no
    /// call, if no frame is waiting. Does not enter the kernel, except once for each frame that
    /// exceeds a slot.
    ///
    /// Each frame has the configured headroom. A VLAN tag stands in the frame even if the kernel
    /// had taken it out.
    pub fn receive<R>(&mut self, max: usize, f: impl FnOnce(&mut [Frame<'_>]) -> R) -> Option<R> {
        let max = max.min(MAX_BATCH);
        let fd = self.socket.fd();
        let mut frames = Frames::new();
        let held = match &mut self.ring {
            Ring::V2(ring) => ring.gather(fd, max, &mut frames),
            Ring::V3(ring) => {
                ring.gather(max, &mut frames);
                0
            }
        };
        // If `f` panics the frames are not given back, and the next call lends them again.
        let result = if frames.is_empty() {
            None
        } else {
            self.statistics.frames += frames.len() as u64;
            self.statistics.bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
            Some(f(&mut frames))
        };
        drop(frames);
        match &mut self.ring {
            Ring::V2(ring) => ring.release(held),
            Ring::V3(ring) => ring.release(),
        }
        result
    }

    /// Passes frames over from now on that carry the tag of one of these VLANs: those that have an
    /// interface of their own, which gets these frames too. No others; at first none.
    pub fn pass_over(&mut self, vlans: impl IntoIterator<Item = u16>) {
        match &mut self.ring {
            Ring::V2(ring) => ring.others.set(vlans),
            Ring::V3(ring) => ring.others.set(vlans),
        }
    }

    /// Whether a frame is waiting; reads one word of the ring.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.ring {
            Ring::V2(ring) => ring.is_ready(),
            Ring::V3(ring) => ring.is_ready(),
        }
    }

    /// The layout that the ring really has.
    #[must_use]
    pub const fn version(&self) -> RingVersion {
        match self.ring {
            Ring::V2(_) => RingVersion::V2,
            Ring::V3(_) => RingVersion::V3,
        }
    }

    /// How the interface is. Enters the kernel: ask when [`wait`](crate::wait) reports trouble, or
    /// once in a while.
    #[must_use]
    pub fn link(&self) -> Link {
        self.socket.link()
    }

    /// What has come in since the port was opened. Enters the kernel.
    pub fn statistics(&mut self) -> ReceiveStatistics {
        let [frames, drops, freezes] = self.socket.statistics();
        let statistics = &mut self.statistics;
        statistics.kernel_frames += u64::from(frames);
        statistics.kernel_drops += u64::from(drops);
        statistics.kernel_freezes += u64::from(freezes);
        let refused: &Refused = match &self.ring {
            Ring::V2(ring) => &ring.refused,
            Ring::V3(ring) => &ring.refused,
        };
        statistics.truncated = refused.truncated;
        statistics.bad_segmentation = refused.segmentation;
        statistics.other_station = refused.other_station;
        *statistics
    }

    pub(crate) fn clear_error(&self) {
        self.socket.clear_error();
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}
