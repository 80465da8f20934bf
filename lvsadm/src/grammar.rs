//! From words to a request: what ipvsadm checks, in the order in which it checks it.
//!
//! An argument vector in; a [`Request`] or the [`Failure`] that ipvsadm 1.31 ends with out.
//! Values are read as their options come, permissions are checked when all have come, and what
//! must fit together last.

use crate::errors::Failure;
use crate::names::Names;
use crate::options::{COLUMNS, Command, Meaning, Opt, PERMISSIONS, TUNNEL_PERMISSIONS, TUNNELS};
use crate::request::{ListMode, Listing, Request};
use crate::values::{self, number, number32};
use crate::words::{Token, Words};
use lvs_api::{
    Destination, MAX_NAME, Method, Netmask, Operation, Persistence, Service, SyncRole, SyncStart,
    Timeouts, Tunnel, TunnelChecksum, flags,
};
use lvs_core::{Addr, Endpoint, Family, MAX_WEIGHT, Protocol, ServiceKey};
use std::net::{IpAddr, Ipv6Addr};

/// The longest timeout, 31 days.
const MAX_TIMEOUT: u32 = 2_678_400;

/// What was said so far.
#[derive(Debug, Default)]
struct Said {
    options: Vec<Opt>,
    role: Option<SyncRole>,
    protocol: Option<Protocol>,
    vip: Option<(Addr, Option<u16>)>,
    mark: u32,
    ipv6: bool,
    scheduler: String,
    timeout: u32,
    netmask: Option<Netmask>,
    engine: String,
    flag_names: String,
    server: Option<(Addr, Option<u16>)>,
    method: Option<Method>,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
    tunnel_type: usize,
    tunnel_port: u16,
    interface: Option<String>,
    syncid: u8,
    maxlen: Option<u16>,
    group: Option<IpAddr>,
    port: Option<u16>,
    ttl: Option<u8>,
    json: bool,
    atomic: bool,
    drops: bool,
    socket: Option<String>,
}

/// A command line that was understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) request: Request,
    /// `--socket`.
    pub(crate) socket: Option<String>,
}

/// Understands a command line, without the name of the program.
pub(crate) fn parse(program: &str, args: &[String], names: &dyn Names) -> Result<Parsed, Failure> {
    let mut words = Words::new(args);
    let mut said = Said::default();
    let Some(command) = first(&mut words, &mut said, program)? else {
        return Ok(Parsed {
            request: Request::List(Listing::default()),
            socket: said.socket,
        });
    };
    if matches!(command, Command::Help | Command::Version) {
        return Ok(Parsed {
            request: if command == Command::Help {
                Request::Help {
                    long: args.iter().any(|arg| arg == "--help"),
                }
            } else {
                Request::Version
            },
            socket: None,
        });
    }
    while let Some(next) = words.next() {
        match next {
            Ok(token) => said.hear(&token, &words, names)?,
            Err(fault) => return Err(Failure::refused(format!("{}: {fault}", words.blamed()))),
        }
    }
    let mut strays = words.strays().iter().copied();
    let timeouts = if command == Command::Set {
        set(&mut strays)?
    } else {
        Timeouts::default()
    };
    if let Some(stray) = strays.next() {
        return Err(Failure::usage(format!("unexpected argument {stray}")));
    }
    said.check_permissions(command)?;
    let socket = said.socket.take();
    let request = said.conclude(command, timeouts)?;
    Ok(Parsed { request, socket })
}

/// The command, which comes before everything but our own options; `None` if there is nothing.
fn first(
    words: &mut Words<'_>,
    said: &mut Said,
    program: &str,
) -> Result<Option<Command>, Failure> {
    let mut nothing = true;
    loop {
        let token = match words.next() {
            Some(Ok(token)) => token,
            None if nothing && words.strays().is_empty() => return Ok(None),
            None if words.strays().is_empty() && said.json | said.socket.is_some() => {
                return Ok(None);
            }
            Some(Err(_)) | None => return Err(Failure::try_help(program)),
        };
        nothing = false;
        if said.hear_ours(&token) {
            continue;
        }
        let Meaning::Command(command) = token.word.meaning else {
            return Err(Failure::try_help(program));
        };
        let value = token.value.as_deref();
        said.role = match (command, value) {
            (Command::StartDaemon | Command::StopDaemon, Some("master")) => Some(SyncRole::Master),
            (Command::StartDaemon | Command::StopDaemon, Some("backup")) => Some(SyncRole::Backup),
            (Command::StartDaemon, _) => {
                return Err(Failure::usage("illegal start-daemon parameter specified"));
            }
            (Command::StopDaemon, _) => {
                return Err(Failure::usage("illegal start_daemon specified"));
            }
            _ => None,
        };
        return Ok(Some(command));
    }
}

