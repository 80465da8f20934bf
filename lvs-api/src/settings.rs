//! Settings of the director and the rules of firewall marks, in the form they have on the wire.
//!
//! Names and words in, values out; what they mean, and which there are, the daemon knows.

use serde::{Deserialize, Serialize};

/// A setting under the kernel's name (`net.ipv4.vs.*`, IPVS 2.14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// The name, without `net.ipv4.vs.`: `conn_reuse_mode`.
    pub name: String,
    /// Its value at the moment.
    pub value: u32,
    /// The value that it has unless told otherwise.
    #[serde(default)]
    pub default: u32,
    /// The largest value that it can have; the least is 0.
    #[serde(default)]
    pub maximum: u32,
    /// What it does.
    #[serde(default)]
    pub description: String,
}

/// Which packets get a firewall mark. What is left empty takes everything; a word with `!` before
/// it is an exception. Of several rules that take a packet the last one decides.
///
/// ```
/// let rule: lvs_api::MarkRule = serde_json::from_str(
///     r#"{"mark": 7, "destination": ["10.5.0.0/16", "!10.5.0.1"], "destination_port": ["80"]}"#,
/// )?;
/// assert_eq!((rule.mark, rule.destination.len()), (7, 2));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// The mark; 0 takes away what earlier rules have given.
    pub mark: u32,
    /// `ipv4` or `ipv6`: one family only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<MarkFamily>,
    /// Interfaces where the packet came in: `eth0`, `eth*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<String>,
    /// `tcp`, `udp`, `sctp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocol: Vec<String>,
    /// Where it comes from: `10.1.0.0/16`, `fd00::1`, `10.0.0.1-10.0.0.9`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destination: Vec<String>,
    /// The port that it comes from: `80`, `1024-65535`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_port: Vec<String>,
    /// The port that it goes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destination_port: Vec<String>,
    /// Only packets to addresses of the host.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub local: bool,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}
