//! One connection in two cache lines.
//!
//! ```text
//!  0        16       32       48                      56     58     60        64
//!  | client | virtual| server | ports, protocol,      | dest | word | last    |
//!  | address| address| address| method, packets       | index| state| seen    |
//!  64     68     72     76     80       96     98     100    104    108   112 ... 128
//!  | dest's index,  | time-| packets| local | port | cold | mark | control | due | lists, children |
//!  | generation     | out  | / 1024 | addr. |      | flags|
//! ```
//!
//! The first line is all that a lookup compares and all that forwarding a packet of an established
//! connection reads and writes; the second is touched when something changes.
//!
//! All fields are atomics: an entry is shared by all workers and the collector, and nobody locks
//! it. What identifies the connection is written before the entry is published by a release store
//! of its slot in the index, and not again until no reader can hold it. What changes (state, last
//! seen, timeout) is a relaxed value of its own: readers may see any of the latest ones.

use crate::mapping::Zero;
use crate::new_connection::NewConnection;
use crate::ports::{
    CODE, FULL_NAT, MASQUERADE, METHOD, PACKETS, PACKETS_AT, PORT, Ports, SERVER_AT, SOUGHT_REPLY,
    SOUGHT_REQUEST, VIRTUAL_AT, code, ends, local_ports,
};
use crate::raw::prefetch;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use core::hint::select_unpredictable;
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Protocol, Tick};

/// No entry.
pub(crate) const NIL: u32 = u32::MAX;

/// The state of the protocol in the lowest bits of the word.
pub(crate) const STATE: u16 = 0xf;
/// The entry is a connection; set before it can be found, cleared when it is free.
pub(crate) const LIVE: u16 = 1 << 4;
/// No packet finds the entry any more.
pub(crate) const UNLINKED: u16 = 1 << 5;
/// The entry is on the way to the collector: on a thread's list or on the common one.
pub(crate) const QUEUED: u16 = 1 << 6;
/// Counted with its destination's inactive connections (IPVS 2.3).
pub(crate) const INACTIVE: u16 = 1 << 7;
/// No reply has been seen, or is expected (IPVS 2.3).
pub(crate) const NO_OUTPUT: u16 = 1 << 8;
/// A template: found as one, and not by packets.
pub(crate) const TEMPLATE: u16 = 1 << 9;
/// A template that nobody finds any more, and that still lives for its time (IPVS 2.5).
pub(crate) const INVALID: u16 = 1 << 10;
/// The collector has taken it out of the table; it is free when nobody can hold it any more.
pub(crate) const RETIRED: u16 = 1 << 11;
/// The connection that controls it ends with it (IPVS 2.4, rule 5).
pub(crate) const CHAIN: u16 = 1 << 12;
/// By which version of which [`Timeouts`](crate::Timeouts) the timeout was set for the present
/// state; 0 if by none, or if that cannot be told.
pub(crate) const VERSION: u16 = 7 << VERSION_AT;
pub(crate) const VERSION_AT: u32 = 13;

/// Of the cold flags: made for one packet, and never in the index.
pub(crate) const ONE_PACKET: u16 = 1 << 0;
/// Nobody was told of it: the index had no room. Its end is not reported either.
pub(crate) const SILENT: u16 = 1 << 1;
/// The request's key is made of the whole flow, because its client's endpoint has a crowd.
pub(crate) const WIDE_REQUEST: u16 = 1 << 2;
/// The reply has a key of its own, made of the whole flow.
pub(crate) const WIDE_REPLY: u16 = 1 << 3;
/// The server has not been told its client yet, or has not answered since (FULLNAT).
pub(crate) const TELL: u16 = 1 << 4;

/// Somebody looks into what the connection carries, or it waits for its client's port.
pub(crate) const HELPED: u16 = 1 << 5;

/// A destination index that the first line has no room for.
const FAR: u16 = u16::MAX;

/// Set in the count of children of an entry that is retired: it takes no more.
pub(crate) const CLOSED: u32 = 1 << 31;

#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Entry {
    client: [AtomicU64; 2],
    virtual_: [AtomicU64; 2],
    server: [AtomicU64; 2],
    /// See [`Ports`].
    ports: AtomicU64,
    /// The destination's index, or [`FAR`].
    dest: AtomicU16,
    /// State and flags.
    pub(crate) word: AtomicU16,
    pub(crate) last_seen: AtomicU32,

    dest_index: AtomicU32,
    pub(crate) dest_generation: AtomicU32,
    pub(crate) timeout: AtomicU32,
    /// What does not fit into the first line's count.
    more_packets: AtomicU32,
    local: [AtomicU64; 2],
    /// FULLNAT's local port.
    local_port: AtomicU16,
    /// Flags that no packet needs.
    pub(crate) cold: AtomicU16,
    pub(crate) mark: AtomicU32,
    /// The controlling connection, or [`NIL`].
    pub(crate) control: AtomicU32,
    /// When the wheel will look at the entry.
    pub(crate) due: AtomicU32,
    /// The wheel's list, or the list of entries that are to be freed; the collector's alone.
    /// `previous` is [`NIL`] while the entry is in no list.
    pub(crate) previous: AtomicU32,
    pub(crate) next: AtomicU32,
    /// The list of entries that the collector shall look at, or of free bundles.
    pub(crate) queue_next: AtomicU32,
    /// How many connections it controls, and [`CLOSED`].
    pub(crate) children: AtomicU32,
}

