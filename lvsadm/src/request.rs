//! What a command line asks for, once it is understood.

use lvs_api::Operation;
use lvs_core::ServiceKey;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `-h`; the long one is ours.
    Help { long: bool },
    /// `-v`.
    Version,
    /// A change.
    Change(Box<Operation>),
    /// `-L`.
    List(Listing),
    /// `--sysctl`: all settings, or one.
    Settings { only: Option<String>, json: bool },
    /// `-S`.
    Save { numeric: bool },
    /// `-R`; `atomic`: all lines or none.
    Restore { atomic: bool },
}

/// How to list what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) only: Option<ServiceKey>,
    pub(crate) mode: ListMode,
    /// `--persistent-conn` with `-c`: the columns of persistence engines.
    pub(crate) engines: bool,
    pub(crate) numeric: bool,
    pub(crate) exact: bool,
    pub(crate) sorted: bool,
    pub(crate) json: bool,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            only: None,
            mode: ListMode::Rules,
            engines: false,
            numeric: false,
            exact: false,
            sorted: true,
            json: false,
        }
    }
}

/// Which listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListMode {
    Rules,
    Tunnels,
    Stats,
    Rates,
    Thresholds,
    Persistent,
    Connections,
    Timeouts,
    Daemons,
    Drops,
}
