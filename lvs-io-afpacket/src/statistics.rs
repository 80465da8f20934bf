//! What a port has seen and done: plain counters, written by its worker.

/// What came in, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveStatistics {
    /// Frames lent to the caller.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that reached the socket, by the kernel's count: also those that it dropped.
    pub kernel_frames: u64,
    /// Frames that the kernel dropped because the ring was full.
    pub kernel_drops: u64,
    /// V3: how often the ring was frozen because all blocks were ours.
    pub kernel_freezes: u64,
    /// Frames that were larger than the ring could hold
    /// ([`RingTruncated`](lvs_core::DropReason::RingTruncated)).
    pub truncated: u64,
    /// Frames with a segmentation that has no name here
    /// ([`BadSegmentation`](lvs_core::DropReason::BadSegmentation)).
    pub bad_segmentation: u64,
    /// Frames passed over: addressed to another station, or of a VLAN that is not ours
    /// ([`Receiver::pass_over`](crate::Receiver::pass_over)).
    pub other_station: u64,
}

/// What went out, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitStatistics {
    /// Frames accepted for sending, those counted below and found out about later included.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames accepted, then discarded because the interface took none for too long
    /// ([`TransmitFull`](lvs_core::DropReason::TransmitFull)).
    pub discarded: u64,
    /// Frames accepted, then found malformed by the kernel
    /// ([`TransmitFailed`](lvs_core::DropReason::TransmitFailed)).
    pub malformed: u64,
    /// Frames accepted, then discarded because the interface went down
    /// ([`InterfaceDown`](lvs_core::DropReason::InterfaceDown)).
    pub interface_down: u64,
    /// System calls that flushed the ring.
    pub flushes: u64,
    /// Frames sent past the ring because they exceed a slot.
    pub large: u64,
}
