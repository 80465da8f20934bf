//! Every word of the command line: how it is written, whether it takes another, what it is for.
//!
//! Data only, and the only place where it stands: [`crate::words`] reads arguments by it, and the
//! manual, its page and the completions of shells are made of it. Text: `` `bold` ``, `_italic_`.

use crate::options::{Command, Meaning, Opt};

/// Whether a word takes another with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    None,
    Required,
    Optional,
}

/// Where a word stands in the manual, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chapter {
    Commands,
    Service,
    Services,
    Servers,
    Listings,
    Synchronisation,
    Own,
}

/// A word of the grammar.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) long: &'static str,
    /// `'\0'`: none.
    pub(crate) short: char,
    pub(crate) argument: Argument,
    pub(crate) meaning: Meaning,
    /// What it takes, as the manual names it.
    pub(crate) value: &'static str,
    pub(crate) chapter: Chapter,
    /// What it is for.
    pub(crate) help: &'static str,
}

const fn word(long: &'static str, short: char, meaning: Meaning) -> Word {
    Word {
        long,
        short,
        argument: Argument::None,
        meaning,
        value: "",
        chapter: Chapter::Own,
        help: "",
    }
}

const fn command(long: &'static str, short: char, command: Command) -> Word {
    word(long, short, Meaning::Command(command))
}

const fn option(long: &'static str, short: char, option: Opt) -> Word {
    word(long, short, Meaning::Option(option))
}

impl Word {
    const fn takes(mut self, value: &'static str) -> Self {
        self.argument = Argument::Required;
        self.value = value;
        self
    }

    const fn may_take(mut self, value: &'static str) -> Self {
        self.argument = Argument::Optional;
        self.value = value;
        self
    }

    /// Words that follow without being its own.
    const fn before(mut self, value: &'static str) -> Self {
        self.value = value;
        self
    }

    const fn is(mut self, chapter: Chapter, help: &'static str) -> Self {
        self.chapter = chapter;
        self.help = help;
        self
    }
}

/// No short form.
const NO: char = '\0';

use Chapter::{Commands, Listings, Own, Servers, Service, Services, Synchronisation};

