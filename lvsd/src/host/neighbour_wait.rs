//! Packets that wait until their neighbour's address is known.
//!
//! In: frames that are ready but for the Ethernet address of the next hop. Out: the same frames, in
//! order, when a newer [`NetSnapshot`] has that address; or a reason why not. Never: an allocation
//! after the start, more than [`PER_HOP`] frames for one next hop, or a wait beyond [`MAX_WAIT`].
//! One per worker.
//!
//! ```
//! use lvs_core::{DropReason, Tick};
//! use lvs_packet::Offload;
//! use lvsd::host::neighbour_wait::{MAX_WAIT, NeighbourWait};
//! use lvsd::host::net::{Hop, NetSnapshot};
//!
//! let mut waiting = NeighbourWait::new();
//! let hop = Hop { ifindex: 2, addr: "10.0.0.2".parse().unwrap() };
//! assert_eq!(waiting.park(hop, &[0; 60], Offload::default(), Tick(0)), Ok(true));
//!
//! // Nobody answers.
//! let mut dropped = Vec::new();
//! let net = NetSnapshot::default();
//! waiting.release(&net, Tick(0) + MAX_WAIT, |_, _, _| {}, |reason| dropped.push(reason));
//! assert_eq!(dropped, [DropReason::NeighbourUnreachable]);
//! ```

use super::net::{Hop, NetSnapshot};
use lvs_core::{DropReason, Tick};
use lvs_packet::Offload;
use std::fmt;

/// Frames that wait at most, for all next hops.
pub const CAPACITY: usize = 128;
/// Frames that wait at most for one next hop: the first packets of a crowd of clients (RFC 1122,
/// 2.3.2.2, asks for at least one; Linux keeps about a hundred).
pub const PER_HOP: usize = 64;
/// The longest frame that is kept, in bytes. A longer one (a GSO frame) is sent again by its
/// sender.
pub const MAX_FRAME: usize = 2048;
/// How long a frame waits, in ticks: one second.
pub const MAX_WAIT: u32 = Tick::seconds(1);

/// The frames of one worker that wait for a neighbour.
pub struct NeighbourWait {
    slots: Box<[Slot]>,
    /// The numbers of all slots: first the used ones, oldest first, then the free ones.
    order: [u8; CAPACITY],
    used: usize,
    generation: u64,
}

struct Slot {
    hop: Hop,
    since: Tick,
    offload: Offload,
    length: usize,
    frame: [u8; MAX_FRAME],
}

impl NeighbourWait {
    /// An empty store; all its memory (260 KB) is taken here.
    #[must_use]
    pub fn new() -> Self {
        let empty = || Slot {
            hop: Hop {
                ifindex: 0,
                addr: lvs_core::Addr::UNSPECIFIED,
            },
            since: Tick(0),
            offload: Offload::default(),
            length: 0,
            frame: [0; MAX_FRAME],
        };
        let mut order = [0; CAPACITY];
        for (number, place) in (0..).zip(&mut order) {
            *place = number;
        }
        Self {
            slots: std::iter::repeat_with(empty).take(CAPACITY).collect(),
            order,
            used: 0,
            generation: 0,
        }
    }

    /// Keeps a copy of a frame. Returns whether it is the first for this next hop: then the kernel
    /// must be asked for the neighbour
    /// ([`NeighbourKeeper::request`](super::net::NeighbourKeeper::request)).
    ///
    /// # Errors
    /// [`DropReason::NeighbourPending`] if there is no room or the frame is too long.
    pub fn park(
        &mut self,
        hop: Hop,
        frame: &[u8],
        offload: Offload,
        now: Tick,
    ) -> Result<bool, DropReason> {
        let waiting = self.waiting().filter(|slot| slot.hop == hop).count();
        if waiting >= PER_HOP {
            return Err(DropReason::NeighbourPending);
        }
        let number = self.order.get(self.used);
        let slot = number.and_then(|&number| self.slots.get_mut(usize::from(number)));
        let slot = slot.ok_or(DropReason::NeighbourPending)?;
        let to = slot.frame.get_mut(..frame.len());
        to.ok_or(DropReason::NeighbourPending)?
            .copy_from_slice(frame);
        slot.length = frame.len();
        slot.hop = hop;
        slot.since = now;
        slot.offload = offload;
        self.used += 1;
        Ok(waiting == 0)
    }

    /// Hands out the frames whose neighbour is known by now, the oldest first, each with its
    /// destination address filled in (the first six octets); and gives up those that have waited
    /// for [`MAX_WAIT`], with a reason for each.
    ///
    /// Cheap when nothing waits; to be called once per batch.
    pub fn release(
        &mut self,
        net: &NetSnapshot,
        now: Tick,
        mut send: impl FnMut(Hop, &mut [u8], &Offload),
        mut dropped: impl FnMut(DropReason),
    ) {
        if self.used == 0 {
            return;
        }
        // Who parks a frame has asked this snapshot already.
        let news = net.generation() != self.generation;
        self.generation = net.generation();
        let mut kept = 0;
        for at in 0..self.used {
            let Some(&number) = self.order.get(at) else {
                return;
            };
            let Some(slot) = self.slots.get_mut(usize::from(number)) else {
                return;
            };
            let mac = if news {
                net.neighbour(slot.hop.ifindex, slot.hop.addr)
            } else {
                None
            };
            let frame = slot.frame.get_mut(..slot.length).unwrap_or_default();
            if let Some(mac) = mac {
                frame
                    .iter_mut()
                    .zip(mac)
                    .for_each(|(to, octet)| *to = octet);
                send(slot.hop, frame, &slot.offload);
            } else if now.since(slot.since) >= MAX_WAIT {
                dropped(DropReason::NeighbourUnreachable);
            } else {
                // Used slots stay in front, in order; the free one goes behind them.
                self.order.swap(kept, at);
                kept += 1;
            }
        }
        self.used = kept;
    }

