//! The ways of one worker: the kernel's routes and neighbours, remembered per address.
//!
//! In: a snapshot of the kernel's tables. Out: answers for the director and next hops for sending.
//! Never: an allocation, a lock or a system call once it is made.

use crate::host::net::{NetSnapshot, RouteAnswer};
use lvs_core::Addr;
use lvs_director::{Route, Routes, Way};

/// Addresses remembered; a power of two.
const SLOTS: usize = 4096;
/// Next hops held before all is forgotten; more than a batch can add.
const HOPS: usize = 8192;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// The interface.
    pub(crate) ifindex: u32,
    /// The neighbour on that link.
    pub(crate) addr: Addr,
    /// Its Ethernet address, if the kernel knows it.
    pub(crate) mac: Option<[u8; 6]>,
    /// The interface's own Ethernet address.
    pub(crate) source_mac: [u8; 6],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    addr: Addr,
    /// The epoch in which the answer was found; another one means that it is none.
    epoch: u32,
    way: Way,
}

/// What a worker remembers of the ways.
#[derive(Debug)]
pub(crate) struct Hops {
    slots: Box<[Slot]>,
    hops: Vec<NextHop>,
    epoch: u32,
    generation: u64,
}

impl Default for Hops {
    fn default() -> Self {
        let empty = Slot {
            addr: Addr::UNSPECIFIED,
            epoch: 0,
            way: Way::Unreachable,
        };
        Self {
            slots: vec![empty; SLOTS].into_boxed_slice(),
            hops: Vec::with_capacity(HOPS + lvs_director::BATCH * 2),
            epoch: 1,
            generation: 0,
        }
    }
}

impl Hops {
    /// The ways for a batch that came in by `arrival`. Forgets what an older snapshot said.
    pub(crate) fn ways<'a>(&'a mut self, snapshot: &'a NetSnapshot, arrival: u32) -> Ways<'a> {
        if self.generation != snapshot.generation() || self.hops.len() > HOPS {
            self.generation = snapshot.generation();
            self.epoch = self.epoch.wrapping_add(1);
            self.hops.clear();
        }
        Ways {
            memory: self,
            snapshot,
            arrival,
        }
    }

    /// The next hop of a number that [`Ways`] gave in this batch.
    #[must_use]
    pub(crate) fn get(&self, hop: u32) -> Option<&NextHop> {
        self.hops.get(hop as usize)
    }

    /// A few multiplications spread neighbouring addresses over the slots.
    fn slot(addr: Addr) -> usize {
        let mixed = (addr.lo ^ addr.hi.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize % SLOTS
    }

    fn find(&mut self, snapshot: &NetSnapshot, to: Addr) -> Way {
        match snapshot.route(to) {
            RouteAnswer::Local => Way::Local,
            RouteAnswer::Unreachable => Way::Unreachable,
            RouteAnswer::Unicast {
                ifindex,
                next_hop,
                mtu,
                source,
            } => {
                let Some(source_mac) = snapshot.interface(ifindex).and_then(|found| found.mac)
                else {
                    return Way::Unreachable;
                };
                let mac = snapshot.neighbour(ifindex, next_hop);
                let hop = NextHop {
                    ifindex,
                    addr: next_hop,
                    mac,
                    source_mac,
                };
                let number = u32::try_from(self.hops.len()).unwrap_or(u32::MAX);
                if self.hops.len() == self.hops.capacity() {
                    return Way::Unreachable;
                }
                self.hops.push(hop);
                Way::Forward(Route {
                    hop: number,
                    mtu,
                    source,
                })
            }
        }
    }
}

/// The ways as the director asks for them, for one batch.
#[derive(Debug)]
pub(crate) struct Ways<'a> {
    memory: &'a mut Hops,
    snapshot: &'a NetSnapshot,
    arrival: u32,
}

impl Routes for Ways<'_> {
    #[inline]
    fn way(&mut self, destination: Addr) -> Way {
        let index = Hops::slot(destination);
        if let Some(slot) = self.memory.slots.get(index)
            && slot.addr == destination
            && slot.epoch == self.memory.epoch
        {
            return slot.way;
        }
        let way = self.memory.find(self.snapshot, destination);
        let epoch = self.memory.epoch;
        if let Some(slot) = self.memory.slots.get_mut(index) {
            *slot = Slot {
                addr: destination,
                epoch,
                way,
            };
        }
        way
    }

    fn has_address(&mut self, addr: Addr) -> bool {
        self.snapshot.addresses().any(|found| found == addr)
    }

    fn interface(&self) -> &str {
        self.snapshot
            .interface(self.arrival)
            .map_or("", |interface| &interface.name)
    }

    fn arrival_address(&mut self, towards: Addr) -> Option<Addr> {
        let interface = self.snapshot.interface(self.arrival)?;
        let family = towards.family();
        let mut addresses = interface
            .addresses
            .iter()
            .filter(|found| found.addr.family() == family);
        // A global address if there is one, else what the link has.
        let first = addresses.clone().next()?;
        Some(
            addresses
                .find(|found| found.scope == 0)
                .unwrap_or(first)
                .addr,
        )
    }
}
