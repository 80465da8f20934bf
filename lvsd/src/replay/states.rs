//! `lvsd replay-states`: the states of the kernel's connections, sequence by sequence, done again.
//!
//! In come recordings. The first line of each is its set-up; every other one is a conversation that
//! begins without a connection: `seq` names the packets (`c:` from the client, `s:` from the server;
//! TCP flags or an SCTP chunk), `states` the listed state and the seconds left after each, `out`
//! where each went: to the server, to the client (`!` and what it was, if it was a reset or an ICMP
//! error), nowhere. Out comes the first packet of a conversation that came out differently.
//!
//! The recorder looked for packets with the addresses of its conversation: what left in a tunnel is
//! nowhere. Its steps took real time: a timer that nothing has restarted may show a second less.

use super::machine::{Became, Machine};
use super::packets::{self, HEADROOM};
use super::scenes::lab;
use super::setup;
use super::trace::Transport;
use lvs_core::{Addr, Endpoint};
use lvs_packet::{Frame, Kind, Offload, TcpFlags, parse, parse_quoted};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Connections that a conversation may have at once.
const CONNECTIONS: usize = 64;
/// How long after a packet the connections were listed, and the next packet was sent.
const LISTED_AFTER: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(100);
const CLIENT: Endpoint = Endpoint::new(Addr::from_v4_octets([10, 1, 0, 1]), 1024);
const VIP: Endpoint = Endpoint::new(Addr::from_v4_octets([10, 0, 0, 1]), 80);
const SERVER: Endpoint = Endpoint::new(Addr::from_v4_octets([10, 2, 0, 1]), 80);

/// A file that is no recording of states.
#[derive(Debug, Error)]
pub enum StatesError {
    /// It cannot be read.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, io::Error),
    /// It has no lines.
    #[error("{file}: empty; its first line has to be the set-up", file = .0.display())]
    Empty(PathBuf),
    /// A line of it is neither a set-up, where it is the first, nor a conversation.
    #[error("{file}, line {line}: {why}", file = .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong there.
        why: serde_json::Error,
    },
}

/// How a recording was set up. What it does not know of it, it does not mind.
#[derive(Clone, Debug, Deserialize)]
struct SetUp {
    proto: Transport,
    #[serde(default)]
    sysctl: BTreeMap<String, Value>,
    /// The words behind `--set`.
    #[serde(default)]
    set: Option<String>,
    config: Vec<String>,
}

/// What was sent, and what was seen after each packet.
#[derive(Clone, Debug, Deserialize)]
struct Conversation {
    seq: String,
    states: String,
    out: String,
}

/// A recording.
#[derive(Clone, Debug)]
pub struct Recording {
    name: String,
    setup: SetUp,
    conversations: Vec<Conversation>,
}

/// Reads a recording.
///
/// # Errors
/// The first line that is not what it should be.
pub fn read(file: &Path) -> Result<Recording, StatesError> {
    let text =
        fs::read_to_string(file).map_err(|why| StatesError::Unreadable(file.to_owned(), why))?;
    let at = |line: usize| {
        move |why| StatesError::Line {
            file: file.to_owned(),
            line: line + 1,
            why,
        }
    };
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let (number, first) = lines
        .next()
        .ok_or_else(|| StatesError::Empty(file.to_owned()))?;
    Ok(Recording {
        name: file
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        setup: serde_json::from_str(first).map_err(at(number))?,
        conversations: lines
            .map(|(number, line)| serde_json::from_str(line).map_err(at(number)))
            .collect::<Result<_, _>>()?,
    })
}

impl Recording {
    /// The names of its conversations, each with its outcome.
    pub fn play(&self) -> impl Iterator<Item = (String, Result<(), String>)> + '_ {
        self.conversations.iter().map(|conversation| {
            let name = format!("{}: {}", self.name, conversation.seq);
            (name, play(&self.setup, conversation))
        })
    }
}

