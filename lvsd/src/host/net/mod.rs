//! Interfaces, routes and neighbours as the kernel has them, for threads that must not ask it.
//!
//! ```text
//!   kernel ── notifications ──▶ NetWatcher ── ArcSwap<NetSnapshot> ──▶ workers: route(), neighbour()
//!      ▲ ◀────── dumps ────────────┘  └──── InterfaceEvent ──▶ control thread
//!      └── RTM_NEWNEIGH ── NeighbourKeeper ◀── "who is missing"
//! ```
//!
//! In: the kernel's tables. Out: an immutable [`NetSnapshot`], replaced when something changed.
//! Never: a route or neighbour of our own making. The routes are those of the tables `main` and
//! `local`; policy rules (`ip rule`), type-of-service routes, source-specific routes and learned
//! path MTUs are not followed.
//!
//! ```
//! use lvsd::host::net::{NetSnapshot, RouteAnswer};
//!
//! // What a worker holds before the first snapshot arrives: it knows no way anywhere.
//! let empty = NetSnapshot::default();
//! let server = "198.51.100.7".parse().unwrap();
//! assert_eq!(empty.route(server), RouteAnswer::Unreachable);
//! assert!(!empty.is_local(server));
//! assert_eq!(empty.neighbour(1, server), None);
//! ```

mod decode;
mod interface;
mod neighbours;
mod prefix;
mod routes;
mod snapshot;
mod source;
#[cfg(test)]
mod tests;
mod watcher;

pub use interface::{Interface, InterfaceAddress, InterfaceChange, InterfaceEvent, Vlan};
pub use neighbours::{Hop, NeighbourKeeper};
pub use snapshot::{NeighbourState, NetSnapshot, RouteAnswer};
pub use watcher::{NetWatcher, WatchError};
