//! How long a connection may be silent, by protocol and state (IPVS 2.8 to 2.10).
//!
//! In: the settings of `ipvsadm --set` and of the defence against floods, at any time and from any
//! thread. Out: ticks, for the worker that saw a packet. A worker never waits here: it reads one
//! word, and a change counts from the next packet of each connection on.
//!
//! ```
//! use lvs_conn::timeouts::Timeouts;
//! use lvs_core::state::tcp;
//! use lvs_core::{Protocol, Tick};
//!
//! let timeouts = Timeouts::default();
//! assert_eq!(timeouts.seconds(), (900, 120, 300));
//! timeouts.set_seconds(120, 0, 44);
//! assert_eq!(timeouts.get(Protocol::Tcp, tcp::ESTABLISHED), Tick::seconds(120));
//! assert_eq!(timeouts.seconds(), (120, 120, 44));
//! ```

use crate::entry::{INACTIVE, STATE, VERSION_AT};
use crate::protocol::{Event, Side, next_state};
use crate::sync::{
    AtomicBool, AtomicU16, AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use lvs_core::state::{self, sctp, tcp};
use lvs_core::{ForwardMethod, Protocol, Tick};

/// What a connection has before its first packet was judged, in ticks (2.4), and what
/// [`Timeouts::get`] says of states and protocols that have no timeout of their own.
pub const NEW: u32 = Tick::seconds(3);

/// The longest timeout that can be set, in seconds: 31 days, ipvsadm's own limit (5.3).
pub const MAX_SECONDS: u32 = 31 * 24 * 60 * 60;

/// Seconds, in order of number (2.8).
#[rustfmt::skip]
const TCP: [u32; tcp::NAMES.len()] = [
    2,   // NONE
    900, // ESTABLISHED
    120, // SYN_SENT
    60,  // SYN_RECV
    120, // FIN_WAIT
    120, // TIME_WAIT
    10,  // CLOSE
    60,  // CLOSE_WAIT
    30,  // LAST_ACK
    120, // LISTEN
    120, // SYNACK
];

/// Seconds (2.9).
const UDP: u32 = 300;

/// Seconds, in order of number (2.10).
#[rustfmt::skip]
const SCTP: [u32; sctp::NAMES.len()] = [
    2,   // NONE
    4,   // INIT1
    61,  // INIT
    61,  // C-SENT
    61,  // C-REPLIED
    61,  // C-WAIT
    61,  // COOKIE
    61,  // C-ECHOED
    900, // ESTABLISHED
    61,  // S-SENT
    61,  // S-RECEIVED
    61,  // S-ACK-SENT
    4,   // REJECTED
    61,  // CLOSED
];

/// The timeouts of one director, and whether it defends itself: one value that all its workers
/// read.
#[derive(Debug)]
pub struct Timeouts {
    tcp: [AtomicU32; TCP.len()],
    sctp: [AtomicU32; SCTP.len()],
    udp: AtomicU32,
    secure_tcp: AtomicBool,
    /// See [`Timeouts::version`].
    version: AtomicU16,
}

/// The timeouts of a moment, as connections remember them: what [`Timeouts::settled`] answers.
#[derive(Clone, Copy, Debug)]
pub struct Settled(pub(crate) u16);

/// What a connection becomes by the packet that it is made for: what [`Timeouts::first`] answers, so
/// that the connection need not be moved on after it was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// State, version, and whether it is inactive.
    pub(crate) word: u16,
    pub(crate) timeout: u32,
}

impl First {
    /// Whether the connection counts with its destination's active ones.
    #[inline]
    #[must_use]
    pub const fn is_active(self) -> bool {
        self.word & INACTIVE == 0
    }
}

/// The largest version that a connection can remember.
const LAST_VERSION: u16 = 7;

/// A version that no timeouts of this process have had: 1 to [`LAST_VERSION`], and then 0.
#[cfg(not(lvs_loom))]
fn new_version() -> u16 {
    static USED: AtomicU16 = AtomicU16::new(0);
    let next = |used| (used < LAST_VERSION).then_some(used + 1);
    // Relaxed: it counts, and nothing else is told by it.
    USED.fetch_update(Relaxed, Relaxed, next)
        .map_or(0, |used| used + 1)
}

/// The same for models, of which each is the first of its process.
#[cfg(lvs_loom)]
fn new_version() -> u16 {
    static USED: core::sync::atomic::AtomicU16 = core::sync::atomic::AtomicU16::new(0);
    USED.fetch_add(1, Relaxed) % LAST_VERSION + 1
}

impl Default for Timeouts {
    /// The values of IPVS; `secure_tcp` off.
    fn default() -> Self {
        let ticks = |seconds| AtomicU32::new(Tick::seconds(seconds));
        Self {
            tcp: TCP.map(ticks),
            sctp: SCTP.map(ticks),
            udp: ticks(UDP),
            secure_tcp: AtomicBool::new(false),
            version: AtomicU16::new(new_version()),
        }
    }
}

impl Timeouts {
    /// The timeout of a state, in ticks; [`NEW`] for what has none.
    #[inline]
    #[must_use]
    pub fn get(&self, protocol: Protocol, state: u8) -> u32 {
        let timeout = match protocol {
            Protocol::Tcp => self.tcp.get(usize::from(state)),
            Protocol::Sctp => self.sctp.get(usize::from(state)),
            Protocol::Udp => Some(&self.udp),
            Protocol::Ip | Protocol::Icmp | Protocol::Icmpv6 => None,
        };
        timeout.map_or(NEW, |timeout| timeout.load(Relaxed))
    }

