//! The index of a folder of scenes: one line of JSON a scene.
//!
//! Text in; what each scene was set up with, and what was seen of it at its end, out.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The name of the index in its folder.
pub const INDEX: &str = "index.jsonl";

/// A folder that holds no scenes.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The index cannot be read.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, io::Error),
    /// A line of it is no scene.
    #[error("{file}, line {line}: {why}", file = .file.display())]
    Line {
        /// The index.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong there.
        why: serde_json::Error,
    },
}

/// A scene, as the index has it. What it does not know of a line it does not mind.
#[derive(Clone, Debug, Deserialize)]
pub struct Scene {
    /// Its name, and that of its captures.
    pub name: String,
    /// What it shows.
    #[serde(default)]
    pub desc: String,
    /// Command lines of ipvsadm, without its name.
    #[serde(default)]
    pub config: Vec<String>,
    /// Settings under `net.ipv4.vs`.
    #[serde(default)]
    pub sysctl: BTreeMap<String, Value>,
    /// Packets that get a firewall mark: nft's expression, and the mark.
    #[serde(default)]
    pub fwmark: Vec<(String, u32)>,
    /// How many frames the captures have.
    pub client_frames: Option<usize>,
    /// The same of the servers' side.
    pub server_frames: Option<usize>,
    /// MTUs by side, where the description does not say them.
    #[serde(default)]
    pub mtu: BTreeMap<String, u32>,
    /// What was changed while it went on.
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// What was seen at the end: the connections, or a sentence.
    #[serde(default)]
    pub result: Value,
}

/// A change in the middle of a scene.
#[derive(Clone, Debug, Deserialize)]
pub struct Edit {
    /// Seconds after the first frame.
    pub at: f64,
    /// A command line of ipvsadm, without its name.
    #[serde(default)]
    pub cmd: Option<String>,
    /// Settings.
    #[serde(default)]
    pub sysctl: BTreeMap<String, Value>,
}

impl Scene {
    /// The connections at the end, if they were recorded.
    pub(crate) fn connections(&self) -> Option<Vec<&str>> {
        let rows = self.result.get("conns")?.as_array()?;
        Some(rows.iter().filter_map(Value::as_str).collect())
    }
}

/// Reads the index of a folder.
///
/// # Errors
/// The first line that is no scene.
pub fn read(folder: &Path) -> Result<Vec<Scene>, IndexError> {
    let file = folder.join(INDEX);
    let text =
        fs::read_to_string(&file).map_err(|why| IndexError::Unreadable(file.clone(), why))?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|why| IndexError::Line {
                file: file.clone(),
                line: number + 1,
                why,
            })
        })
        .collect()
}
