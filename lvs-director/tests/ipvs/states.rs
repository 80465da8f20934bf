//! The state tables of IPVS 2.8 and 2.10, as the reference prints them, and what each state means:
//! how long it lasts and whether it counts as active.

use super::conns::Side;
use lvs_core::Protocol;
use std::collections::BTreeMap;

/// Names and seconds; an `*` says that the state counts as active.
const TCP_STATES: &str =
    "NO 2, ES 900 *, SS 120 *, SR 60 *, FW 120, TW 120, CL 10, CW 60, LA 30, LI 120, SA 120 *";

/// From; then IN syn fin ack rst, OUT syn fin ack rst, IO syn fin ack rst.
const TCP: &str = "
    NO  SR CL ES CL  SS TW ES CL  SR CL ES CL
    ES  ES CW ES CL  ES FW ES CL  ES FW ES CL
    SS  ES SS SS CL  SS SS SS SS  ES SS SS CL
    SR  SR TW ES SR  SR TW ES CL  SR TW ES SR
    FW  SR TW FW CL  SS FW FW CL  SR FW FW CL
    TW  SR TW TW CL  SS TW TW TW  SR TW TW CL
    CL  SR CL CL CL  SS CL CL CL  SR CL CL CL
    CW  SR CW CW CL  SS TW CW CL  SR CW CW CL
    LA  SR LA CL LA  SS LA LA CL  SR LA CL LA
    LI  SR LI LI LI  LI LI ES CL  SR LI LI LI
    SA  SR TW ES SR  SR TW ES CL  SR TW ES CL";

/// The same with secure_tcp.
const TCP_SECURE: &str = "
    NO  SR CL ES CL  SS TW ES CL  SA CL ES CL
    ES  ES CW ES CL  ES FW ES CL  ES FW ES CL
    SS  ES SS SS CL  SS SS SS SS  ES SS SS CL
    SR  SR TW SR SR  SA TW ES CL  SR TW ES SR
    FW  SR TW FW CL  SS FW FW CL  SA FW FW CL
    TW  SR TW TW CL  SS TW TW TW  SA TW TW CL
    CL  SR CL CL CL  SS CL CL CL  SA CL CL CL
    CW  SR CW CW CL  SS TW CW CL  SA CW CW CL
    LA  SR LA CL LA  SS LA LA CL  SA LA CL LA
    LI  SR LI LI LI  LI LI ES CL  SA LI LI LI
    SA  SA SA SA CL  SA TW ES CL  SA TW ES CL";

const SCTP_STATES: &str = "NO 2, I1 4, IN 61, CS 61, CR 61, CW 61, CO 61, CE 61, ES 900 *, SS 61, SR 61, SA 61, RJ 4, CL 61";

/// From; then d i ia ce ca s sa sc er ab, each one state or IN/OUT/IO.
const SCTP: &str = "
    NO  ES I1/CW/I1 CW/CS/CE CR/CE/ES ES SR/SS/SR CL/SA/CL CL CL CL
    I1  I1 IN/CW/IN CW/CS/CE IN/CE/ES I1/ES/I1 I1/SS/I1 IN/SA/IN CL/I1/CL I1/CL/I1 CL/RJ/CL
    IN  IN IN/CW/IN CW/CS/CE IN/CE/ES IN/ES/IN IN/SS/IN IN/SA/IN CL/IN/CL IN/CL/IN CL
    CS  CS CS/CW/IN CS/CS/CE CR/CE/ES CS/ES/ES CS/SS/CS CS/SA/CS CS/CS/CL CS/CL/CS CL
    CR  CR CR/CW/IN CR/CR/CE CR/CE/ES CR/ES/ES CR/SS/CR CR/SA/CR CR/CR/CL CR/CL/CR CL
    CW  CW/CW/ES CW/CW/IN CO/CW/CE CW/CE/ES CW/ES/CW CW/SS/CW CW CW CW RJ/CL/RJ
    CO  CO CO/CW/CO CO CO/CE/CO CO/ES/ES CO/SS/CO CO CO CO CL
    CE  CE CE/CW/CE CE CE ES CE/SS/CE CE CE CL/CE/CE CL
    ES  ES ES ES ES ES SR/SS/SR ES/ES/CL ES ES CL
    SS  SS SS/CW/SS SS SS SS SS CL/SA/CL SS SS CL
    SR  SR SR/CW/SR SR SR SR SR SR/SA/SR SR/SR/CL SR CL
    SA  SA SA/CW/SA SA SA SA SA CL/SA/CL CL/SA/CL SA CL
    RJ  RJ IN/CW/IN RJ RJ RJ RJ RJ RJ RJ CL
    CL  CL IN/CW/IN CL CL CL CL CL CL CL CL";

