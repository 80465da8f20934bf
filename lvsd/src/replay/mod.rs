//! `lvsd replay-trace`: what the kernel did, done again by this director, and compared.
//!
//! In come recordings, one case a line ([`Case`]): the configuration as command lines of ipvsadm,
//! then packets, edits, waits and listings, with what the kernel's IPVS made of each. Every case is
//! played to a director of its own, in memory, with simulated time; out comes one line a case, and
//! the first event that came out differently. Never: a socket, a privilege, a clock.
//!
//! ```
//! let case = lvsd::replay::parse(
//!     r#"{"case": "rr", "config": ["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.2.0.1:80 -m"],
//!         "events": [{"op": "connect", "id": 1, "proto": "tcp", "src": "10.1.0.5", "sport": 4000,
//!                     "dst": "10.0.0.1", "dport": 80, "chosen": "10.2.0.1:80"}]}"#,
//! )?;
//! assert_eq!(lvsd::replay::play(&case), Ok(()));
//! # Ok::<(), serde_json::Error>(())
//! ```

mod capture;
pub mod captures;
mod host;
mod lab;
mod machine;
mod nft;
mod packets;
mod player;
pub mod scenes;
mod setup;
mod site;
pub mod states;
mod tables;
mod trace;

pub use player::{Difference, play};
pub use trace::{
    Case, DestinationRow, Event, ServiceRow, Side, TraceError, Transport, parse, read,
};

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How many cases came out as they were recorded, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The same.
    pub passed: usize,
    /// Not.
    pub failed: usize,
}

impl Tally {
    /// Counts one, and writes its line.
    fn report(
        &mut self,
        name: &str,
        outcome: Result<(), impl Display>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                writeln!(out, "ok {name}")
            }
            Err(difference) => {
                self.failed += 1;
                writeln!(out, "FAILED {name}: {difference}")
            }
        }
    }

    /// Writes the last line.
    fn close(self, out: &mut dyn Write) -> io::Result<Self> {
        writeln!(out, "{} passed, {} failed", self.passed, self.failed)?;
        Ok(self)
    }
}

/// Plays all cases of all files; writes a line for each, and the tally.
///
/// # Errors
/// A failure to write.
pub fn run(cases: &[Case], out: &mut dyn Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for case in cases {
        tally.report(&case.name, play(case), out)?;
    }
    tally.close(out)
}

/// Plays all scenes of a folder; writes a line for each, and the tally, in which scenes of what this
/// version does not have count neither way.
///
/// # Errors
/// A failure to write.
pub fn run_scenes(
    folder: &Path,
    scenes: &[scenes::index::Scene],
    out: &mut dyn Write,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for scene in scenes {
        let outcome = scenes::play(folder, scene);
        match (scenes::left_out(scene), &outcome) {
            (Some(what), Ok(())) => writeln!(out, "left out {}: {what}", scene.name)?,
            _ => tally.report(&scene.name, outcome, out)?,
        }
    }
    tally.close(out)
}

/// Plays all conversations of recordings of states; writes a line for each that came out
/// differently and one for each recording, and the tally.
///
/// # Errors
/// A failure to write.
pub fn run_states(recordings: &[states::Recording], out: &mut dyn Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for recording in recordings {
        for (name, outcome) in recording.play() {
            tally.report(&name, outcome, out)?;
        }
    }
    tally.close(out)
}

/// Reads all files before anything is played.
///
/// # Errors
/// The first file that is no recording.
pub fn read_all(files: &[PathBuf]) -> Result<Vec<Case>, TraceError> {
    let mut cases = Vec::new();
    for file in files {
        cases.extend(read(file)?);
    }
    Ok(cases)
}
