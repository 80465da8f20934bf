//! Which ports clients have whose packets look as if they came from the other side.
//!
//! In: ports of connections that are made. Out: whether a flow has to be looked for at the end that
//! is not likely the client's. Never: a port forgotten, which would hide its connections.
//!
//! The side with the higher port is taken for the client. That is nearly always so, and a packet of
//! no connection need not be looked for at its other end as well, unless a connection once had a
//! client of just that port that was the lower one.

use crate::conn::Direction;
use crate::new_connection::NewConnection;
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use lvs_core::{Flow, ForwardMethod};

/// Words of bits, one for each port; fewer for models.
const WORDS: usize = if cfg!(lvs_loom) { 1 } else { 1 << 10 };

/// A bit for each port that such a client had since the table was made.
#[derive(Debug)]
pub(crate) struct OddPorts(Box<[AtomicU64]>);

impl OddPorts {
    pub(crate) fn new() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Remembers the connection's ports, before it can be found.
    #[inline(always)]
    pub(crate) fn add(&self, new: &NewConnection) {
        let client = new.client.port;
        let (from, to) = match new.method {
            ForwardMethod::Masquerade => (new.destination.port, client),
            ForwardMethod::FullNat => {
                let local = new.local.map_or(client, |local| local.port);
                (new.destination.port, local)
            }
            _ => (new.virtual_endpoint.port, client),
        };
        if client < new.virtual_endpoint.port {
            self.set(client);
        }
        if to <= from {
            self.set(to);
        }
    }

    #[inline]
    const fn place(port: u16) -> (usize, u64) {
        ((port >> 6) as usize % WORDS, 1 << (port & 63))
    }

    #[cold]
    fn set(&self, port: u16) {
        let (at, bit) = Self::place(port);
        if let Some(word) = self.0.get(at)
            && word.load(Acquire) & bit == 0
        {
            // Release: pairs with the acquire of who looks for the connection.
            word.fetch_or(bit, Release);
        }
    }

    /// Whether a client with the lower port of the flow's two ever had it.
    #[inline(always)]
    pub(crate) fn may_be_client(&self, flow: &Flow) -> bool {
        let (at, bit) = Self::place(flow.src.port.min(flow.dst.port));
        // Acquire: who knows of a connection finds it marked.
        self.0
            .get(at)
            .is_none_or(|word| word.load(Acquire) & bit != 0)
    }
}

/// The side with the higher port is the client, most likely.
#[inline(always)]
pub(crate) const fn likely(flow: &Flow) -> Direction {
    if flow.src.port >= flow.dst.port {
        Direction::FromClient
    } else {
        Direction::FromServer
    }
}

#[cfg(all(test, not(lvs_loom)))]
mod tests {
    use super::*;
    use lvs_core::Protocol;

    fn new(client: u16, virtual_: u16, server: u16, local: Option<u16>) -> NewConnection {
        let end = |host: u32, port| {
            lvs_core::Endpoint::new(lvs_core::Addr::from_v4_bits(0x0a00_0000 + host), port)
        };
        NewConnection {
            protocol: Protocol::Tcp,
            method: local.map_or(ForwardMethod::Masquerade, |_| ForwardMethod::FullNat),
            client: end(1, client),
            virtual_endpoint: end(2, virtual_),
            destination: end(3, server),
            local: local.map(|port| end(4, port)),
            ..NewConnection::default()
        }
    }

    /// Whatever the ports are: a packet of the connection is at its likely end, or the other end is
    /// not left out.
    #[test]
    fn no_packet_of_a_connection_is_left_out() {
        let ports = [1, 79, 80, 81, 8079, 8080, 8081, u16::MAX];
        for (client, virtual_) in ports.iter().flat_map(|a| ports.map(|b| (*a, b))) {
            for (server, local) in ports.iter().flat_map(|a| ports.map(|b| (*a, b))) {
                for local in [None, Some(local)] {
                    let new = new(client, virtual_, server, local);
                    let odd = OddPorts::new();
                    odd.add(&new);
                    let (request, reply) = (new.request(), new.identity().reply());
                    assert!(
                        likely(&request) == Direction::FromClient || odd.may_be_client(&request)
                    );
                    assert!(likely(&reply) == Direction::FromServer || odd.may_be_client(&reply));
                }
            }
        }
    }

    #[test]
    fn the_usual_ports_are_left_out() {
        let odd = OddPorts::new();
        odd.add(&new(40_000, 80, 8080, None));
        odd.add(&new(40_001, 443, 8443, Some(50_000)));
        assert!(odd.0.iter().all(|word| word.load(Acquire) == 0));
    }
}
