//! The parts of `lvsd`.
pub mod config;
pub mod control;
pub mod dataplane;
pub mod demo;
pub mod host;
