//! What the machine must offer, and one exact sentence for each thing it does not.

use std::io;
use std::net::IpAddr;

use crate::{Error, Namespace, Result, Veth, raw::RawSocket};

/// Something that no code of ours can make up for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// No rights to make namespaces, and no way to a user namespace.
    #[error(
        "no right to make network namespaces ({0}): run as root, or allow user namespaces \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Rights(#[source] io::Error),
    /// A user namespace was wanted too late.
    #[error("a user namespace can be entered only before the process has a second thread")]
    SingleThread,
    /// `unshare(CLONE_NEWNET)` failed.
    #[error("this kernel gives no network namespaces ({0}): it needs CONFIG_NET_NS")]
    NetworkNamespaces(#[source] io::Error),
    /// No veth.
    #[error("this kernel has no veth interfaces ({0}): load the module veth or set CONFIG_VETH")]
    Veth(#[source] Box<Error>),
    /// No bridge.
    #[error("this kernel has no bridges ({0}): load the module bridge or set CONFIG_BRIDGE")]
    Bridge(#[source] Box<Error>),
    /// No packet sockets.
    #[error("no packet sockets ({0}): the kernel needs CONFIG_PACKET and this process CAP_NET_RAW")]
    Packet(#[source] Box<Error>),
    /// No IPv6.
    #[error("this kernel has no IPv6, or it is disabled ({0}): see ipv6.disable, CONFIG_IPV6")]
    Ipv6(#[source] Box<Error>),
}

/// Tries everything that a [`Site`](crate::Site) needs, in namespaces that vanish at once.
///
/// # Errors
///
/// The first thing that is missing.
pub fn check(ipv6: bool) -> Result<()> {
    let (one, two) = (Namespace::new("check-1")?, Namespace::new("check-2")?);
    Veth::connect(&one, "eth0", &two, "eth0").map_err(|e| Missing::Veth(Box::new(e)))?;
    two.add_bridge("br0")
        .map_err(|e| Missing::Bridge(Box::new(e)))?;
    one.run(|| RawSocket::open("eth0"))?
        .map_err(|e| Missing::Packet(Box::new(e)))?;
    if ipv6 {
        let address = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        one.add_address("eth0", address, 64)
            .map_err(|e| Missing::Ipv6(Box::new(e)))?;
    }
    Ok(())
}
