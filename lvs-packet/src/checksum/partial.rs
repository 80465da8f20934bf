//! Checksums that the sender left to the hardware, finished in software.

use super::{crc32c, full};
use crate::bytes::{set, set_u16};
use crate::frame::Frame;
use lvs_core::DropReason;

/// Where SCTP has its checksum; no other protocol has one there.
const SCTP_FIELD: u16 = 8;
/// Where UDP has its checksum, for which 0 means "none".
const UDP_FIELD: u16 = 6;

/// Finishes a partial checksum: what is left to be done is done, and the frame says so.
///
/// The sum runs to the end of the frame, as the hardware's does; a frame with padding must be cut
/// to its packet before. A frame that stands for several packets has no checksum of its own and
/// stays as it is.
///
/// # Errors
/// [`DropReason::Truncated`] if the field lies outside of the frame; it is unchanged.
pub fn finish_partial(frame: &mut Frame<'_>) -> Result<(), DropReason> {
    let Some(partial) = frame.offload.checksum else {
        return Ok(());
    };
    if frame.offload.segmentation.is_some() {
        return Ok(());
    }
    let start = usize::from(partial.start);
    let field = usize::from(partial.offset);
    let covered = frame
        .bytes_mut()
        .get_mut(start..)
        .ok_or(DropReason::Truncated)?;
    if partial.offset == SCTP_FIELD {
        if covered.len() < 12 {
            return Err(DropReason::Truncated);
        }
        set(covered, field, [0; 4]);
        let crc = crc32c(covered);
        set(covered, field, crc.to_le_bytes());
    } else {
        if covered.len() < field + 2 {
            return Err(DropReason::Truncated);
        }
        // The field's content, the sum of the pseudo header, is part of what is covered.
        let checksum = match full(covered) {
            0 if partial.offset == UDP_FIELD => 0xffff,
            checksum => checksum,
        };
        set_u16(covered, field, checksum);
    }
    frame.offload.checksum = None;
    Ok(())
}
