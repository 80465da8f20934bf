//! What a packet means to its connection, whatever the protocol.
//!
//! In: a connection's state and what was seen of a packet. Out: the next state (IPVS 2.8 to 2.10).
//! It knows no table, no clock and no timeout, and it never fails: what a protocol does not have
//! leaves the state as it is.
//!
//! ```
//! use lvs_conn::protocol::{Event, Side, next_state};
//! use lvs_core::Protocol;
//! use lvs_core::state::tcp;
//!
//! let syn = Event::tcp(0x02);
//! let state = next_state(Protocol::Tcp, tcp::NONE, Side::InputOnly, syn, false);
//! assert_eq!(state, tcp::SYN_RECV);
//! ```

use crate::sctp_state::{self, chunk};
use crate::tcp_state;
use lvs_core::{Protocol, state};

/// What the flags of a TCP segment say, the strongest first: RST, SYN, FIN, ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpEvent {
    /// SYN, alone or with FIN or ACK.
    Syn,
    /// FIN without SYN.
    Fin,
    /// ACK without SYN and FIN.
    Ack,
    /// RST, whatever else is set.
    Rst,
    /// None of the four.
    None,
}

/// What was seen of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A TCP segment.
    Tcp(TcpEvent),
    /// A UDP datagram.
    Udp,
    /// An SCTP packet, by the type of its first chunk (see [`Event::sctp`]).
    Sctp(u8),
    /// A packet that follows the connection without moving it: AH and ESP beside ISAKMP, an ICMP
    /// error.
    Other,
}

impl Event {
    /// The event of a TCP segment, from the flags byte of its header (RFC 9293, 3.1).
    ///
    /// ```
    /// use lvs_conn::protocol::{Event, TcpEvent};
    /// assert_eq!(Event::tcp(0x12), Event::Tcp(TcpEvent::Syn)); // SYN and ACK
    /// assert_eq!(Event::tcp(0x06), Event::Tcp(TcpEvent::Rst)); // RST and SYN
    /// assert_eq!(Event::tcp(0x20), Event::Tcp(TcpEvent::None)); // URG
    /// ```
    #[inline]
    #[must_use]
    pub const fn tcp(flags: u8) -> Self {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        Self::Tcp(if flags & RST != 0 {
            TcpEvent::Rst
        } else if flags & SYN != 0 {
            TcpEvent::Syn
        } else if flags & FIN != 0 {
            TcpEvent::Fin
        } else if flags & ACK != 0 {
            TcpEvent::Ack
        } else {
            TcpEvent::None
        })
    }

    /// The event of an SCTP packet, from the types of its first two chunks.
    ///
    /// An ABORT bundled behind a cookie counts as what the packet says (2.10); `second` matters
    /// for nothing else.
    ///
    /// ```
    /// use lvs_conn::protocol::Event;
    /// use lvs_conn::sctp_state::chunk;
    /// let refused = Event::sctp(chunk::COOKIE_ACK, Some(chunk::ABORT));
    /// assert_eq!(refused, Event::Sctp(chunk::ABORT));
    /// ```
    #[inline]
    #[must_use]
    pub const fn sctp(first: u8, second: Option<u8>) -> Self {
        match (first, second) {
            (chunk::COOKIE_ECHO | chunk::COOKIE_ACK, Some(chunk::ABORT)) => {
                Self::Sctp(chunk::ABORT)
            }
            _ => Self::Sctp(first),
        }
    }
}

/// Where a packet was seen, and what else can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the client, of a connection whose replies pass the director too.
    Input,
    /// From the server.
    Output,
    /// From the client, of a connection whose replies take another way (direct routing, tunnels,
    /// local services), as long as none has been seen.
    InputOnly,
}

impl Side {
    /// The position in a table of three.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::InputOnly => 2,
        }
    }
}

/// The state of a connection after a packet.
///
/// An event that is not of the connection's protocol changes nothing. The timeout to start again
/// is that of the resulting state, whether it changed or not
/// ([`Timeouts::get`](crate::timeouts::Timeouts::get)); after [`Event::Other`] the one that runs.
#[inline]
#[must_use]
pub fn next_state(protocol: Protocol, state: u8, side: Side, event: Event, secure_tcp: bool) -> u8 {
    match (protocol, event) {
        (Protocol::Tcp, Event::Tcp(event)) => tcp_state::next(state, side, event, secure_tcp),
        (Protocol::Sctp, Event::Sctp(first)) => sctp_state::next(state, side, first),
        (Protocol::Udp, Event::Udp) => state::udp::NORMAL,
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_flag_decides() {
        for flags in 0..=u8::MAX {
            let expected = match flags {
                _ if flags & 0x04 != 0 => TcpEvent::Rst,
                _ if flags & 0x02 != 0 => TcpEvent::Syn,
                _ if flags & 0x01 != 0 => TcpEvent::Fin,
                _ if flags & 0x10 != 0 => TcpEvent::Ack,
                _ => TcpEvent::None,
            };
            assert_eq!(Event::tcp(flags), Event::Tcp(expected));
        }
    }

    #[test]
    fn an_abort_counts_behind_a_cookie_only() {
        let abort = Some(chunk::ABORT);
        assert_eq!(
            Event::sctp(chunk::COOKIE_ECHO, abort),
            Event::Sctp(chunk::ABORT)
        );
        assert_eq!(
            Event::sctp(chunk::COOKIE_ACK, abort),
            Event::Sctp(chunk::ABORT)
        );
        assert_eq!(Event::sctp(chunk::DATA, abort), Event::Sctp(chunk::DATA));
        let echo = Event::sctp(chunk::COOKIE_ECHO, Some(chunk::DATA));
        assert_eq!(echo, Event::Sctp(chunk::COOKIE_ECHO));
    }

    #[test]
    fn foreign_events_change_nothing() {
        let events = [
            Event::tcp(0x02),
            Event::Udp,
            Event::Sctp(chunk::INIT),
            Event::Other,
        ];
        for (own, protocol) in [
            (Some(0), Protocol::Tcp),
            (Some(1), Protocol::Udp),
            (Some(2), Protocol::Sctp),
            (None, Protocol::Ip),
            (None, Protocol::Icmp),
            (None, Protocol::Icmpv6),
        ] {
            for (number, event) in events.into_iter().enumerate() {
                let next = next_state(protocol, 0, Side::Input, event, false);
                assert!(own == Some(number) || next == 0, "{protocol} {event:?}");
            }
        }
    }
}
