//! How the bytes of a packet change on their way through a director.
//!
//! ```text
//!   Frame --parse--> Packet          what it is, who talks to whom, where its headers stand
//!     |                 |
//!     |   the director decides
//!     v                 v
//!   nat, ttl, ethernet, tunnel, icmp   the frame goes on, rewritten in place
//!   Plain, swift                       the same at a glance: the frames that nearly all are
//!   fullnat, toa, uoa                  both ends at once, and the client told to the server
//!   stream                             text of a TCP stream replaced, its numbers shifted
//!   options                            IPv4 options as a host on the way fills them in
//!   answer, neighbour                  the frame goes back to its sender, as the answer
//!   segment                            a frame that stands for several packets, cut into them
//!   fragment                           a packet that is too long, cut into pieces, and back
//! ```
//!
//! A [`Frame`] is a slice of somebody's buffer, [`Packet`] a small value. Nothing here allocates,
//! copies more than headers (but for [`segment`] and [`fragment`]), keeps state, or panics, whatever the bytes are.
//! Rewriters keep every checksum true that was true; what the hardware is to finish
//! ([`Offload`]) stays right or is finished.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod answer;
pub mod build;
mod bytes;
pub mod checksum;
pub mod ethernet;
pub mod fragment;
mod frame;
pub mod fullnat;
pub mod icmp;
pub mod nat;
pub mod neighbour;
pub mod options;
mod packet;
mod parse;
pub mod segment;
pub mod stream;
pub mod swift;
pub mod toa;
pub mod ttl;
pub mod tunnel;
pub mod uoa;

pub use frame::{Frame, Offload, PartialChecksum, SegmentKind, Segmentation};
pub use packet::{Fragment, Kind, Packet, TcpFlags};
pub use parse::{
    Plain, Quoted, QuotedKind, despite_options, parse, parse_quoted, parse_quoted_tunnel,
};
