//! Frames in and out of a Linux network interface, through memory-mapped `AF_PACKET` rings.
//!
//! ```text
//!   interface ──▶ receive ring ──▶ Receiver::receive(|frames| …)   in place, 64 at a time
//!   interface ◀── transmit ring ◀── Sender::send(bytes, offload)   one system call a batch
//! ```
//!
//! A [`Port`] is one worker's window on one interface. Frames carry what the sender left undone
//! (checksums, segmentation) both ways, so that 64 KB segments pass whole. Several ports share an
//! interface by a [`Fanout`] group. [`wait`] sleeps when there is nothing to do; [`Injector`] gives
//! frames back to the host's own stack.
//!
//! An `AF_PACKET` socket sees copies: keeping the host's stack from handling the same frames is up
//! to a filter that runs behind the tap, and not part of this crate.
//!
//! The layers, from the kernel up: `sys` (one function for each system call, and shared memory),
//! `socket` (an owned packet socket), `ring` (slots), and the public types. `unsafe` is allowed in
//! `sys` and `ring` only.
//!
//! ```no_run
//! use std::time::Duration;
//! use lvs_io_afpacket::{Port, PortConfig, Waker, wait};
//!
//! let Port { receiver, sender, .. } = Port::open(&PortConfig::new(2))?;
//! let (mut receivers, mut senders) = ([receiver], [sender]);
//! let waker = Waker::new()?;
//! loop {
//!     let mut idle = true;
//!     for receiver in &mut receivers {
//!         receiver.receive(64, |frames| {
//!             for frame in frames {
//!                 let _ = senders[0].send(frame.bytes(), &frame.offload);
//!             }
//!             idle = false;
//!         });
//!     }
//!     for sender in &mut senders {
//!         let _ = sender.flush();
//!     }
//!     if idle && wait(&receivers, &mut senders, Some(&waker), Some(Duration::from_secs(1)))?.wake {
//!         break;
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

mod config;
mod error;
mod inject;
mod membership;
mod port;
mod receiver;
#[allow(unsafe_code, reason = "lends memory that is shared with the kernel")]
mod ring;
mod sender;
mod socket;
mod statistics;
#[allow(unsafe_code, reason = "calls the kernel")]
mod sys;
mod vnet;
mod wait;

pub use config::{Fanout, FanoutMode, PortConfig, RingVersion};
pub use error::{Concession, OpenError};
pub use inject::{Injector, LOOPBACK};
pub use membership::Membership;
pub use port::Port;
pub use receiver::Receiver;
pub use ring::MAX_BATCH;
pub use sender::Sender;
pub use socket::Link;
pub use statistics::{ReceiveStatistics, TransmitStatistics};
pub use wait::{Waker, Woken, wait};
