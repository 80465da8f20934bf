//! What an SCTP packet makes of its connection: the state table of IPVS (2.10).
//!
//! In: the state, the side on which the packet was seen, the type of its first chunk (RFC 9260,
//! 3.2). Out: the next state. It never looks at verification tags, never allocates and never
//! fails.
//!
//! ```
//! use lvs_conn::protocol::Side;
//! use lvs_conn::sctp_state::{self, chunk};
//! use lvs_core::state::{self, sctp};
//! use lvs_core::Protocol;
//!
//! let mut seen = 0;
//! for (side, first) in [
//!     (Side::Input, chunk::INIT),
//!     (Side::Output, chunk::INIT_ACK),
//!     (Side::Input, chunk::COOKIE_ECHO),
//!     (Side::Output, chunk::COOKIE_ACK),
//! ] {
//!     seen = sctp_state::next(seen, side, first);
//! }
//! assert_eq!(state::name(Protocol::Sctp, seen), "ESTABLISHED");
//! assert_eq!(seen, sctp::ESTABLISHED);
//! ```

use crate::protocol::Side;
use lvs_core::state::sctp;

/// The chunk types that move a connection (RFC 9260, 3.2); every other one counts as data.
pub mod chunk {
    /// Payload.
    pub const DATA: u8 = 0;
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Answers an INIT.
    pub const INIT_ACK: u8 = 2;
    /// Ends an association at once.
    pub const ABORT: u8 = 6;
    /// Begins the end of an association.
    pub const SHUTDOWN: u8 = 7;
    /// Answers a SHUTDOWN.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Reports an error.
    pub const ERROR: u8 = 9;
    /// Returns the server's cookie.
    pub const COOKIE_ECHO: u8 = 10;
    /// Answers a COOKIE ECHO.
    pub const COOKIE_ACK: u8 = 11;
    /// Completes the end of an association.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

const NO: u8 = 0;
const I1: u8 = 1;
const IN: u8 = 2;
const CS: u8 = 3;
const CR: u8 = 4;
const CW: u8 = 5;
const CO: u8 = 6;
const CE: u8 = 7;
const ES: u8 = sctp::ESTABLISHED;
const SS: u8 = 9;
const SR: u8 = 10;
const SA: u8 = 11;
const RJ: u8 = 12;
const CL: u8 = sctp::CLOSED;

/// The next state, by state, event and side.
type Table = [[[u8; 3]; 10]; sctp::NAMES.len()];

/// One state where all sides agree, or three: input / output / input only.
macro_rules! cell {
    ($all:ident) => {
        [$all, $all, $all]
    };
    ($input:ident $output:ident $input_only:ident) => {
        [$input, $output, $input_only]
    };
}

macro_rules! table {
    ($($from:ident | $($a:ident $(/ $b:ident / $c:ident)?)|+ ;)+) => {{
        let mut table: Table = [[[NO; 3]; 10]; sctp::NAMES.len()];
        $(table[$from as usize] = [$(cell!($a $($b $c)?)),+];)+
        table
    }};
}

#[rustfmt::skip]
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
static TABLE: Table = table! {
    // | data     | init     | initack  | ckecho   | ckack    | shutdn   | shutack  | shutcom  | error    | abort
    NO | ES       | I1/CW/I1 | CW/CS/CE | CR/CE/ES | ES       | SR/SS/SR | CL/SA/CL | CL       | CL       | CL;
    I1 | I1       | IN/CW/IN | CW/CS/CE | IN/CE/ES | I1/ES/I1 | I1/SS/I1 | IN/SA/IN | CL/I1/CL | I1/CL/I1 | CL/RJ/CL;
    IN | IN       | IN/CW/IN | CW/CS/CE | IN/CE/ES | IN/ES/IN | IN/SS/IN | IN/SA/IN | CL/IN/CL | IN/CL/IN | CL;
    CS | CS       | CS/CW/IN | CS/CS/CE | CR/CE/ES | CS/ES/ES | CS/SS/CS | CS/SA/CS | CS/CS/CL | CS/CL/CS | CL;
    CR | CR       | CR/CW/IN | CR/CR/CE | CR/CE/ES | CR/ES/ES | CR/SS/CR | CR/SA/CR | CR/CR/CL | CR/CL/CR | CL;
    CW | CW/CW/ES | CW/CW/IN | CO/CW/CE | CW/CE/ES | CW/ES/CW | CW/SS/CW | CW       | CW       | CW       | RJ/CL/RJ;
    CO | CO       | CO/CW/CO | CO       | CO/CE/CO | CO/ES/ES | CO/SS/CO | CO       | CO       | CO       | CL;
    CE | CE       | CE/CW/CE | CE       | CE       | ES       | CE/SS/CE | CE       | CE       | CL/CE/CE | CL;
    ES | ES       | ES       | ES       | ES       | ES       | SR/SS/SR | ES/ES/CL | ES       | ES       | CL;
    SS | SS       | SS/CW/SS | SS       | SS       | SS       | SS       | CL/SA/CL | SS       | SS       | CL;
    SR | SR       | SR/CW/SR | SR       | SR       | SR       | SR       | SR/SA/SR | SR/SR/CL | SR       | CL;
    SA | SA       | SA/CW/SA | SA       | SA       | SA       | SA       | CL/SA/CL | CL/SA/CL | SA       | CL;
    RJ | RJ       | IN/CW/IN | RJ       | RJ       | RJ       | RJ       | RJ       | RJ       | RJ       | CL;
    CL | CL       | IN/CW/IN | CL       | CL       | CL       | CL       | CL       | CL       | CL       | CL;
};

/// The column of a chunk type.
const fn event(first: u8) -> usize {
    match first {
        chunk::INIT => 1,
        chunk::INIT_ACK => 2,
        chunk::COOKIE_ECHO => 3,
        chunk::COOKIE_ACK => 4,
        chunk::SHUTDOWN => 5,
        chunk::SHUTDOWN_ACK => 6,
        chunk::SHUTDOWN_COMPLETE => 7,
        chunk::ERROR => 8,
        chunk::ABORT => 9,
        _ => 0,
    }
}

/// The state after a packet whose first chunk has the type `first`; a state that SCTP does not
/// have stays what it is.
///
/// For an ABORT behind a cookie see [`Event::sctp`](crate::protocol::Event::sctp).
#[inline]
#[must_use]
pub fn next(state: u8, side: Side, first: u8) -> u8 {
    TABLE
        .get(usize::from(state))
        .and_then(|events| events.get(event(first)))
        .and_then(|sides| sides.get(side.index()))
        .copied()
        .unwrap_or(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Input, InputOnly, Output};

    #[test]
    fn unknown_chunks_count_as_data() {
        for state in 0..=CL {
            for side in [Input, Output, InputOnly] {
                let data = next(state, side, chunk::DATA);
                // SACK, HEARTBEAT, HEARTBEAT ACK, ECNE, CWR, AUTH and what may come
                for first in [3, 4, 5, 12, 13, 15, 64, 0x81, 0xc0, u8::MAX] {
                    assert_eq!(next(state, side, first), data);
                }
            }
        }
    }

    #[test]
    fn the_first_init_is_only_half_a_step() {
        for side in [Input, InputOnly] {
            assert_eq!(next(NO, side, chunk::INIT), I1);
            assert_eq!(next(I1, side, chunk::INIT), IN);
        }
    }

    #[test]
    fn closed_by_either() {
        let closed_by = |first, second| {
            let asked = next(ES, first, chunk::SHUTDOWN);
            let answered = next(asked, second, chunk::SHUTDOWN_ACK);
            (
                asked,
                answered,
                next(answered, first, chunk::SHUTDOWN_COMPLETE),
            )
        };
        assert_eq!(closed_by(Output, Input), (SS, CL, CL));
        assert_eq!(closed_by(Input, Output), (SR, SA, CL));
    }

    #[test]
    fn any_number_has_a_next_state() {
        for state in 0..=u8::MAX {
            for side in [Input, Output, InputOnly] {
                for first in 0..=u8::MAX {
                    let next = next(state, side, first);
                    let known = usize::from(state) < sctp::NAMES.len();
                    assert!(if known { next <= CL } else { next == state });
                }
            }
        }
    }
}
