//! The rules, one file each, and the list of their names.
//!
//! A new one is a file with a type that is a [`Scheduler`](crate::scheduler::Scheduler) and a line
//! in [`REGISTRY`].

mod cache;
mod dh;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod maglev;
mod mh;
mod mhbl;
mod none;
mod nq;
mod ovf;
mod p2c;
mod random;
mod ranked;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

use crate::scheduler::Build;

/// A name and what makes a scheduler of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) build: Build,
}

macro_rules! registry {
    ($($name:literal => $build:path,)*) => {
        static REGISTRY: &[Entry] = &[$(Entry { name: $name, build: $build }),*];

        /// The schedulers' names. The kernel's come first; `mhbl` and `p2c` are our own.
        ///
        /// ```
        /// assert!(lvs_sched::NAMES.contains(&"wlc"));
        /// ```
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

registry! {
    "rr" => rr::build,
    "wrr" => wrr::build,
    "lc" => lc::build,
    "wlc" => wlc::build,
    "lblc" => lblc::build,
    "lblcr" => lblcr::build,
    "dh" => dh::build,
    "sh" => sh::build,
    "mh" => mh::build,
    "sed" => sed::build,
    "nq" => nq::build,
    "fo" => fo::build,
    "ovf" => ovf::build,
    "twos" => twos::build,
    "none" => none::build,
    "mhbl" => mhbl::build,
    "p2c" => p2c::build,
}

/// The scheduler of a name.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}
