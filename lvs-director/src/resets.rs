//! The other half of a reset: the sender of a packet is answered with the packet itself, and whoever
//! it was for gets a RST that the director makes.
//!
//! In: a segment of a connection that is to end, before it becomes an answer. Out, after the batch: a
//! RST that goes on in its place, with its sequence numbers, which are those that its receiver waits
//! for. Never more of them than a batch has packets, and never an allocation.

use crate::tunnelled::Outer;
use crate::verdict::Verdict;
use crate::worker::BATCH;
use lvs_core::{Endpoint, Family};
use lvs_packet::{Frame, Offload, Packet, TcpFlags, build, parse, tunnel};

/// Before the frame, for a tunnel's header; and for the frame itself: Ethernet, IPv6, TCP.
const HEADROOM: usize = 64;
const ROOM: usize = HEADROOM + 14 + 40 + 20;

/// What a segment says of the state of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    sequence: u32,
    /// If it acknowledges.
    acknowledged: Option<u32>,
    tos: u8,
}

impl Position {
    /// That of a TCP segment.
    pub(crate) fn of(frame: &Frame<'_>, packet: &Packet) -> Option<Self> {
        let header = frame.bytes().get(usize::from(packet.l4)..)?;
        let word = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?));
        let acknowledges = packet.tcp_flags.contains(TcpFlags::ACK);
        Some(Self {
            sequence: word(4)?,
            acknowledged: if acknowledges { Some(word(8)?) } else { None },
            tos: packet.tos & !3,
        })
    }
}

/// A RST that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reset {
    pub(crate) hop: u32,
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) at: Position,
    /// The tunnel through which it goes.
    pub(crate) outer: Option<Outer>,
}

impl Reset {
    /// Writes the frame; where it begins, and its length.
    fn write(&self, buffer: &mut [u8; ROOM]) -> Option<(usize, usize)> {
        let ip = build::Ip {
            tos: self.at.tos,
            ..build::Ip::new(self.from.addr, self.to.addr)
        };
        let acknowledged = self.at.acknowledged;
        let tcp = build::Tcp {
            sequence: self.at.sequence,
            acknowledged: acknowledged.unwrap_or_default(),
            flags: match acknowledged {
                Some(_) => TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0),
                None => TcpFlags::RST,
            },
            window: 0,
            ..build::Tcp::syn(self.from.port, self.to.port)
        };
        let rest = buffer.get_mut(HEADROOM..)?;
        let length = build::tcp(rest, &ip, &tcp, b"").ok()?;
        let Some(outer) = &self.outer else {
            return Some((HEADROOM, length));
        };
        let mut frame = Frame::new(buffer, HEADROOM, length, Offload::default());
        let packet = parse(&frame).ok()?;
        outer.encapsulate(&mut frame, &packet).ok()?;
        let grown = frame.len();
        Some(((HEADROOM + length).checked_sub(grown)?, grown))
    }
}

const _: () = {
    let gue = lvs_core::TunnelKind::Gue {
        port: 1,
        checksum: lvs_core::TunnelChecksum::Remote,
    };
    assert!(tunnel::overhead(gue, Family::V6) <= HEADROOM);
};

/// The resets of a worker that have not been sent yet.
#[derive(Debug)]
pub(crate) struct Resets {
    waiting: [Option<Reset>; BATCH],
    count: usize,
    buffer: [u8; ROOM],
}

impl Default for Resets {
    fn default() -> Self {
        Self {
            waiting: [None; BATCH],
            count: 0,
            buffer: [0; ROOM],
        }
    }
}

impl Resets {
    /// One more. Without room its receiver hears of the end when it sends something itself.
    pub(crate) fn push(&mut self, reset: Reset) {
        if let Some(place) = self.waiting.get_mut(self.count) {
            *place = Some(reset);
            self.count += 1;
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The next one as a frame that goes on.
    #[cold]
    pub(crate) fn next(&mut self) -> Option<(Frame<'_>, Verdict)> {
        while let Some(last) = self.count.checked_sub(1) {
            self.count = last;
            let reset = self.waiting.get_mut(last).and_then(Option::take);
            if let Some(reset) = reset
                && let Some((start, length)) = reset.write(&mut self.buffer)
            {
                let frame = Frame::new(&mut self.buffer, start, length, Offload::default());
                return Some((frame, Verdict::Forward(reset.hop)));
            }
        }
        None
    }
}