/// The three words of `--set`.
fn set<'a>(strays: &mut impl Iterator<Item = &'a str>) -> Result<Timeouts, Failure> {
    let mut next = || {
        let word = strays
            .next()
            .ok_or_else(|| Failure::usage("--set option requires 3 timeout values"))?;
        number32(word, 0, MAX_TIMEOUT)
            .ok_or_else(|| Failure::usage(format!("invalid timeout value `{word}' specified")))
    };
    Ok(Timeouts {
        tcp: next()?,
        tcp_fin: next()?,
        udp: next()?,
    })
}

impl Said {
    fn has(&self, option: Opt) -> bool {
        self.options.contains(&option)
    }

    fn note(&mut self, option: Opt) -> Result<(), Failure> {
        if self.has(option) {
            let name = option.name();
            return Err(Failure::usage(format!(
                "multiple '{name}' options specified"
            )));
        }
        self.options.push(option);
        Ok(())
    }

    /// Options that ipvsadm does not have.
    fn hear_ours(&mut self, token: &Token) -> bool {
        match token.word.meaning {
            Meaning::Json => self.json = true,
            Meaning::Atomic => self.atomic = true,
            Meaning::Socket => self.socket.clone_from(&token.value),
            _ => return false,
        }
        true
    }

    fn hear(&mut self, token: &Token, words: &Words<'_>, names: &dyn Names) -> Result<(), Failure> {
        if self.hear_ours(token) {
            return Ok(());
        }
        let value = token.value.as_deref().unwrap_or_default();
        match token.word.meaning {
            Meaning::Command(_) => {
                let blamed = words.blamed();
                return Err(Failure::usage(format!("invalid option `{blamed}'")));
            }
            Meaning::Option(option) => {
                self.note(option)?;
                self.hear_value(option, token.value.as_deref(), names)?;
            }
            Meaning::Tcp => self.service(Protocol::Tcp, value, names)?,
            Meaning::Udp => self.service(Protocol::Udp, value, names)?,
            Meaning::Sctp => self.service(Protocol::Sctp, value, names)?,
            Meaning::FwMark => {
                self.note(Opt::ServiceAddress)?;
                self.mark = number32(value, 1, u32::MAX).ok_or_else(|| {
                    Failure::usage(format!("invalid fwmark value `{value}' specified"))
                })?;
            }
            Meaning::Gatewaying => self.method(Method::Dr)?,
            Meaning::Ipip => self.method(Method::Tun)?,
            Meaning::Masquerading => self.method(Method::Nat)?,
            Meaning::Ipv6 => {
                if self.mark == 0 {
                    return Err(Failure::usage("-6 used before -f\n"));
                }
                self.ipv6 = true;
            }
            Meaning::Drops => self.drops = true,
            Meaning::Sort | Meaning::Json | Meaning::Socket | Meaning::Atomic => {}
        }
        Ok(())
    }

    fn service(
        &mut self,
        protocol: Protocol,
        value: &str,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        self.note(Opt::ServiceAddress)?;
        self.protocol = Some(protocol);
        self.vip = values::address(value, protocol, names);
        if self.vip.is_none() {
            return Err(Failure::usage(
                "illegal virtual server address[:port] specified",
            ));
        }
        Ok(())
    }

    fn method(&mut self, method: Method) -> Result<(), Failure> {
        self.note(Opt::ForwardingMethod)?;
        self.method = Some(method);
        Ok(())
    }

