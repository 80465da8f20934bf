//! `/proc/sys/net`, which shows each thread the values of the namespace it is in.

use std::fs;

use crate::{Error, Namespace, Result};

/// What every new namespace is set to: IPv6 usable at once, no reverse-path filter, no chatter.
///
/// A value the kernel does not know is passed over: these are defaults for comfort.
const QUIET: &[(&str, &str)] = &[
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
    ("net.ipv4.conf.all.accept_redirects", "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv4.icmp_msgs_per_sec", "100000"),
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.dad_transmits", "0"),
    ("net.ipv6.conf.all.accept_ra", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.all.router_solicitations", "0"),
    ("net.ipv6.conf.default.router_solicitations", "0"),
    ("net.ipv6.conf.all.accept_redirects", "0"),
    ("net.ipv6.conf.default.accept_redirects", "0"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
    ("net.bridge.bridge-nf-call-iptables", "0"),
    ("net.bridge.bridge-nf-call-ip6tables", "0"),
    ("net.bridge.bridge-nf-call-arptables", "0"),
];

/// The path of a name such as `net.ipv4.ip_forward`; interfaces may have dots if written with `/`.
fn path(name: &str) -> String {
    if name.contains('/') {
        format!("/proc/sys/{name}")
    } else {
        format!("/proc/sys/{}", name.replace('.', "/"))
    }
}

impl Namespace {
    /// Sets `net.ipv4.ip_forward` and the like, here only.
    ///
    /// # Errors
    ///
    /// When the kernel knows no such value or refuses it.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(path(name), value))?
            .map_err(Error::io(format!("set {name}={value} in {}", self.name())))
    }

    /// Reads a value, without the line end.
    ///
    /// # Errors
    ///
    /// When the kernel knows no such value.
    pub fn sysctl(&self, name: &str) -> Result<String> {
        self.run(|| fs::read_to_string(path(name)))?
            .map(|text| text.trim_end().to_owned())
            .map_err(Error::io(format!("read {name} in {}", self.name())))
    }

    /// Lets this namespace route, IPv4 and IPv6, or stops it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_forwarding(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.set_sysctl("net.ipv4.ip_forward", value)?;
        self.set_sysctl("net.ipv6.conf.all.forwarding", value)
    }

    pub(crate) fn quieten(&self) -> Result<()> {
        self.run(|| {
            for (name, value) in QUIET {
                let _ = fs::write(path(name), value);
            }
        })
    }
}
