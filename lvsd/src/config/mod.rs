//! The configuration file: TOML in, a [`Config`] or the list of everything that is wrong out.
//!
//! It is strict. A key that is not known, a value out of its range, a destination that no director
//! would take, something that this version cannot do yet: each is an error with file, line, column
//! and what would be right, and all of them are reported at once. The rules are tried out on a
//! director that has no packets. Nothing here opens a socket or changes anything.
//!
//! ```
//! use lvsd::config::Config;
//! let config = Config::parse("lvsd.toml", r#"
//!     [[service]]
//!     listen = "tcp://192.0.2.10:80"
//!     scheduler = "wrr"
//!     [[service.destination]]
//!     address = "10.0.0.2:8080"
//!     method = "nat"
//!     weight = 2
//! "#)?;
//! assert_eq!(config.services[0].destinations[0].weight, 2);
//!
//! let error = Config::parse("lvsd.toml", "[[service]]\nlisten = 'tcp://192.0.2.10:80'\nschedular = 'rr'")
//!     .unwrap_err();
//! assert!(error.to_string().contains("lvsd.toml:3:1: unknown key `schedular`"));
//! assert!(error.to_string().contains("did you mean `scheduler`?"));
//! # Ok::<(), lvsd::config::ConfigError>(())
//! ```

mod control;
mod error;
mod forms;
mod keys;
mod kinds;
mod marks;
mod reader;
mod rules;
mod schema;

pub use error::{ConfigError, Problem};
pub use keys::{KEYS, Key};

use lvs_api::{Destination, MarkRule, Service, Timeouts};
use lvs_director::Setting;
use lvs_io_afpacket::RingVersion;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Everything that a daemon is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The control socket.
    pub control: Control,
    /// What is logged.
    pub log: LogLevel,
    /// How frames come in and go out.
    pub dataplane: Dataplane,
    /// The most connections at a time, templates included.
    pub capacity: usize,
    /// The file that has the connections, and keeps them when the daemon ends; `None`: memory.
    pub table: Option<PathBuf>,
    /// The timeouts that can be set; never 0.
    pub timeouts: Timeouts,
    /// All settings under the kernel's names.
    pub sysctl: Vec<(Setting, u32)>,
    /// Which packets get a firewall mark.
    pub marks: Vec<MarkRule>,
    /// The rules.
    pub services: Vec<Rule>,
}

/// The control socket, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where it is.
    pub socket: PathBuf,
    /// The user that it belongs to; `None`: whoever runs the daemon.
    pub owner: Option<u32>,
    /// The group that it belongs to; `None`: that of whoever runs the daemon.
    pub group: Option<u32>,
    /// Its permissions: who may write may edit the rules.
    pub mode: u32,
}

impl Control {
    /// A socket that is its maker's alone.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            owner: None,
            group: None,
            mode: 0o600,
        }
    }
}

/// How frames come in and go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// The interfaces; `None`: all but the loopback.
    pub interfaces: Option<Vec<String>>,
    /// The worker threads; `None`: one for each processor that the daemon may use.
    pub workers: Option<NonZeroUsize>,
    /// Bytes of the receive ring of one worker on one interface.
    pub receive_ring: u64,
    /// The layout of the receive ring.
    pub ring_version: RingVersion,
    /// Bytes of the transmit ring of one worker on one interface.
    pub transmit_ring: u64,
    /// Whether the traffic that the director handles is kept from the host's own stack.
    pub claim: bool,
}

/// A service and its destinations, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The service.
    pub service: Service,
    /// Its destinations.
    pub destinations: Vec<Destination>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may need attention.
    Warn,
    /// And what an operator wants to know.
    #[default]
    Info,
    /// And what a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word of the configuration file, which is also that of log filters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            control: Control::new(lvs_api::DEFAULT_SOCKET),
            log: LogLevel::default(),
            dataplane: Dataplane {
                interfaces: None,
                workers: None,
                receive_ring: 8 << 20,
                ring_version: RingVersion::default(),
                transmit_ring: 2 << 20,
                claim: true,
            },
            capacity: 1 << 20,
            table: None,
            timeouts: Timeouts {
                tcp: 900,
                tcp_fin: 120,
                udp: 300,
            },
            sysctl: marks::defaults(),
            marks: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, and with everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Unreadable {
            path: path.to_owned(),
            why,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a text; `name` is the name of its file, for messages.
    ///
    /// # Errors
    /// With everything that is wrong in it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        schema::parse(text).map_err(|problems| ConfigError::invalid(name, text, problems))
    }

    /// One line about what this configuration holds.
    #[must_use]
    pub fn summary(&self) -> String {
        let services = self.services.len();
        let destinations: usize = self
            .services
            .iter()
            .map(|rule| rule.destinations.len())
            .sum();
        let plural = |n| if n == 1 { "" } else { "s" };
        let interfaces = match &self.dataplane.interfaces {
            Some(names) => names.join(", "),
            None => "all interfaces".to_owned(),
        };
        format!(
            "{services} service{}, {destinations} destination{}, on {interfaces}",
            plural(services),
            plural(destinations)
        )
    }
}
