//! What has passed.

use core::ops::{Add, AddAssign, Sub};

/// Connections, packets and bytes of a service, a destination or a whole director.
///
/// "In" is from clients to servers, "out" is back. Bytes are those of the IP packets, headers
/// included (IPVS 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients that passed the director.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients that passed the director.
    pub out_bytes: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            conns: self.conns.wrapping_add(other.conns),
            in_packets: self.in_packets.wrapping_add(other.in_packets),
            out_packets: self.out_packets.wrapping_add(other.out_packets),
            in_bytes: self.in_bytes.wrapping_add(other.in_bytes),
            out_bytes: self.out_bytes.wrapping_add(other.out_bytes),
        }
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            conns: self.conns.wrapping_sub(other.conns),
            in_packets: self.in_packets.wrapping_sub(other.in_packets),
            out_packets: self.out_packets.wrapping_sub(other.out_packets),
            in_bytes: self.in_bytes.wrapping_sub(other.in_bytes),
            out_bytes: self.out_bytes.wrapping_sub(other.out_bytes),
        }
    }
}

/// The same per second, as IPVS's estimator smooths them (7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rates {
    /// Connections a second.
    pub cps: u64,
    /// Packets from clients a second.
    pub in_pps: u64,
    /// Packets to clients a second.
    pub out_pps: u64,
    /// Bytes from clients a second.
    pub in_bps: u64,
    /// Bytes to clients a second.
    pub out_bps: u64,
}
