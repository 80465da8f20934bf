//! Packets per second.
