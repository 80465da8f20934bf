//! How the bytes of a packet change on their way through a director.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

mod frame;

pub use frame::{Frame, Offload, PartialChecksum, SegmentKind, Segmentation};
