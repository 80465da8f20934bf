//! A connection as a worker holds it for the length of a batch.

use crate::entry::{
    CHAIN, CLOSED, Entry, HELPED, INACTIVE, INVALID, LIVE, NIL, NO_OUTPUT, ONE_PACKET, QUEUED,
    STATE, TELL, TEMPLATE, UNLINKED, VERSION,
};
use crate::new_connection::ConnKind;
use crate::ports::Ports;
use crate::raw::prefetch;
use crate::sequence::Shift;
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    fence,
};
use crate::table::Table;
use lvs_core::{Addr, Endpoint, ForwardMethod, Protocol, Tick};

/// Which destination: the place in somebody's list, and which of those that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DestinationId {
    /// The place.
    pub index: u32,
    /// Another one each time that the place is given to another destination.
    pub generation: u32,
}

impl DestinationId {
    /// None: a place that no list has.
    pub const NONE: Self = Self {
        index: u32::MAX,
        generation: 0,
    };
}

/// From which side a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A request.
    FromClient,
    /// A reply.
    FromServer,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::FromClient => Self::FromServer,
            Self::FromServer => Self::FromClient,
        }
    }
}

/// A connection that was found for a packet.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'g> {
    /// The connection.
    pub conn: Conn<'g>,
    /// From which side the packet comes.
    pub direction: Direction,
}