    fn hear_value(
        &mut self,
        option: Opt,
        given: Option<&str>,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        let value = given.unwrap_or_default();
        let illegal = |what: &str| Failure::usage(format!("illegal {what} specified"));
        let small = |what, min, max| number(value, min, max).ok_or_else(|| illegal(what));
        match option {
            Opt::Scheduler => value.clone_into(&mut self.scheduler),
            Opt::Engine => value.clone_into(&mut self.engine),
            Opt::SchedFlags => value.clone_into(&mut self.flag_names),
            Opt::Persistent => {
                self.timeout = match given {
                    None => 360,
                    Some(_) => number32(value, 1, MAX_TIMEOUT).ok_or_else(|| {
                        Failure::usage(format!("invalid timeout value `{value}' specified"))
                    })?,
                };
            }
            Opt::Netmask => self.netmask = Some(self.netmask_of(value)?),
            Opt::RealServer => {
                let protocol = self.protocol.unwrap_or(Protocol::Tcp);
                self.server = values::address(value, protocol, names);
                if self.server.is_none() {
                    return Err(illegal("real server address[:port]"));
                }
            }
            Opt::Weight => {
                let weight = number32(value, 0, MAX_WEIGHT);
                self.weight = Some(weight.ok_or_else(|| illegal("weight"))?);
            }
            Opt::UThreshold => {
                self.upper =
                    number32(value, 0, MAX_WEIGHT).ok_or_else(|| illegal("u_threshold"))?;
            }
            Opt::LThreshold => {
                self.lower =
                    number32(value, 0, MAX_WEIGHT).ok_or_else(|| illegal("l_threshold"))?;
            }
            Opt::McastInterface => {
                self.interface = Some(value.chars().take(MAX_NAME).collect());
            }
            Opt::SyncId => self.syncid = narrow(small("syncid", 0, 255)?),
            Opt::SyncMaxlen => self.maxlen = Some(narrow(small("sync-maxlen", 1, 65507)?)),
            Opt::McastPort => self.port = Some(narrow(small("mcast-port", 1, 65535)?)),
            Opt::McastTtl => self.ttl = Some(narrow(small("mcast-ttl", 1, 255)?)),
            Opt::McastGroup => self.group = Some(group(value)?),
            Opt::TunType => {
                self.tunnel_type = TUNNELS
                    .iter()
                    .position(|known| *known == value)
                    .ok_or_else(|| illegal("tunnel type"))?;
            }
            Opt::TunPort => self.tunnel_port = narrow(small("tunnel port", 1, 65535)?),
            _ => {}
        }
        Ok(())
    }

    /// The family as far as it is known while options are read.
    fn family(&self) -> Family {
        match self.vip {
            Some((addr, _)) => addr.family(),
            None if self.ipv6 => Family::V6,
            None => Family::V4,
        }
    }

    fn netmask_of(&self, value: &str) -> Result<Netmask, Failure> {
        match self.family() {
            Family::V4 => values::ipv4(value)
                .map(Netmask::V4)
                .ok_or_else(|| Failure::usage("illegal virtual server persistent mask specified")),
            Family::V6 => number(value, 1, 128)
                .map(|length| Netmask::V6(narrow(length)))
                .ok_or_else(|| Failure::usage("illegal ipv6 netmask specified")),
        }
    }

    /// Which options the command demands and which it refuses, in the order of the table.
    fn check_permissions(&self, command: Command) -> Result<(), Failure> {
        let column = COLUMNS.iter().position(|c| *c == command);
        let rows = PERMISSIONS.iter().map(|row| (row.0, row.2));
        self.check(rows, column, &format!("'{}' command", command.name()))
    }

    fn check_tunnel(&self) -> Result<(), Failure> {
        let name = TUNNELS.get(self.tunnel_type).copied().unwrap_or_default();
        let rows = TUNNEL_PERMISSIONS.into_iter();
        self.check(
            rows,
            Some(self.tunnel_type),
            &format!("'{name}' tunnel type"),
        )
    }

