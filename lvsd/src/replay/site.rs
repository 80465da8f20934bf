//! The network around a director in a replay: its sides, its routes, its neighbours.
//!
//! What a kernel's tables would say, said by a few lists. Out come the answers that a director
//! asks of its [`Routes`], and on which side, and to whom, a frame leaves. Never: a look at the
//! machine that the replay runs on.

use lvs_core::Addr;
use lvs_director::{Route, Routes, Way};
use std::collections::HashMap;

/// One side of the director: an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    /// How it is called: `client`, `server`.
    pub(crate) name: String,
    /// The director's own Ethernet address there.
    pub(crate) mac: [u8; 6],
    /// The director's own addresses there, the preferred one of each family first.
    pub(crate) addresses: Vec<Addr>,
    /// The longest IP packet that fits, in bytes.
    pub(crate) mtu: u32,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    first: Addr,
    bits: u8,
}

impl Prefix {
    /// The addresses that have the first `bits` bits of `addr`.
    #[must_use]
    pub(crate) fn new(addr: Addr, bits: u8) -> Self {
        let bits = bits.min(if addr.is_v4() { 32 } else { 128 });
        Self {
            first: addr.masked(bits),
            bits,
        }
    }

    /// Just this address.
    #[must_use]
    pub(crate) fn single(addr: Addr) -> Self {
        Self::new(addr, u8::MAX)
    }

    /// Whether it holds the address.
    #[must_use]
    pub(crate) fn holds(&self, addr: Addr) -> bool {
        addr.family() == self.first.family() && addr.masked(self.bits) == self.first
    }
}

/// The way to the addresses of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Which addresses.
    pub(crate) to: Prefix,
    /// By which side.
    pub(crate) side: usize,
    /// By which router; none if they are neighbours.
    pub(crate) via: Option<Addr>,
}

/// A place to which frames leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// By which side.
    pub(crate) side: usize,
    /// The neighbour.
    pub(crate) addr: Addr,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    /// The sides, in the order of their numbers.
    pub(crate) sides: Vec<Side>,
    /// The host's own addresses beside those of the sides.
    pub(crate) local: Vec<Prefix>,
    /// The routes; of two that hold an address the longer prefix wins, then the first.
    pub(crate) routes: Vec<Leg>,
    /// Ethernet addresses of neighbours.
    pub(crate) neighbours: HashMap<(usize, Addr), [u8; 6]>,
    /// The hops that have got a number.
    pub(crate) hops: Vec<NextHop>,
    /// The side on which the packet at hand came in.
    pub(crate) arrived: usize,
}

impl Site {
    /// Says on which side the next packet comes in.
    pub(crate) fn arrives(&mut self, side: usize) {
        self.arrived = side;
    }

    /// Whether an address is the host's own.
    pub(crate) fn is_local(&self, addr: Addr) -> bool {
        addr.is_loopback()
            || self.local.iter().any(|prefix| prefix.holds(addr))
            || self.sides.iter().any(|side| side.addresses.contains(&addr))
    }

    /// Whether an address stands on one of the host's interfaces, and is not only routed to it.
    pub(crate) fn has(&self, addr: Addr) -> bool {
        let single = Prefix::single(addr);
        self.local.contains(&single) || self.sides.iter().any(|side| side.addresses.contains(&addr))
    }

    /// The way to an address that is not the host's own.
    pub(crate) fn leg(&self, addr: Addr) -> Option<NextHop> {
        let holding = self.routes.iter().filter(|leg| leg.to.holds(addr));
        // `max_by_key` gives the last of equals.
        let leg = holding.rev().max_by_key(|leg| leg.to.bits)?;
        Some(NextHop {
            side: leg.side,
            addr: leg.via.unwrap_or(addr),
        })
    }

    /// A hop by its number.
    pub(crate) fn hop(&self, number: u32) -> Option<NextHop> {
        self.hops.get(usize::try_from(number).ok()?).copied()
    }

    /// The Ethernet addresses of a hop and of the director towards it. A neighbour of whom nothing
    /// is known has one made of its own address.
    pub(crate) fn link(&self, hop: NextHop) -> ([u8; 6], [u8; 6]) {
        let known = self.neighbours.get(&(hop.side, hop.addr)).copied();
        let own = self.sides.get(hop.side).map_or([0; 6], |side| side.mac);
        (known.unwrap_or_else(|| made_up(hop.addr)), own)
    }

    /// The director's address on a side, of the family of `towards`.
    pub(crate) fn address(&self, side: usize, towards: Addr) -> Option<Addr> {
        let own = &self.sides.get(side)?.addresses;
        let same = |addr: &&Addr| addr.family() == towards.family();
        own.iter().find(same).copied()
    }

    /// The MTU of a side.
    pub(crate) fn mtu(&self, side: usize) -> u32 {
        self.sides.get(side).map_or(u32::MAX, |side| side.mtu)
    }

    fn number(&mut self, hop: NextHop) -> u32 {
        let place = self.hops.iter().position(|known| *known == hop);
        let place = place.unwrap_or_else(|| {
            self.hops.push(hop);
            self.hops.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

/// A locally administered Ethernet address (IEEE 802, bit 1 of the first octet) that shows the end
/// of an IP address.
pub(crate) fn made_up(addr: Addr) -> [u8; 6] {
    let [a, b, c, d] = addr.low_word().to_be_bytes();
    [0x02, if addr.is_v4() { 0x00 } else { 0x06 }, a, b, c, d]
}

impl Routes for Site {
    fn way(&mut self, destination: Addr) -> Way {
        if self.is_local(destination) {
            return Way::Local;
        }
        let Some(hop) = self.leg(destination) else {
            return Way::Unreachable;
        };
        // Without an address there, what needs one cannot be sent.
        let source = self.address(hop.side, destination);
        Way::Forward(Route {
            mtu: self.mtu(hop.side),
            source: source.unwrap_or(Addr::UNSPECIFIED),
            hop: self.number(hop),
        })
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        self.address(self.arrived, towards)
    }

    fn interface(&self) -> &str {
        self.sides.get(self.arrived).map_or("", |side| &side.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_holds_what_begins_like_it() {
        let holds =
            |first: &str, bits, other: &str| Prefix::new(addr(first), bits).holds(addr(other));
        assert!(holds("10.1.0.0", 16, "10.1.255.255"));
        assert!(!holds("10.1.0.0", 16, "10.2.0.0"));
        assert!(holds("0.0.0.0", 0, "192.0.2.1"));
        assert!(!holds("0.0.0.0", 0, "2001:db8::1"));
        assert!(holds("::", 0, "2001:db8::1"));
        assert!(!holds("::", 0, "192.0.2.1"));
        assert!(Prefix::single(addr("fd00::1")).holds(addr("fd00::1")));
        assert!(!Prefix::single(addr("fd00::1")).holds(addr("fd00::2")));
    }

    #[test]
    fn the_longest_prefix_wins_and_then_the_first() {
        let leg = |to: &str, bits, side| Leg {
            to: Prefix::new(addr(to), bits),
            side,
            via: None,
        };
        let site = Site {
            routes: vec![
                leg("0.0.0.0", 0, 0),
                leg("10.2.0.0", 24, 1),
                leg("10.2.0.0", 24, 2),
            ],
            ..Site::default()
        };
        let side = |to: &str| site.leg(addr(to)).map(|hop| hop.side);
        assert_eq!(side("10.2.0.9"), Some(1));
        assert_eq!(side("10.3.0.9"), Some(0));
        assert_eq!(side("fd00::1"), None);
    }
}
