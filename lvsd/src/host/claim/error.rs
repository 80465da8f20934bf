//! Why a claim is not possible, and what to do about it.
//!
//! In: error numbers of the kernel and what they were about. Out: one sentence each.

use super::batch::What;
use std::io;

/// The host's stack cannot be kept away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// No netlink socket.
    #[error(
        "cannot open an nfnetlink socket ({0}): the kernel needs CONFIG_NETFILTER_NETLINK \
         (modprobe nfnetlink), and the sandbox must allow AF_NETLINK"
    )]
    Socket(#[source] io::Error),
    /// `EPERM`.
    #[error(
        "not allowed to filter packets: give lvsd CAP_NET_ADMIN over its network namespace \
         (systemd: AmbientCapabilities=CAP_NET_ADMIN, docker: --cap-add NET_ADMIN)"
    )]
    Permission,
    /// The kernel has no nftables.
    #[error("the kernel has no nftables: modprobe nf_tables, or build it with CONFIG_NF_TABLES")]
    NoNftables,
    /// The `netdev` family or table ownership is missing.
    #[error(
        "the kernel cannot hold a netdev table that dies with its owner: Linux 5.12 or later with \
         CONFIG_NF_TABLES_NETDEV is needed"
    )]
    NoNetdevTable,
    /// The hook is missing.
    #[error("the kernel has no ingress hook: build it with CONFIG_NETFILTER_INGRESS")]
    NoIngressHook,
    /// No such interface.
    #[error("there is no network interface of that name (any more)")]
    NoInterface,
    /// Another owner has a table of this name.
    #[error("another process has an nftables table of this name")]
    NameTaken,
    /// Anything else.
    #[error("the kernel refuses {what}: {source}")]
    Kernel {
        /// What was asked of it.
        what: What,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl ClaimError {
    /// From an error number and the message that it answers.
    pub(super) fn of(what: What, code: i32) -> Self {
        match (what, code) {
            (What::Table, libc::EPERM | libc::EEXIST | libc::EBUSY) => Self::NameTaken,
            (_, libc::EPERM | libc::EACCES) => Self::Permission,
            (What::Begin, libc::EOPNOTSUPP | libc::ENOENT | libc::EINVAL) => Self::NoNftables,
            (What::Table, libc::EOPNOTSUPP | libc::EAFNOSUPPORT) => Self::NoNetdevTable,
            (What::Interface, libc::EOPNOTSUPP) => Self::NoIngressHook,
            (What::Interface, libc::ENOENT | libc::ENODEV) => Self::NoInterface,
            (what, code) => Self::Kernel {
                what,
                source: io::Error::from_raw_os_error(code),
            },
        }
    }
}
