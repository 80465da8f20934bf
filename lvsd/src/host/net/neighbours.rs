//! Asking the kernel to find neighbours, and to keep those that we need.
//!
//! In: who is wanted. Out: requests to the kernel (`RTM_NEWNEIGH` with `NTF_USE`: treat this
//! neighbour as if a packet had just been sent to it); the answer arrives with the next
//! [`NetSnapshot`]. Never: an ARP or neighbour discovery packet of our own, an entry that stays
//! behind, or more requests than [`NeighbourKeeper::PER_SECOND`].

use super::snapshot::{NeighbourState, NetSnapshot};
use crate::host::netlink::{ACK, CREATE, REQUEST, Socket, Writer};
use lvs_core::{Addr, Family};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

const NEW_NEIGHBOUR: u16 = 28;

/// A neighbour: the interface by which it is reached and its address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The interface.
    pub ifindex: u32,
    /// The neighbour's address on that link.
    pub addr: Addr,
}

/// Asks the kernel for neighbours. One per process; used by the control thread.
#[derive(Debug)]
pub struct NeighbourKeeper {
    socket: Socket,
    asked: HashMap<Hop, Instant>,
    second: Instant,
    this_second: usize,
}

impl NeighbourKeeper {
    /// The longest that a neighbour is asked for again: once in this time.
    pub const AGAIN_AFTER: Duration = Duration::from_secs(1);
    /// The most requests in a second, for all neighbours: clients that invent addresses on a
    /// link of ours shall not fill the kernel's table.
    pub const PER_SECOND: usize = 256;

    /// Opens the way to the kernel, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If there is no netlink socket to be had.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::route(0)?,
            asked: HashMap::new(),
            second: Instant::now(),
            this_second: 0,
        })
    }

    /// Makes the kernel find or confirm a neighbour. Returns whether it was asked: not more than
    /// once a second for one neighbour, and [`PER_SECOND`](Self::PER_SECOND) times for all.
    ///
    /// # Errors
    /// If the kernel refuses: without `CAP_NET_ADMIN` (`PermissionDenied`), for an interface that
    /// is gone (`ENODEV`) or down (`ENETDOWN`).
    pub fn request(&mut self, hop: Hop, now: Instant) -> io::Result<bool> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.this_second = 0;
            let recent = |at: &Instant| now.saturating_duration_since(*at) < Self::AGAIN_AFTER;
            self.asked.retain(|_, at| recent(at));
        }
        let again = self.asked.get(&hop);
        let too_soon =
            again.is_some_and(|at| now.saturating_duration_since(*at) < Self::AGAIN_AFTER);
        if too_soon || self.this_second >= Self::PER_SECOND {
            return Ok(false);
        }
        self.this_second += 1;
        self.asked.insert(hop, now);
        self.use_neighbour(hop)?;
        Ok(true)
    }

    /// Asks for those of `wanted` that the kernel does not know or has not lately confirmed.
    /// Called about once a second it keeps them known, so that no packet has to wait. Returns how
    /// many were asked for.
    ///
    /// An unconfirmed entry stays usable while the kernel confirms it.
    pub fn keep(&mut self, wanted: &[Hop], snapshot: &NetSnapshot, now: Instant) -> usize {
        let mut count = 0;
        for &hop in wanted {
            let Some(interface) = snapshot.interface(hop.ifindex) else {
                continue;
            };
            if !interface.up || interface.no_arp || interface.loopback {
                continue;
            }
            let state = snapshot.neighbour_state(hop.ifindex, hop.addr);
            let fine = matches!(
                state,
                Some(
                    NeighbourState::Reachable
                        | NeighbourState::Delay
                        | NeighbourState::Probe
                        | NeighbourState::Incomplete
                        | NeighbourState::NoArp
                        | NeighbourState::Permanent
                )
            );
            if fine {
                continue;
            }
            match self.request(hop, now) {
                Ok(asked) => count += usize::from(asked),
                Err(error) => {
                    tracing::debug!(%error, neighbour = %hop.addr, interface = %interface.name,
                        "the kernel does not look for the neighbour");
                }
            }
        }
        count
    }

    fn use_neighbour(&mut self, hop: Hop) -> io::Result<()> {
        const DESTINATION: u16 = 1;
        const NTF_USE: u8 = 1;
        const AF_INET: u8 = 2;
        const AF_INET6: u8 = 10;
        // struct ndmsg: family, padding, ifindex, state, flags, type.
        let mut header = [0; 12];
        let [family, _, _, _, index @ .., _, _, flags, _] = &mut header;
        let [i0, i1, i2, i3] = index;
        [*i0, *i1, *i2, *i3] = hop.ifindex.to_ne_bytes();
        *flags = NTF_USE;
        let (v4, v6) = (hop.addr.v4_octets(), hop.addr.v6_octets());
        let address: &[u8] = match hop.addr.family() {
            Family::V4 => {
                *family = AF_INET;
                &v4
            }
            Family::V6 => {
                *family = AF_INET6;
                &v6
            }
        };
        let sequence = self.socket.next_sequence();
        let mut request = Writer::default();
        request.message(
            NEW_NEIGHBOUR,
            REQUEST | ACK | CREATE,
            sequence,
            &header,
            |w| {
                w.octets(DESTINATION, address);
            },
        );
        self.socket.acknowledged(request.bytes(), sequence)
    }
}
