//! Little networks in namespaces of their own: for the demo, the end-to-end tests and the benches.
//!
//! A [`Namespace`] is a network of one machine, held by a file descriptor: it has no name, no
//! daemon and no file, and is gone with the last process in it, also after `kill -9`. [`Veth`]
//! joins two of them. [`Site`] is the picture most users want: clients, a director's place, servers,
//! with addresses, routes and MTU set, ready for `lvsd` or for the kernel as its stand-in.
//!
//! ```text
//!   client-1 ──┐                              ┌── server-1  10.2.0.11  fd02::11
//!   10.1.0.2   ├─ front ── director ── back ──┼── server-2
//!   client-2 ──┘    │     d0      d1     │    └── server-3
//!                   └───── gateway ──────┘   (replies of DR and TUN servers)
//! ```
//!
//! Around it: a small HTTP [server](http::HttpServer) and [client](http::HttpClient), a
//! [decapsulator](Decapsulator) for kernels without `ipip`, a [packet rate](rate) harness, raw
//! frames for [tagged](raw) traffic.
//!
//! Nothing here touches the network the process was started in, and no system tool is needed.
//!
//! ```no_run
//! use lvs_testbed::{Namespace, Veth, enter_user_namespace};
//!
//! enter_user_namespace()?; // nothing when root; before any thread exists otherwise
//! let (left, right) = (Namespace::new("left")?, Namespace::new("right")?);
//! Veth::connect(&left, "eth0", &right, "eth0")?;
//! left.add_address("eth0", "10.0.0.1".parse().unwrap(), 24)?;
//! right.add_address("eth0", "10.0.0.2".parse().unwrap(), 24)?;
//! left.run(|| std::net::TcpStream::connect("10.0.0.2:80"))??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod child;
mod daemon;
mod decapsulate;
mod error;
pub mod http;
pub mod iperf;
mod link;
mod namespace;
mod offload;
pub mod program;
pub mod rate;
pub mod raw;
mod route;
mod site;
mod spawner;
mod sysctl;
mod temporary;
pub mod test;
mod userns;

pub use check::{Missing, check};
pub use child::Child;
pub use daemon::{Daemon, DaemonConfig, Rule, Target};
pub use decapsulate::{DecapsulatedCounts, Decapsulator};
pub use error::{Error, Result};
pub use link::{LinkCounters, Veth};
pub use namespace::Namespace;
pub use offload::Offload;
pub use site::{Site, SiteConfig, Vip, VipPlace, Wiring};
pub use temporary::TemporaryDirectory;
pub use userns::{enter_user_namespace, has_own_user_namespace, may_make_networks, with_networks};
