//! Which packets may belong to connections that their own batch has made.
//!
//! A batch is looked up as a whole before its first connection is made. Looking up again costs as
//! much as the rest of a new connection's packet, and nearly always finds nothing: so a batch
//! remembers a few bits of its new clients, and only a packet from or to one that may be among them
//! is looked up again.

use lvs_core::{Endpoint, Flow};

const WORDS: usize = 8;

/// A set of clients that may have more than were added.
#[derive(Debug, Default)]
pub(crate) struct Fresh([u64; WORDS]);

/// The word and the bit of a client.
#[inline(always)]
const fn place(client: Endpoint) -> (usize, u64) {
    let value = client.addr.lo.rotate_left(16) ^ client.port as u64;
    let hash = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
    ((hash >> 6) as usize % WORDS, 1 << (hash & 63))
}

impl Fresh {
    /// A connection of this client was made.
    #[inline(always)]
    pub(crate) fn add(&mut self, client: Endpoint) {
        let (word, bit) = place(client);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether a packet may be of a new connection: each has its client at one end.
    #[inline(always)]
    pub(crate) fn may_have(&self, flow: &Flow) -> bool {
        self.has(flow.src) || self.has(flow.dst)
    }

    #[inline(always)]
    fn has(&self, client: Endpoint) -> bool {
        let (word, bit) = place(client);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::{Addr, Protocol};

    #[test]
    fn both_directions_of_what_was_added_and_little_else() {
        let client = |n: u16| {
            let addr = Addr::from_v4_bits(0x0a01_0000 + u32::from(n / 7));
            Endpoint::new(addr, 1024 + n)
        };
        let vip = Endpoint::new(Addr::from_v4_bits(0x0a00_0001), 80);
        let flow = |n| Flow::new(Protocol::Tcp, client(n), vip);
        let mut fresh = Fresh::default();
        assert!(!(0..1000).any(|n| fresh.may_have(&flow(n))));
        (0..64).for_each(|n| fresh.add(client(n)));
        for n in 0..64 {
            assert!(fresh.may_have(&flow(n)) && fresh.may_have(&flow(n).reversed()));
        }
        let others = (64..10_064).filter(|n| fresh.may_have(&flow(*n))).count();
        assert!(others < 2500, "{others}");
    }
}
