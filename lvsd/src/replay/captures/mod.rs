//! `lvsd replay`: anybody's captures, through a director in memory.
//!
//! In come rules, as `ipvsadm -S` writes them, and a capture for each side of the director; their
//! timestamps are the clock. Out come the frames that the director sends, a capture a side, and, if
//! asked for, what became of each packet. What a capture cannot say of the network around
//! (`site`) is given, or taken from what the captures show (`infer`). Never: a socket, a
//! privilege, a packet on any wire.
//!
//! ```no_run
//! use lvsd::replay::captures::{Options, run};
//! let options = Options {
//!     rules: "rules".into(),
//!     inputs: vec![("client".to_owned(), "client.pcap".into())],
//!     out: "replayed".into(),
//!     ..Options::default()
//! };
//! run(&options, &mut std::io::stdout(), &mut std::io::stderr())?;
//! # Ok::<(), lvsd::replay::captures::CapturesError>(())
//! ```

mod explain;
mod infer;

pub use super::capture::CaptureError;
use super::capture::{self, Captured};
use super::machine::Machine;
use super::scenes::recorded::{self, UNKNOWN};
use super::setup;
use super::site::{Leg, Prefix, Side, Site};
use infer::Seen;
use lvs_core::Addr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Connections that a replay may have at once.
const CONNECTIONS: usize = 1 << 18;
/// What stands on a side of which nothing is known.
const USUAL_MTU: u32 = 1500;

/// What to replay, and what the captures cannot say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The rules, as `ipvsadm -S` writes them.
    pub rules: PathBuf,
    /// The sides by name, each with its capture; the first is that of the clients.
    pub inputs: Vec<(String, PathBuf)>,
    /// The folder for what the director sends.
    pub out: PathBuf,
    /// Whether to say what became of each packet.
    pub explain: bool,
    /// Settings under `net.ipv4.vs`.
    pub sysctls: Vec<(String, u32)>,
    /// Packets that carry a firewall mark: an expression of nft, and the mark.
    pub marks: Vec<(String, u32)>,
    /// The director's Ethernet addresses, by side.
    pub macs: Vec<(String, [u8; 6])>,
    /// The director's own addresses, by side.
    pub addresses: Vec<(String, Addr)>,
    /// MTUs, by side.
    pub mtus: Vec<(String, u32)>,
    /// Prefixes, each with its side and, if there is one, its router.
    pub routes: Vec<(Addr, u8, String, Option<Addr>)>,
    /// Ethernet addresses of neighbours.
    pub neighbours: Vec<(Addr, [u8; 6])>,
    /// Whether the director stands alone: the VIPs are no addresses of its host, and nobody forwards
    /// what it leaves alone.
    pub no_host: bool,
}

/// Why nothing, or not all, was replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CapturesError {
    /// The rules cannot be read.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, io::Error),
    /// A line of the rules is none, or was refused.
    #[error("{file}, line {line}: `{text}`: {why}", file = .file.display())]
    Rule {
        /// The file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong, in ipvsadm's words.
        why: String,
    },
    /// A capture cannot be read or written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An option names a side of which there is no capture.
    #[error("{option}: there is no side `{side}`; there are {known}")]
    NoSuchSide {
        /// The option.
        option: &'static str,
        /// The side.
        side: String,
        /// Those that there are.
        known: String,
    },
    /// A setting or a mark is none.
    #[error("{0}")]
    Setting(String),
    /// The folder for what is sent cannot be made.
    #[error("cannot make {folder}: {why}", folder = .0.display(), why = .1)]
    NoFolder(PathBuf, io::Error),
    /// What was found out cannot be said.
    #[error("cannot write: {0}")]
    Unwritable(#[from] io::Error),
}

/// A side with its capture.
struct Input {
    name: String,
    file: PathBuf,
    frames: Vec<Captured>,
}

