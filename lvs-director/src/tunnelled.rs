//! A tunnel's outer header, decided but not yet written.

use lvs_core::{Addr, DropReason, TunnelKind};
use lvs_packet::{Frame, Packet, segment, tunnel};

/// What stands outside of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// What goes between the headers.
    pub kind: TunnelKind,
    /// The director's address on the servers' side.
    pub source: Addr,
    /// The server.
    pub destination: Addr,
    /// The rest.
    pub options: tunnel::Options,
}

impl Outer {
    /// Cuts a frame that stands for several packets, puts each behind the header, and lends them
    /// to `send` in order. `scratch` takes one packet with its headers at a time: 2 KB are enough
    /// for an Ethernet link, 10 KB for jumbo frames.
    ///
    /// # Errors
    /// The frame is not what it says ([`DropReason::BadSegmentation`]), or a packet with its outer
    /// header does not fit into `scratch`; what stood before it has been sent.
    pub fn for_each_segment(
        &self,
        frame: &Frame<'_>,
        scratch: &mut [u8],
        mut send: impl FnMut(&mut Frame<'_>),
    ) -> Result<(), DropReason> {
        let packet = lvs_packet::parse(frame)?;
        let remote = tunnel::remote_overhead(frame, &packet, self.kind);
        let headroom = tunnel::overhead(self.kind, self.destination.family()) + remote;
        let mut segments = segment::segments(frame, &packet)?;
        if remote > 0 {
            segments = segments.leave_checksums();
        }
        let mut outer = *self;
        while let Some(mut piece) = segments.next_into(scratch, headroom)? {
            let packet = lvs_packet::parse(&piece)?;
            outer.encapsulate(&mut piece, &packet)?;
            outer.options.ident = outer.options.ident.wrapping_add(1);
            send(&mut piece);
        }
        Ok(())
    }

    /// Puts one packet behind the header.
    pub(crate) fn encapsulate(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
    ) -> Result<(), DropReason> {
        tunnel::encapsulate(
            frame,
            packet,
            self.kind,
            self.source,
            self.destination,
            &self.options,
        )
    }
}

/// Numbers for what a worker sends of itself.
#[derive(Debug)]
pub(crate) struct Identification {
    next: u16,
    key: u64,
}

impl Identification {
    pub(crate) fn new(key: u64) -> Self {
        Self { next: 0, key }
    }

    /// What [`next`](Self::next) will answer.
    pub(crate) const fn upcoming(&self) -> u16 {
        self.next.wrapping_add(1)
    }

    /// The identification of the next IPv4 header that routers may cut.
    pub(crate) fn next(&mut self) -> u16 {
        self.next = self.upcoming();
        self.next
    }

    /// The identification of the next IPv6 packet that is cut here.
    pub(crate) fn next_v6(&mut self) -> u32 {
        let number = u64::from(self.next());
        ((self.key ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// What keeps the ports of GUE from being predicted.
    pub(crate) const fn key(&self) -> u64 {
        self.key
    }
}
