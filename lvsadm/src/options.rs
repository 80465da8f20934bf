//! The tables of ipvsadm's grammar: what a word can mean, and which command takes which option.
//!
//! Data only; [`crate::vocabulary`] has the words themselves, [`crate::grammar`] gives them their
//! meaning. What is not ipvsadm's stands at the end of each list.

/// What a command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    AddService,
    EditService,
    DeleteService,
    Flush,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
    /// Ours.
    Sysctl,
}

impl Command {
    /// Its name in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::List => "list",
            Self::Zero => "zero",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Help => "help",
            Self::Version => "version",
            Self::Sysctl => "sysctl",
        }
    }
}

/// An option, in the order in which ipvsadm checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opt {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    Ops,
    Engine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    /// Ours, from here on.
    Local,
    Toa,
    OnRemoval,
}

/// One column of the table of permissions, one letter a command, in the order of `COLUMNS`.
/// `+` the option must be there, `x` it may, `1` it may but alone, ` ` it may not.
pub(crate) const PERMISSIONS: [(Opt, &str, &str); 37] = [
    //                                                  AEDCRSaedLZ=<>
    (
        Opt::Numeric,
        "numeric",
        /*                     */ "     x   x    ",
    ),
    (
        Opt::Connection,
        "connection",
        /*               */ "         1    ",
    ),
    (
        Opt::ServiceAddress,
        "service-address",
        /*      */ "+++   +++1x   ",
    ),
    (
        Opt::Scheduler,
        "scheduler",
        /*                 */ "xx            ",
    ),
    (
        Opt::Persistent,
        "persistent",
        /*               */ "xx            ",
    ),
    (
        Opt::Netmask,
        "netmask",
        /*                     */ "xx            ",
    ),
    (
        Opt::RealServer,
        "real-server",
        /*              */ "      +++     ",
    ),
    (
        Opt::ForwardingMethod,
        "forwarding-method",
        /*  */ "      xx      ",
    ),
    (
        Opt::Weight,
        "weight",
        /*                       */ "      xx      ",
    ),
    (
        Opt::UThreshold,
        "u-threshold",
        /*              */ "      xx      ",
    ),
    (
        Opt::LThreshold,
        "l-threshold",
        /*              */ "      xx      ",
    ),
    (
        Opt::McastInterface,
        "mcast-interface",
        /*      */ "            x ",
    ),
    (
        Opt::Timeout,
        "timeout",
        /*                     */ "         1    ",
    ),
    (
        Opt::Daemon,
        "daemon",
        /*                       */ "         1    ",
    ),
    (
        Opt::Stats,
        "stats",
        /*                         */ "         x    ",
    ),
    (
        Opt::Rate,
        "rate",
        /*                           */ "         x    ",
    ),
    (
        Opt::Thresholds,
        "thresholds",
        /*               */ "         x    ",
    ),
    (
        Opt::PersistentConn,
        "persistent-conn",
        /*      */ "         x    ",
    ),
    (
        Opt::NoSort,
        "nosort",
        /*                       */ "         x    ",
    ),
    (
        Opt::SyncId,
        "syncid",
        /*                       */ "         x  xx",
    ),
    (
        Opt::Exact,
        "exact",
        /*                         */ "         x    ",
    ),
    (
        Opt::Ops,
        "ops",
        /*                             */ "xx            ",
    ),
    (
        Opt::Engine,
        "pe",
        /*                           */ "xx            ",
    ),
    (
        Opt::SchedFlags,
        "sched-flags",
        /*              */ "xx            ",
    ),
    (
        Opt::McastGroup,
        "mcast-group",
        /*              */ "            x ",
    ),
    (
        Opt::McastPort,
        "mcast-port",
        /*                */ "            x ",
    ),
    (
        Opt::McastTtl,
        "mcast-ttl",
        /*                  */ "            x ",
    ),
    (
        Opt::SyncMaxlen,
        "sync-maxlen",
        /*              */ "            x ",
    ),
    (
        Opt::TunInfo,
        "tun-info",
        /*                    */ "         x    ",
    ),
    (
        Opt::TunType,
        "tun-type",
        /*                    */ "      xx      ",
    ),
    (
        Opt::TunPort,
        "tun-port",
        /*                    */ "      xx      ",
    ),
    (
        Opt::TunNocsum,
        "tun-nocsum",
        /*                */ "      xx      ",
    ),
    (
        Opt::TunCsum,
        "tun-csum",
        /*                    */ "      xx      ",
    ),
    (
        Opt::TunRemcsum,
        "tun-remcsum",
        /*              */ "      xx      ",
    ),
    (
        Opt::Local,
        "local",
        /*                       */ "xx    xx      ",
    ),
    (
        Opt::Toa,
        "toa",
        /*                         */ "xx            ",
    ),
    (
        Opt::OnRemoval,
        "on-removal",
        /*              */ "xx    xx      ",
    ),
];

/// The commands behind the letters of the permissions.
pub(crate) const COLUMNS: [Command; 14] = [
    Command::AddService,
    Command::EditService,
    Command::DeleteService,
    Command::Flush,
    Command::Restore,
    Command::Save,
    Command::AddServer,
    Command::EditServer,
    Command::DeleteServer,
    Command::List,
    Command::Zero,
    Command::Set,
    Command::StartDaemon,
    Command::StopDaemon,
];

/// The same for the kinds of tunnels, in the order of [`TUNNELS`].
pub(crate) const TUNNEL_PERMISSIONS: [(Opt, &str); 4] = [
    //                     ipip gue gre
    (Opt::TunPort, /*   */ " + "),
    (Opt::TunNocsum, /* */ " 11"),
    (Opt::TunCsum, /*   */ " 11"),
    (Opt::TunRemcsum, /**/ " 1 "),
];

/// The kinds of tunnels.
pub(crate) const TUNNELS: [&str; 3] = ["ipip", "gue", "gre"];

impl Opt {
    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        let mut all = PERMISSIONS.iter();
        all.find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Command(Command),
    Option(Opt),
    /// `-t`, `-u`, `--sctp-service`, `-f`: also the option `service-address`.
    Tcp,
    Udp,
    Sctp,
    FwMark,
    /// `-g`, `-i`, `-m`: also the option `forwarding-method`.
    Gatewaying,
    Ipip,
    Masquerading,
    Ipv6,
    /// Accepted and of no effect.
    Sort,
    /// Ours, not ipvsadm's; allowed everywhere, before the command too.
    Json,
    Socket,
    Atomic,
    Drops,
    /// `--fullnat`: also the option `forwarding-method`.
    FullNat,
    /// `--toa`, `--no-toa`: the option `toa`.
    Toa(bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole() {
        for (i, (option, name, columns)) in PERMISSIONS.iter().enumerate() {
            assert_eq!(*option as usize, i, "{name}");
            assert_eq!(columns.len(), COLUMNS.len(), "{name}");
        }
        for (_, columns) in TUNNEL_PERMISSIONS {
            assert_eq!(columns.len(), TUNNELS.len());
        }
    }
}
