//! One connection in two cache lines.
//!
//! ```text
//!  0        16       32       48                56        60        64
//!  | client | virtual| server | ports, protocol | server# | word    |   compared, and all that a
//!  | address| address| address| and method      |         | state   |   forward needs
//!  64   68   72   76   80       96    100   104   108   112 ... 128
//!  | gen | seen| time| pkts| local | port | mark| ctrl | due | lists | children |  the rest
//! ```
//!
//! All fields are atomics: an entry is shared by all workers and the collector, and nobody locks
//! it. What identifies the connection is written before the entry is published by a release store
//! of its slot in the index, and not again until no reader can hold it. What changes (state, last
//! seen, timeout) is a relaxed value of its own: readers may see any of the latest ones.

use crate::raw::Zero;
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};
use lvs_core::{Addr, Endpoint, Flow, ForwardMethod, Protocol, Tick};

/// No entry.
pub(crate) const NIL: u32 = u32::MAX;

/// The state of the protocol in the lowest byte of the word.
pub(crate) const STATE: u32 = 0xff;
/// The entry is a connection; set before it can be found, cleared when it is free.
pub(crate) const LIVE: u32 = 1 << 8;
/// No packet finds the entry any more.
pub(crate) const UNLINKED: u32 = 1 << 9;
/// The entry is on the way to the collector: on a thread's list or on the common one.
pub(crate) const QUEUED: u32 = 1 << 10;
/// Counted with its destination's inactive connections (IPVS 2.3).
pub(crate) const INACTIVE: u32 = 1 << 11;
/// No reply has been seen, or is expected (IPVS 2.3).
pub(crate) const NO_OUTPUT: u32 = 1 << 12;
/// The collector has taken it out of the table; it is free when nobody can hold it any more.
pub(crate) const RETIRED: u32 = 1 << 13;
/// A template: found as one, and not by packets.
pub(crate) const TEMPLATE: u32 = 1 << 14;
/// Made for one packet, and never in the index.
pub(crate) const ONE_PACKET: u32 = 1 << 15;
/// Nobody was told of it: the index had no room. Its end is not reported either.
pub(crate) const SILENT: u32 = 1 << 16;
/// The connection that controls it ends with it (IPVS 2.4, rule 5).
pub(crate) const CHAIN: u32 = 1 << 17;
/// A template that nobody finds any more, and that still lives for its time (IPVS 2.5).
pub(crate) const INVALID: u32 = 1 << 18;

/// Set in the count of children of an entry that is retired: it takes no more.
pub(crate) const CLOSED: u32 = 1 << 31;

#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Entry {
    client: [AtomicU64; 2],
    virtual_: [AtomicU64; 2],
    server: [AtomicU64; 2],
    /// Client's, virtual and server's port, protocol, method: 16, 16, 16, 8, 8 bits.
    ports: AtomicU64,
    pub(crate) dest_index: AtomicU32,
    /// State and flags.
    pub(crate) word: AtomicU32,

    pub(crate) dest_generation: AtomicU32,
    pub(crate) last_seen: AtomicU32,
    pub(crate) timeout: AtomicU32,
    pub(crate) in_packets: AtomicU32,
    local: [AtomicU64; 2],
    /// FULLNAT's local port.
    local_port: AtomicU32,
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
            dest_index: AtomicU32::default(),
            word: AtomicU32::default(),
            dest_generation: AtomicU32::default(),
            last_seen: AtomicU32::default(),
            timeout: AtomicU32::default(),
            in_packets: AtomicU32::default(),
            local: Default::default(),
            local_port: AtomicU32::default(),
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

#[inline]
fn load(words: &[AtomicU64; 2]) -> Addr {
    let [hi, lo] = words;
    Addr {
        hi: hi.load(Relaxed),
        lo: lo.load(Relaxed),
    }
}

fn store(words: &[AtomicU64; 2], addr: Addr) {
    let [hi, lo] = words;
    hi.store(addr.hi, Relaxed);
    lo.store(addr.lo, Relaxed);
}

/// The fields of the packed word of ports.
#[derive(Clone, Copy)]
struct Ports(u64);

impl Ports {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "fields of 16 bits")]
    const fn field(self, at: u32) -> u16 {
        (self.0 >> at) as u16
    }

    #[inline]
    const fn client(self) -> u16 {
        self.field(0)
    }

    #[inline]
    const fn virtual_(self) -> u16 {
        self.field(16)
    }

    #[inline]
    const fn server(self) -> u16 {
        self.field(32)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a field of 8 bits")]
    const fn protocol(self) -> u8 {
        (self.0 >> 48) as u8
    }

    #[inline]
    const fn method(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

impl Entry {
    /// Makes the entry a connection. Nobody else may see it yet.
    pub(crate) fn fill(&self, identity: &Identity) {
        store(&self.client, identity.client.addr);
        store(&self.virtual_, identity.virtual_.addr);
        store(&self.server, identity.server.addr);
        let local = identity.local.unwrap_or_default();
        store(&self.local, local.addr);
        self.local_port.store(u32::from(local.port), Relaxed);
        let ports = u64::from(identity.client.port)
            | (u64::from(identity.virtual_.port) << 16)
            | (u64::from(identity.server.port) << 32)
            | (u64::from(identity.protocol.number()) << 48)
            | (u64::from(identity.method as u8) << 56);
        self.ports.store(ports, Relaxed);
    }

    #[inline]
    fn ports(&self) -> Ports {
        Ports(self.ports.load(Relaxed))
    }

    #[inline]
    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::from_number(self.ports().protocol()).unwrap_or(Protocol::Ip)
    }

    #[inline]
    pub(crate) fn method(&self) -> ForwardMethod {
        ForwardMethod::from_number(self.ports().method()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn client(&self) -> Endpoint {
        Endpoint::new(load(&self.client), self.ports().client())
    }

    #[inline]
    pub(crate) fn virtual_endpoint(&self) -> Endpoint {
        Endpoint::new(load(&self.virtual_), self.ports().virtual_())
    }

    #[inline]
    pub(crate) fn server(&self) -> Endpoint {
        Endpoint::new(load(&self.server), self.ports().server())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half, on purpose"
    )]
    pub(crate) fn local(&self) -> Option<Endpoint> {
        let port = self.local_port.load(Relaxed) as u16;
        (self.method() == ForwardMethod::FullNat).then(|| Endpoint::new(load(&self.local), port))
    }

    pub(crate) fn is_template(&self) -> bool {
        self.word.load(Relaxed) & TEMPLATE != 0
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

    /// Whether a packet of this flow comes from the connection's client.
    #[inline]
    pub(crate) fn is_request(&self, flow: &Flow) -> bool {
        let ports = self.ports();
        load(&self.client) == flow.src.addr
            && load(&self.virtual_) == flow.dst.addr
            && ports.client() == flow.src.port
            && ports.virtual_() == flow.dst.port
            && ports.protocol() == flow.protocol.number()
    }

    /// Whether a packet of this flow comes back from the connection's server.
    #[inline]
    pub(crate) fn is_reply(&self, flow: &Flow) -> bool {
        let ports = self.ports();
        if ports.protocol() != flow.protocol.number() {
            return false;
        }
        if ports.method() == ForwardMethod::Masquerade as u8 {
            return load(&self.server) == flow.src.addr
                && load(&self.client) == flow.dst.addr
                && ports.server() == flow.src.port
                && ports.client() == flow.dst.port;
        }
        self.identity().reply() == *flow
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
