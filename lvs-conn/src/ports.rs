//! A connection's ports, protocol and method, and a part of its count of packets, in one word.
//!
//! In: an endpoint's and a packet's parts. Out: words to be compared, and the parts again. Never: a
//! read or write of memory.

use crate::new_connection::NewConnection;
use core::hint::select_unpredictable;
use lvs_core::{Endpoint, Flow, ForwardMethod, Protocol};

/// What a connection's packets are rewritten to besides addresses: its ports and its method, as they
/// were read at once.
// Packed: the client's, the virtual and the server's port, 16 bits each; the protocol's code and the
// method, 3 bits each; the lowest 10 bits of the count of packets, which may change while a reader
// compares the rest.
#[derive(Clone, Copy, Debug)]
pub struct Ports(pub(crate) u64);

pub(crate) const VIRTUAL_AT: u32 = 16;
pub(crate) const SERVER_AT: u32 = 32;
const PROTOCOL_AT: u32 = 48;
const METHOD_AT: u32 = 51;
pub(crate) const PACKETS_AT: u32 = 54;
/// Packets that the first line can count.
pub(crate) const PACKETS: u32 = 1 << (64 - PACKETS_AT);
pub(crate) const PORT: u64 = 0xffff;
pub(crate) const CODE: u64 = 7 << PROTOCOL_AT;

/// Three bits that tell the protocols of [`Protocol`] apart.
#[inline]
pub(crate) const fn code(protocol: Protocol) -> u64 {
    // The number and its upper half added, modulo 8.
    (protocol.number() as u64 * (17 << (PROTOCOL_AT - 4))) & CODE
}

/// The protocols by their codes.
const PROTOCOLS: [Protocol; 8] = [
    Protocol::Ip,
    Protocol::Icmp,
    Protocol::Udp,
    Protocol::Ip,
    Protocol::Sctp,
    Protocol::Icmpv6,
    Protocol::Tcp,
    Protocol::Ip,
];

impl Ports {
    /// Those of a connection that has had no packet.
    #[inline]
    pub(crate) fn of(new: &NewConnection) -> Self {
        Self(
            u64::from(new.client.port)
                | (u64::from(new.virtual_endpoint.port) << VIRTUAL_AT)
                | (u64::from(new.destination.port) << SERVER_AT)
                | code(new.protocol)
                | (u64::from(new.method as u8) << METHOD_AT),
        )
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "fields of 16 bits")]
    const fn field(self, at: u32) -> u16 {
        (self.0 >> at) as u16
    }

    #[inline]
    pub(crate) fn protocol(self) -> Protocol {
        let code = (self.0 >> PROTOCOL_AT) & 7;
        // All codes are in the table.
        PROTOCOLS
            .get(code as usize)
            .copied()
            .unwrap_or(Protocol::Ip)
    }

    #[inline]
    pub(crate) const fn number(self) -> u8 {
        ((self.0 >> METHOD_AT) & 7) as u8
    }

    /// The client's port.
    #[inline]
    #[must_use]
    pub const fn client(self) -> u16 {
        self.field(0)
    }

    /// The port that the client asked for.
    #[inline]
    #[must_use]
    pub const fn virtual_port(self) -> u16 {
        self.field(VIRTUAL_AT)
    }

    /// The server's port.
    #[inline]
    #[must_use]
    pub const fn server(self) -> u16 {
        self.field(SERVER_AT)
    }

    /// Whether this is how packets reach the server.
    #[inline]
    #[must_use]
    pub const fn is_by(self, method: ForwardMethod) -> bool {
        self.number() == method as u8
    }
}

pub(crate) const MASQUERADE: u8 = ForwardMethod::Masquerade as u8;
pub(crate) const FULL_NAT: u8 = ForwardMethod::FullNat as u8;

/// The client's endpoint in a packet, and the other one.
#[inline(always)]
pub(crate) fn ends(flow: &Flow, reply: bool) -> (&Endpoint, &Endpoint) {
    (
        select_unpredictable(reply, &flow.dst, &flow.src),
        select_unpredictable(reply, &flow.src, &flow.dst),
    )
}

/// The bits of [`Ports`] that [`sought_ports`] knows, of a request and of a reply.
pub(crate) const SOUGHT_REQUEST: u64 = PORT | (PORT << VIRTUAL_AT) | CODE;
pub(crate) const METHOD: u64 = 7 << METHOD_AT;
pub(crate) const SOUGHT_REPLY: u64 = PORT | (PORT << SERVER_AT) | CODE | METHOD;

/// The ports, protocol and, of a reply, the method of the connection that a packet may belong to.
#[inline(always)]
pub(crate) fn sought_ports(flow: &Flow, reply: bool) -> u64 {
    let (client, other) = ends(flow, reply);
    let at = select_unpredictable(reply, SERVER_AT, VIRTUAL_AT);
    // As a reply is sought with NAT, whose number is 0, the method adds nothing.
    const _: () = assert!(MASQUERADE == 0);
    u64::from(client.port) | (u64::from(other.port) << at) | code(flow.protocol)
}

/// What a reply to FULLNAT's local endpoint says of a connection's word: the server's port, protocol and
/// method.
#[inline]
pub(crate) const fn local_ports(flow: &Flow) -> u64 {
    ((flow.src.port as u64) << SERVER_AT) | code(flow.protocol) | ((FULL_NAT as u64) << METHOD_AT)
}

#[cfg(all(test, not(lvs_loom)))]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_protocols_apart() {
        for number in 0..=u8::MAX {
            if let Some(protocol) = Protocol::from_number(number) {
                assert_eq!(Ports(code(protocol)).protocol(), protocol);
            }
        }
    }
}