#[cfg(not(lvs_loom))]
const _: () = assert!(size_of::<Entry>() == 128 && align_of::<Entry>() == 128);

#[allow(unsafe_code, reason = "says that zeroed memory is an entry")]
// SAFETY: an entry is made of atomic integers only.
unsafe impl Zero for Entry {
    fn zero() -> Self {
        Self {
            client: Default::default(),
            virtual_: Default::default(),
            server: Default::default(),
            ports: AtomicU64::default(),
            dest: AtomicU16::default(),
            word: AtomicU16::default(),
            last_seen: AtomicU32::default(),
            dest_index: AtomicU32::default(),
            dest_generation: AtomicU32::default(),
            timeout: AtomicU32::default(),
            more_packets: AtomicU32::default(),
            local: Default::default(),
            local_port: AtomicU16::default(),
            cold: AtomicU16::default(),
            mark: AtomicU32::default(),
            control: AtomicU32::default(),
            due: AtomicU32::default(),
            previous: AtomicU32::default(),
            next: AtomicU32::default(),
            queue_next: AtomicU32::default(),
            children: AtomicU32::default(),
        }
    }
}

/// What does not change while a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) protocol: Protocol,
    pub(crate) method: ForwardMethod,
    pub(crate) client: Endpoint,
    pub(crate) virtual_: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) local: Option<Endpoint>,
}

impl Identity {
    /// The flow of the client's packets.
    pub(crate) const fn request(&self) -> Flow {
        Flow::new(self.protocol, self.client, self.virtual_)
    }

    /// The flow of the packets that come back (IPVS 2.2, "out").
    pub(crate) fn reply(&self) -> Flow {
        match self.method {
            ForwardMethod::Masquerade => Flow::new(self.protocol, self.server, self.client),
            ForwardMethod::FullNat => Flow::new(
                self.protocol,
                self.server,
                self.local.unwrap_or(self.client),
            ),
            _ => Flow::new(self.protocol, self.virtual_, self.client),
        }
    }
}

/// 0 if the words are the address.
#[inline]
fn differ(words: &[AtomicU64; 2], addr: Addr) -> u64 {
    let Addr { hi, lo } = load(words);
    (hi ^ addr.hi) | (lo ^ addr.lo)
}

#[inline]
fn load(words: &[AtomicU64; 2]) -> Addr {
    let [hi, lo] = words;
    Addr {
        hi: hi.load(Relaxed),
        lo: lo.load(Relaxed),
    }
}

#[inline]
fn store(words: &[AtomicU64; 2], addr: Addr) {
    let [hi, lo] = words;
    hi.store(addr.hi, Relaxed);
    lo.store(addr.lo, Relaxed);
}

impl Entry {
    /// Makes the entry a connection. Nobody else may see it yet.
    #[inline(always)]
    pub(crate) fn fill(&self, new: &NewConnection) {
        store(&self.client, new.client.addr);
        store(&self.virtual_, new.virtual_endpoint.addr);
        store(&self.server, new.destination.addr);
        let local = new.local.unwrap_or_default();
        store(&self.local, local.addr);
        self.local_port.store(local.port, Relaxed);
        self.ports.store(Ports::of(new).0, Relaxed);
        self.more_packets.store(0, Relaxed);
    }

    /// Makes the entry what another one is. Nobody else may see it yet.
    pub(crate) fn copy(&self, other: &Self) {
        self.ports.store(other.ports.load(Relaxed), Relaxed);
        for (mine, others) in self.body().into_iter().zip(other.body()) {
            mine.store(others.load(Relaxed), Relaxed);
        }
        for (mine, others) in self.small().into_iter().zip(other.small()) {
            mine.store(others.load(Relaxed), Relaxed);
        }
        self.dest.store(other.dest.load(Relaxed), Relaxed);
        self.local_port
            .store(other.local_port.load(Relaxed), Relaxed);
        self.cold.store(other.cold.load(Relaxed), Relaxed);
        self.word.store(other.word.load(Relaxed), Relaxed);
    }

