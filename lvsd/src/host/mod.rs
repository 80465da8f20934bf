//! What the kernel knows and does for us: interfaces, routes, neighbours, the claim of our traffic.
//!
//! In: the kernel's answers and notifications over netlink. Out: snapshots that workers read
//! ([`net`]), a filter that keeps the host's own stack from answering what is ours ([`claim`]), and
//! what hangs on both: whom we must answer for ([`announce`]), packets that wait for a neighbour
//! ([`neighbour_wait`]), how many ICMP errors we may send ([`icmp_limit`]), and whether the machine can do it at all ([`preflight`]).
//!
//! Never: a second routing table or neighbour cache that the kernel does not agree with, or a
//! change to the host that outlives the process.
//!
//! ```
//! use lvsd::host::net::{NetSnapshot, RouteAnswer};
//!
//! let nothing_known = NetSnapshot::default();
//! let to = "192.0.2.1".parse().unwrap();
//! assert_eq!(nothing_known.route(to), RouteAnswer::Unreachable);
//! ```

pub mod announce;
pub mod claim;
pub mod icmp_limit;
pub mod neighbour_wait;
pub mod net;
mod netlink;
pub mod preflight;
#[cfg(test)]
mod testing;
