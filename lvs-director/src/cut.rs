//! How a packet that is longer than its way takes is cut, decided but not yet done.

use lvs_core::DropReason;
use lvs_packet::{Frame, checksum, fragment};

/// How a packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The longest IP packet that may come of it, in bytes.
    pub limit: u32,
    /// The identification of the pieces, if they are IPv6's.
    pub identification: u32,
}

impl Cut {
    /// Cuts the packet in a frame and lends its pieces to `send` in order. `scratch` takes one piece with
    /// its link-layer header at a time: 2 KB are enough for an Ethernet link, 10 KB for jumbo frames.
    ///
    /// # Errors
    /// The packet cannot be cut ([`DropReason::TooBig`], [`DropReason::BadFragment`]), or a piece does not
    /// fit into `scratch`; what stood before it has been sent.
    pub fn for_each_piece(
        &self,
        frame: &mut Frame<'_>,
        scratch: &mut [u8],
        mut send: impl FnMut(&mut Frame<'_>),
    ) -> Result<(), DropReason> {
        let packet = lvs_packet::parse(frame)?;
        // The tail first: what a partial checksum covers ends with the packet.
        frame.set_len(packet.end as usize)?;
        checksum::finish_partial(frame)?;
        let mut pieces = fragment::cut(frame, &packet, self.limit, self.identification)?;
        while let Some(mut piece) = pieces.next_into(scratch, 0)? {
            send(&mut piece);
        }
        Ok(())
    }
}
