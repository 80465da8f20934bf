//! The control socket: HTTP and JSON from `lvs-api` in, calls of a [`Backend`] out.
//!
//! [`ControlSocket`] takes the place in the file system, [`serve`] answers on it until it is told
//! to stop, [`reload`] turns a configuration into the changes that lead to it. [`Memory`] is a
//! director without packets, for tests and for trying a configuration out; [`Rules`] is the real one.
//!
//! Nothing here touches a packet, and no request can hold up the data path: calls of the backend
//! run on threads of their own, bodies, headers, clients and time are limited.

mod backend;
mod director;
pub(crate) mod marks;
mod memory;
pub mod reload;
mod routes;
mod seats;
mod server;
mod socket;
mod sync_book;
mod translation;

pub use backend::{Backend, refuse};
pub use director::Rules;
pub use memory::Memory;
pub use server::{Limits, serve, serve_with};
pub use socket::{BindError, ControlSocket};
