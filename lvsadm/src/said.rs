//! The options of a command line, with their values read as they come.
//!
//! Tokens in; what was said, or the failure of the first value that is wrong, out. What fits
//! together is not asked here.

use crate::errors::Failure;
use crate::names::Names;
use crate::options::{Meaning, Opt, TUNNELS};
use crate::values::{self, number, number32};
use crate::words::{Token, Words};
use lvs_api::{MAX_NAME, Method, Netmask, SyncRole};
use lvs_core::{
    Addr, Endpoint, Family, LocalAddresses, MAX_WEIGHT, OnRemoval, Protocol, SchedFlags,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest timeout, 31 days.
pub(crate) const MAX_TIMEOUT: u32 = 2_678_400;

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) options: Vec<Opt>,
    pub(crate) role: Option<SyncRole>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) vip: Option<(Addr, Option<u16>)>,
    pub(crate) mark: u32,
    pub(crate) ipv6: bool,
    pub(crate) scheduler: String,
    pub(crate) timeout: u32,
    pub(crate) netmask: Option<Netmask>,
    pub(crate) engine: String,
    pub(crate) flag_names: String,
    pub(crate) flags: SchedFlags,
    pub(crate) server: Endpoint,
    pub(crate) method: Option<Method>,
    pub(crate) weight: Option<u32>,
    pub(crate) upper: u32,
    pub(crate) lower: u32,
    pub(crate) tunnel_type: usize,
    pub(crate) tunnel_port: u16,
    pub(crate) interface: Option<String>,
    pub(crate) syncid: u8,
    pub(crate) maxlen: Option<u16>,
    pub(crate) group: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) ttl: Option<u8>,
    pub(crate) json: bool,
    pub(crate) atomic: bool,
    pub(crate) drops: bool,
    pub(crate) socket: Option<String>,
    pub(crate) local: Option<LocalAddresses>,
    pub(crate) toa: Option<bool>,
    pub(crate) on_removal: Option<OnRemoval>,
    /// What `--sysctl` took.
    pub(crate) setting: Option<String>,
}

impl Said {
    pub(crate) fn has(&self, option: Opt) -> bool {
        self.options.contains(&option)
    }

    pub(crate) fn note(&mut self, option: Opt) -> Result<(), Failure> {
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
    pub(crate) fn hear_ours(&mut self, token: &Token) -> bool {
        match token.word.meaning {
            Meaning::Json => self.json = true,
            Meaning::Atomic => self.atomic = true,
            Meaning::Socket => self.socket.clone_from(&token.value),
            _ => return false,
        }
        true
    }

    pub(crate) fn hear(
        &mut self,
        token: &Token,
        words: &Words<'_>,
        names: &dyn Names,
    ) -> Result<(), Failure> {
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
            Meaning::FullNat => self.method(Method::FullNat)?,
            Meaning::Toa(told) => {
                self.note(Opt::Toa)?;
                self.toa = Some(told);
            }
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

    pub(crate) fn service(
        &mut self,
        protocol: Protocol,
        value: &str,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        self.note(Opt::ServiceAddress)?;
        self.protocol = Some(protocol);
        self.vip = values::address(value, Some(protocol), names, None);
        if self.vip.is_none() {
            return Err(Failure::usage(
                "illegal virtual server address[:port] specified",
            ));
        }
        Ok(())
    }

    pub(crate) fn method(&mut self, method: Method) -> Result<(), Failure> {
        self.note(Opt::ForwardingMethod)?;
        self.method = Some(method);
        Ok(())
    }

    pub(crate) fn hear_value(
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
                // Names of ports need a service before them; so does the port if it is left out.
                let protocol = match (self.protocol, self.mark) {
                    (Some(protocol), _) => Some(protocol),
                    (None, 0) => None,
                    (None, _) => Some(Protocol::Tcp),
                };
                // The kernel takes no `::ffff:10.0.0.1` for a server, as little as `::`.
                let mapped = Some(Addr::UNSPECIFIED);
                let server = values::address(value, protocol, names, mapped);
                let (addr, port) = server.ok_or_else(|| illegal("real server address[:port]"))?;
                let service_port = self.vip.and_then(|vip| vip.1).unwrap_or(0);
                self.server = Endpoint::new(addr, port.unwrap_or(service_port));
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
            Opt::Local => self.local = Some(local_addresses(value)?),
            Opt::OnRemoval => {
                let policy = value.replacen(':', " ", 1).parse();
                self.on_removal = Some(policy.map_err(|_| {
                    Failure::usage(format!(
                        "no way of removal is called `{value}'; there are drain, drain:SECONDS, \
                         reset and reschedule"
                    ))
                })?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The family as far as it is known while options are read.
    pub(crate) fn family(&self) -> Family {
        match self.vip {
            Some((addr, _)) => addr.family(),
            None if self.ipv6 => Family::V6,
            None => Family::V4,
        }
    }

    pub(crate) fn netmask_of(&self, value: &str) -> Result<Netmask, Failure> {
        match self.family() {
            Family::V4 => values::ipv4(value)
                .map(Netmask::V4)
                .ok_or_else(|| Failure::usage("illegal virtual server persistent mask specified")),
            Family::V6 => match values::leading_number(value) {
                length @ 1..=128 => Ok(Netmask::V6(narrow(length.into()))),
                _ => Err(Failure::usage("illegal ipv6 netmask specified")),
            },
        }
    }
}

/// `10.0.0.250,10.0.0.251`, or `none`.
fn local_addresses(value: &str) -> Result<LocalAddresses, Failure> {
    if value == "none" {
        return Ok(LocalAddresses::NONE);
    }
    let addresses: Result<Vec<Addr>, Failure> = value
        .split(',')
        .map(|text| {
            text.parse()
                .map_err(|_| Failure::usage(format!("illegal local address `{text}' specified")))
        })
        .collect();
    LocalAddresses::new(&addresses?)
        .map_err(|why| Failure::usage(format!("too many local addresses specified: {why}")))
}

/// A multicast group.
fn group(value: &str) -> Result<IpAddr, Failure> {
    if value.contains(':') {
        let group = value.parse::<Ipv6Addr>().ok();
        return group
            .filter(Ipv6Addr::is_multicast)
            .map(IpAddr::V6)
            .ok_or_else(|| Failure::usage(format!("invalid IPv6 mcast-group `{value}'")));
    }
    match value.parse::<Ipv4Addr>() {
        Ok(group) if group.is_multicast() => Ok(group.into()),
        _ => Err(Failure::usage(format!(
            "invalid IPv4 mcast-group `{value}'"
        ))),
    }
}

/// A number that was checked to fit.
fn narrow<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}
