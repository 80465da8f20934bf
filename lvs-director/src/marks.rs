//! Firewall marks: which packets carry which, by rules of the director's own, since a packet that
//! comes from a ring has been through no netfilter.
//!
//! In: rules in the order of an operator, and a packet that no connection has. Out: its mark; 0 is
//! none. Connections are found without it, as in the kernel, so that a rule that changes does not
//! touch them.
//!
//! ```
//! use lvs_director::{MarkRule, Match};
//! let rule = MarkRule {
//!     destination: Match::parse(["10.5.0.0/16", "!10.5.9.1"])?,
//!     destination_port: Match::parse(["80", "8000-8080"])?,
//!     ..MarkRule::new(7)
//! };
//! assert!(rule.destination.takes(&"10.5.0.1".parse().unwrap()));
//! assert!(!rule.destination.takes(&"10.5.9.1".parse().unwrap()));
//! assert!(rule.destination_port.takes(&8001));
//! # Ok::<(), lvs_director::MarkError>(())
//! ```

use crate::error::RuleError;
use core::fmt;
use core::str::FromStr;
use lvs_core::{Addr, Family, Flow, Protocol};
use thiserror::Error;

/// One rule: packets of this kind get this mark. What is left empty takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarkRule {
    /// The mark; 0 takes away what earlier rules have given.
    pub mark: u32,
    /// One family only.
    pub family: Option<Family>,
    /// Where the packet came in, by the name that [`Routes::interface`](crate::Routes::interface)
    /// gives.
    pub interface: Match<Interface>,
    /// TCP, UDP or SCTP.
    pub protocol: Match<Transport>,
    /// Where it comes from.
    pub source: Match<Addresses>,
    /// Where it goes.
    pub destination: Match<Addresses>,
    /// The port that it comes from.
    pub source_port: Match<Ports>,
    /// The port that it goes to.
    pub destination_port: Match<Ports>,
    /// Only packets to addresses of the host.
    pub local: bool,
}

impl MarkRule {
    /// A rule that takes every packet.
    #[must_use]
    pub fn new(mark: u32) -> Self {
        Self {
            mark,
            ..Self::default()
        }
    }

    /// Whether there can be a packet that it takes.
    ///
    /// # Errors
    /// [`RuleError::MixedMark`]: its addresses are of different families.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.is_torn() {
            return Err(RuleError::MixedMark(self.mark));
        }
        Ok(())
    }

    fn takes(&self, flow: &Flow, interface: &str) -> bool {
        let family = flow.dst.addr.family();
        self.family.is_none_or(|only| only == family)
            && self.destination.takes(&flow.dst.addr)
            && self.destination_port.takes(&flow.dst.port)
            && self.protocol.takes(&flow.protocol)
            && self.source.takes(&flow.src.addr)
            && self.source_port.takes(&flow.src.port)
            && self.interface.takes(interface)
    }

    /// Whether it names addresses of both families, none of which could take a packet of the other.
    fn is_torn(&self) -> bool {
        let families = |match_: &Match<Addresses>| {
            let of = |family| match_.within.iter().any(|found| found.family() == family);
            (of(Family::V4), of(Family::V6))
        };
        match (families(&self.source), families(&self.destination)) {
            ((true, false), (false, true)) | ((false, true), (true, false)) => true,
            (source, destination) => self.family.is_some_and(|family| {
                let other = |(v4, v6): (bool, bool)| match family {
                    Family::V4 => v6 && !v4,
                    Family::V6 => v4 && !v6,
                };
                other(source) || other(destination)
            }),
        }
    }
}

/// What a packet is compared with: one of several, and none of several others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<T> {
    /// The packet is in one of these; empty: in any.
    pub within: Vec<T>,
    /// And in none of these.
    pub without: Vec<T>,
}

impl<T> Default for Match<T> {
    fn default() -> Self {
        Self {
            within: Vec::new(),
            without: Vec::new(),
        }
    }
}

impl<T: Pattern> Match<T> {
    /// Whether it takes everything.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.within.is_empty() && self.without.is_empty()
    }

    /// Whether it takes a value.
    #[must_use]
    pub fn takes(&self, value: &T::Value) -> bool {
        (self.within.is_empty() || self.within.iter().any(|found| found.takes(value)))
            && !self.without.iter().any(|found| found.takes(value))
    }

    /// Reads words; one with `!` before it is an exception.
    ///
    /// # Errors
    /// [`MarkError`], for the first word that is none.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, MarkError> {
        let mut all = Self::default();
        for word in words {
            match word.strip_prefix('!') {
                Some(word) => all.without.push(word.trim().parse()?),
                None => all.within.push(word.trim().parse()?),
            }
        }
        Ok(all)
    }
}

/// What one word of a [`Match`] says.
pub trait Pattern: FromStr<Err = MarkError> {
    /// What it is compared with.
    type Value: ?Sized;