/// Every word. A second row of the same long word gives it another letter.
#[rustfmt::skip]
pub(crate) const WORDS: &[Word] = &[
    command("add-service", 'A', Command::AddService)
        .is(Commands, "Define a service."),
    command("edit-service", 'E', Command::EditService)
        .is(Commands, "Change a service. What is not given reverts to its default; what only `lvsadm` has stays as it is."),
    command("delete-service", 'D', Command::DeleteService)
        .is(Commands, "Remove a service with its servers."),
    command("clear", 'C', Command::Flush)
        .is(Commands, "Remove all services."),
    command("add-server", 'a', Command::AddServer)
        .is(Commands, "Define a real server of a service."),
    command("edit-server", 'e', Command::EditServer)
        .is(Commands, "Change a real server. What is not given reverts to its default, as with `-E`."),
    command("delete-server", 'd', Command::DeleteServer)
        .is(Commands, "Remove a real server. What becomes of its connections is said by `--on-removal`; unless told otherwise they stay until they end."),
    command("list", 'L', Command::List)
        .is(Commands, "List rules, connections or settings; the rules unless told otherwise, and without any argument at all."),
    command("list", 'l', Command::List),
    command("zero", 'Z', Command::Zero)
        .is(Commands, "Count from zero again: one service, or everything."),
    command("save", 'S', Command::Save)
        .is(Commands, "Print the rules as command lines that `-R` reads; with `-n` addresses and ports as numbers. As with `ipvsadm`, thresholds are not among them."),
    command("restore", 'R', Command::Restore)
        .is(Commands, "Read such lines from standard input. It adds to what is there: `-C` first replaces it."),
    command("set", NO, Command::Set).before("TCP TCPFIN UDP")
        .is(Commands, "Set timeouts in seconds, by three numbers: _TCP_ of established connections, _TCPFIN_ of TCP after a FIN, and _UDP_; 0 leaves one unchanged."),
    command("start-daemon", NO, Command::StartDaemon).takes("ROLE")
        .is(Commands, "Start the synchronisation of connections, as `master` or `backup`."),
    command("stop-daemon", NO, Command::StopDaemon).takes("ROLE")
        .is(Commands, "Stop it."),
    command("help", 'h', Command::Help)
        .is(Commands, "`-h` prints `ipvsadm`'s help, `--help` this manual."),
    command("version", 'v', Command::Version)
        .is(Commands, "Print the version of `ipvsadm` whose command lines these are."),
    word("tcp-service", 't', Meaning::Tcp).takes("ADDRESS:PORT")
        .is(Service, "A service of TCP. Port 0, with `-p`, is every port that no other service has."),
    word("udp-service", 'u', Meaning::Udp).takes("ADDRESS:PORT")
        .is(Service, "A service of UDP."),
    word("sctp-service", NO, Meaning::Sctp).takes("ADDRESS:PORT")
        .is(Service, "A service of SCTP."),
    word("fwmark-service", 'f', Meaning::FwMark).takes("MARK")
        .is(Service, "Packets with this firewall mark, 1 to 4294967295; which get it is said in `lvsd.toml`."),
    word("ipv6", '6', Meaning::Ipv6)
        .is(Service, "After `-f`: those of IPv6."),
    option("scheduler", 's', Opt::Scheduler).takes("NAME")
        .is(Services, "Who gets the next connection: `rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos`, or `mhbl` and `p2c`, which the kernel has not; `wlc` unless given."),
    option("persistent", 'p', Opt::Persistent).may_take("SECONDS")
        .is(Services, "A client stays with its server until so long after its last connection; 360 unless given."),
    option("netmask", 'M', Opt::Netmask).takes("MASK")
        .is(Services, "Clients of one network stay together: a mask for IPv4, a prefix length for IPv6. After the service."),
    option("ops", 'o', Opt::Ops)
        .is(Services, "Schedule each UDP packet by itself."),
    option("sched-flags", 'b', Opt::SchedFlags).takes("FLAG,FLAG")
        .is(Services, "`sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`, or `flag-1` to `flag-3`."),
    option("pe", NO, Opt::Engine).takes("ENGINE")
        .is(Services, "With `-p`, tell clients apart by content: `sip`, by the Call-ID of UDP packets."),
    option("real-server", 'r', Opt::RealServer).takes("ADDRESS[:PORT]")
        .is(Servers, "The server; the service's port unless given. Another port is for `-m` and `--fullnat`. After the service."),
    word("gatewaying", 'g', Meaning::Gatewaying)
        .is(Servers, "Direct routing, the default: the server has the service's address too."),
    word("ipip", 'i', Meaning::Ipip)
        .is(Servers, "A tunnel to the server."),
    word("masquerading", 'm', Meaning::Masquerading)
        .is(Servers, "Address translation (NAT); replies come back through the director."),
    option("weight", 'w', Opt::Weight).takes("N")
        .is(Servers, "Its share of new connections, 0 to 2147483647; 0 gives it none; 1 unless given."),
    option("u-threshold", 'x', Opt::UThreshold).takes("N")
        .is(Servers, "No new connections from so many on; 0, the default: no limit."),
    option("l-threshold", 'y', Opt::LThreshold).takes("N")
        .is(Servers, "New ones again below so many; 0, the default: three quarters of the upper threshold."),
    option("tun-type", NO, Opt::TunType).takes("TYPE")
        .is(Servers, "With `-i`, what is between the headers: `ipip`, the default, `gue` or `gre`."),
    option("tun-port", NO, Opt::TunPort).takes("PORT")
        .is(Servers, "The UDP port of `gue`."),
    option("tun-nocsum", NO, Opt::TunNocsum)
        .is(Servers, "No checksum of the tunnel's own, the default."),
    option("tun-csum", NO, Opt::TunCsum)
        .is(Servers, "A checksum, with `gue` and `gre`."),
    option("tun-remcsum", NO, Opt::TunRemcsum)
        .is(Servers, "Remote checksum offload, with `gue`."),
    option("numeric", 'n', Opt::Numeric)
        .is(Listings, "Addresses and ports as numbers."),
    option("connection", 'c', Opt::Connection)
        .is(Listings, "The connection table."),
    option("stats", NO, Opt::Stats)
        .is(Listings, "Counters of connections, packets and bytes."),
    option("rate", NO, Opt::Rate)
        .is(Listings, "The same per second; BPS are bytes."),
    option("thresholds", NO, Opt::Thresholds)
        .is(Listings, "The thresholds of each server."),
    option("persistent-conn", NO, Opt::PersistentConn)
        .is(Listings, "The persistent clients of each server; with `-c` what an engine tells them apart by."),
    option("tun-info", NO, Opt::TunInfo)
        .is(Listings, "The tunnel to each server."),
    option("timeout", NO, Opt::Timeout)
        .is(Listings, "The timeouts that `--set` sets."),
    option("daemon", NO, Opt::Daemon)
        .is(Listings, "The synchronisation daemons."),
    option("exact", 'X', Opt::Exact)
        .is(Listings, "Large numbers in full, not as 123K."),
    option("nosort", NO, Opt::NoSort)
        .is(Listings, "Services in the director's own order."),
    word("sort", NO, Meaning::Sort)
        .is(Listings, "Of no effect: they are sorted anyway."),
    option("syncid", NO, Opt::SyncId).takes("ID")
        .is(Synchronisation, "The group of directors, 0 to 255."),
    option("sync-maxlen", NO, Opt::SyncMaxlen).takes("BYTES")
        .is(Synchronisation, "The longest message; 1472 unless given."),
    option("mcast-interface", NO, Opt::McastInterface).takes("INTERFACE")
        .is(Synchronisation, "Where to speak or listen; eth0 unless given."),
    option("mcast-group", NO, Opt::McastGroup).takes("ADDRESS")
        .is(Synchronisation, "The multicast group; 224.0.0.81 unless given."),
    option("mcast-port", NO, Opt::McastPort).takes("PORT")
        .is(Synchronisation, "The UDP port; 8848 unless given."),
    option("mcast-ttl", NO, Opt::McastTtl).takes("TTL")
        .is(Synchronisation, "How far messages go; 1 unless given."),
    word("socket", NO, Meaning::Socket).takes("PATH")
        .is(Own, "The control socket of `lvsd`; else the environment variable `LVSD_SOCKET`, else `/run/lvsd.sock`. May stand before the command."),
    word("json", NO, Meaning::Json)
        .is(Own, "With `-L` or `--sysctl`: the same as JSON. Connections are an object a line."),
    word("drops", NO, Meaning::Drops)
        .is(Own, "With `-L`: packets that went no further, by reason."),
    word("atomic", NO, Meaning::Atomic)
        .is(Own, "With `-R`: apply all lines, or none if one is refused."),
    command("sysctl", NO, Command::Sysctl).may_take("NAME[=VALUE]")
        .is(Own, "A command: list the settings that the kernel has under `net.ipv4.vs`, show one, or set it until `lvsd` reads its configuration again."),
    word("fullnat", NO, Meaning::FullNat)
        .is(Own, "A forwarding method like `-m` that translates the client's address too, to one of the local addresses: servers need no route back through the director."),
    option("local", NO, Opt::Local).takes("ADDRESS,ADDRESS")
        .is(Own, "The local addresses, for a service or, with `--fullnat`, for one server of it, which otherwise has the service's. `none` takes them away."),
    word("toa", NO, Meaning::Toa(true))
        .is(Own, "For a service: tell servers behind `--fullnat` their clients' addresses, in an option of TCP."),
    word("no-toa", NO, Meaning::Toa(false))
        .is(Own, "Do not, the default."),
    option("on-removal", NO, Opt::OnRemoval).takes("WAY")
        .is(Own, "What becomes of the connections of servers that are removed or get weight 0: `drain`, the default and IPVS's way, `drain:SECONDS`, `reset` or `reschedule`. For a service, or for one server."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_itself_and_has_its_line() {
        for (i, word) in WORDS.iter().enumerate() {
            let twin = |other: &&Word| other.short != NO && other.short == word.short;
            assert!(!WORDS.iter().skip(i + 1).any(|o| twin(&o)), "{}", word.long);
            let valued = word.argument != Argument::None;
            assert!(!valued || !word.value.is_empty(), "{}", word.long);
            let first = WORDS.iter().position(|other| other.long == word.long);
            assert_eq!(word.help.is_empty(), first != Some(i), "{}", word.long);
        }
    }
}