    /// The words of 32 bits that mean something to more than one process.
    const fn small(&self) -> [&AtomicU32; 7] {
        [
            &self.last_seen,
            &self.dest_index,
            &self.dest_generation,
            &self.timeout,
            &self.more_packets,
            &self.mark,
            &self.control,
        ]
    }

    #[inline]
    pub(crate) fn set_destination(&self, index: u32, generation: u32) {
        self.dest
            .store(u16::try_from(index).unwrap_or(FAR), Relaxed);
        self.dest_index.store(index, Relaxed);
        self.dest_generation.store(generation, Relaxed);
    }

    /// The destination's index if the first line knows it; otherwise [`FAR`].
    #[inline(always)]
    pub(crate) fn near_destination(&self) -> u16 {
        self.dest.load(Relaxed)
    }

    /// The destination's index; of the first 65,535 the first line knows it.
    #[inline]
    pub(crate) fn destination_index(&self) -> u32 {
        match self.dest.load(Relaxed) {
            FAR => self.dest_index.load(Relaxed),
            index => u32::from(index),
        }
    }

    /// Counts a packet, by a plain store of what was read before: of two that count at once one may be
    /// lost. What else the word holds does not change, so nothing else can be lost.
    #[inline]
    pub(crate) fn count_packet(&self, ports: Ports) {
        const ONE: u64 = 1 << PACKETS_AT;
        let ports = ports.0.wrapping_add(ONE);
        self.ports.store(ports, Relaxed);
        // It is full, and begins anew.
        if ports < ONE {
            self.count_more();
        }
    }

    #[cold]
    fn count_more(&self) {
        let more = self.more_packets.load(Relaxed).wrapping_add(1);
        self.more_packets.store(more, Relaxed);
    }

    pub(crate) fn packets(&self) -> u32 {
        let more = self.more_packets.load(Relaxed).wrapping_mul(PACKETS);
        more.wrapping_add((self.ports.load(Relaxed) >> PACKETS_AT) as u32)
    }

    #[inline]
    pub(crate) fn ports(&self) -> Ports {
        Ports(self.ports.load(Relaxed))
    }

    #[inline]
    pub(crate) fn protocol(&self) -> Protocol {
        self.ports().protocol()
    }

