//! The one word that names a service: `tcp://192.0.2.10:80`, `udp://[2001:db8::10]:53`,
//! `sctp://192.0.2.10:9899`, `fwmark://7` for a firewall mark of IPv4 packets and `fwmark6://7`
//! for one of IPv6 packets.
//!
//! ```
//! use lvs_api::key;
//! let service = key::parse("udp://[2001:db8::10]:53")?;
//! assert_eq!(key::format(&service), "udp://[2001:db8::10]:53");
//! assert!(key::parse("tcp://192.0.2.10").is_err());
//! # Ok::<(), key::ParseKeyError>(())
//! ```

use lvs_core::{Addr, Endpoint, Family, Protocol, ServiceKey};

/// Why a word names no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// No known scheme before `://`.
    #[error(
        "a service is written protocol://address:port, such as tcp://192.0.2.10:80, or fwmark://7"
    )]
    Scheme,
    /// After a protocol stands no address and port.
    #[error("`{0}` is not an address and port such as 192.0.2.10:80 or [2001:db8::10]:80")]
    Endpoint(String),
    /// After `://` stands an address without its port.
    #[error("`{0}` lacks its port, as in {1}:80")]
    NoPort(String, String),
    /// Not a firewall mark.
    #[error("`{0}` is not a firewall mark, a number from 1 to 4294967295")]
    Mark(String),
}

/// The word of a service.
#[must_use]
pub fn format(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Endpoint { protocol, vip } => {
            format!("{}://{vip}", protocol.name().to_ascii_lowercase())
        }
        ServiceKey::FwMark { family, mark } => match family {
            Family::V4 => format!("fwmark://{mark}"),
            Family::V6 => format!("fwmark6://{mark}"),
        },
    }
}

/// The service of a word.
///
/// # Errors
/// When it is not one of the forms above.
pub fn parse(word: &str) -> Result<ServiceKey, ParseKeyError> {
    let (scheme, rest) = word.split_once("://").ok_or(ParseKeyError::Scheme)?;
    let family = match scheme {
        "tcp" => return endpoint(Protocol::Tcp, rest),
        "udp" => return endpoint(Protocol::Udp, rest),
        "sctp" => return endpoint(Protocol::Sctp, rest),
        "fwmark" => Family::V4,
        "fwmark6" => Family::V6,
        _ => return Err(ParseKeyError::Scheme),
    };
    match rest.parse() {
        Ok(mark) if mark != 0 => Ok(ServiceKey::FwMark { family, mark }),
        _ => Err(ParseKeyError::Mark(rest.to_owned())),
    }
}

fn endpoint(protocol: Protocol, text: &str) -> Result<ServiceKey, ParseKeyError> {
    if let Ok(vip) = text.parse::<Endpoint>() {
        return Ok(ServiceKey::Endpoint { protocol, vip });
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    Err(match bare.parse::<Addr>() {
        Ok(addr) if addr.is_v4() => ParseKeyError::NoPort(text.to_owned(), addr.to_string()),
        Ok(addr) => ParseKeyError::NoPort(text.to_owned(), format!("[{addr}]")),
        Err(_) => ParseKeyError::Endpoint(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_survives_the_way_there_and_back() {
        for word in [
            "tcp://192.0.2.10:80",
            "udp://[2001:db8::10]:53",
            "sctp://0.0.0.0:0",
            "fwmark://1",
            "fwmark6://4294967295",
        ] {
            assert_eq!(format(&parse(word).unwrap()), word);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let say = |word: &str| parse(word).unwrap_err().to_string();
        assert!(say("192.0.2.10:80").contains("protocol://address:port"));
        assert!(say("http://192.0.2.10:80").contains("protocol://address:port"));
        assert!(say("tcp://192.0.2.10").contains("lacks its port, as in 192.0.2.10:80"));
        assert!(say("tcp://fd00::1").contains("[fd00::1]:80"));
        assert!(say("tcp://example:80").contains("not an address and port"));
        assert!(say("fwmark://0").contains("1 to 4294967295"));
    }
}
