//! The connection table of Linux Virtual Server: who serves which connection, and for how long.

pub mod protocol;
pub mod sctp_state;
pub mod tcp_state;
pub mod timeouts;
