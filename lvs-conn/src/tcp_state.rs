//! What a TCP packet makes of its connection: the two state tables of IPVS (2.8).
//!
//! In: the state, the side on which the packet was seen, what its flags say. Out: the next state.
//! It never looks at sequence numbers, never allocates and never fails: a director sees half of
//! most conversations, so every packet is taken at its word.
//!
//! ```
//! use lvs_conn::protocol::{Side, TcpEvent};
//! use lvs_conn::tcp_state;
//! use lvs_core::state::tcp;
//!
//! let opened = tcp_state::next(tcp::NONE, Side::Input, TcpEvent::Syn, false);
//! assert_eq!(opened, tcp::SYN_RECV);
//! let confirmed = tcp_state::next(opened, Side::Input, TcpEvent::Ack, false);
//! assert_eq!(confirmed, tcp::ESTABLISHED);
//! // Under attack, a client's acknowledgement alone proves nothing.
//! assert_eq!(tcp_state::next(opened, Side::Input, TcpEvent::Ack, true), tcp::SYN_RECV);
//! ```

use crate::protocol::{Side, TcpEvent};
use lvs_core::state::tcp;

const NO: u8 = tcp::NONE;
const ES: u8 = tcp::ESTABLISHED;
const SS: u8 = tcp::SYN_SENT;
const SR: u8 = tcp::SYN_RECV;
const FW: u8 = tcp::FIN_WAIT;
const TW: u8 = tcp::TIME_WAIT;
const CL: u8 = tcp::CLOSE;
const CW: u8 = tcp::CLOSE_WAIT;
const LA: u8 = tcp::LAST_ACK;
const LI: u8 = tcp::LISTEN;
const SA: u8 = tcp::SYNACK;

/// The next state, by state, side and event.
type Table = [[[u8; 4]; 3]; tcp::NAMES.len()];

/// One row for each state; in each cell of a row the state after SYN, FIN, ACK and RST.
macro_rules! table {
    ($($from:ident | $($input:ident)+ | $($output:ident)+ | $($input_only:ident)+ ;)+) => {{
        let mut table: Table = [[[NO; 4]; 3]; tcp::NAMES.len()];
        $(table[$from as usize] = [[$($input),+], [$($output),+], [$($input_only),+]];)+
        table
    }};
}

#[rustfmt::skip]
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
static NORMAL: Table = table! {
    //   input       | output      | input only
    NO | SR CL ES CL | SS TW ES CL | SR CL ES CL;
    ES | ES CW ES CL | ES FW ES CL | ES FW ES CL;
    SS | ES SS SS CL | SS SS SS SS | ES SS SS CL;
    SR | SR TW ES SR | SR TW ES CL | SR TW ES SR;
    FW | SR TW FW CL | SS FW FW CL | SR FW FW CL;
    TW | SR TW TW CL | SS TW TW TW | SR TW TW CL;
    CL | SR CL CL CL | SS CL CL CL | SR CL CL CL;
    CW | SR CW CW CL | SS TW CW CL | SR CW CW CL;
    LA | SR LA CL LA | SS LA LA CL | SR LA CL LA;
    LI | SR LI LI LI | LI LI ES CL | SR LI LI LI;
    SA | SR TW ES SR | SR TW ES CL | SR TW ES CL;
};

/// In use under attack: a connection is established by the server's answer, not by the client's
/// word.
#[rustfmt::skip]
#[expect(clippy::indexing_slicing, reason = "the compiler does it")]
static SECURE: Table = table! {
    //   input       | output      | input only
    NO | SR CL ES CL | SS TW ES CL | SA CL ES CL;
    ES | ES CW ES CL | ES FW ES CL | ES FW ES CL;
    SS | ES SS SS CL | SS SS SS SS | ES SS SS CL;
    SR | SR TW SR SR | SA TW ES CL | SR TW ES SR;
    FW | SR TW FW CL | SS FW FW CL | SA FW FW CL;
    TW | SR TW TW CL | SS TW TW TW | SA TW TW CL;
    CL | SR CL CL CL | SS CL CL CL | SA CL CL CL;
    CW | SR CW CW CL | SS TW CW CL | SA CW CW CL;
    LA | SR LA CL LA | SS LA LA CL | SA LA CL LA;
    LI | SR LI LI LI | LI LI ES CL | SA LI LI LI;
    SA | SA SA SA CL | SA TW ES CL | SA TW ES CL;
};

