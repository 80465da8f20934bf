//! A connection as a worker holds it for the length of a batch.

use crate::entry::{Entry, INACTIVE, LIVE, NO_OUTPUT, QUEUED, STATE, UNLINKED};
use crate::protocol::{Event, Side, next_state};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::table::Table;
use crate::timeouts::Timeouts;
use lvs_core::{Endpoint, ForwardMethod, Protocol, Tick, state};

/// Which destination: the place in somebody's list, and which of those that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DestinationId {
    /// The place.
    pub index: u32,
    /// Another one each time that the place is given to another destination.
    pub generation: u32,
}

/// From which side a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A request.
    FromClient,
    /// A reply.
    FromServer,
}

/// A connection that was found for a packet.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'g> {
    /// The connection.
    pub conn: Conn<'g>,
    /// From which side the packet comes.
    pub direction: Direction,
}

/// What [`Guard::insert`](crate::Guard::insert) makes a connection of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnection {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: Endpoint,
    /// What it asks for: the VIP and its port.
    pub virtual_endpoint: Endpoint,
    /// The server that gets it.
    pub destination: Endpoint,
    /// FULLNAT's own endpoint towards the server.
    pub local: Option<Endpoint>,
    /// How packets reach the server.
    pub method: ForwardMethod,
    /// The server as the caller's rules number it.
    pub dest: DestinationId,
    /// The firewall mark of the packet that made it.
    pub mark: u32,
    /// The present moment.
    pub now: Tick,
}

impl Default for NewConnection {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            client: Endpoint::default(),
            virtual_endpoint: Endpoint::default(),
            destination: Endpoint::default(),
            local: None,
            method: ForwardMethod::Masquerade,
            dest: DestinationId::default(),
            mark: 0,
            now: Tick::default(),
        }
    }
}

/// How the destination's counts have to follow a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// One inactive connection less, one active more.
    Activated,
    /// One active connection less, one inactive more.
    Deactivated,
}

/// What a packet did to the state of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: u8,
    /// The state after.
    pub to: u8,
    /// Said to exactly one of the workers that see the change.
    pub activity: Option<Activity>,
}

/// A connection; valid as long as the guard under which it was found.
#[derive(Clone, Copy, Debug)]
pub struct Conn<'g> {
    pub(crate) table: &'g Table,
    pub(crate) entry: &'g Entry,
    pub(crate) index: u32,
}

impl PartialEq for Conn<'_> {
    /// Whether they are the same connection of the same table.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.entry, other.entry)
    }
}

impl<'g> Conn<'g> {
    /// The transport protocol.
    #[inline]
    #[must_use]
    pub fn protocol(self) -> Protocol {
        self.entry.protocol()
    }

    /// The client.
    #[inline]
    #[must_use]
    pub fn client(self) -> Endpoint {
        self.entry.client()
    }

    /// What the client asked for.
    #[inline]
    #[must_use]
    pub fn virtual_endpoint(self) -> Endpoint {
        self.entry.virtual_endpoint()
    }

    /// The server.
    #[inline]
    #[must_use]
    pub fn destination(self) -> Endpoint {
        self.entry.server()
    }

    /// FULLNAT's own endpoint towards the server.
    #[must_use]
    pub fn local(self) -> Option<Endpoint> {
        self.entry.local()
    }

    /// How packets reach the server.
    #[inline]
    #[must_use]
    pub fn method(self) -> ForwardMethod {
        self.entry.method()
    }

    /// The server as the rules number it.
    #[inline]
    #[must_use]
    pub fn dest(self) -> DestinationId {
        DestinationId {
            index: self.entry.dest_index.load(Relaxed),
            generation: self.entry.dest_generation.load(Relaxed),
        }
    }

    /// The firewall mark that made it.
    #[must_use]
    pub fn mark(self) -> u32 {
        self.entry.mark.load(Relaxed)
    }

    /// The state of the protocol, in the numbers of [`lvs_core::state`].
    #[inline]
    #[must_use]
    pub fn state(self) -> u8 {
        (self.entry.word.load(Relaxed) & STATE) as u8
    }

    /// Whether it counts with its destination's inactive connections.
    #[inline]
    #[must_use]
    pub fn is_inactive(self) -> bool {
        self.entry.word.load(Relaxed) & INACTIVE != 0
    }

    /// Whether it can still be found; false once it was unlinked.
    #[inline]
    #[must_use]
    pub fn is_live(self) -> bool {
        self.entry.word.load(Relaxed) & (LIVE | UNLINKED) == LIVE
    }

