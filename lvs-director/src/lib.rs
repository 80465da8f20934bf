//! The decision for each packet, as Linux Virtual Server makes it.
//!
//! ```text
//!   frames ──▶ parse ──▶ look up ──┬─ known ──────────▶ advance ──▶ rewrite ──▶ verdicts
//!                                  └─ new ─▶ schedule ─▶    │
//!                                            rules          counters
//! ```
//!
//! A [`Director`] holds the rules, the connections and the counters. Each thread that has packets
//! takes a [`Worker`] from it and gives it batches of [`Frame`](lvs_packet::Frame)s; the frames come
//! back rewritten, each with a [`Verdict`]. Where a packet goes next is asked of a [`Routes`], which
//! the embedder brings. No I/O happens here and no clock is read.
//!
//! ```
//! use lvs_core::{DestinationSpec, ForwardMethod, Protocol, ServiceKey, ServiceSpec};
//! use lvs_director::{Director, DirectorConfig};
//!
//! let director = Director::new(&DirectorConfig { connections: 1024, workers: 1 })?;
//! let key = ServiceKey::Endpoint { protocol: Protocol::Tcp, vip: "192.0.2.10:80".parse()? };
//! director.add_service(&ServiceSpec::new(key, "wrr"))?;
//! let server = "10.0.0.2:8080".parse()?;
//! director.add_destination(&key, &DestinationSpec::new(server, ForwardMethod::Masquerade))?;
//! let worker = director.worker().expect("the first of one");
//! // worker.process(now, &mut routes, &mut frames, &mut verdicts);
//! // and what the batch has set free: while let Some((frame, verdict)) = worker.next_released(...)
//! # drop(worker);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod adoption;
mod begin;
mod calls;
mod change;
mod checks;
mod control;
mod cut;
mod decide;
mod defence;
mod destination;
mod difference;
mod director;
mod edit;
mod error;
mod established;
mod fragments;
mod fresh;
mod fullnat;
mod helper;
mod housekeeping;
mod icmp;
mod ipsec;
mod leave;
mod limit;
mod listing;
mod locals;
mod marks;
mod opening;
mod options;
mod pages;
mod path_mtu;
mod persist;
mod pieces;
mod plan;
mod released;
mod relief;
mod removal;
mod resets;
mod route;
mod rules;
mod settings;
mod shards;
mod sip;
mod stats;
mod status;
mod stranger;
mod transmit;
mod trash;
mod tunnel_error;
mod tunnelled;
mod verdict;
mod worker;

pub use adoption::Adopted;
pub use control::{Operation, Rule};
pub use cut::Cut;
pub use director::{Director, DirectorConfig};
pub use error::{ReplaceError, RuleError};
pub use helper::{Expected, Ftp, Helper, Opener, Text};
pub use limit::ErrorLimit;
pub use locals::LOCAL_PORTS;
pub use marks::{Addresses, Interface, MarkError, MarkRule, Match, Pattern, Ports, Transport};
pub use route::{Route, Routes, Way};
pub use settings::{Setting, SettingError, Settings};
pub use status::{Claims, ConnectionStatus, DestinationStatus, ServiceStatus};
pub use tunnelled::Outer;
pub use verdict::Verdict;
pub use worker::{BATCH, Worker};