    /// The next hops that are waited for, with repetitions.
    pub fn hops(&self) -> impl Iterator<Item = Hop> {
        self.waiting().map(|slot| slot.hop)
    }

    /// How many frames wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether no frame waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn waiting(&self) -> impl Iterator<Item = &Slot> {
        let used = self.order.iter().take(self.used);
        used.filter_map(|&number| self.slots.get(usize::from(number)))
    }
}

impl Default for NeighbourWait {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for NeighbourWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NeighbourWait")
            .field("waiting", &self.used)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::net::NetSnapshot;
    use lvs_core::Addr;

    fn hop(last: u32) -> Hop {
        Hop {
            ifindex: 2,
            addr: Addr::from_v4_bits(0x0a00_0000 + last),
        }
    }

    fn park(waiting: &mut NeighbourWait, hop: Hop, mark: u8, now: u32) -> Result<bool, DropReason> {
        waiting.park(hop, &[mark; 60], Offload::default(), Tick(now))
    }

    /// What is released: the mark of each frame, and the octet in its destination address.
    fn release(
        waiting: &mut NeighbourWait,
        net: &NetSnapshot,
        now: u32,
    ) -> (Vec<(u8, u8)>, Vec<DropReason>) {
        let (mut sent, mut dropped) = (Vec::new(), Vec::new());
        waiting.release(
            net,
            Tick(now),
            |_, frame, _| sent.push((frame[59], frame[5])),
            |reason| dropped.push(reason),
        );
        (sent, dropped)
    }

    #[test]
    fn frames_leave_in_order_when_their_neighbour_is_known() {
        let mut waiting = NeighbourWait::new();
        assert_eq!(park(&mut waiting, hop(1), 11, 0), Ok(true));
        assert_eq!(park(&mut waiting, hop(2), 21, 0), Ok(true));
        assert_eq!(park(&mut waiting, hop(1), 12, 0), Ok(false));
        let net = NetSnapshot::for_test(1, &[]);
        assert_eq!(release(&mut waiting, &net, 1), (vec![], vec![]));
        let net = NetSnapshot::for_test(2, &[(hop(1), [2, 0, 0, 0, 0, 1])]);
        assert_eq!(release(&mut waiting, &net, 2).0, [(11, 1), (12, 1)]);
        assert_eq!(park(&mut waiting, hop(3), 31, 2), Ok(true));
        assert_eq!(park(&mut waiting, hop(2), 22, 2), Ok(false));
        let both = [(hop(2), [2, 0, 0, 0, 0, 2]), (hop(3), [2, 0, 0, 0, 0, 3])];
        let net = NetSnapshot::for_test(3, &both);
        assert_eq!(
            release(&mut waiting, &net, 3).0,
            [(21, 2), (31, 3), (22, 2)]
        );
        assert!(waiting.is_empty());
    }

    #[test]
    fn room_is_bounded_by_hop_and_in_all_and_by_size() {
        let mut waiting = NeighbourWait::new();
        for _ in 0..PER_HOP {
            assert!(park(&mut waiting, hop(0), 0, 0).is_ok());
        }
        let full = Err(DropReason::NeighbourPending);
        assert_eq!(park(&mut waiting, hop(0), 3, 0), full);
        for i in 1..=64 {
            assert_eq!(park(&mut waiting, hop(i), 0, 0), Ok(true));
        }
        assert_eq!(waiting.len(), CAPACITY);
        assert_eq!(park(&mut waiting, hop(99), 0, 0), full);
        let mut waiting = NeighbourWait::new();
        let long = [0; MAX_FRAME + 1];
        assert_eq!(
            waiting.park(hop(1), &long, Offload::default(), Tick(0)),
            full
        );
        assert!(
            waiting
                .park(hop(1), &long[1..], Offload::default(), Tick(0))
                .is_ok()
        );
    }

    #[test]
    fn who_waits_too_long_is_given_up_and_its_room_is_free() {
        let mut waiting = NeighbourWait::new();
        let net = NetSnapshot::for_test(1, &[]);
        for round in 0..10 {
            let now = round * 2 * MAX_WAIT;
            for i in 0..64 {
                let late = u32::from(i % 2 == 0);
                assert_eq!(park(&mut waiting, hop(i), 0, now + late), Ok(true));
            }
            let (_, dropped) = release(&mut waiting, &net, now + MAX_WAIT);
            assert_eq!(dropped, [DropReason::NeighbourUnreachable; 32]);
            assert!(waiting.hops().all(|h| h.addr.low_word() % 2 == 0));
            let (_, dropped) = release(&mut waiting, &net, now + MAX_WAIT + 1);
            assert_eq!(dropped.len(), 32);
            assert!(waiting.is_empty());
        }
    }
}
