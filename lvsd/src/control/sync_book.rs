//! Synchronisation daemons as a list: who would run, with what settings.
//!
//! Starts and stops in, the kernel's refusals (IPVS 5.4) or the changed list out. For directors that
//! have no packets, where there is nothing to synchronise and the list is all that can be tried.

use super::backend::refuse;
use lvs_api::{Errno, Refusal, SyncDaemon, SyncRole, SyncStart};
use std::net::{IpAddr, Ipv4Addr};

/// The kernel's defaults.
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const PORT: u16 = 8848;
const TTL: u8 = 1;

/// The daemons that run, and the interfaces that one could run on.
#[derive(Clone, Debug, Default)]
pub(super) struct SyncBook {
    daemons: Vec<SyncDaemon>,
    interfaces: Vec<String>,
}

impl SyncBook {
    pub(super) fn new(interfaces: &[impl AsRef<str>]) -> Self {
        let names = interfaces.iter().map(|name| name.as_ref().to_owned());
        Self {
            daemons: Vec::new(),
            interfaces: names.collect(),
        }
    }

    /// Those that run, master first.
    pub(super) fn daemons(&self) -> &[SyncDaemon] {
        &self.daemons
    }

    /// Whether any runs. Then no destination may be of another family than its service.
    pub(super) fn is_running(&self) -> bool {
        !self.daemons.is_empty()
    }

    pub(super) fn start(&mut self, config: &SyncStart) -> Result<(), Refusal> {
        if !self.interfaces.contains(&config.interface) {
            let sentence = format!("there is no interface {}", config.interface);
            return Err(Refusal::new(Errno::NoDevice, sentence));
        }
        if self.daemons.iter().any(|daemon| daemon.role == config.role) {
            let sentence = format!("a synchronisation {:?} is already running", config.role);
            return Err(Refusal::new(Errno::Exists, sentence.to_lowercase()));
        }
        let group = config.group.unwrap_or(GROUP);
        self.daemons.push(SyncDaemon {
            role: config.role,
            interface: config.interface.clone(),
            syncid: config.syncid,
            maxlen: longest_message(config, group),
            group,
            port: config.port.unwrap_or(PORT),
            ttl: config.ttl.unwrap_or(TTL),
        });
        self.daemons
            .sort_by_key(|daemon| daemon.role != SyncRole::Master);
        Ok(())
    }

    pub(super) fn stop(&mut self, role: SyncRole) -> Result<(), Refusal> {
        if !self.daemons.iter().any(|daemon| daemon.role == role) {
            return Err(refuse::no_daemon(role));
        }
        self.daemons.retain(|daemon| daemon.role != role);
        Ok(())
    }
}

/// What the kernel makes of the longest message (6.1): a master keeps to Ethernet unless it is told
/// otherwise, a backup takes what its interface can carry, and never less than 1024 bytes.
fn longest_message(config: &SyncStart, group: IpAddr) -> u16 {
    const ETHERNET: u16 = 1500;
    let headers = if group.is_ipv4() { 28 } else { 48 };
    let (least, mtu) = match config.role {
        SyncRole::Master => (1, ETHERNET),
        SyncRole::Backup if config.interface == "lo" => (1024, u16::MAX),
        SyncRole::Backup => (1024, ETHERNET),
    };
    match config.maxlen {
        Some(asked) => asked.clamp(least, u16::MAX - headers),
        None => mtu - headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_kernel() {
        let length = |role, interface: &str, maxlen, group: &str| {
            let config = SyncStart {
                role,
                interface: interface.to_owned(),
                syncid: 0,
                maxlen,
                group: Some(group.parse().unwrap()),
                port: None,
                ttl: None,
            };
            longest_message(&config, config.group.unwrap())
        };
        let (v4, v6) = ("224.0.0.81", "ff02::81");
        assert_eq!(length(SyncRole::Master, "d1", None, v4), 1472);
        assert_eq!(length(SyncRole::Master, "lo", None, v6), 1452);
        assert_eq!(length(SyncRole::Backup, "lo", None, v4), 65507);
        assert_eq!(length(SyncRole::Backup, "d1", Some(32), v4), 1024);
        assert_eq!(length(SyncRole::Master, "d1", Some(32), v4), 32);
        assert_eq!(length(SyncRole::Master, "d1", Some(65507), v6), 65487);
    }
}
