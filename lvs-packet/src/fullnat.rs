//! FULLNAT: both ends of a packet change at once, so that the server answers to the director
//! whatever its routes are.
//!
//! ```text
//!   client -> VIP      becomes   local address -> server
//!   server -> local    becomes   VIP -> client
//! ```
//!
//! What comes in is a parsed frame and two endpoints; what goes out is the frame in its own buffer.
//! Checksums follow by difference as with [`nat`]; the TTL is not touched. An ICMP error goes the
//! same way with the packet that it quotes. Whom the server talks to is told by
//! [`toa`](crate::toa) and [`uoa`](crate::uoa).
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, checksum, fullnat, parse};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("198.51.100.7".parse()?, "192.0.2.10".parse()?);
//! let length = build::tcp(&mut buffer, &ip, &build::Tcp::syn(40000, 80), b"")?;
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! let (local, server) = ("10.2.0.250:1024".parse()?, "10.2.0.1:8080".parse()?);
//! fullnat::rewrite(&mut frame, &packet, local, server);
//! let packet = parse(&frame).unwrap();
//! assert_eq!((packet.flow.src, packet.flow.dst), (local, server));
//! assert_eq!(checksum::verify(&frame, &packet), Some(true));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::frame::Frame;
use crate::icmp;
use crate::nat::{self, End};
use crate::packet::Packet;
use crate::parse::Quoted;
use crate::swift;
use lvs_core::{DropReason, Endpoint, Flow};

/// Lets the packet go from `from` to `to`. Endpoints of the other family, or a frame that is not
/// `packet`, change nothing.
#[inline]
pub fn rewrite(frame: &mut Frame<'_>, packet: &Packet, from: Endpoint, to: Endpoint) {
    let family = packet.family;
    if from.addr.family() != family || to.addr.family() != family {
        return;
    }
    if swift::rewrite(frame, packet, Some(from), Some(to)).is_none() {
        rewrite_ends(frame, packet, from, to);
    }
}

/// One end, then the other.
fn rewrite_ends(frame: &mut Frame<'_>, packet: &Packet, from: Endpoint, to: Endpoint) {
    nat::rewrite_any(frame, packet, to, End::Destination);
    let half = Packet {
        flow: Flow {
            dst: to,
            ..packet.flow
        },
        ..*packet
    };
    nat::rewrite_any(frame, &half, from, End::Source);
}

/// An ICMP error about a packet of the connection: it goes from the address of `from` to that of
/// `to`, and quotes a packet that went from `to` to `from`, as the receiver of the error sent it.
///
/// # Errors
/// [`DropReason::BadIcmpChecksum`]; [`DropReason::BadFragment`] if this is a piece of an error;
/// [`DropReason::BadIcmpQuote`] if `quoted` is not what this frame quotes, or an endpoint is of
/// the other family. The frame is unchanged.
pub fn translate_error(
    frame: &mut Frame<'_>,
    packet: &Packet,
    quoted: &Quoted,
    from: Endpoint,
    to: Endpoint,
) -> Result<(), DropReason> {
    icmp::check(frame, packet, quoted, from)?;
    icmp::check(frame, packet, quoted, to)?;
    let address = |end: Endpoint| Endpoint::new(end.addr, 0);
    rewrite_ends(frame, packet, address(from), address(to));
    icmp::rewrite_quoted(frame, quoted, to, End::Source);
    icmp::rewrite_quoted(frame, quoted, from, End::Destination);
    icmp::finish(frame, packet, from, to);
    Ok(())
}