/// Names a connection of a table for as long as the guard under which it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub(crate) u32);

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

    /// Its ports and its method, read at once.
    #[inline]
    #[must_use]
    pub fn ports(self) -> Ports {
        self.entry.ports()
    }

    /// The client's address.
    #[inline]
    #[must_use]
    pub fn client_addr(self) -> Addr {
        self.entry.client_addr()
    }

    /// The address that the client asked for.
    #[inline]
    #[must_use]
    pub fn virtual_addr(self) -> Addr {
        self.entry.virtual_addr()
    }

    /// The server's address.
    #[inline]
    #[must_use]
    pub fn server_addr(self) -> Addr {
        self.entry.server_addr()
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
            index: self.dest_index(),
            generation: self.entry.dest_generation.load(Relaxed),
        }
    }

    /// The place of the server in the rules' list. Unlike its generation it lies in the
    /// connection's first cache line, if it is below 65,535: who keeps a place from being given
    /// away while it has connections needs no more.
    #[inline]
    #[must_use]
    pub fn dest_index(self) -> u32 {
        self.entry.destination_index()
    }

    /// The place of the server, where it is below 65,535; that number where it is not, and
    /// [`dest_index`](Self::dest_index) knows it.
    #[inline(always)]
    #[must_use]
    pub fn near_dest(self) -> u16 {
        self.entry.near_destination()
    }

    /// Gives the connection to the same server under another number: after
    /// [attaching](crate::Table::attach) a table whose rules numbered it otherwise.
    pub fn set_dest(self, dest: DestinationId) {
        self.entry.set_destination(dest.index, dest.generation);
    }

    /// Begins to fetch the connection's second cache line: FULLNAT's local endpoint, the
    /// destination's generation, the mark, the controlling connection, the timeout. A packet that
    /// moves an established connection on needs none of them.
    #[inline]
    pub fn prefetch_rest(self) {
        prefetch(&self.entry.timeout);
    }

    /// Whether the server has still to be told its client.
    #[must_use]
    pub fn tells(self) -> bool {
        self.entry.cold.load(Relaxed) & TELL != 0
    }

    /// The server has answered what told it its client: it knows.
    pub fn told(self) {
        if self.tells() {
            self.entry.cold.fetch_and(!TELL, Relaxed);
        }
    }

    /// The firewall mark that made it.
    #[must_use]
    pub fn mark(self) -> u32 {
        self.entry.mark.load(Relaxed)
    }

    /// Gives it another mark: after [attaching](crate::Table::attach) a table whose marks meant
    /// something to the process that had it.
    pub fn set_mark(self, mark: u32) {
        self.entry.mark.store(mark, Relaxed);
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

    /// Whether no reply has been seen of a connection whose replies need not pass (IPVS 2.3,
    /// `NOOUTPUT`).
    #[must_use]
    pub fn is_input_only(self) -> bool {
        self.entry.word.load(Relaxed) & NO_OUTPUT != 0
    }

    /// Whether it can still be found; false once it was unlinked.
    #[inline]
    #[must_use]
    pub fn is_live(self) -> bool {
        // Acquire: pairs with the release in `Table::insert`, for a scan; nobody else can see an
        // entry whose content is not there.
        self.entry.word.load(Acquire) & (LIVE | UNLINKED) == LIVE
    }

    /// What kind of connection it is.
    #[must_use]
    pub fn kind(self) -> ConnKind {
        let word = self.entry.word.load(Relaxed);
        if word & TEMPLATE != 0 {
            ConnKind::Template
        } else if self.entry.cold.load(Relaxed) & ONE_PACKET != 0 {
            ConnKind::OnePacket
        } else {
            ConnKind::Normal
        }
    }

    /// Whether somebody looks into what it carries (FTP's commands), or it waits for its client's
    /// port: its packets are not plain. Reads the second of its cache lines.
    #[inline]
    #[must_use]
    pub fn is_helped(self) -> bool {
        self.entry.cold.load(Relaxed) & HELPED != 0
    }

    /// How the numbers of what comes from this side are shifted; nothing for a connection that is
    /// not helped.
    #[must_use]
    pub fn shift(self, from: Direction) -> Shift {
        if self.is_helped() {
            Shift::unpack(self.entry.shift(from as usize))
        } else {
            Shift::default()
        }
    }

    /// Sets how they are shifted, of a connection that is helped. Of two workers that set it at once
    /// one is lost: packets of one side come to one worker.
    pub fn set_shift(self, from: Direction, shift: Shift) {
        if self.is_helped() {
            self.entry.set_shift(from as usize, shift.pack());
        }
    }

    /// Its name, for [`NewConnection::control`](crate::NewConnection::control).
    #[must_use]
    pub const fn id(self) -> ConnId {
        ConnId(self.index)
    }

    /// The connection that controls it.
    #[must_use]
    pub fn control(self) -> Option<Self> {
        let index = self.entry.control.load(Relaxed);
        let entry = self.table.entries.get(index as usize)?;
        Some(Self {
            table: self.table,
            entry,
            index,
        })
    }

    /// How many connections it controls.
    #[must_use]
    pub fn children(self) -> u32 {
        self.entry.children.load(Relaxed) & !CLOSED
    }

    /// Sets the state without a packet: a template that is assured (IPVS 2.5), a connection that
    /// another director reports. The timeout stays as it is. States are below 16.
    pub fn set_state(self, state: u8) {
        let set = |word: u16| Some((word & !(STATE | VERSION)) | (u16::from(state) & STATE));
        // Never fails: the closure always has an answer.
        let _ = self.entry.word.fetch_update(AcqRel, Relaxed, set);
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
        self.entry.packets()
    }

    /// Counts a packet from the client. Of two workers that count at once one may be lost: the
    /// number serves defence and synchronisation, not statistics.
    #[inline]
    pub fn count_in_packet(self) {
        self.entry.count_packet(self.entry.ports());
    }

    /// The same, for who has just read the ports, beside which the count lies.
    #[inline(always)]
    pub fn count_in_packet_of(self, ports: Ports) {
        self.entry.count_packet(ports);
    }

    /// Gives the connection `timeout` ticks from now on.
    pub fn rearm(self, timeout: u32, now: Tick) {
        self.forget_version();
        self.set_timeout(timeout, now);
    }

    /// The timeout is not that of the state any more: the next packet has to set it again.
    fn forget_version(self) {
        if self.entry.word.load(Relaxed) & VERSION != 0 {
            self.entry.word.fetch_and(!VERSION, AcqRel);
        }
    }

    pub(crate) fn set_timeout(self, timeout: u32, now: Tick) {
        self.touch(now);
        if self.entry.timeout.load(Relaxed) != timeout {
            self.entry.timeout.store(timeout, Relaxed);
            // The wheel looks at it when it was due before; only an earlier end needs to be told.
            // The fence pairs with that of `Collector::keep`.
            fence(SeqCst);
            if Tick(self.entry.due.load(Relaxed)).is_after(now + timeout) {
                self.queue();
            }
        }
    }

    /// Has the collector look at the entry at its next run.
    fn queue(self) {
        // Release: whoever puts the entry on the queue, the collector sees what was done before.
        if self.entry.word.fetch_or(QUEUED, AcqRel) & QUEUED == 0 {
            self.table.queue(self.index, self.index);
        }
    }

    /// Takes the connection out of the table: packets no longer find it, and the collector ends it
    /// at its next run, or when the last one that it controls has ended. For a connection whose
    /// flow begins anew.
    pub fn unlink(self, now: Tick) {
        if self.entry.word.fetch_or(UNLINKED, AcqRel) & UNLINKED == 0 {
            // A courtesy: lookups skip it already, and the collector removes what is left.
            self.table
                .remove_keys(self.index, &self.table.keys(self.entry));
        }
        self.expire(now);
    }

    /// Has nobody find a template any more, whose destination can no longer be used: another one of
    /// the same client may take its place. It ends when its time is over and its last connection
    /// has ended (IPVS 2.5).
    pub fn invalidate(self) {
        if self.entry.word.fetch_or(INVALID, AcqRel) & INVALID == 0 {
            // As in `unlink`.
            self.table
                .remove_keys(self.index, &self.table.keys(self.entry));
        }
    }

    /// Whether it is a template that was invalidated.
    #[must_use]
    pub fn is_invalid(self) -> bool {
        self.entry.word.load(Relaxed) & INVALID != 0
    }

    /// Lets the connection end at the collector's next run; until then packets find it, and a
    /// packet makes it live on. One that controls others lives on for 60 s at a time
    /// (IPVS 2.4, rules 4 and 6).
    pub fn expire(self, now: Tick) {
        self.forget_version();
        self.entry.last_seen.store(now.0, Relaxed);
        self.entry.timeout.store(0, Relaxed);
        self.queue();
    }

    /// Like [`expire`](Self::expire), and with it the one that controls it ends, and so on upward,
    /// where that controls no other and is no assured template (IPVS 2.4, rule 5).
    pub fn expire_chain(self, now: Tick) {
        self.entry.word.fetch_or(CHAIN, Relaxed);
        self.expire(now);
    }

    /// Whether the connection is the one that a packet, or a search for a template, means.
    #[inline]
    pub(crate) fn is_sought(self, template: bool) -> bool {
        // Relaxed: who has seen another connection take the flow has seen this one unlinked.
        let word = self.entry.word.load(Relaxed);
        word & (UNLINKED | INVALID | TEMPLATE) == if template { TEMPLATE } else { 0 }
    }

    /// Makes the connection that a new one names its parent; [`NIL`] if there is none.
    pub(crate) fn adopt(table: &Table, parent: Option<ConnId>) -> u32 {
        let Some(ConnId(index)) = parent else {
            return NIL;
        };
        let Some(entry) = table.entries.get(index as usize) else {
            return NIL;
        };
        let more = |children: u32| (children < CLOSED - 1).then_some(children + 1);
        // Pairs with the exchange in `Collector::goes_on`.
        let adopted = entry.children.fetch_update(AcqRel, Relaxed, more);
        if adopted.is_ok() { index } else { NIL }
    }
}
