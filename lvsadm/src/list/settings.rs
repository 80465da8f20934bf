//! Timeouts and synchronisation daemons; settings and drops, which ipvsadm does not have.

use lvs_api::{DropCount, SyncDaemon, SyncRole, Sysctl, Timeouts};
use std::io::{self, Write};

pub(super) fn timeouts(timeouts: &Timeouts, out: &mut dyn Write) -> io::Result<()> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    writeln!(out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")
}

pub(super) fn daemons(daemons: &[SyncDaemon], out: &mut dyn Write) -> io::Result<()> {
    for daemon in daemons {
        let role = match daemon.role {
            SyncRole::Master => "master",
            SyncRole::Backup => "backup",
        };
        writeln!(
            out,
            "{role} sync daemon (mcast={}, syncid={}, maxlen={}, group={}, port={}, ttl={})",
            daemon.interface, daemon.syncid, daemon.maxlen, daemon.group, daemon.port, daemon.ttl
        )?;
    }
    Ok(())
}

/// As `sysctl` writes them.
pub(super) fn sysctl(settings: &[Sysctl], out: &mut dyn Write) -> io::Result<()> {
    for Sysctl { name, value, .. } in settings {
        writeln!(out, "net.ipv4.vs.{name} = {value}")?;
    }
    Ok(())
}

/// Reasons that never occurred are left out.
pub(super) fn drops(drops: &[DropCount], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:<24} Meaning", "Packets", "Reason")?;
    for drop in drops.iter().filter(|drop| drop.packets > 0) {
        let DropCount {
            reason,
            packets,
            description,
        } = drop;
        writeln!(out, "{packets:>12} {reason:<24} {description}")?;
    }
    Ok(())
}