    fn check(
        &self,
        rows: impl Iterator<Item = (Opt, &'static str)>,
        column: Option<usize>,
        whose: &str,
    ) -> Result<(), Failure> {
        let mut alone: Option<Opt> = None;
        for (option, letters) in rows {
            let letter = column.and_then(|i| letters.as_bytes().get(i).copied());
            let name = option.name();
            match (self.has(option), letter) {
                (false, Some(b'+')) => {
                    return Err(Failure::usage(format!(
                        "You need to supply the '{name}' option for the {whose}"
                    )));
                }
                (true, Some(b' ') | None) => {
                    return Err(Failure::usage(format!(
                        "Illegal '{name}' option with the {whose}"
                    )));
                }
                (true, Some(b'1')) => match alone {
                    None => alone = Some(option),
                    Some(other) => {
                        return Err(Failure::usage(format!(
                            "The option '{name}' conflicts with the '{}' option in the {whose}",
                            other.name()
                        )));
                    }
                },
                _ => {}
            }
        }
        Ok(())
    }

    fn key(&self) -> Option<ServiceKey> {
        if !self.has(Opt::ServiceAddress) {
            return None;
        }
        Some(match (self.protocol, self.vip) {
            (Some(protocol), Some(vip)) => ServiceKey::Endpoint {
                protocol,
                vip: values::endpoint(vip, 0),
            },
            _ => ServiceKey::FwMark {
                family: self.family(),
                mark: self.mark,
            },
        })
    }

    fn conclude(self, command: Command, timeouts: Timeouts) -> Result<Request, Failure> {
        let one = |operation| Ok(Request::Change(operation));
        // The permissions have seen to it that a command that needs a service has one.
        let key = self.key();
        match (command, key) {
            (Command::AddService, Some(key)) => one(Operation::AddService {
                config: self.config(key)?,
            }),
            (Command::EditService, Some(key)) => one(Operation::EditService {
                config: self.config(key)?,
            }),
            (Command::DeleteService, Some(service)) => one(Operation::DeleteService { service }),
            (Command::AddServer, Some(service)) => one(Operation::AddDestination {
                service,
                config: self.destination(&service)?,
            }),
            (Command::EditServer, Some(service)) => one(Operation::EditDestination {
                service,
                config: self.destination(&service)?,
            }),
            (Command::DeleteServer, Some(service)) => {
                let address = self.server_address(&service);
                one(Operation::DeleteDestination { service, address })
            }
            (Command::Flush, _) => one(Operation::Flush),
            (Command::Zero, service) => one(Operation::Zero { service }),
            (Command::Set, _) => one(Operation::SetTimeouts { timeouts }),
            (Command::StartDaemon, _) => one(Operation::StartDaemon {
                config: self.sync(),
            }),
            (Command::StopDaemon, _) => one(Operation::StopDaemon {
                role: self.role.unwrap_or(SyncRole::Master),
            }),
            (Command::Save, _) => Ok(Request::Save {
                numeric: self.has(Opt::Numeric),
            }),
            (Command::Restore, _) => Ok(Request::Restore {
                atomic: self.atomic,
            }),
            (_, service) => self.listing(service),
        }
    }

    fn config(&self, key: ServiceKey) -> Result<Service, Failure> {
        let scheduler = match self.scheduler.as_str() {
            "" => "wlc",
            name => name,
        };
        let names = self.flag_names.split(',').filter(|name| !name.is_empty());
        let flags = flags::parse(scheduler, names).map_err(|why| {
            Failure::usage(match why {
                flags::FlagError::Unknown(name) => format!("invalid scheduler flag `{name}'"),
                flags::FlagError::Incompatible(name) => {
                    format!("incompatible scheduler flag `{name}'")
                }
            })
        })?;
        let persistent = self.has(Opt::Persistent);
        if let ServiceKey::Endpoint { protocol, vip } = key {
            if vip.port == 0 && !persistent {
                return Err(Failure::usage(
                    "Zero port specified for non-persistent service",
                ));
            }
            if self.has(Opt::Ops) && protocol != Protocol::Udp {
                return Err(Failure::usage(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        let fits =
            |mask: &Netmask| mask.family() == key.family() && *mask != Netmask::whole(key.family());
        Ok(Service {
            flags,
            persistence: persistent.then_some(Persistence {
                timeout: self.timeout,
                netmask: self.netmask.filter(fits),
            }),
            one_packet: self.has(Opt::Ops),
            engine: Some(self.engine.clone()).filter(|name| !name.is_empty()),
            ..Service::new(key, scheduler)
        })
    }

    /// Where the real server is, before its method decides about the port.
    fn server_address(&self, service: &ServiceKey) -> Endpoint {
        let port = match service {
            ServiceKey::Endpoint { vip, .. } => vip.port,
            ServiceKey::FwMark { .. } => 0,
        };
        values::endpoint(self.server.unwrap_or((Addr::UNSPECIFIED, None)), port)
    }

    fn destination(&self, service: &ServiceKey) -> Result<Destination, Failure> {
        let method = self.method.unwrap_or(Method::Dr);
        let mut address = self.server_address(service);
        if address.addr.family() != service.family() && method != Method::Tun {
            return Err(Failure::usage(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        if method == Method::Tun {
            self.check_tunnel()?;
        } else if [
            Opt::TunType,
            Opt::TunPort,
            Opt::TunNocsum,
            Opt::TunCsum,
            Opt::TunRemcsum,
        ]
        .into_iter()
        .any(|option| self.has(option))
        {
            return Err(Failure::usage(
                "Tunnel options conflict with forward method",
            ));
        }
        if let ServiceKey::Endpoint { vip, .. } = service
            && method != Method::Nat
        {
            address.port = vip.port;
        }
        Ok(Destination {
            weight: self.weight.unwrap_or(1),
            upper_threshold: self.upper,
            lower_threshold: self.lower,
            tunnel: self.tunnel(),
            ..Destination::new(address, method)
        })
    }

    fn tunnel(&self) -> Tunnel {
        let checksum = if self.has(Opt::TunCsum) {
            TunnelChecksum::Full
        } else if self.has(Opt::TunRemcsum) {
            TunnelChecksum::Remote
        } else {
            TunnelChecksum::None
        };
        match TUNNELS.get(self.tunnel_type).copied() {
            Some("gue") => Tunnel::Gue {
                port: self.tunnel_port,
                checksum,
            },
            Some("gre") => Tunnel::Gre { checksum },
            _ => Tunnel::Ipip,
        }
    }

    fn sync(self) -> SyncStart {
        SyncStart {
            role: self.role.unwrap_or(SyncRole::Master),
            interface: self.interface.unwrap_or_else(|| "eth0".to_owned()),
            syncid: self.syncid,
            maxlen: self.maxlen,
            group: self.group,
            port: self.port,
            ttl: self.ttl,
        }
    }

    fn listing(&self, only: Option<ServiceKey>) -> Result<Request, Failure> {
        let any = |options: &[Opt]| options.iter().any(|option| self.has(*option));
        let whole = [Opt::Connection, Opt::Timeout, Opt::Daemon];
        if any(&whole) && any(&[Opt::Stats, Opt::Rate, Opt::Thresholds])
            || any(&[Opt::Timeout, Opt::Daemon]) && self.has(Opt::PersistentConn)
        {
            return Err(Failure::usage("options conflicts in the list command"));
        }
        let modes = [
            (Opt::Connection, ListMode::Connections),
            (Opt::Timeout, ListMode::Timeouts),
            (Opt::Daemon, ListMode::Daemons),
            (Opt::Stats, ListMode::Stats),
            (Opt::Rate, ListMode::Rates),
            (Opt::Thresholds, ListMode::Thresholds),
            (Opt::PersistentConn, ListMode::Persistent),
            (Opt::TunInfo, ListMode::Tunnels),
        ];
        let mode = modes.into_iter().find(|(option, _)| self.has(*option));
        Ok(Request::List(Listing {
            only,
            mode: match mode {
                _ if self.drops => ListMode::Drops,
                Some((_, mode)) => mode,
                None => ListMode::Rules,
            },
            engines: self.has(Opt::PersistentConn),
            numeric: self.has(Opt::Numeric),
            exact: self.has(Opt::Exact),
            sorted: !self.has(Opt::NoSort),
            json: self.json,
        }))
    }
}

/// A multicast group.
fn group(value: &str) -> Result<IpAddr, Failure> {
    if let Ok(group) = value.parse::<Ipv6Addr>() {
        return if group.is_multicast() {
            Ok(group.into())
        } else {
            Err(Failure::usage(format!(
                "invalid IPv6 mcast-group `{value}'"
            )))
        };
    }
    match values::ipv4(value) {
        Some(group) if group.is_multicast() => Ok(group.into()),
        _ => Err(Failure::usage(format!(
            "invalid IPv4 mcast-group `{value}'"
        ))),
    }
}

/// A number that was checked to fit.
fn narrow<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}
