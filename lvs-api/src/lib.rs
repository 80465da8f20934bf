//! The control protocol of `lvsd`: what a tool may ask, and what the daemon answers.
//!
//! HTTP/1.1 with JSON bodies over a Unix socket ([`DEFAULT_SOCKET`]). The version stands in the
//! path (`/v1/...`), so that two versions can be served side by side; within a version, fields are
//! only ever added to answers. Requests are strict: what a daemon does not know it refuses, it
//! never ignores it.
//!
//! | Request | Body | Answer |
//! | --- | --- | --- |
//! | `GET /v1/info` | | [`Info`] |
//! | `GET /v1/services` (`?service=KEY`) | | list of [`ServiceStatus`], in the director's order |
//! | `GET /v1/connections` | | one [`Connection`] per line (newline-delimited JSON) |
//! | `GET /v1/totals` | | [`Totals`] |
//! | `GET /v1/drops` | | list of [`DropCount`] |
//! | `GET /v1/daemons` | | list of [`SyncDaemon`] |
//! | `GET /v1/timeouts`, `PUT /v1/timeouts` | [`Timeouts`] | [`Timeouts`] |
//! | `GET /v1/sysctl`, `PUT /v1/sysctl` | object of names and values | list of [`Sysctl`] |
//! | `GET /v1/marks`, `PUT /v1/marks` | list of [`MarkRule`], in order | the same |
//! | `POST /v1/zero` (`?service=KEY`), `POST /v1/flush` | | empty |
//! | `POST /v1/transaction` | [`Transaction`] | [`Report`] |
//! | `GET /v1/openapi.json` | | the OpenAPI description of all this |
//!
//! A service is named by one word everywhere, in requests, listings and configuration files:
//! `tcp://192.0.2.10:80`, `fwmark://7` ([`key`]). A refusal carries the kernel's errno and a
//! sentence ([`Refusal`]).
//!
//! [`Client`] is the typed, blocking way in; with any HTTP tool:
//! `curl --unix-socket /run/lvsd.sock http://lvsd/v1/services`.
//!
//! This crate holds no rules and decides nothing.
//!
//! ```
//! use lvs_api::{Operation, Service, key};
//! let add = Operation::AddService {
//!     config: Service::new(key::parse("tcp://192.0.2.10:80")?, "wrr"),
//! };
//! let json = serde_json::to_string(&add)?;
//! assert_eq!(
//!     json,
//!     r#"{"op":"add_service","config":{"service":"tcp://192.0.2.10:80","scheduler":"wrr"}}"#
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod client;
mod destination;
mod error;
pub mod flags;
pub mod key;
mod operation;
mod service;
mod settings;
mod status;
mod wire;

pub use client::{Client, ClientError};
pub use destination::{Destination, Health, Method, Tunnel, TunnelChecksum};
pub use error::{Errno, Refusal, RefusalBody};
pub use operation::{Mode, Operation, Report, Transaction};
pub use service::{Netmask, Persistence, Service};
pub use settings::{MarkFamily, MarkRule, Sysctl};
pub use status::{
    Connection, DestinationStatus, DropCount, Info, ServiceStatus, SyncDaemon, SyncRole, SyncStart,
    Timeouts, Totals,
};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/lvsd.sock";

/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "LVSD_SOCKET";

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// The response header in which a daemon names the version it answered in.
pub const VERSION_HEADER: &str = "lvs-api-version";

/// The longest name of a scheduler or persistence engine, in bytes (IPVS 0.6).
pub const MAX_NAME: usize = 15;