pub const ESTABLISHED: &str = "ES";

/// The tables of one protocol, read from their text.
#[derive(Debug)]
struct Machine {
    names: Vec<&'static str>,
    seconds: Vec<u64>,
    active: Vec<bool>,
    /// By state and column, the three sides.
    cells: BTreeMap<(&'static str, usize), [&'static str; 3]>,
}

fn machine(states: &'static str, text: &'static str) -> Machine {
    let mut machine = Machine {
        names: Vec::new(),
        seconds: Vec::new(),
        active: Vec::new(),
        cells: BTreeMap::new(),
    };
    for state in states.split(", ") {
        let words: Vec<_> = state.split(' ').collect();
        machine.names.push(words[0]);
        machine.seconds.push(words[1].parse().unwrap());
        machine.active.push(words.len() == 3);
    }
    for row in text.lines().filter(|row| !row.trim().is_empty()) {
        let words: Vec<_> = row.split_whitespace().collect();
        for (column, cell) in words[1..].iter().enumerate() {
            let sides: Vec<_> = cell.split('/').collect();
            let sides = [0, 1, 2].map(|side| sides[side % sides.len()]);
            machine.cells.insert((words[0], column), sides);
        }
    }
    machine
}

/// All of it, with the seconds as they are set at the moment.
#[derive(Debug)]
pub struct States {
    tcp: Machine,
    tcp_secure: Machine,
    sctp: Machine,
    udp_seconds: u64,
    pub secure: bool,
}

impl States {
    pub fn new() -> Self {
        Self {
            tcp: machine(TCP_STATES, TCP),
            tcp_secure: machine(TCP_STATES, TCP_SECURE),
            sctp: machine(SCTP_STATES, SCTP),
            udp_seconds: 300,
            secure: false,
        }
    }

    /// `ipvsadm --set`; 0 keeps a value.
    pub fn set_seconds(&mut self, tcp: u64, tcp_fin: u64, udp: u64) {
        for (name, value) in [("ES", tcp), ("FW", tcp_fin)] {
            let at = self.tcp.names.iter().position(|n| *n == name).unwrap();
            if value != 0 {
                self.tcp.seconds[at] = value;
            }
        }
        if udp != 0 {
            self.udp_seconds = udp;
        }
    }

    /// The number of a state in listings.
    pub fn number(&self, protocol: Protocol, state: &str) -> u8 {
        let names = match protocol {
            Protocol::Tcp => &self.tcp.names,
            Protocol::Sctp => &self.sctp.names,
            _ => return 0,
        };
        u8::try_from(names.iter().position(|name| *name == state).unwrap()).unwrap()
    }

    pub fn is_active(&self, protocol: Protocol, state: &str) -> bool {
        let number = usize::from(self.number(protocol, state));
        match protocol {
            Protocol::Tcp => self.tcp.active[number],
            Protocol::Sctp => self.sctp.active[number],
            _ => false,
        }
    }

    pub fn seconds(&self, protocol: Protocol, state: &str) -> u64 {
        let number = usize::from(self.number(protocol, state));
        match protocol {
            Protocol::Tcp => self.tcp.seconds[number],
            Protocol::Sctp => self.sctp.seconds[number],
            _ => self.udp_seconds,
        }
    }

    /// The state after a packet. `what`: the flags of TCP, the first chunk of SCTP.
    pub fn next(
        &self,
        protocol: Protocol,
        from: &'static str,
        side: Side,
        what: u8,
    ) -> &'static str {
        let side = side as usize;
        match protocol {
            Protocol::Tcp => {
                let table = if self.secure {
                    &self.tcp_secure
                } else {
                    &self.tcp
                };
                let event = match what {
                    flags if flags & 4 != 0 => 3,
                    flags if flags & 2 != 0 => 0,
                    flags if flags & 1 != 0 => 1,
                    flags if flags & 16 != 0 => 2,
                    _ => return "CL",
                };
                table.cells[&(from, side * 4 + event)][0]
            }
            Protocol::Sctp => {
                let event = match what {
                    1 => 1,
                    2 => 2,
                    10 => 3,
                    11 => 4,
                    7 => 5,
                    8 => 6,
                    14 => 7,
                    9 => 8,
                    6 => 9,
                    _ => 0,
                };
                self.sctp.cells[&(from, event)][side]
            }
            _ => from,
        }
    }
}
