//! The states of a connection, under the kernel's names and numbers (IPVS 2.8 to 2.10).
//!
//! What moves a connection from one to the next lives with the connection table; these are the
//! words, for entries, listings and messages.
//!
//! ```
//! use lvs_core::{Protocol, state};
//! assert_eq!(state::name(Protocol::Tcp, state::tcp::ESTABLISHED), "ESTABLISHED");
//! assert!(state::is_active(Protocol::Tcp, state::tcp::SYN_RECV));
//! assert!(!state::is_active(Protocol::Udp, state::udp::NORMAL));
//! ```

use crate::Protocol;

/// TCP (2.8).
pub mod tcp {
    /// Names in order of number.
    pub const NAMES: [&str; 11] = [
        "NONE",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "SYNACK",
    ];
    /// Nothing seen yet.
    pub const NONE: u8 = 0;
    /// Data may flow.
    pub const ESTABLISHED: u8 = 1;
    /// The server's side opened.
    pub const SYN_SENT: u8 = 2;
    /// The client's SYN was seen.
    pub const SYN_RECV: u8 = 3;
    /// The server closed first.
    pub const FIN_WAIT: u8 = 4;
    /// Both closed.
    pub const TIME_WAIT: u8 = 5;
    /// Reset.
    pub const CLOSE: u8 = 6;
    /// The client closed first.
    pub const CLOSE_WAIT: u8 = 7;
    /// Last acknowledgement awaited.
    pub const LAST_ACK: u8 = 8;
    /// Expected by a helper (FTP data).
    pub const LISTEN: u8 = 9;
    /// `secure_tcp`: answered, not yet confirmed.
    pub const SYNACK: u8 = 10;
}

/// UDP (2.9).
pub mod udp {
    /// Names in order of number.
    pub const NAMES: [&str; 1] = ["UDP"];
    /// The only state.
    pub const NORMAL: u8 = 0;
}

/// SCTP (2.10).
pub mod sctp {
    /// Names in order of number.
    pub const NAMES: [&str; 14] = [
        "NONE",
        "INIT1",
        "INIT",
        "C-SENT",
        "C-REPLIED",
        "C-WAIT",
        "COOKIE",
        "C-ECHOED",
        "ESTABLISHED",
        "S-SENT",
        "S-RECEIVED",
        "S-ACK-SENT",
        "REJECTED",
        "CLOSED",
    ];
    /// An INIT was seen.
    pub const INIT1: u8 = 1;
    /// And another one.
    pub const INIT: u8 = 2;
    /// The only active state.
    pub const ESTABLISHED: u8 = 8;
    /// Ended.
    pub const CLOSED: u8 = 13;
}

/// Persistence templates (2.5).
pub mod template {
    /// Names in order of number.
    pub const NAMES: [&str; 2] = ["NONE", "ASSURED"];
    /// A connection of it was established.
    pub const ASSURED: u8 = 1;
}

/// The name of a state as ipvsadm lists it; `ERR!` for a number that the protocol does not have.
#[must_use]
pub fn name(protocol: Protocol, state: u8) -> &'static str {
    let names: &[&'static str] = match protocol {
        Protocol::Tcp => &tcp::NAMES,
        Protocol::Udp => &udp::NAMES,
        Protocol::Sctp => &sctp::NAMES,
        Protocol::Ip | Protocol::Icmp | Protocol::Icmpv6 => &template::NAMES,
    };
    names.get(usize::from(state)).copied().unwrap_or("ERR!")
}

/// Whether a connection in this state counts as active with its destination (2.8, 2.10).
#[inline]
#[must_use]
pub const fn is_active(protocol: Protocol, state: u8) -> bool {
    match protocol {
        Protocol::Tcp => {
            matches!(
                state,
                tcp::ESTABLISHED | tcp::SYN_SENT | tcp::SYN_RECV | tcp::SYNACK
            )
        }
        Protocol::Sctp => state == sctp::ESTABLISHED,
        _ => false,
    }
}
