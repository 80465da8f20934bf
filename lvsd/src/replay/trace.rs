//! What a recording holds: one case a line, as JSON.
//!
//! Text in; cases out, or the line that is none. Fields that are not known here are refused, so
//! that nothing of a recording is passed over.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a recording cannot be replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, io::Error),
    /// A line of it is no case.
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

/// What was done to a director, and what it did.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name.
    #[serde(rename = "case")]
    pub name: String,
    /// What it is about.
    #[serde(default)]
    pub note: Option<String>,
    /// Settings under `net.ipv4.vs`, set before everything else.
    #[serde(default)]
    pub sysctl: BTreeMap<String, u32>,
    /// Packets that get a firewall mark: nft's expression, and the mark.
    #[serde(default)]
    pub fwmark: Vec<(String, u32)>,
    /// Command lines of ipvsadm, without its name.
    pub config: Vec<String>,
    /// What happened then, in order.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Event {
    /// The first packet of a connection.
    Connect {
        /// How later packets name the connection.
        id: u64,
        /// `tcp`, `udp` or `sctp`.
        proto: Transport,
        /// The client.
        src: IpAddr,
        /// Its port.
        sport: u16,
        /// The VIP.
        dst: IpAddr,
        /// Its port.
        dport: u16,
        /// TCP's flags, or the name of SCTP's chunk; `S` and `INIT` unless said.
        #[serde(default)]
        what: Option<String>,
        /// UDP's payload.
        #[serde(default)]
        payload: Option<String>,
        /// The server that got it; `None`: none did.
        chosen: Option<String>,
        /// What came back instead.
        #[serde(default)]
        reply: Vec<String>,
        /// A remark.
        #[serde(default)]
        note: Option<String>,
    },
    /// A further packet.
    Packet {
        /// Of which connection.
        id: u64,
        /// From which side.
        from: Side,
        /// TCP's flags, or the name of SCTP's chunk; nothing for UDP.
        #[serde(default)]
        what: Option<String>,
        /// Where it came out: a server, or `client` with the VIP's address; `None`: nowhere.
        #[serde(default)]
        to: Option<String>,
        /// What came out when it was something else.
        #[serde(default)]
        out: Option<Vec<String>>,
    },
    /// A command line of ipvsadm.
    Edit {
        /// The line.
        cmd: String,
        /// Its exit status.
        rc: u8,
        /// What it said.
        #[serde(default)]
        err: Option<String>,
    },
    /// Time passed.
    Wait {
        /// How much.
        seconds: u32,
    },
    /// The rules, and the counts of their destinations.
    Check {
        /// All services.
        table: Vec<ServiceRow>,
    },
    /// The connections.
    Conns {
        /// All of them: protocol, client, VIP, server, state, seconds left, and the engine.
        conns: Vec<String>,
    },
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The client.
    #[default]
    Client,
    /// The server of the connection.
    Server,
}

/// A service as the kernel's own table shows it (IPVS 5.7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRow {
    /// `tcp 10.0.0.1:80`, `fwm:7`.
    pub svc: String,
    /// The scheduler.
    pub sched: String,
    /// `ops`; `persistent`, its ticks of 4 ms, its mask.
    pub flags: Vec<String>,
    /// Its destinations, in their order.
    pub dests: Vec<DestinationRow>,
}

/// A destination of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationRow {
    /// Its endpoint.
    pub rs: String,
    /// Its method.
    pub fwd: String,
    /// Its weight.
    pub w: u32,
    /// Its active connections.
    pub act: u32,
    /// Its inactive ones.
    pub inact: u32,
}

/// Reads the cases of a file; empty lines are none.
///
/// # Errors
/// The first line that is no case.
pub fn read(file: &Path) -> Result<Vec<Case>, TraceError> {
    let bytes = fs::read(file).map_err(|why| TraceError::Unreadable(file.into(), why))?;
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(number, line)| {
            serde_json::from_slice(line).map_err(|why| TraceError::Line {
                file: file.into(),
                line: number + 1,
                why,
            })
        })
        .collect()
}

/// A value of a difference, for people.
pub(crate) fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "nothing".to_owned(), str::to_owned)
}

/// Reads one case from text, for examples and tests.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Case, serde_json::Error> {
    let value: Value = serde_json::from_str(text)?;
    serde_json::from_value(value)
}
