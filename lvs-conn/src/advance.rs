//! What packets do to the state and the timeout of their connection.
//!
//! In: a connection and what was seen of a packet. Out: the connection moved on, and what of it its
//! destination has to be told. Never: a wait.

use crate::conn::{Activity, Conn, Direction, Transition};
use crate::entry::{INACTIVE, NO_OUTPUT, STATE, VERSION, VERSION_AT};
use crate::protocol::{Event, Side, next_state};
use crate::sync::Ordering::{AcqRel, Relaxed};
use crate::timeouts::{Settled, Timeouts};
use lvs_core::{Tick, state};

impl Conn<'_> {
    /// A packet was seen: moves the state machine, starts the timeout again.
    ///
    /// Reads and writes the connection's first cache line only, unless the state or the timeouts
    /// have changed.
    #[inline]
    pub fn advance(
        self,
        direction: Direction,
        event: Event,
        now: Tick,
        timeouts: &Timeouts,
    ) -> Transition {
        let word = self.entry.word.load(Relaxed);
        let version = timeouts.version();
        let (from, to) = self.step(word, direction, event, timeouts);
        let replied = direction == Direction::FromServer && word & NO_OUTPUT != 0;
        if from == to && !replied && version != 0 && word & VERSION == version << VERSION_AT {
            self.touch(now);
            return Transition {
                from,
                to,
                activity: None,
            };
        }
        self.change(direction, event, now, timeouts, version)
    }

    /// Whether the connection is in this state, and a packet from this side that leaves it there has
    /// nothing to do but to [touch](Self::touch) it: the timeouts are those that it knows, and a reply
    /// is not the first one.
    #[inline(always)]
    #[must_use]
    pub fn is_settled(self, direction: Direction, state: u8, timeouts: Settled) -> bool {
        let looked_at = match direction {
            Direction::FromClient => STATE | VERSION,
            Direction::FromServer => STATE | VERSION | NO_OUTPUT,
        };
        let expected = timeouts.0 | u16::from(state);
        (self.entry.word.load(Relaxed) ^ expected) & looked_at == 0
    }

    /// What a packet does to the state that is in the word.
    #[inline(always)]
    fn step(self, word: u16, direction: Direction, event: Event, timeouts: &Timeouts) -> (u8, u8) {
        let side = match direction {
            Direction::FromServer => Side::Output,
            Direction::FromClient if word & NO_OUTPUT != 0 => Side::InputOnly,
            Direction::FromClient => Side::Input,
        };
        let from = (word & STATE) as u8;
        let to = next_state(self.protocol(), from, side, event, timeouts.secure_tcp());
        (from, to)
    }

    /// A packet that changes the state, or the first one since the timeouts were set.
    #[inline(never)]
    fn change(
        self,
        direction: Direction,
        event: Event,
        now: Tick,
        timeouts: &Timeouts,
        version: u16,
    ) -> Transition {
        let protocol = self.protocol();
        let mut word = self.entry.word.load(Relaxed);
        let transition = loop {
            let (from, to) = self.step(word, direction, event, timeouts);
            let mut new = (word & !STATE) | u16::from(to);
            if direction == Direction::FromServer {
                new &= !NO_OUTPUT;
            }
            let mut activity = None;
            if from != to {
                new &= !VERSION;
                let active = state::is_active(protocol, to);
                if active && word & INACTIVE != 0 {
                    new &= !INACTIVE;
                    activity = Some(Activity::Activated);
                } else if !active && word & INACTIVE == 0 {
                    new |= INACTIVE;
                    activity = Some(Activity::Deactivated);
                }
            }
            // The exchange decides which of two workers made the change, and so who counts it.
            match self.exchange(word, new) {
                Ok(()) => {
                    word = new;
                    break Transition { from, to, activity };
                }
                Err(other) => word = other,
            }
        };
        // The timeout is that of the state, whoever made it. Only when it is known to be is the word
        // marked with the version, so that later packets need not look.
        loop {
            let timeout = timeouts.get(protocol, (word & STATE) as u8);
            self.set_timeout(timeout, now);
            match self.exchange(word, (word & !VERSION) | (version << VERSION_AT)) {
                Ok(()) => return transition,
                Err(other) => word = other,
            }
        }
    }

    #[inline]
    fn exchange(self, old: u16, new: u16) -> Result<(), u16> {
        if old == new {
            return Ok(());
        }
        // Acquire and release: what comes with a change of state is seen by who sees the state.
        let word = &self.entry.word;
        word.compare_exchange_weak(old, new, AcqRel, Relaxed)
            .map(|_| ())
    }

    /// A packet was seen that does not change the state.
    #[inline]
    pub fn touch(self, now: Tick) {
        if self.entry.last_seen.load(Relaxed) != now.0 {
            self.entry.last_seen.store(now.0, Relaxed);
        }
    }
}
