//! The Ethernet header: addresses of the next hop, and VLAN tags.
//!
//! ```
//! use lvs_packet::{Frame, Offload, ethernet};
//! let mut buffer = [0; 64];
//! let mut frame = Frame::new(&mut buffer, 4, 60, Offload::default());
//! ethernet::set_addresses(&mut frame, [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
//! assert_eq!(ethernet::source(&frame), Some([2, 0, 0, 0, 0, 2]));
//! ethernet::insert_vlan(&mut frame, 0x8100, 7).unwrap();
//! assert_eq!(frame.bytes()[12..16], [0x81, 0, 0, 7]);
//! ```

use crate::bytes::{array, array_mut, set, set_u16};
use crate::frame::Frame;
use lvs_core::DropReason;

/// Writes both addresses.
#[inline]
pub fn set_addresses(frame: &mut Frame<'_>, destination: [u8; 6], source: [u8; 6]) {
    if let Some(header) = array_mut::<12>(frame.bytes_mut(), 0) {
        set(header, 0, destination);
        set(header, 6, source);
    }
}

/// Who sent it on this link; `None` if the frame is too short to tell.
#[inline]
#[must_use]
pub fn source(frame: &Frame<'_>) -> Option<[u8; 6]> {
    array(frame.bytes(), 6).copied()
}

/// Who is to get it on this link; `None` if the frame is too short to tell.
#[inline]
#[must_use]
pub fn destination(frame: &Frame<'_>) -> Option<[u8; 6]> {
    array(frame.bytes(), 0).copied()
}

/// Sends the frame back: source and destination change places.
#[inline]
pub fn swap_addresses(frame: &mut Frame<'_>) {
    if let (Some(destination), Some(source)) = (destination(frame), source(frame)) {
        set_addresses(frame, source, destination);
    }
}

/// Inserts a tag in front of all others. What has been parsed of the frame before is stale: every
/// offset grows by 4.
///
/// # Errors
/// [`DropReason::NoHeadroom`] without 4 free bytes before the frame; it is unchanged.
pub fn insert_vlan(frame: &mut Frame<'_>, tpid: u16, tci: u16) -> Result<(), DropReason> {
    frame.open_gap(12, 4)?;
    let bytes = frame.bytes_mut();
    set_u16(bytes, 12, tpid);
    set_u16(bytes, 14, tci);
    Ok(())
}
