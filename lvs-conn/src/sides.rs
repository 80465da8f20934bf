//! Which end of a flow is the client's: a guess, and whether the other end has to be looked at, too.
//!
//! In: ports of connections that are made. Out: which end of a flow to look at first, and whether
//! the other one may be the client's. Never: a port forgotten, which would hide its connections.
//!
//! If only one of the two ports ever was a service's or a server's, the other end is the client's,
//! and nothing is to be found at this one. Of two such ports, or none, the higher is taken for the
//! client's, and the other end is looked at only if a connection once had a client of just that port
//! that was the lower one.

use crate::conn::Direction;
use crate::new_connection::NewConnection;
use crate::sync::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Release},
};
use lvs_core::{Flow, ForwardMethod};

/// Words of bits, one for each port; fewer for models.
const WORDS: usize = if cfg!(lvs_loom) { 1 } else { 1 << 10 };
/// The same for ports of services and servers, of which there are few: a byte for 64 ports, so that
/// all of them stay in the nearest cache.
const SERVED: usize = if cfg!(lvs_loom) { 64 } else { 1 << 10 };

/// What is known of ports since the table was made.
#[derive(Debug)]
pub(crate) struct Sides {
    /// Ports of services and servers, and ports that share their bytes: 1, all others 0.
    served: Box<[AtomicU8; SERVED]>,
    /// A bit for each port of a client that was not the higher one of the two.
    odd: Box<[AtomicU64]>,
}

impl Sides {
    pub(crate) fn new() -> Self {
        Self {
            served: Box::new(core::array::from_fn(|_| AtomicU8::new(0))),
            odd: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
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
        self.serve(new.virtual_endpoint.port);
        self.serve(from);
        if client < new.virtual_endpoint.port {
            self.set(client);
        }
        if to <= from {
            self.set(to);
        }
    }

    #[inline(always)]
    fn serve(&self, port: u16) {
        let served = self.view().served(port);
        if served.load(Acquire) == 0 {
            // Release: pairs with the acquire of who looks for the connection.
            served.store(1, Release);
        }
    }

    #[cold]
    fn set(&self, port: u16) {
        let bit = 1 << (port & 63);
        if let Some(word) = self.odd.get((port >> 6) as usize % WORDS)
            && word.load(Acquire) & bit == 0
        {
            // Release: as `serve`.
            word.fetch_or(bit, Release);
        }
    }

    /// What [`View::likely`] needs: copied, so that it stays in registers.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        View(&self.served)
    }

    /// From which side a packet comes, most likely.
    #[inline(always)]
    pub(crate) fn likely(&self, flow: &Flow) -> Direction {
        self.view().likely(flow)
    }

    /// Whether the client's end may be the one that is not likely.
    #[inline(always)]
    pub(crate) fn may_be_other(&self, flow: &Flow) -> bool {
        let port = flow.src.port.min(flow.dst.port);
        // Acquire: who knows of a connection finds it marked.
        let is_odd = self
            .odd
            .get((port >> 6) as usize % WORDS)
            .is_none_or(|word| (word.load(Acquire) >> (port & 63)) & 1 != 0);
        let view = self.view();
        is_odd && view.serves(flow.src.port) == view.serves(flow.dst.port)
    }
}

/// The ports of services and servers, as one batch of lookups sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a>(&'a [AtomicU8; SERVED]);

impl<'a> View<'a> {
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "below the length")]
    const fn served(self, port: u16) -> &'a AtomicU8 {
        &self.0[port as usize % SERVED]
    }

    /// From which side a packet comes, most likely.
    #[inline(always)]
    pub(crate) fn likely(self, flow: &Flow) -> Direction {
        let (from, to) = (flow.src.port, flow.dst.port);
        // The higher port is seldom a service's, so that nothing has to wait for what is known of it.
        let odd = self.serves(from.max(to)) && !self.serves(from.min(to));
        if (from >= to) != odd {
            Direction::FromClient
        } else {
            Direction::FromServer
        }
    }

    /// Whether a service or a server may have the port.
    #[inline(always)]
    fn serves(self, port: u16) -> bool {
        // Acquire: who knows of a connection finds it marked.
        self.served(port).load(Acquire) != 0
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

    fn is_found(sides: &Sides, new: &NewConnection) -> bool {
        let (request, reply) = (new.request(), new.identity().reply());
        (sides.likely(&request) == Direction::FromClient || sides.may_be_other(&request))
            && (sides.likely(&reply) == Direction::FromServer || sides.may_be_other(&reply))
    }

    /// Whatever the ports are, and whatever other connections there are: a packet of the connection is
    /// at its likely end, or the other end is not left out.
    #[test]
    fn no_packet_of_a_connection_is_left_out() {
        let ports = [0, 1, 79, 80, 81, 4176, 8079, 8080, 8081, u16::MAX];
        let locals = || [None].into_iter().chain(ports.map(Some));
        let pairs = || ports.into_iter().flat_map(|a| ports.map(|b| (a, b)));
        for ((client, virtual_), server) in pairs().flat_map(|pair| ports.map(|c| (pair, c))) {
            for local in locals() {
                let this = new(client, virtual_, server, local);
                let sides = Sides::new();
                sides.add(&this);
                assert!(is_found(&sides, &this), "{this:?}");
                for (a, b) in pairs() {
                    // One whose services and servers may have the first one's client's port.
                    sides.add(&new(u16::MAX, a, b, None));
                    assert!(is_found(&sides, &this), "{this:?} beside {a} and {b}");
                }
            }
        }
    }

    /// A service's port tells the sides apart, whichever is higher; the other end is left out.
    #[test]
    fn the_port_of_a_service_is_not_the_clients() {
        let sides = Sides::new();
        let usual = new(40_000, 80, 50_051, None);
        sides.add(&usual);
        let (request, reply) = (usual.request(), usual.identity().reply());
        assert_eq!(sides.likely(&request), Direction::FromClient);
        assert_eq!(sides.likely(&reply), Direction::FromServer);
        assert!(!sides.may_be_other(&request) && !sides.may_be_other(&reply));
    }
}
