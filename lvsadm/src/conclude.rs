//! What a command makes of its options: which it demands and refuses, and what must fit together.
//!
//! What was said in; a request, or the failure that ipvsadm ends with, out.

use crate::errors::Failure;
use crate::options::{COLUMNS, Command, Opt, PERMISSIONS, TUNNEL_PERMISSIONS, TUNNELS};
use crate::request::{ListMode, Listing, Request};
use crate::said::Said;
use crate::values::number32;
use lvs_api::{
    Destination, Method, Netmask, Operation, Persistence, Service, SyncRole, SyncStart, Timeouts,
    Tunnel, TunnelChecksum, flags,
};
use lvs_core::{Endpoint, Protocol, ServiceKey};

/// What the library under ipvsadm takes for no service at all.
fn is_nothing(key: &ServiceKey) -> bool {
    let ServiceKey::Endpoint { vip, .. } = key else {
        return false;
    };
    let v4 = std::net::Ipv4Addr::UNSPECIFIED.into();
    vip.port == 0 && (vip.addr == v4 || vip.addr == lvs_core::Addr::UNSPECIFIED)
}

impl Said {
    fn scheduler(&self) -> &str {
        match self.scheduler.as_str() {
            "" => "wlc",
            name => name,
        }
    }

    /// The names of flags depend on the scheduler, so they wait until all options have come.
    pub(crate) fn read_flags(&mut self) -> Result<(), Failure> {
        let names = self.flag_names.split(',').filter(|name| !name.is_empty());
        self.flags = flags::parse(self.scheduler(), names).map_err(|why| {
            Failure::usage(match why {
                flags::FlagError::Unknown(name) => format!("invalid scheduler flag `{name}'"),
                flags::FlagError::Incompatible(name) => {
                    format!("incompatible scheduler flag `{name}'")
                }
            })
        })?;
        Ok(())
    }

    /// Which options the command demands and which it refuses, in the order of the table.
    pub(crate) fn check_permissions(&self, command: Command) -> Result<(), Failure> {
        let column = COLUMNS.iter().position(|c| *c == command);
        let rows = PERMISSIONS.iter().map(|row| (row.0, row.2));
        self.check(rows, column, &format!("'{}' command", command.name()))
    }

    /// The same for the options of our own that may stand anywhere.
    pub(crate) fn check_ours(&self, command: Command) -> Result<(), Failure> {
        let ours = [
            ("json", self.json, &[Command::List, Command::Sysctl][..]),
            ("drops", self.drops, &[Command::List]),
            ("atomic", self.atomic, &[Command::Restore]),
        ];
        for (name, said, commands) in ours {
            if said && !commands.contains(&command) {
                return Err(Failure::usage(format!(
                    "Illegal '{name}' option with the '{}' command",
                    command.name()
                )));
            }
        }
        Ok(())
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
                vip: Endpoint::new(vip.0, vip.1.unwrap_or(0)),
            },
            _ => ServiceKey::FwMark {
                family: self.family(),
                mark: self.mark,
            },
        })
    }

    pub(crate) fn conclude(self, command: Command, timeouts: Timeouts) -> Result<Request, Failure> {
        let one = |operation| Ok(Request::Change(Box::new(operation)));
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
                let address = self.server;
                one(Operation::DeleteDestination { service, address })
            }
            (Command::Flush, _) => one(Operation::Flush {}),
            (Command::Zero, service) => one(Operation::Zero {
                service: service.filter(|key| !is_nothing(key)),
            }),
            (Command::Set, _) => one(Operation::SetTimeouts { timeouts }),
            (Command::StartDaemon, _) => one(Operation::StartDaemon {
                config: self.sync(),
            }),
            (Command::StopDaemon, _) => one(Operation::StopDaemon {
                role: self.role.unwrap_or(SyncRole::Master),
            }),
            (Command::Sysctl, _) => self.sysctl(),
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
            flags: self.flags,
            persistence: persistent.then_some(Persistence {
                timeout: self.timeout,
                netmask: self.netmask.filter(fits),
            }),
            one_packet: self.has(Opt::Ops),
            engine: Some(self.engine.clone()).filter(|name| !name.is_empty()),
            local: self.local,
            toa: self.toa,
            on_removal: self.on_removal,
            ..Service::new(key, self.scheduler())
        })
    }

    fn destination(&self, service: &ServiceKey) -> Result<Destination, Failure> {
        let method = self.method.unwrap_or(Method::Dr);
        let mut address = self.server;
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
        if self.local.is_some_and(|local| !local.is_empty()) && method != Method::FullNat {
            return Err(Failure::usage(
                "The 'local' option of a real server is for the fullnat forwarding method",
            ));
        }
        if let ServiceKey::Endpoint { vip, .. } = service
            && !matches!(method, Method::Nat | Method::FullNat)
        {
            address.port = vip.port;
        }
        Ok(Destination {
            weight: self.weight.unwrap_or(1),
            upper_threshold: self.upper,
            lower_threshold: self.lower,
            tunnel: self.tunnel(),
            local: self.local,
            on_removal: self.on_removal,
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

    /// `NAME=VALUE` sets, `NAME` shows, nothing lists; with or without the kernel's `net.ipv4.vs.`.
    fn sysctl(&self) -> Result<Request, Failure> {
        let given = self.setting.as_deref().map(|text| {
            let name = text.strip_prefix("net.ipv4.vs.");
            name.unwrap_or(text)
        });
        match given.map(|text| text.split_once('=').ok_or(text)) {
            None => Ok(Request::Settings {
                only: None,
                json: self.json,
            }),
            Some(Err(name)) => Ok(Request::Settings {
                only: Some(name.to_owned()),
                json: self.json,
            }),
            Some(Ok((name, text))) => {
                let value = number32(text, 0, u32::MAX).ok_or_else(|| {
                    Failure::usage(format!("invalid value `{text}' of the setting {name}"))
                })?;
                let name = name.to_owned();
                let set = Operation::SetSysctl { name, value };
                Ok(Request::Change(Box::new(set)))
            }
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
        if self.drops && (mode.is_some() || only.is_some()) {
            return Err(Failure::usage("options conflicts in the list command"));
        }
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
