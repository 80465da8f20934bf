//! The words that every room of lvs shares, and nothing that does anything.
//!
//! An [`Endpoint`] is an [`Addr`] and a port; a [`Flow`] is a protocol between two endpoints, as a
//! packet shows it. A *service* ([`ServiceKey`], [`ServiceSpec`]) is what clients ask for, a
//! *destination* ([`DestinationSpec`]) is a server that can give it, reached by a
//! [`ForwardMethod`]. [`Tick`] is time as the data path knows it, [`Counters`] is what has passed,
//! [`DropReason`] is why something did not.
//!
//! No I/O, no clock, no allocation; values only.
//!
//! ```
//! use lvs_core::{Endpoint, Flow, Protocol};
//!
//! let client: Endpoint = "198.51.100.7:40000".parse()?;
//! let vip: Endpoint = "192.0.2.10:80".parse()?;
//! let request = Flow::new(Protocol::Tcp, client, vip);
//! assert_eq!(request.reversed().src, vip);
//! assert_eq!(request.to_string(), "TCP 198.51.100.7:40000 > 192.0.2.10:80");
//! # Ok::<(), lvs_core::ParseEndpointError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod addr;
mod counters;
mod destination;
mod drop_reason;
mod flow;
mod local;
mod method;
mod removal;
mod service;
pub mod state;
mod time;

pub use addr::{Addr, Endpoint, Family, ParseEndpointError};
pub use counters::{Counters, Rates};
pub use destination::{DestinationSpec, Health, MAX_WEIGHT, Thresholds};
pub use drop_reason::DropReason;
pub use flow::{Flow, Protocol};
pub use local::{LocalAddresses, TooManyAddresses};
pub use method::{ForwardMethod, TunnelChecksum, TunnelKind, UnknownForwardMethod};
pub use removal::{OnRemoval, UnknownRemoval};
pub use service::{Engine, Persistence, SchedFlags, ServiceKey, ServiceSpec};
pub use time::Tick;