    /// The present timeout, in ticks.
    #[must_use]
    pub fn timeout(self) -> u32 {
        self.entry.timeout.load(Relaxed)
    }

    /// The moment of its latest packet.
    #[must_use]
    pub fn last_seen(self) -> Tick {
        Tick(self.entry.last_seen.load(Relaxed))
    }

    /// Ticks until it ends if nothing comes.
    #[must_use]
    pub fn expires_in(self, now: Tick) -> u32 {
        self.entry.deadline().since(now)
    }

    /// Packets from the client.
    #[must_use]
    pub fn in_packets(self) -> u32 {
        self.entry.in_packets.load(Relaxed)
    }

    /// Counts a packet from the client. Of two workers that count at once one may be lost: the
    /// number serves defence and synchronisation, not statistics.
    #[inline]
    pub fn count_in_packet(self) {
        let packets = self.entry.in_packets.load(Relaxed);
        self.entry
            .in_packets
            .store(packets.wrapping_add(1), Relaxed);
    }

    /// A packet was seen: moves the state machine, starts the timeout again.
    #[inline]
    pub fn advance(
        self,
        direction: Direction,
        event: Event,
        now: Tick,
        timeouts: &Timeouts,
    ) -> Transition {
        let protocol = self.protocol();
        let secure = timeouts.secure_tcp();
        let mut word = self.entry.word.load(Relaxed);
        let transition = loop {
            let side = match direction {
                Direction::FromServer => Side::Output,
                Direction::FromClient if word & NO_OUTPUT != 0 => Side::InputOnly,
                Direction::FromClient => Side::Input,
            };
            let from = (word & STATE) as u8;
            let to = next_state(protocol, from, side, event, secure);
            let mut new = (word & !STATE) | u32::from(to);
            if side == Side::Output {
                new &= !NO_OUTPUT;
            }
            let mut activity = None;
            if from != to {
                let active = state::is_active(protocol, to);
                if active && word & INACTIVE != 0 {
                    new &= !INACTIVE;
                    activity = Some(Activity::Activated);
                } else if !active && word & INACTIVE == 0 {
                    new |= INACTIVE;
                    activity = Some(Activity::Deactivated);
                }
            }
            if new == word {
                break Transition {
                    from,
                    to,
                    activity: None,
                };
            }
            // The exchange decides which of two workers made the change, and so who counts it.
            match self
                .entry
                .word
                .compare_exchange_weak(word, new, AcqRel, Relaxed)
            {
                Ok(_) => break Transition { from, to, activity },
                Err(other) => word = other,
            }
        };
        self.rearm(timeouts.get(protocol, transition.to), now);
        transition
    }

    /// A packet was seen that does not change the state.
    #[inline]
    pub fn touch(self, now: Tick) {
        if self.entry.last_seen.load(Relaxed) != now.0 {
            self.entry.last_seen.store(now.0, Relaxed);
        }
    }

    /// Gives the connection `timeout` ticks from now on.
    #[inline]
    pub fn rearm(self, timeout: u32, now: Tick) {
        self.touch(now);
        if self.entry.timeout.load(Relaxed) != timeout {
            self.entry.timeout.store(timeout, Relaxed);
            // The wheel looks at it when it was due before; only an earlier end needs to be told.
            if Tick(self.entry.due.load(Relaxed)).is_after(now + timeout) {
                self.queue();
            }
        }
    }

    /// Has the collector look at the entry at its next run.
    pub(crate) fn queue(self) {
        if self.entry.word.fetch_or(QUEUED, AcqRel) & QUEUED == 0 {
            self.table.queue(self.index);
        }
    }

    /// Takes the connection out of the table: packets no longer find it, and the collector ends it
    /// at its next run. For a connection whose flow begins anew.
    pub fn unlink(self, now: Tick) {
        if self.entry.word.fetch_or(UNLINKED, AcqRel) & UNLINKED == 0 {
            self.table.remove_keys(self.index, self.entry);
        }
        self.expire(now);
    }

    /// Lets the connection end at the collector's next run; until then packets find it, and a
    /// packet makes it live on.
    pub fn expire(self, now: Tick) {
        self.entry.timeout.store(0, Relaxed);
        self.entry.last_seen.store(now.0, Relaxed);
        self.queue();
    }

    /// Whether it was published; for the table's own use.
    #[inline]
    pub(crate) fn is_published(self) -> bool {
        self.entry.word.load(Acquire) & LIVE != 0
    }
}
