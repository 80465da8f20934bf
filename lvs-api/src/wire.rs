//! How the values of `lvs-core`, which knows no serialisation, stand in JSON: by their text.
//!
//! Each module is for `#[serde(with = "...")]`.

use serde::{Deserialize, Deserializer, Serializer, de};
use std::fmt::Display;
use std::str::FromStr;

fn parsed<'de, D, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

/// Whatever has a text and comes back from it: endpoints and addresses.
pub(crate) mod text {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        parsed(deserializer, |text| {
            text.parse()
                .map_err(|why: T::Err| format!("`{text}`: {why}"))
        })
    }
}

/// The same, where it may be missing.
pub(crate) mod optional_text {
    use super::*;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|why| de::Error::custom(format!("`{text}`: {why}")))
    }
}

/// A service by its word.
/// Local addresses of FULLNAT, as a list of their texts.
pub(crate) mod locals {
    use super::*;
    use lvs_core::{Addr, LocalAddresses};
    use std::net::IpAddr;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<LocalAddresses>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let list = value.as_ref().map(|list| {
            let addresses = list.iter().map(IpAddr::from);
            addresses.collect::<Vec<IpAddr>>()
        });
        serde::Serialize::serialize(&list, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<LocalAddresses>, D::Error> {
        let list: Option<Vec<IpAddr>> = Deserialize::deserialize(deserializer)?;
        list.map(|list| {
            let addresses: Vec<Addr> = list.into_iter().map(Addr::from).collect();
            LocalAddresses::new(&addresses).map_err(de::Error::custom)
        })
        .transpose()
    }
}

pub(crate) mod key {
    use super::*;
    use crate::key;
    use lvs_core::ServiceKey;

    pub(crate) fn serialize<S: Serializer>(
        value: &ServiceKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key::format(value))
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<ServiceKey, D::Error>
    where
        D: Deserializer<'de>,
    {
        parsed(deserializer, |text| {
            key::parse(text).map_err(|why| why.to_string())
        })
    }
}

/// The same, where it may be missing.
pub(crate) mod optional_key {
    use super::*;
    use crate::key;
    use lvs_core::ServiceKey;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<ServiceKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(&key::format(value)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<Option<ServiceKey>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| key::parse(&text).map_err(de::Error::custom))
            .transpose()
    }
}

/// A protocol by its name in lower case.
pub(crate) mod protocol {
    use super::*;
    use lvs_core::Protocol;

    const ALL: [Protocol; 6] = [
        Protocol::Ip,
        Protocol::Icmp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Icmpv6,
        Protocol::Sctp,
    ];

    pub(crate) fn serialize<S: Serializer>(
        value: &Protocol,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.name().to_ascii_lowercase())
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<Protocol, D::Error>
    where
        D: Deserializer<'de>,
    {
        parsed(deserializer, |text| {
            ALL.into_iter()
                .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
                .ok_or_else(|| format!("no protocol is called `{text}`"))
        })
    }
}

/// The counters of `lvs-core`, field by field.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "lvs_core::Counters")]
pub(crate) struct CountersWire {
    pub(crate) conns: u64,
    pub(crate) in_packets: u64,
    pub(crate) out_packets: u64,
    pub(crate) in_bytes: u64,
    pub(crate) out_bytes: u64,
}

/// The rates of `lvs-core`, field by field.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "lvs_core::Rates")]
pub(crate) struct RatesWire {
    pub(crate) cps: u64,
    pub(crate) in_pps: u64,
    pub(crate) out_pps: u64,
    pub(crate) in_bps: u64,
    pub(crate) out_bps: u64,
}
