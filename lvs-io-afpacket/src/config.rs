//! What a port is to be: values that an operator may choose, with defaults that were measured.

/// How the receive ring is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RingVersion {
    /// `TPACKET_V2`: one slot per frame; a frame is seen at once. Frames that exceed a slot come
    /// through the socket's queue, whole. The default: a round trip through a forwarder takes some
    /// 30 µs (18 µs through the kernel), and a frame costs no more than with V3, a large one a quarter
    /// less.
    #[default]
    V2,
    /// `TPACKET_V3`: blocks of many frames, seen when a block is full or after
    /// [`PortConfig::block_timeout_ms`]: a round trip through a forwarder takes 1 ms, more on
    /// kernels before 6.18, whose shortest time is that of a timer tick.
    V3,
}

/// How a fanout group spreads frames over its members (packet(7), `PACKET_FANOUT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FanoutMode {
    /// By the flow: both directions of a connection, and all fragments of a packet, meet one
    /// member.
    #[default]
    Hash,
    /// In turn.
    LoadBalance,
    /// By the CPU on which the frame arrived.
    Cpu,
    /// The first member, the next one when its ring is full.
    Rollover,
    /// At random.
    Random,
    /// By the receive queue of the NIC.
    QueueMapping,
}

/// The group of ports on one interface that share its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// The group's number, the same for all members; unique to the interface within a network
    /// namespace.
    pub group: u16,
    /// Which member gets a frame.
    pub mode: FanoutMode,
}

/// What [`Port::open`](crate::Port::open) needs to know.
///
/// ```
/// use lvs_io_afpacket::{Fanout, FanoutMode, PortConfig};
/// let config = PortConfig {
///     fanout: Some(Fanout { group: 7, mode: FanoutMode::Hash }),
///     ..PortConfig::new(2)
/// };
/// assert_eq!(config.receive_slots, 2048);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// The interface's number.
    pub ifindex: u32,
    /// The receive ring's layout.
    pub version: RingVersion,
    /// Bytes that are free before each received frame, at least; 64 to 4096.
    pub headroom: usize,
    /// V2: slots of the receive ring, at least.
    pub receive_slots: usize,
    /// V2: bytes of a slot, headers and headroom included, at least. Frames that do not fit come
    /// through the socket's queue, by a system call each.
    pub receive_slot_size: usize,
    /// V2: how many frames larger than a slot a batch can hold (64 KB each), 1 to 64. Few, so that
    /// their bytes are still in the cache when they are sent.
    pub large_frames: usize,
    /// V2: bytes of frames that may wait in the socket's queue.
    pub large_queue: usize,
    /// V3: blocks of the receive ring.
    pub blocks: usize,
    /// V3: bytes of a block; rounded up to a power of two, at least 128 KB, so that a frame of
    /// 64 KB fits.
    pub block_size: usize,
    /// V3: after how many milliseconds a block that is not full is handed over; at least 1.
    pub block_timeout_ms: u32,
    /// Slots of the transmit ring, at least.
    pub transmit_slots: usize,
    /// Bytes of a transmit slot, at least. Larger frames are sent one by one.
    pub transmit_slot_size: usize,
    /// Bytes that may be on their way out.
    pub send_buffer: usize,
    /// Hand frames to the driver past the queueing discipline, and with it past traffic control,
    /// the egress filters and `tcpdump`. Ends by itself when the driver refuses a frame that the
    /// discipline would have kept, or cut for it. Saves 3 % of sending on a veth; the more, the more
    /// the discipline does.
    pub qdisc_bypass: bool,
    /// Share the interface's frames with other ports.
    pub fanout: Option<Fanout>,
    /// Also lend frames that are addressed to another station (seen in promiscuous mode only).
    pub other_stations: bool,
}

impl PortConfig {
    /// The measured defaults for the interface `ifindex`.
    #[must_use]
    pub fn new(ifindex: u32) -> Self {
        Self {
            ifindex,
            version: RingVersion::default(),
            headroom: 64,
            receive_slots: 2048,
            receive_slot_size: 2048,
            large_frames: 4,
            large_queue: 32 << 20,
            blocks: 16,
            block_size: 256 << 10,
            block_timeout_ms: 1,
            transmit_slots: 256,
            transmit_slot_size: 2048,
            send_buffer: 16 << 20,
            qdisc_bypass: false,
            fanout: None,
            other_stations: false,
        }
    }
}
