//! The schedulers of Linux Virtual Server: who gets the next connection.
//!
//! A [`Pool`] holds the [`Backend`]s of one service, newest first, and one of the rules of
//! [`NAMES`]. For the same edits and the same events it chooses as the kernel's IPVS chooses,
//! connection by connection. Workers call [`Pool::pick`] on a shared pool at any time; they report
//! what becomes of the connection to the backend itself.
//!
//! It does no I/O, reads no clock and starts no thread. It needs `alloc` for its tables; a choice
//! allocates nothing.
//!
//! # What threads may rely on
//!
//! * `rr`: threads take numbered turns, each turn once; while all n backends are usable, any n
//!   turns in a row are those of n different ones. `wrr`: every choice is one step of the one
//!   sequence. So with both the shares over a cycle are exact, whatever threads choose and
//!   however they interleave; `tests/loom.rs` has the models.
//! * `lc`, `wlc`, `sed`, `nq`, `ovf`: a choice takes into account every report that was complete
//!   when it began. Threads that choose at once, before either has reported its connection, may
//!   choose the same backend: a backend is at most (threads - 1) connections worse than the best.
//! * `fo`, `dh`, `sh`, `mh`: a choice depends on nothing that another choice changes.
//! * `twos`, `p2c`: each thread draws its own numbers. `mhbl`: the sum of all connections may be
//!   as old as one round of choices.
//! * None chooses a backend that became unusable before the choice began.
//!
//! ```
//! use lvs_core::{SchedFlags, Thresholds, Tick};
//! use lvs_sched::{Backend, Pool, Request};
//!
//! let mut pool = Pool::new("wlc", SchedFlags::default())?;
//! pool.add(Backend::new(1, "10.0.0.1:80".parse()?, 1, Thresholds::default()))?;
//! pool.add(Backend::new(2, "10.0.0.2:80".parse()?, 3, Thresholds::default()))?;
//!
//! let request = Request::new("198.51.100.1:4000".parse()?, "192.0.2.1:80".parse()?, Tick(0));
//! let mut shares = [0; 3];
//! for _ in 0..400 {
//!     let chosen = pool.pick(&request).ok_or("nobody there")?;
//!     chosen.opened(true);
//!     shares[chosen.id() as usize] += 1;
//! }
//! assert_eq!(shares, [0, 100, 300]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod backend;
mod clock;
mod draft;
mod hash;
mod index;
mod pool;
mod request;
mod scheduler;
mod schedulers;
mod sync;
mod usable;

pub use backend::Backend;
pub use draft::Draft;
pub use pool::{EditError, Options, Pool, UnknownScheduler, capacity};
pub use request::Request;
pub use schedulers::NAMES;
