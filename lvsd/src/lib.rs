//! The parts of `lvsd`: a director in user space, over `AF_PACKET` rings.
//!
//! ```text
//!   config ─▶ run ─▶ control (socket) ─▶ director's rules ─▶ presence (claim, ARP, announcements)
//!                    host (routes, neighbours, interfaces) ─▶ dataplane (workers)
//! ```
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod demo;
pub mod host;
pub mod manual;
mod practice;
pub mod presence;
pub mod replay;
pub mod run;
mod table;

pub use table::TableFileError;
