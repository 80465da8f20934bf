//! Which flow the later fragments of a datagram belong to: only the first one has ports.
//!
//! A worker remembers the flow of each first fragment that it sent on, for half a minute, in a
//! table of fixed size; the later ones follow the flow's connection. It holds no packet: a later
//! fragment that comes before its first is dropped, and counted. Whoever spreads packets over
//! workers keeps the fragments of a datagram together (`PACKET_FANOUT_HASH` does: it hashes
//! fragments by their addresses alone).

use ahash::RandomState;
use lvs_core::{Addr, Family, Flow, Tick};
use lvs_packet::{Frame, Packet};

const SETS: usize = 64;
/// Datagrams with the same hash that are remembered at once.
const WAYS: usize = 4;
/// How long a datagram is remembered (IPv4's own `ipfrag_time`).
const KEPT: u32 = Tick::seconds(30);
/// The IPv6 fragment header's number.
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const IPV6_LEN: usize = 40;
/// Longer chains are not parsed.
const MAX_EXTENSION_HEADERS: usize = 8;

/// What all fragments of a datagram have in common (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Datagram {
    src: Addr,
    dst: Addr,
    identification: u32,
    /// IPv4's; 0 for IPv6, where it is no part of it.
    protocol: u8,
}

impl Datagram {
    /// The datagram of a fragment.
    pub(crate) fn of(frame: &Frame<'_>, packet: &Packet) -> Option<Self> {
        let header = frame.bytes().get(usize::from(packet.l3)..)?;
        let (identification, protocol) = match packet.family {
            Family::V4 => {
                let field = header.get(4..)?.first_chunk()?;
                (u32::from(u16::from_be_bytes(*field)), packet.protocol)
            }
            Family::V6 => (identification(header)?, 0),
        };
        Some(Self {
            src: packet.flow.src.addr,
            dst: packet.flow.dst.addr,
            identification,
            protocol,
        })
    }
}

/// The identification in the fragment header behind an IPv6 header.
fn identification(header: &[u8]) -> Option<u32> {
    let mut next = *header.get(6)?;
    let mut at = IPV6_LEN;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let extension = header.get(at..)?;
        if next == FRAGMENT {
            let field = extension.get(4..)?.first_chunk()?;
            return Some(u32::from_be_bytes(*field));
        }
        let &[following, units] = extension.first_chunk()?;
        at += match next {
            AUTHENTICATION => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        next = following;
    }
    None
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    datagram: Datagram,
    flow: Flow,
    at: Tick,
}

/// The datagrams whose first fragment a worker has seen.
#[derive(Debug)]
pub(crate) struct Fragments {
    sets: Box<[[Option<Seen>; WAYS]]>,
    hasher: RandomState,
}

impl Default for Fragments {
    fn default() -> Self {
        Self {
            sets: vec![[None; WAYS]; SETS].into_boxed_slice(),
            hasher: RandomState::new(),
        }
    }
}

impl Fragments {
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    fn set(&self, datagram: &Datagram) -> usize {
        self.hasher.hash_one(datagram) as usize % SETS
    }

    /// Remembers the flow of a first fragment, in the place of the oldest if there is no other.
    pub(crate) fn remember(&mut self, datagram: Datagram, flow: Flow, now: Tick) {
        let set = self.set(&datagram);
        let Some(set) = self.sets.get_mut(set) else {
            return;
        };
        let age = |seen: &Option<Seen>| match seen {
            None => u32::MAX,
            Some(seen) => now.since(seen.at),
        };
        // The same datagram again takes its own place, wherever that is.
        let own = set
            .iter()
            .position(|seen| seen.is_some_and(|seen| seen.datagram == datagram));
        let place = match own {
            Some(own) => set.get_mut(own),
            None => set.iter_mut().max_by_key(|seen| age(seen)),
        };
        if let Some(place) = place {
            *place = Some(Seen {
                datagram,
                flow,
                at: now,
            });
        }
    }

    /// The flow of a datagram whose first fragment has been seen.
    pub(crate) fn find(&self, datagram: &Datagram, now: Tick) -> Option<Flow> {
        let set = self.sets.get(self.set(datagram))?;
        set.iter()
            .flatten()
            .find(|seen| seen.datagram == *datagram && now.since(seen.at) <= KEPT)
            .map(|seen| seen.flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::{Endpoint, Protocol};

    #[test]
    fn the_latest_are_remembered_for_a_while() {
        let mut fragments = Fragments::default();
        let addr = Addr::from_v4_bits;
        let datagram = |identification| Datagram {
            src: addr(1),
            dst: addr(2),
            identification,
            protocol: 17,
        };
        let flow = |port| {
            let end = |bits, port| Endpoint::new(addr(bits), port);
            Flow::new(Protocol::Udp, end(1, port), end(2, 53))
        };
        for n in 0..10_000_u16 {
            let now = Tick(u32::from(n));
            fragments.remember(datagram(u32::from(n)), flow(n), now);
            assert_eq!(fragments.find(&datagram(u32::from(n)), now), Some(flow(n)));
        }
        let now = Tick(10_000);
        let known = |n: &u32| fragments.find(&datagram(*n), now).is_some();
        assert!((0..10_000).filter(known).count() <= SETS * WAYS);
        assert!((9_990..10_000).filter(known).count() >= 9);
        // Again the same: its place is its own, and the flow the new one.
        fragments.remember(datagram(9_999), flow(7), now);
        assert_eq!(fragments.find(&datagram(9_999), now), Some(flow(7)));
        assert_eq!(fragments.find(&datagram(9_999), now + KEPT + 1), None);
    }
}
