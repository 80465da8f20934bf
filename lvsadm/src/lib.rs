//! The administration tool of `lvsd`, with the command lines of ipvsadm 1.31.
//!
//! An argument vector and standard input in; text, messages and an exit status out ([`run`]).
//! Everything that can be seen - words, messages, columns, exit codes - is ipvsadm's; what is done
//! is asked of the daemon over its control socket. Options of our own are long ones that ipvsadm
//! does not have, such as `--socket PATH` and `--json`; [`manual`] has all of them.
//!
//! ```
//! use lvsadm::{Surroundings, System, run};
//! let mut out = Vec::new();
//! let status = run(
//!     &["ipvsadm".to_owned(), "-v".to_owned()],
//!     &mut Surroundings {
//!         input: &mut std::io::empty(),
//!         output: &mut out,
//!         errors: &mut std::io::stderr(),
//!         socket: None,
//!         names: &System,
//!     },
//! );
//! assert_eq!(status, 0);
//! assert!(out.starts_with(b"ipvsadm v1.31"));
//! ```

mod conclude;
mod errors;
mod grammar;
mod list;
pub mod manual;
mod names;
mod options;
mod request;
mod restore;
mod run;
mod said;
mod save;
mod understand;
mod usage;
mod values;
mod vocabulary;
mod words;

pub use names::{Names, System};
pub use run::{Surroundings, run};
pub use understand::{NotUnderstood, understand};
