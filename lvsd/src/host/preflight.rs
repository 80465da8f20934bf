//! Whether this process may do, on this kernel, what a director does.
//!
//! In: nothing but the process itself. Out: one sentence for each thing that is missing, with its
//! cure. Never: a lasting change; what is tried is undone at once.
//!
//! It tries instead of reading lists of capabilities and options: only the attempt tells what a
//! user namespace, a container's filter or a security module makes of them.
//!
//! ```no_run
//! for lack in lvsd::host::preflight::check() {
//!     eprintln!("lvsd: {lack}");
//! }
//! ```

use super::claim::{Claim, ClaimError, ClaimSet};
use super::net::{NeighbourKeeper, NetSnapshot, WatchError};
use std::io;

/// Something that a director needs and does not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lack {
    /// No `AF_PACKET` socket for lack of a right.
    #[error(
        "not allowed to open packet sockets: give lvsd CAP_NET_RAW over its network namespace \
         (systemd: AmbientCapabilities=CAP_NET_RAW, docker: --cap-add NET_RAW)"
    )]
    NetRaw,
    /// No `AF_PACKET` socket at all.
    #[error(
        "cannot open packet sockets ({0}): the kernel needs CONFIG_PACKET (modprobe af_packet), \
         and the sandbox must allow AF_PACKET"
    )]
    Packet(#[source] io::Error),
    /// Interfaces, routes and neighbours cannot be read.
    #[error(transparent)]
    Net(#[from] WatchError),
    /// Neighbours cannot be asked for.
    #[error(
        "not allowed to ask the kernel for neighbours: give lvsd CAP_NET_ADMIN over its network \
         namespace (systemd: AmbientCapabilities=CAP_NET_ADMIN, docker: --cap-add NET_ADMIN)"
    )]
    NetAdmin,
    /// Traffic cannot be claimed from the host's stack.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// Tries everything that a director needs in the network namespace of the calling thread; empty if
/// all is well.
#[must_use]
pub fn check() -> Vec<Lack> {
    let mut lacks = Vec::new();
    lacks.extend(packet_socket().err());
    lacks.extend(net_admin().err());
    match claim() {
        // Said already.
        Err(Lack::Claim(ClaimError::Permission)) if has_net_admin_lack(&lacks) => {}
        other => lacks.extend(other.err()),
    }
    lacks
}

fn has_net_admin_lack(lacks: &[Lack]) -> bool {
    lacks.iter().any(|lack| matches!(lack, Lack::NetAdmin))
}

fn packet_socket() -> Result<(), Lack> {
    match socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Lack::NetRaw),
        Err(error) => Err(Lack::Packet(error)),
    }
}

/// Reading is free; asking for a neighbour is not. The right is checked before the request is
/// understood, so a request about no interface at all tells, and changes nothing.
fn net_admin() -> Result<(), Lack> {
    NetSnapshot::read()?;
    let mut keeper = NeighbourKeeper::open().map_err(WatchError::Open)?;
    let nobody = super::net::Hop {
        ifindex: u32::MAX >> 1,
        addr: lvs_core::Addr::from_v4_bits(0x7f00_0001),
    };
    match keeper.request(nobody, std::time::Instant::now()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Lack::NetAdmin),
        _ => Ok(()),
    }
}

/// A claim of nothing on the loopback interface, for a moment.
fn claim() -> Result<(), Lack> {
    let mut claim = Claim::open()?;
    claim.add_interface(1, "lo")?;
    claim.replace(&ClaimSet::default())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::in_namespace;
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    /// Gives up effective capabilities, of the calling thread only.
    fn without(lost: CapabilitySet) {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(lost);
        set_capabilities(None, sets).unwrap();
    }

    fn said() -> Vec<String> {
        check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_missing_in_a_namespace_of_ones_own() {
        in_namespace(|| {
            assert_eq!(said(), [""; 0]);
            assert_eq!(crate::host::testing::run("nft", "list ruleset"), "");
        });
    }

    #[test]
    fn what_is_missing_is_named_with_its_cure_and_only_once() {
        in_namespace(|| {
            without(CapabilitySet::NET_RAW);
            let lacks = said();
            assert_eq!(lacks.len(), 1, "{lacks:?}");
            assert!(lacks[0].contains("CAP_NET_RAW"));
            without(CapabilitySet::NET_ADMIN);
            let lacks = said();
            assert_eq!(lacks.len(), 2, "{lacks:?}");
            assert!(lacks[1].contains("CAP_NET_ADMIN"));
            assert!(matches!(Claim::open(), Err(ClaimError::Permission)));
        });
    }
}