    /// Whether a value is meant.
    fn takes(&self, value: &Self::Value) -> bool;
}

/// A word that no rule can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{word}` is {what}")]
pub struct MarkError {
    word: String,
    what: &'static str,
}

fn wrong<T>(word: &str, what: &'static str) -> Result<T, MarkError> {
    Err(MarkError {
        word: word.to_owned(),
        what,
    })
}

/// Addresses from one to another, both included: `10.1.0.0/16`, `fd00::1`, `10.0.0.1-10.0.0.9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The first.
    pub first: Addr,
    /// The last, of the same family.
    pub last: Addr,
}

impl Addresses {
    /// Their family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.first.family()
    }
}

impl Pattern for Addresses {
    type Value = Addr;

    fn takes(&self, addr: &Addr) -> bool {
        (self.first..=self.last).contains(addr) && addr.family() == self.family()
    }
}

impl FromStr for Addresses {
    type Err = MarkError;

    fn from_str(word: &str) -> Result<Self, MarkError> {
        const WHAT: &str = "no address, prefix or range, such as 10.1.0.7, 10.1.0.0/16, fd00::/8 or \
                            10.1.0.1-10.1.0.9";
        let addr = |text: &str| text.trim().parse::<Addr>();
        if let Some((first, length)) = word.split_once('/') {
            let (Ok(first), Ok(length)) = (addr(first), length.parse::<u8>()) else {
                return wrong(word, WHAT);
            };
            let most = if first.is_v4() { 32 } else { 128 };
            if length > most {
                return wrong(word, WHAT);
            }
            let first = first.masked(length);
            // The bits behind the prefix are all that may be set.
            let rest = u128::MAX.checked_shr(u32::from(length) + (128 - u32::from(most)));
            let last = u128::from_be_bytes(first.v6_octets()) | rest.unwrap_or(0);
            let last = Addr::from_v6_octets(last.to_be_bytes());
            return Ok(Self { first, last });
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        match (addr(first), addr(last)) {
            (Ok(first), Ok(last)) if first.family() == last.family() && first <= last => {
                Ok(Self { first, last })
            }
            _ => wrong(word, WHAT),
        }
    }
}

impl fmt::Display for Addresses {
    /// One address, a prefix, or a range, whichever says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = |addr: Addr| u128::from_be_bytes(addr.v6_octets());
        let (first, last) = (bits(self.first), bits(self.last));
        if first == last {
            return write!(f, "{}", self.first);
        }
        let rest = first ^ last;
        if rest & rest.wrapping_add(1) == 0 && first & rest == 0 {
            let whole = if self.first.is_v4() { 32 } else { 128 };
            let length = whole - rest.count_ones();
            return write!(f, "{}/{length}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Ports from one to another, both included: `80`, `1024-65535`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Pattern for Ports {
    type Value = u16;

    fn takes(&self, port: &u16) -> bool {
        (self.first..=self.last).contains(port)
    }
}

impl FromStr for Ports {
    type Err = MarkError;

    fn from_str(word: &str) -> Result<Self, MarkError> {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => wrong(word, "no port or range of ports, such as 80 or 1024-65535"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A transport protocol: `tcp`, `udp`, `sctp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport(pub Protocol);

impl Pattern for Transport {
    type Value = Protocol;

    fn takes(&self, protocol: &Protocol) -> bool {
        self.0 == *protocol
    }
}

impl FromStr for Transport {
    type Err = MarkError;

    fn from_str(word: &str) -> Result<Self, MarkError> {
        match word {
            "tcp" | "6" => Ok(Self(Protocol::Tcp)),
            "udp" | "17" => Ok(Self(Protocol::Udp)),
            "sctp" | "132" => Ok(Self(Protocol::Sctp)),
            _ => wrong(word, "none of the protocols tcp, udp and sctp"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name().to_ascii_lowercase())
    }
}

/// The name of an interface: `eth0`, or with a `*` at its end all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(String);

impl Interface {
    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern for Interface {
    type Value = str;

    fn takes(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.0,
        }
    }
}

impl FromStr for Interface {
    type Err = MarkError;

    fn from_str(word: &str) -> Result<Self, MarkError> {
        if word.is_empty() || word.len() > 16 || word.contains(['/', ' ']) {
            return wrong(word, "no name of an interface");
        }
        Ok(Self(word.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    rules: Box<[MarkRule]>,
    ask_for_local: bool,
}

impl Marks {
    /// Takes rules that can be.
    pub(crate) fn new(rules: &[MarkRule]) -> Result<Self, RuleError> {
        rules.iter().try_for_each(MarkRule::check)?;
        Ok(Self {
            rules: rules.into(),
            ask_for_local: rules.iter().any(|rule| rule.local),
        })
    }

    pub(crate) fn rules(&self) -> &[MarkRule] {
        &self.rules
    }

    /// Whether a rule wants to know if a packet goes to an address of the host.
    pub(crate) const fn ask_for_local(&self) -> bool {
        self.ask_for_local
    }

    /// The mark of a packet: the last rule that takes it decides.
    pub(crate) fn of(&self, flow: &Flow, interface: &str, local: bool) -> u32 {
        let takes = |rule: &&MarkRule| (local || !rule.local) && rule.takes(flow, interface);
        self.rules
            .iter()
            .rev()
            .find(takes)
            .map_or(0, |rule| rule.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(src: &str, dst: &str) -> Flow {
        Flow::new(Protocol::Tcp, src.parse().unwrap(), dst.parse().unwrap())
    }

    #[test]
    fn words_of_addresses() {
        let range = |word: &str| word.parse::<Addresses>().map(|found| found.to_string());
        for (word, shown) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
            ("10.0.0.1-10.0.0.2", "10.0.0.1-10.0.0.2"),
            ("10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
            ("fd00::1/127", "fd00::/127"),
            ("::/0", "::/0"),
            ("fd00::7", "fd00::7"),
        ] {
            assert_eq!(range(word).as_deref(), Ok(shown), "{word}");
        }
        for word in [
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-fd00::1",
            "10.0.0.0/33",
            "fd00::/129",
            "x",
            "",
        ] {
            assert!(range(word).is_err(), "{word}");
        }
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        let all: Addresses = "::/0".parse().unwrap();
        assert!(!all.takes(&"10.0.0.1".parse().unwrap()));
        assert!(all.takes(&"fd00::1".parse().unwrap()));
    }

    #[test]
    fn the_last_rule_decides() {
        let rule = |mark, destination: &str| MarkRule {
            destination: Match::parse([destination]).unwrap(),
            ..MarkRule::new(mark)
        };
        let rules = [
            rule(1, "10.5.0.0/16"),
            rule(2, "10.5.1.0/24"),
            rule(0, "10.5.1.7"),
        ];
        let marks = Marks::new(&rules).unwrap();
        let mark = |dst: &str| marks.of(&flow("10.1.0.1:1000", dst), "", false);
        assert_eq!(mark("10.5.0.1:80"), 1);
        assert_eq!(mark("10.5.1.1:80"), 2);
        assert_eq!(mark("10.5.1.7:80"), 0);
        assert_eq!(mark("10.6.0.1:80"), 0);
    }

    #[test]
    fn every_part_counts() {
        let words = |text: &str| text.parse().map(|found| vec![found]).unwrap();
        let whole = MarkRule {
            mark: 7,
            family: Some(Family::V4),
            interface: Match::parse(["eth*", "!eth9"]).unwrap(),
            protocol: Match {
                within: words("tcp"),
                without: Vec::new(),
            },
            source: Match::parse(["10.1.0.0/16"]).unwrap(),
            destination: Match::parse(["10.5.0.0/16"]).unwrap(),
            source_port: Match::parse(["!1-1023"]).unwrap(),
            destination_port: Match::parse(["80", "443"]).unwrap(),
            local: true,
        };
        let marks = Marks::new(core::slice::from_ref(&whole)).unwrap();
        let good = flow("10.1.0.1:1024", "10.5.0.1:443");
        assert_eq!(marks.of(&good, "eth0", true), 7);
        assert_eq!(marks.of(&good, "eth0", false), 0);
        assert_eq!(marks.of(&good, "eth9", true), 0);
        assert_eq!(marks.of(&good, "lan0", true), 0);
        for (src, dst) in [
            ("10.2.0.1:1024", "10.5.0.1:443"),
            ("10.1.0.1:1023", "10.5.0.1:443"),
            ("10.1.0.1:1024", "10.6.0.1:443"),
            ("10.1.0.1:1024", "10.5.0.1:81"),
        ] {
            assert_eq!(marks.of(&flow(src, dst), "eth0", true), 0, "{src} {dst}");
        }
        let udp = Flow {
            protocol: Protocol::Udp,
            ..good
        };
        assert_eq!(marks.of(&udp, "eth0", true), 0);
    }

    #[test]
    fn a_rule_that_could_never_match_is_refused() {
        let rule = MarkRule {
            source: Match::parse(["10.1.0.0/16"]).unwrap(),
            destination: Match::parse(["fd00::/8"]).unwrap(),
            ..MarkRule::new(9)
        };
        assert_eq!(
            Marks::new(core::slice::from_ref(&rule)).unwrap_err(),
            RuleError::MixedMark(9)
        );
        let both = MarkRule {
            destination: Match::parse(["fd00::/8", "10.0.0.0/8"]).unwrap(),
            ..rule.clone()
        };
        assert!(Marks::new(&[both]).is_ok());
        let of_v6 = MarkRule {
            family: Some(Family::V6),
            destination: Match::default(),
            ..rule
        };
        assert!(Marks::new(&[of_v6]).is_err());
    }
}