    #[inline]
    pub(crate) fn method(&self) -> ForwardMethod {
        ForwardMethod::from_number(self.ports().number()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn client(&self) -> Endpoint {
        Endpoint::new(self.client_addr(), self.ports().client())
    }

    #[inline]
    pub(crate) fn virtual_endpoint(&self) -> Endpoint {
        Endpoint::new(self.virtual_addr(), self.ports().virtual_port())
    }

    #[inline]
    pub(crate) fn client_addr(&self) -> Addr {
        load(&self.client)
    }

    #[inline]
    pub(crate) fn virtual_addr(&self) -> Addr {
        load(&self.virtual_)
    }

    #[inline]
    pub(crate) fn server_addr(&self) -> Addr {
        load(&self.server)
    }

    #[inline]
    pub(crate) fn server(&self) -> Endpoint {
        Endpoint::new(self.server_addr(), self.ports().server())
    }

    /// The shift of a stream's numbers: kept in the place of FULLNAT's own address, which has none.
    pub(crate) fn shift(&self, place: usize) -> u64 {
        self.local.get(place).map_or(0, |word| word.load(Relaxed))
    }

    pub(crate) fn set_shift(&self, place: usize, shift: u64) {
        if let Some(word) = self.local.get(place) {
            word.store(shift, Relaxed);
        }
    }

    pub(crate) fn local(&self) -> Option<Endpoint> {
        let port = self.local_port.load(Relaxed);
        (self.method() == ForwardMethod::FullNat).then(|| Endpoint::new(load(&self.local), port))
    }

    /// Whether what the entry holds can have been written by this crate.
    pub(crate) fn is_possible(&self) -> bool {
        let code = self.ports.load(Relaxed) & CODE;
        code == self::code(self.protocol())
            && ForwardMethod::from_number(self.ports().number()).is_some()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            protocol: self.protocol(),
            method: self.method(),
            client: self.client(),
            virtual_: self.virtual_endpoint(),
            server: self.server(),
            local: self.local(),
        }
    }

    /// Whether a packet of this flow comes from the connection's client or, if it is a reply, from the
    /// server of one with NAT; `ports` is what [`sought_ports`] says of it. Nothing here has to be
    /// predicted, as requests and replies come mixed.
    #[inline(always)]
    pub(crate) fn is_plainly(&self, flow: &Flow, reply: bool, ports: u64) -> bool {
        let (client, other) = ends(flow, reply);
        let place = select_unpredictable(reply, &self.server, &self.virtual_);
        let mask = select_unpredictable(reply, SOUGHT_REPLY, SOUGHT_REQUEST);
        let differ_ports = (self.ports.load(Relaxed) & mask) ^ ports;
        differ_ports | differ(&self.client, client.addr) | differ(place, other.addr) == 0
    }

    /// Whether a packet of this flow comes from the connection's client.
    #[inline]
    pub(crate) fn is_request(&self, flow: &Flow) -> bool {
        let ports = u64::from(flow.src.port)
            | (u64::from(flow.dst.port) << VIRTUAL_AT)
            | code(flow.protocol);
        let mask = PORT | (PORT << VIRTUAL_AT) | CODE;
        let other = (self.ports.load(Relaxed) ^ ports) & mask;
        other | differ(&self.client, flow.src.addr) | differ(&self.virtual_, flow.dst.addr) == 0
    }

    /// Whether a packet of this flow comes back from the connection's server.
    #[inline]
    pub(crate) fn is_reply(&self, flow: &Flow) -> bool {
        let word = self.ports.load(Relaxed);
        let (from, at) = match Ports(word).number() {
            MASQUERADE => (&self.server, SERVER_AT),
            FULL_NAT => return self.is_reply_to_local(flow),
            _ => (&self.virtual_, VIRTUAL_AT),
        };
        let ports =
            u64::from(flow.dst.port) | (u64::from(flow.src.port) << at) | code(flow.protocol);
        let other = (word ^ ports) & (PORT | (PORT << at) | CODE);
        other | differ(from, flow.src.addr) | differ(&self.client, flow.dst.addr) == 0
    }

    /// Whether a packet of this flow goes from the connection's server to FULLNAT's local endpoint,
    /// which is in the second line. Not inlined: who asks has other things to keep in registers.
    #[inline(never)]
    pub(crate) fn is_reply_to_local(&self, flow: &Flow) -> bool {
        let mask = (PORT << SERVER_AT) | CODE | METHOD;
        let other = (self.ports.load(Relaxed) & mask) ^ local_ports(flow);
        // Of connections that share a local endpoint the first line tells which one it is not.
        if other | differ(&self.server, flow.src.addr) != 0 {
            return false;
        }
        let local_port = self.local_port.load(Relaxed) ^ flow.dst.port;
        u64::from(local_port) | differ(&self.local, flow.dst.addr) == 0
    }

    /// Begins to fetch the second line.
    #[inline(always)]
    pub(crate) fn prefetch_second(&self) {
        prefetch(&self.dest_index);
    }

    /// The words that hold a bundle's other entries while this one is free: those that
    /// [`Entry::fill`] writes.
    const fn body(&self) -> [&AtomicU64; 8] {
        let [[a, b], [c, d], [e, f], [g, h]] =
            [&self.client, &self.virtual_, &self.server, &self.local];
        [a, b, c, d, e, f, g, h]
    }

    /// Makes this free entry the first of a bundle.
    pub(crate) fn set_bundle(&self, others: &[u32]) {
        // One more than the number, so that 0 is none.
        let mut others = others.iter().map(|other| u64::from(*other) + 1);
        for word in self.body() {
            let a = others.next().unwrap_or(0);
            let b = others.next().unwrap_or(0);
            word.store((b << 32) | a, Relaxed);
            if a == 0 {
                break;
            }
        }
    }

    /// Names the other entries of the bundle that this one begins.
    #[expect(clippy::cast_possible_truncation, reason = "halves, on purpose")]
    pub(crate) fn bundle(&self, mut each: impl FnMut(u32)) {
        for word in self.body() {
            let word = word.load(Relaxed);
            for other in [word as u32, (word >> 32) as u32] {
                let Some(other) = other.checked_sub(1) else {
                    return;
                };
                each(other);
            }
        }
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Tick {
        Tick(self.last_seen.load(Relaxed)) + self.timeout.load(Relaxed)
    }
}

#[cfg(all(test, not(lvs_loom)))]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn a_packet_needs_the_first_line_only() {
        for at in [
            offset_of!(Entry, client),
            offset_of!(Entry, virtual_),
            offset_of!(Entry, server),
            offset_of!(Entry, ports),
            offset_of!(Entry, dest),
            offset_of!(Entry, word),
            offset_of!(Entry, last_seen),
        ] {
            assert!(at < 64);
        }
        assert_eq!(offset_of!(Entry, dest_index), 64);
    }

    #[test]
    fn packets_and_destinations_overflow_into_the_second_line() {
        let entry = Entry::zero();
        for count in 0..5000 {
            assert_eq!(entry.packets(), count);
            entry.count_packet(entry.ports());
        }
        for index in [0, 65_534, 65_535, 65_536, u32::MAX] {
            entry.set_destination(index, 7);
            assert_eq!(entry.destination_index(), index);
        }
    }
}
