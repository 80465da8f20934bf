//! A lock-free table of connections in entries of 128 bytes, with the states, timeouts and
//! collector of Linux Virtual Server.
//!
//! ```text
//!   flow ──hash──▶ bucket of 15 slots ──▶ entry (128 bytes)      lookup: two memory accesses
//!                  one cache line         found from both directions
//!   collector ──▶ timing wheel ──▶ entries whose time is over
//! ```
//!
//! A [`Table`] is shared by threads. Each has a [`Handle`], and [pins](Handle::pin) it for a batch of
//! packets: what it finds under the [`Guard`] stays what it is until the guard goes. Lookups never
//! wait and never write. Two threads that insert the same flow agree on one connection.
//! [`Table::collect`] ends connections whose timeout has passed, in slices as small as the caller
//! likes. Entries hold indexes, never pointers.
//!
//! ```
//! use lvs_conn::{Direction, Event, Inserted, NewConnection, Table, TableConfig, Timeouts};
//! use lvs_core::{Flow, Protocol, Tick};
//! use std::sync::Arc;
//!
//! let table = Arc::new(Table::new(&TableConfig { capacity: 1000, ..TableConfig::default() })?);
//! let timeouts = Timeouts::default();
//! let mut handle = table.register();
//! let now = Tick::from_millis(0);
//! let new = NewConnection {
//!     client: "198.51.100.7:40000".parse()?,
//!     virtual_endpoint: "192.0.2.10:80".parse()?,
//!     destination: "10.0.0.2:8080".parse()?,
//!     now,
//!     ..NewConnection::default()
//! };
//! let guard = handle.pin();
//! let Ok(Inserted::New(conn)) = guard.insert(&new) else { panic!("the table is empty") };
//! conn.advance(Direction::FromClient, Event::tcp(0x02), now, &timeouts);
//! let reply = Flow::new(Protocol::Tcp, new.destination, new.client);
//! assert_eq!(guard.lookup(&reply).unwrap().direction, Direction::FromServer);
//! drop(guard);
//! let later = now + Tick::seconds(61);
//! assert_eq!(table.collect(later, usize::MAX, &mut |conn| assert_eq!(conn.client(), new.client)), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

mod advance;
mod ahead;
mod batch;
mod collector;
mod conn;
mod entry;
mod epoch;
mod file;
mod handle;
mod hash;
mod index;
mod insert;
mod local_ports;
mod lookup;
mod mapping;
#[cfg(all(test, lvs_loom, not(lvs_shuttle)))]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]
mod models;
mod new_connection;
mod pool;
mod ports;
pub mod protocol;
mod raw;
mod recover;
pub mod relief;
#[cfg(all(test, lvs_shuttle))]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]
mod schedules;
pub mod sctp_state;
mod sequence;
mod sides;
mod sync;
mod table;
pub mod tcp_state;
pub mod timeouts;
mod wheel;

pub use conn::{Activity, Conn, ConnId, DestinationId, Direction, Hit, Transition};
pub use file::{Attached, FileError};
pub use handle::{Guard, Handle};
pub use hash::FlowHash;
pub use insert::Prepared;
pub use local_ports::LocalPorts;
pub use new_connection::{ConnKind, NewConnection};
pub use ports::Ports;
pub use protocol::{Event, Side, next_state};
pub use sequence::Shift;
pub use table::{
    Inserted, MAX_CONNECTIONS, MAX_HANDLES, Table, TableConfig, TableError, TableFull,
};
pub use timeouts::{First, Settled, Timeouts};
