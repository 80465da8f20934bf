//! The tables of ipvsadm's grammar: every word it knows, and which command takes which option.
//!
//! Data only; [`crate::words`] reads words by it, [`crate::grammar`] gives them their meaning.

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
}

/// One column of the table of permissions, one letter a command, in the order of `COLUMNS`.
/// `+` the option must be there, `x` it may, `1` it may but alone, ` ` it may not.
pub(crate) const PERMISSIONS: [(Opt, &str, &str); 34] = [
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
}

/// Whether a word takes another with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    None,
    Required,
    Optional,
}

/// A word of the grammar.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) long: &'static str,
    /// `'\0'`: none.
    pub(crate) short: char,
    pub(crate) argument: Argument,
    pub(crate) meaning: Meaning,
}

const fn word(long: &'static str, short: char, argument: Argument, meaning: Meaning) -> Word {
    Word {
        long,
        short,
        argument,
        meaning,
    }
}

const fn command(long: &'static str, short: char, command: Command) -> Word {
    word(long, short, Argument::None, Meaning::Command(command))
}

const fn flag(long: &'static str, short: char, option: Opt) -> Word {
    word(long, short, Argument::None, Meaning::Option(option))
}

const fn valued(long: &'static str, short: char, option: Opt) -> Word {
    word(long, short, Argument::Required, Meaning::Option(option))
}

/// Every word.
pub(crate) const WORDS: &[Word] = &[
    command("add-service", 'A', Command::AddService),
    command("edit-service", 'E', Command::EditService),
    command("delete-service", 'D', Command::DeleteService),
    command("clear", 'C', Command::Flush),
    command("list", 'L', Command::List),
    command("list", 'l', Command::List),
    command("zero", 'Z', Command::Zero),
    command("add-server", 'a', Command::AddServer),
    command("edit-server", 'e', Command::EditServer),
    command("delete-server", 'd', Command::DeleteServer),
    command("set", '\0', Command::Set),
    command("help", 'h', Command::Help),
    command("version", 'v', Command::Version),
    command("restore", 'R', Command::Restore),
    command("save", 'S', Command::Save),
    word(
        "start-daemon",
        '\0',
        Argument::Required,
        Meaning::Command(Command::StartDaemon),
    ),
    word(
        "stop-daemon",
        '\0',
        Argument::Required,
        Meaning::Command(Command::StopDaemon),
    ),
    word("tcp-service", 't', Argument::Required, Meaning::Tcp),
    word("udp-service", 'u', Argument::Required, Meaning::Udp),
    word("sctp-service", '\0', Argument::Required, Meaning::Sctp),
    word("fwmark-service", 'f', Argument::Required, Meaning::FwMark),
    valued("scheduler", 's', Opt::Scheduler),
    word(
        "persistent",
        'p',
        Argument::Optional,
        Meaning::Option(Opt::Persistent),
    ),
    valued("netmask", 'M', Opt::Netmask),
    valued("real-server", 'r', Opt::RealServer),
    word("masquerading", 'm', Argument::None, Meaning::Masquerading),
    word("ipip", 'i', Argument::None, Meaning::Ipip),
    word("gatewaying", 'g', Argument::None, Meaning::Gatewaying),
    valued("weight", 'w', Opt::Weight),
    valued("u-threshold", 'x', Opt::UThreshold),
    valued("l-threshold", 'y', Opt::LThreshold),
    flag("numeric", 'n', Opt::Numeric),
    flag("connection", 'c', Opt::Connection),
    valued("mcast-interface", '\0', Opt::McastInterface),
    valued("syncid", '\0', Opt::SyncId),
    flag("timeout", '\0', Opt::Timeout),
    flag("daemon", '\0', Opt::Daemon),
    flag("stats", '\0', Opt::Stats),
    flag("rate", '\0', Opt::Rate),
    flag("thresholds", '\0', Opt::Thresholds),
    flag("persistent-conn", '\0', Opt::PersistentConn),
    flag("nosort", '\0', Opt::NoSort),
    word("sort", '\0', Argument::None, Meaning::Sort),
    flag("exact", 'X', Opt::Exact),
    word("ipv6", '6', Argument::None, Meaning::Ipv6),
    flag("ops", 'o', Opt::Ops),
    valued("pe", '\0', Opt::Engine),
    valued("sched-flags", 'b', Opt::SchedFlags),
    valued("sync-maxlen", '\0', Opt::SyncMaxlen),
    valued("mcast-group", '\0', Opt::McastGroup),
    valued("mcast-port", '\0', Opt::McastPort),
    valued("mcast-ttl", '\0', Opt::McastTtl),
    valued("tun-type", '\0', Opt::TunType),
    valued("tun-port", '\0', Opt::TunPort),
    flag("tun-nocsum", '\0', Opt::TunNocsum),
    flag("tun-csum", '\0', Opt::TunCsum),
    flag("tun-remcsum", '\0', Opt::TunRemcsum),
    flag("tun-info", '\0', Opt::TunInfo),
    word("json", '\0', Argument::None, Meaning::Json),
    word("socket", '\0', Argument::Required, Meaning::Socket),
    word("atomic", '\0', Argument::None, Meaning::Atomic),
    word("drops", '\0', Argument::None, Meaning::Drops),
];

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
        for (i, word) in WORDS.iter().enumerate() {
            let twin = |other: &&Word| other.short != '\0' && other.short == word.short;
            assert!(!WORDS.iter().skip(i + 1).any(|o| twin(&o)), "{}", word.long);
        }
    }
}
