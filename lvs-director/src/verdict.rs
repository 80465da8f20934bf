//! What becomes of a packet.

use crate::cut::Cut;
use crate::tunnelled::Outer;
use lvs_core::DropReason;

/// The decision for one frame; the frame itself has been rewritten to fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not the director's: the host has its own copy. Nothing is to be done.
    Pass,
    /// The host's, but claimed from it together with the director's: it has to be given back.
    ToHost,
    /// Goes no further.
    Drop(DropReason),
    /// Goes to this next hop ([`Route::hop`](crate::Route)).
    Forward(u32),
    /// Stands for several packets, which a tunnel cannot carry whole: cut it, put each piece
    /// behind the outer header, and send them to this next hop ([`Outer::for_each_segment`]).
    ForwardSegments {
        /// The next hop.
        hop: u32,
        /// The tunnel.
        outer: Outer,
    },
    /// Longer than its way takes, and may be cut: send its pieces to this next hop
    /// ([`Cut::for_each_piece`]).
    ForwardPieces {
        /// The next hop.
        hop: u32,
        /// How it is cut.
        cut: Cut,
    },
    /// A fragment that waits for others of its datagram: the director has a copy, and gives it back
    /// when they have come ([`Worker::next_released`](crate::Worker::next_released)). Nothing is to be
    /// done.
    Held,
    /// Has become an answer to its sender (an ICMP error, a reset) for the given reason, and goes
    /// back where it came from. `None`: an ordinary answer (an echo reply).
    Answer(Option<DropReason>),
}
