//! Why a port cannot be opened, in sentences for an operator.

use std::io;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Packet sockets need `CAP_NET_RAW` in the interface's network namespace.
    #[error("not permitted to open a packet socket: CAP_NET_RAW is missing")]
    NotPermitted,
    /// The number names no interface of this network namespace.
    #[error("there is no interface with the number {ifindex}")]
    NoSuchInterface {
        /// The number.
        ifindex: u32,
    },
    /// The interface is there, but down.
    #[error("interface {ifindex} is down")]
    InterfaceDown {
        /// Its number.
        ifindex: u32,
    },
    /// The interface carries no Ethernet frames.
    #[error("interface {ifindex} does not carry Ethernet frames (hardware type {hardware})")]
    NotEthernet {
        /// Its number.
        ifindex: u32,
        /// Its `ARPHRD_*` type.
        hardware: u16,
    },
    /// The kernel gives no ring, not even the smallest that is of use.
    #[error("the kernel refused a ring of {bytes} bytes, the smallest of use: {source}")]
    RingRefused {
        /// The size asked for last.
        bytes: usize,
        /// What it said.
        source: io::Error,
    },
    /// The kernel is older than 4.6: no virtio-net headers in rings, so no frame would be whole.
    #[error("this kernel has no virtio-net headers in packet rings (it is older than 4.6)")]
    NoVnetHeader,
    /// The fanout group exists with another mode or for another interface, or is full.
    #[error("cannot join fanout group {group}: {source}")]
    Fanout {
        /// The group's number.
        group: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("{call}: {source}")]
    System {
        /// What was being done.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Something that was not given as asked for, but can be lived with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Concession {
    /// A ring is smaller than configured, for want of memory.
    #[error("the {ring} ring has {got} bytes instead of {wanted}")]
    SmallerRing {
        /// Which ring.
        ring: &'static str,
        /// Its size as configured.
        wanted: usize,
        /// Its size.
        got: usize,
    },
    /// The kernel gave no V3 ring with virtio-net headers; it is V2.
    #[error(
        "the receive ring is TPACKET_V2: this kernel has no TPACKET_V3 with virtio-net headers"
    )]
    OlderRing,
    /// The transmit path goes through the queueing discipline, for the kernel cannot bypass it.
    #[error("frames are sent through the queueing discipline")]
    NoBypass,
}
