//! Captures in files: pcap and pcapng in, frames with their moments out; and frames out as pcap.
//!
//! Never: an interpretation of a frame beyond the link type, which has to be Ethernet.

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The longest frame that is written: a GSO frame of 64 KB with its headers.
const LONGEST: u32 = 256 << 10;

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// When, on the clock of the capture.
    pub(crate) time: Duration,
    /// What was kept of it.
    pub(crate) bytes: Vec<u8>,
    /// How long it was on the wire.
    pub(crate) length: usize,
}

/// A file that is no capture, or cannot be one.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// It cannot be read.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, io::Error),
    /// It does not begin as a capture.
    #[error("{file}: neither pcap nor pcapng: {why}", file = .0.display(), why = .1)]
    NoCapture(PathBuf, String),
    /// A packet of it cannot be read.
    #[error("{file}, packet {packet}: {why}", file = .file.display())]
    Torn {
        /// The file.
        file: PathBuf,
        /// The number of the packet, from 1.
        packet: usize,
        /// What is wrong.
        why: String,
    },
    /// It was not taken on Ethernet.
    #[error("{file}: captured on {link}, not on Ethernet; capture on the interface itself, not on `any`", file = .file.display())]
    NotEthernet {
        /// The file.
        file: PathBuf,
        /// The link type.
        link: String,
    },
    /// It cannot be written.
    #[error("cannot write {file}: {why}", file = .0.display(), why = .1)]
    Unwritable(PathBuf, String),
}

/// Reads a whole capture, in the order of the file.
///
/// # Errors
/// What is wrong with the file, and where.
pub(crate) fn read(file: &Path) -> Result<Vec<Captured>, CaptureError> {
    /// How a pcapng begins: the type of its first block.
    const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
    let unreadable = |why| CaptureError::Unreadable(file.to_owned(), why);
    let opened = File::open(file).map_err(unreadable)?;
    let mut start = [0; 4];
    let mut reader = BufReader::new(opened);
    let mut length = 0;
    while let Some(rest) = start.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest).map_err(unreadable)? {
            0 => break,
            more => length += more,
        }
    }
    let begun = io::Cursor::new(start.get(..length).unwrap_or_default().to_vec());
    let whole = begun.chain(reader);
    if start == SECTION {
        read_pcapng(file, whole)
    } else {
        read_pcap(file, whole)
    }
}

fn read_pcap(file: &Path, from: impl Read) -> Result<Vec<Captured>, CaptureError> {
    let mut reader = PcapReader::new(from)
        .map_err(|why| CaptureError::NoCapture(file.to_owned(), words(&why)))?;
    let header = reader.header();
    ethernet(file, header.datalink)?;
    let nanoseconds = match header.ts_resolution {
        TsResolution::MicroSecond => 1000,
        TsResolution::NanoSecond => 1,
    };
    let mut frames = Vec::new();
    // Raw: captures that were cut short name lengths beyond what they kept.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.map_err(|why| torn(file, frames.len(), &why))?;
        frames.push(Captured {
            time: Duration::from_secs(u64::from(packet.ts_sec))
                + Duration::from_nanos(u64::from(packet.ts_frac) * nanoseconds),
            length: wide(packet.orig_len).max(packet.data.len()),
            bytes: packet.data.into_owned(),
        });
    }
    Ok(frames)
}

fn read_pcapng(file: &Path, from: impl Read) -> Result<Vec<Captured>, CaptureError> {
    let mut reader = PcapNgReader::new(from)
        .map_err(|why| CaptureError::NoCapture(file.to_owned(), words(&why)))?;
    let mut frames = Vec::new();
    // Nanoseconds of a unit of each interface's clock.
    let mut units = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = block.map_err(|why| torn(file, frames.len(), &why))?;
        match block {
            Block::InterfaceDescription(interface) => {
                ethernet(file, interface.linktype)?;
                units.push(unit(&interface));
            }
            Block::EnhancedPacket(packet) => {
                let unit = units.get(wide(packet.interface_id)).copied();
                // The reader takes every clock for one of nanoseconds.
                let ticks = packet.timestamp.as_nanos();
                let nanoseconds = unit.unwrap_or(1000.0) * ticks as f64;
                frames.push(Captured {
                    time: Duration::from_secs_f64(nanoseconds / 1e9),
                    length: wide(packet.original_len).max(packet.data.len()),
                    bytes: packet.data.into_owned(),
                });
            }
            _ => {}
        }
    }
    Ok(frames)
}

/// Nanoseconds of a unit of an interface's clock (pcapng, `if_tsresol`); microseconds unless said.
fn unit(
    interface: &pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock<'_>,
) -> f64 {
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
    const BINARY: u8 = 0x80;
    let said = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(said) => Some(*said),
        _ => None,
    });
    match said {
        None => 1000.0,
        Some(said) if said & BINARY != 0 => 1e9 / 2_f64.powi(i32::from(said & !BINARY)),
        Some(said) => 1e9 / 10_f64.powi(i32::from(said)),
    }
}

fn ethernet(file: &Path, link: DataLink) -> Result<(), CaptureError> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    Err(CaptureError::NotEthernet {
        file: file.to_owned(),
        link: format!("link type {}", u32::from(link)),
    })
}

fn torn(file: &Path, before: usize, why: &PcapError) -> CaptureError {
    CaptureError::Torn {
        file: file.to_owned(),
        packet: before + 1,
        why: words(why),
    }
}

fn words(why: &PcapError) -> String {
    match why {
        PcapError::IncompleteBuffer => "the file ends in the middle".to_owned(),
        // The reader hides what its source says.
        PcapError::IoError(why) if why.kind() == io::ErrorKind::UnexpectedEof => {
            "the file ends in the middle".to_owned()
        }
        PcapError::IoError(why) => why.to_string(),
        other => other.to_string(),
    }
}

fn wide(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Writes frames as a pcap with microseconds.
///
/// # Errors
/// Why it cannot be written.
pub(crate) fn write<'f>(
    file: &Path,
    frames: impl IntoIterator<Item = (Duration, &'f [u8])>,
) -> Result<(), CaptureError> {
    let unwritable = |why: String| CaptureError::Unwritable(file.to_owned(), why);
    let created = File::create(file).map_err(|why| unwritable(why.to_string()))?;
    let header = PcapHeader {
        snaplen: LONGEST,
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(BufWriter::new(created), header)
        .map_err(|why| unwritable(why.to_string()))?;
    for (time, bytes) in frames {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        writer
            .write_packet(&PcapPacket::new(time, length, bytes))
            .map_err(|why| unwritable(why.to_string()))?;
    }
    let flushed = writer.into_writer().flush();
    flushed.map_err(|why| unwritable(why.to_string()))
}