/// Replays the captures. What became of each packet, and a summary, go to `out`; what was assumed
/// and may be wrong goes to `warnings`.
///
/// # Errors
/// What is missing or wrong; nothing is written before all has been read.
pub fn run(
    options: &Options,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> Result<(), CapturesError> {
    let inputs = options
        .inputs
        .iter()
        .map(|(name, file)| {
            Ok(Input {
                name: name.clone(),
                file: file.clone(),
                frames: capture::read(file)?,
            })
        })
        .collect::<Result<Vec<_>, CapturesError>>()?;
    let mut machine = Machine::new(CONNECTIONS, Site::default()).map_err(CapturesError::Setting)?;
    machine.has_host = !options.no_host;
    configure(&machine, options)?;
    let seen = Seen::of(&machine.director, &inputs);
    machine.site = site(options, &inputs, &seen, &machine, warnings)?;
    fs::create_dir_all(&options.out)
        .map_err(|why| CapturesError::NoFolder(options.out.clone(), why))?;

    let macs: Vec<[u8; 6]> = machine.site.sides.iter().map(|side| side.mac).collect();
    let captured = inputs.iter().map(|input| input.frames.as_slice());
    let frames = recorded::frames(captured, &macs, 0);
    let all: usize = inputs.iter().map(|input| input.frames.len()).sum();
    let start = frames.first().map_or(Duration::ZERO, |frame| frame.time);
    let mut sent: Vec<Vec<(Duration, Vec<u8>)>> = vec![Vec::new(); inputs.len()];
    let mut taken = 0;
    for frame in frames.iter().filter(|frame| !frame.by_director) {
        let Some(input) = inputs.get(frame.side) else {
            continue;
        };
        taken += 1;
        let since = frame.time.saturating_sub(start);
        machine.pass_to(since);
        let became = machine.receive(frame.side, &frame.bytes);
        if options.explain {
            let since = since.as_secs_f64();
            let (name, number) = (&input.name, frame.number);
            let told = explain::words(&frame.bytes, &became, &machine.site, options.no_host);
            writeln!(out, "{since:.6} {name} {number} {told}")?;
        }
        for out in became.sent {
            if let Some(side) = sent.get_mut(out.side) {
                side.push((frame.time, out.bytes));
            }
        }
    }
    writeln!(
        out,
        "{taken} packets for the director, {} of its own or for others left out",
        all - taken
    )?;
    for (input, frames) in inputs.iter().zip(&sent) {
        let file = options.out.join(format!("{}.pcap", input.name));
        let rows = frames.iter().map(|(time, bytes)| (*time, bytes.as_slice()));
        capture::write(&file, rows)?;
        writeln!(out, "{}: {} packets sent", file.display(), frames.len())?;
    }
    Ok(())
}

/// A frame in full: what the capture has cut off is zero.
fn whole(frame: &Captured) -> Vec<u8> {
    let mut bytes = frame.bytes.clone();
    bytes.resize(frame.length, 0);
    bytes
}

fn configure(machine: &Machine, options: &Options) -> Result<(), CapturesError> {
    for (name, value) in &options.sysctls {
        setup::set(&machine.director, name, *value).map_err(CapturesError::Setting)?;
    }
    setup::mark(&machine.director, &options.marks).map_err(CapturesError::Setting)?;
    rules(machine, &options.rules)
}

fn rules(machine: &Machine, file: &Path) -> Result<(), CapturesError> {
    let text =
        fs::read_to_string(file).map_err(|why| CapturesError::Unreadable(file.to_owned(), why))?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = line.strip_prefix("ipvsadm ").unwrap_or(line);
        let status = setup::command(&machine.rules, words);
        if status.code != 0 {
            return Err(CapturesError::Rule {
                file: file.to_owned(),
                line: number + 1,
                text: line.to_owned(),
                why: status.reason.trim_end().to_owned(),
            });
        }
    }
    Ok(())
}

/// The network: what was said of it, then what was seen, then what is usual.
fn site(
    options: &Options,
    inputs: &[Input],
    seen: &Seen,
    machine: &Machine,
    warnings: &mut dyn Write,
) -> Result<Site, CapturesError> {
    let number = |option: &'static str, name: &str| {
        let place = inputs.iter().position(|input| input.name == name);
        place.ok_or_else(|| CapturesError::NoSuchSide {
            option,
            side: name.to_owned(),
            known: inputs
                .iter()
                .map(|input| input.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
    };
    let mut site = Site::default();
    for (place, input) in inputs.iter().enumerate() {
        let seen_mac = seen.mac(place);
        site.sides.push(Side {
            name: input.name.clone(),
            mac: seen_mac.unwrap_or(UNKNOWN),
            addresses: seen.addresses(place),
            mtu: seen.mtu(place).unwrap_or(USUAL_MTU),
        });
    }
    for (name, mac) in &options.macs {
        let place = number("--mac", name)?;
        if let Some(side) = site.sides.get_mut(place) {
            side.mac = *mac;
        }
    }
    for (name, addr) in options.addresses.iter().rev() {
        let place = number("--address", name)?;
        if let Some(side) = site.sides.get_mut(place) {
            side.addresses.retain(|known| known != addr);
            side.addresses.insert(0, *addr);
        }
    }
    for (name, mtu) in &options.mtus {
        let place = number("--mtu", name)?;
        if let Some(side) = site.sides.get_mut(place) {
            side.mtu = *mtu;
        }
    }
    for (place, (side, input)) in site.sides.iter_mut().zip(inputs).enumerate() {
        let name = &side.name;
        if side.mac == UNKNOWN && !input.frames.is_empty() {
            writeln!(
                warnings,
                "lvsd: {}: which address is the director's does not show, so that all packets count as for it; --mac {name}=ADDRESS says it",
                input.file.display()
            )?;
        }
        let cut = input
            .frames
            .iter()
            .filter(|frame| frame.bytes.len() < frame.length);
        let cut = cut.count();
        if cut > 0 {
            writeln!(
                warnings,
                "lvsd: {}: {cut} packets were cut short by the capture; what is missing counts as zeros",
                input.file.display()
            )?;
        }
        for made_up in infer::usual_addresses(place) {
            if side
                .addresses
                .iter()
                .all(|known| known.family() != made_up.family())
            {
                side.addresses.push(made_up);
            }
        }
    }
    for (addr, bits, name, via) in &options.routes {
        site.routes.push(Leg {
            to: Prefix::new(*addr, *bits),
            side: number("--route", name)?,
            via: *via,
        });
    }
    seen.routes(&mut site);
    if !options.no_host {
        let vips = machine.director.claims().services;
        let vips = vips.iter().map(|(_, vip)| Prefix::single(vip.addr));
        site.local.extend(vips);
    }
    for (addr, mac) in &options.neighbours {
        for side in 0..site.sides.len() {
            site.neighbours.insert((side, *addr), *mac);
        }
    }
    Ok(site)
}
