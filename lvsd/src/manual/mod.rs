//! The manuals of `lvsd` and of its configuration file, made of what reads them.
//!
//! The definition of the command line and the table of keys in; [`Manual`]s out. Pages in `docs/man`
//! are these.
//!
//! ```
//! let text = lvsd::manual::lvsd_toml().to_string();
//! assert!(text.contains("[[service.destination]]"));
//! ```

mod command;
mod file;

pub use command::lvsd;
pub use file::lvsd_toml;
pub use lvsadm::manual::{Block, Chapter, Manual};