    /// Sets, in seconds, what `ipvsadm --set` does: ESTABLISHED and FIN_WAIT of TCP, and UDP.
    ///
    /// 0 leaves a value as it is; one over [`MAX_SECONDS`] becomes that. Connections keep the
    /// timeout they have until their next packet.
    pub fn set_seconds(&self, tcp: u32, tcp_fin: u32, udp: u32) {
        let [_, established, _, _, fin_wait, ..] = &self.tcp;
        let changes = [(established, tcp), (fin_wait, tcp_fin), (&self.udp, udp)];
        let ticks = |seconds: u32| Tick::seconds(seconds.min(MAX_SECONDS));
        // Versions are few: none for what is as it was.
        let same = |(timeout, seconds): &(&AtomicU32, u32)| {
            *seconds == 0 || timeout.load(Relaxed) == ticks(*seconds)
        };
        if changes.iter().all(same) {
            return;
        }
        // No version while they change; a connection that missed the change would keep what it has.
        self.version.store(0, SeqCst);
        for (timeout, seconds) in changes {
            if seconds != 0 {
                timeout.store(ticks(seconds), Relaxed);
            }
        }
        // Release: who marks a connection with it has read the new timeouts.
        self.version.store(new_version(), Release);
    }

    /// What the present timeouts are known by, for a batch of packets
    /// ([`Conn::is_settled`](crate::Conn::is_settled)).
    #[inline]
    #[must_use]
    pub fn settled(&self) -> Settled {
        Settled(match self.version() {
            // No connection is in this state.
            0 => STATE,
            version => version << VERSION_AT,
        })
    }

    /// What a connection becomes by the first packet of its client.
    #[inline(always)]
    #[must_use]
    pub fn first(&self, protocol: Protocol, method: ForwardMethod, event: Event) -> First {
        // The version before the timeout, as for any packet.
        let version = self.version();
        let side = if method.rewrites_replies() {
            Side::Input
        } else {
            Side::InputOnly
        };
        let state = next_state(protocol, 0, side, event, self.secure_tcp());
        let active = state::is_active(protocol, state);
        First {
            word: u16::from(state) | (version << VERSION_AT) | if active { 0 } else { INACTIVE },
            timeout: self.get(protocol, state),
        }
    }

    /// Which timeouts these are: a connection whose timeout was set by this version for the state
    /// that it is in need not be looked at. 0 if there were too many to be told apart.
    #[inline]
    pub(crate) fn version(&self) -> u16 {
        self.version.load(Acquire)
    }

    /// The three values that [`Timeouts::set_seconds`] sets, in its order.
    #[must_use]
    pub fn seconds(&self) -> (u32, u32, u32) {
        let seconds = |protocol, state| self.get(protocol, state) / Tick::PER_SECOND;
        (
            seconds(Protocol::Tcp, tcp::ESTABLISHED),
            seconds(Protocol::Tcp, tcp::FIN_WAIT),
            seconds(Protocol::Udp, 0),
        )
    }

    /// Whether the strict TCP table is in use (2.13).
    #[inline]
    #[must_use]
    pub fn secure_tcp(&self) -> bool {
        self.secure_tcp.load(Relaxed)
    }

    /// Switches between the normal and the strict TCP table (2.13).
    pub fn set_secure_tcp(&self, on: bool) {
        self.secure_tcp.store(on, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_values_can_be_set() {
        let (set, default) = (Timeouts::default(), Timeouts::default());
        set.set_seconds(1, 2, 3);
        let changed = |protocol: Protocol, states: usize| {
            (0..u8::try_from(states).unwrap())
                .filter(|&state| set.get(protocol, state) != default.get(protocol, state))
                .map(|state| set.get(protocol, state) / Tick::PER_SECOND)
                .sum::<u32>()
        };
        assert_eq!(changed(Protocol::Tcp, TCP.len()), 1 + 2);
        assert_eq!(changed(Protocol::Udp, 1), 3);
        assert_eq!(changed(Protocol::Sctp, SCTP.len()), 0);
        assert_eq!(set.seconds(), (1, 2, 3));
    }

    #[test]
    fn what_stays_as_it_is_takes_no_version() {
        let timeouts = Timeouts::default();
        let version = timeouts.version();
        timeouts.set_seconds(0, 0, 0);
        timeouts.set_seconds(900, 120, 300);
        assert_eq!(timeouts.version(), version);
        timeouts.set_seconds(901, 0, 0);
        assert!(version == 0 || timeouts.version() != version);
    }

    #[test]
    fn nothing_overflows() {
        let timeouts = Timeouts::default();
        timeouts.set_seconds(u32::MAX, MAX_SECONDS, MAX_SECONDS + 1);
        assert_eq!(timeouts.seconds(), (MAX_SECONDS, MAX_SECONDS, MAX_SECONDS));
        // Only then can a tick tell an ended connection from one that just began.
        assert!(Tick::seconds(MAX_SECONDS) < i32::MAX.cast_unsigned());
    }

    #[test]
    fn what_has_no_timeout_gets_the_first_one() {
        let timeouts = Timeouts::default();
        assert_eq!(timeouts.get(Protocol::Tcp, 11), NEW);
        assert_eq!(timeouts.get(Protocol::Sctp, 14), NEW);
        assert_eq!(timeouts.get(Protocol::Icmp, 0), NEW);
    }

    #[test]
    fn the_switch_switches() {
        let timeouts = Timeouts::default();
        assert!(!timeouts.secure_tcp());
        timeouts.set_secure_tcp(true);
        assert!(timeouts.secure_tcp());
    }
}