/// The state after a packet; a state that TCP does not have stays what it is.
///
/// `secure_tcp` chooses the table that is in use while the director defends itself (2.13). A
/// packet without any of the four flags closes, whatever the state.
#[inline]
#[must_use]
pub fn next(state: u8, side: Side, event: TcpEvent, secure_tcp: bool) -> u8 {
    let column = match event {
        TcpEvent::Syn => 0,
        TcpEvent::Fin => 1,
        TcpEvent::Ack => 2,
        TcpEvent::Rst => 3,
        TcpEvent::None => return CL,
    };
    let table = if secure_tcp { &SECURE } else { &NORMAL };
    table
        .get(usize::from(state))
        .and_then(|sides| sides.get(side.index()))
        .and_then(|events| events.get(column))
        .copied()
        .unwrap_or(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Input, InputOnly, Output};
    use std::vec::Vec;

    const SYN: TcpEvent = TcpEvent::Syn;
    const FIN: TcpEvent = TcpEvent::Fin;
    const ACK: TcpEvent = TcpEvent::Ack;
    const RST: TcpEvent = TcpEvent::Rst;

    fn walk(secure_tcp: bool, packets: &[(Side, TcpEvent)]) -> Vec<u8> {
        let mut state = NO;
        packets
            .iter()
            .map(|&(side, event)| {
                state = next(state, side, event, secure_tcp);
                state
            })
            .collect()
    }

    #[test]
    fn nat_closed_by_the_client() {
        let packets = [
            (Input, SYN),
            (Output, SYN),
            (Input, ACK),
            (Input, FIN),
            (Output, ACK),
            (Output, FIN),
            (Input, ACK),
        ];
        assert_eq!(walk(false, &packets), [SR, SR, ES, CW, CW, TW, TW]);
    }

    #[test]
    fn nat_closed_by_the_server() {
        let packets = [
            (Input, SYN),
            (Output, SYN),
            (Input, ACK),
            (Output, FIN),
            (Input, ACK),
            (Input, FIN),
            (Output, ACK),
        ];
        assert_eq!(walk(false, &packets), [SR, SR, ES, FW, FW, TW, TW]);
    }

    #[test]
    fn nat_resets() {
        assert_eq!(walk(false, &[(Input, SYN), (Output, RST)]), [SR, CL]);
        assert_eq!(walk(false, &[(Input, SYN), (Input, RST)]), [SR, SR]);
        let packets = [(Input, SYN), (Output, SYN), (Input, ACK), (Input, RST)];
        assert_eq!(walk(false, &packets), [SR, SR, ES, CL]);
    }

    #[test]
    fn first_packets_other_than_syn() {
        assert_eq!(walk(false, &[(Input, ACK)]), [ES]);
        assert_eq!(walk(false, &[(Input, FIN)]), [CL]);
    }

    #[test]
    fn direct_routing() {
        let packets = [SYN, ACK, FIN, ACK, SYN].map(|event| (InputOnly, event));
        assert_eq!(walk(false, &packets), [SR, ES, FW, FW, SR]);
        let packets = [SYN, ACK, RST].map(|event| (InputOnly, event));
        assert_eq!(walk(false, &packets), [SR, ES, CL]);
    }

    #[test]
    fn secure_tcp_waits_for_the_server() {
        let packets = [
            (Input, SYN),
            (Output, SYN),
            (Input, ACK),
            (Input, ACK),
            (Output, ACK),
            (Input, FIN),
        ];
        assert_eq!(walk(true, &packets), [SR, SA, SA, SA, ES, CW]);
        assert_eq!(walk(true, &[(InputOnly, SYN), (InputOnly, ACK)]), [SA, ES]);
    }

    #[test]
    fn secure_tcp_differs_in_fifteen_cells() {
        let cells = |table: &'static Table| table.as_flattened().as_flattened();
        let different = cells(&NORMAL)
            .iter()
            .zip(cells(&SECURE))
            .filter(|(normal, secure)| normal != secure)
            .count();
        assert_eq!(different, 15);
    }

    #[test]
    fn any_number_has_a_next_state() {
        for state in 0..=u8::MAX {
            for side in [Input, Output, InputOnly] {
                for secure_tcp in [false, true] {
                    assert_eq!(next(state, side, TcpEvent::None, secure_tcp), CL);
                    for event in [SYN, FIN, ACK, RST] {
                        let next = next(state, side, event, secure_tcp);
                        let known = usize::from(state) < tcp::NAMES.len();
                        assert!(if known { next <= SA } else { next == state });
                    }
                }
            }
        }
    }
}