fn play(setup: &SetUp, recorded: &Conversation) -> Result<(), String> {
    let mut machine = Machine::new(CONNECTIONS, lab::plain())?;
    for (name, value) in &setup.sysctl {
        setup::set_value(&machine.director, name, value)?;
    }
    let set = setup.set.iter().map(|words| format!("--set {words}"));
    for line in set.chain(setup.config.iter().cloned()) {
        setup::run(&machine.rules, &line)?;
    }
    let words: Vec<&str> = recorded.seq.split_whitespace().collect();
    let states: Vec<&str> = recorded.states.split('|').collect();
    let outs: Vec<&str> = recorded.out.split_whitespace().collect();
    if states.len() != words.len() || outs.len() != words.len() {
        return Err(format!(
            "{} packets, but {} states and {} ways out",
            words.len(),
            states.len(),
            outs.len()
        ));
    }
    let mut time = Duration::ZERO;
    for (number, ((word, state), out)) in words.iter().zip(states).zip(outs).enumerate() {
        let told = |what, expected: &str, came: &str| {
            let number = number + 1;
            Err(format!(
                "packet {number} ({word}): expected {what} `{expected}`, came `{came}`"
            ))
        };
        machine.pass_to(time);
        let came = send(&mut machine, setup.proto, word)?;
        if came != out {
            return told("out", out, &came);
        }
        machine.pass_to(time + LISTED_AFTER);
        let listed = listing(&machine);
        if !same_state(state, &listed) {
            return told("state", state, &listed);
        }
        time += STEP;
    }
    Ok(())
}

/// Sends a packet, and says where it went.
fn send(machine: &mut Machine, transport: Transport, word: &str) -> Result<String, String> {
    let unknown = || format!("`{word}` is no packet; c:WHAT and s:WHAT are");
    let (from, what) = word.split_once(':').ok_or_else(unknown)?;
    let (side, flow) = match from {
        "c" => (lab::CLIENT, (CLIENT, VIP)),
        "s" => (lab::SERVER, (SERVER, CLIENT)),
        _ => return Err(unknown()),
    };
    let what = Some(what).filter(|what| !what.is_empty());
    let (buffer, length) = packets::make(transport, flow, what, "")?;
    let mut frame = buffer.get(HEADROOM..).unwrap_or_default().to_vec();
    frame.truncate(length);
    let Became { sent, .. } = machine.receive(side, &frame);
    let mut seen = sent.into_iter().rev().filter_map(|mut sent| {
        let length = sent.bytes.len();
        let frame = Frame::new(&mut sent.bytes, 0, length, Offload::default());
        described(sent.side, &frame)
    });
    Ok(seen.next().unwrap_or_else(|| "-".to_owned()))
}

/// A frame that left, as the recorder wrote it down.
fn described(side: usize, frame: &Frame<'_>) -> Option<String> {
    let packet = parse(frame).ok()?;
    let name = lab::NAMES.get(side)?.get(..1)?;
    if packet.kind == Kind::IcmpError {
        let quoted = parse_quoted(frame, &packet).ok()?;
        let (icmp_type, code) = (quoted.icmp_type, quoted.icmp_code);
        return (quoted.flow.src == CLIENT).then(|| format!("{name}!{icmp_type}/{code}"));
    }
    if !packet.has_ports() {
        return None;
    }
    if side == lab::SERVER {
        return (packet.flow.src == CLIENT).then(|| name.to_owned());
    }
    if packet.flow.dst != CLIENT {
        return None;
    }
    let translated = if packet.flow.src == VIP {
        ""
    } else {
        "(untranslated)"
    };
    let reset = match packet.tcp_flags {
        TcpFlags::RST => "!R",
        flags if flags == TcpFlags::RST | TcpFlags::ACK => "!RA",
        _ => "",
    };
    Some(format!("{name}{translated}{reset}"))
}

/// The connection of the conversation.
fn listing(machine: &Machine) -> String {
    let mut listed = "-".to_owned();
    machine.director.connections(machine.now(), |found| {
        if found.client == CLIENT {
            listed = format!("{} {}", found.state_name(), found.expires);
        }
    });
    listed
}

/// Whether a listed state is the recorded one, in real time.
fn same_state(recorded: &str, ours: &str) -> bool {
    if recorded == ours {
        return true;
    }
    let split = |text: &str| {
        let (state, seconds) = text.split_once(' ')?;
        Some((state.to_owned(), seconds.parse::<u32>().ok()?))
    };
    match (split(recorded), split(ours)) {
        (Some((state, seconds)), Some((our_state, our_seconds))) => {
            state == our_state && seconds + 1 == our_seconds
        }
        _ => false,
    }
}
