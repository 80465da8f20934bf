//! Rules of firewall marks: from the words of the control protocol to the director's, and back.
//!
//! Words in, a rule or the word that is none out. Both ways lead to the same rule, so that a rule
//! that was read and set again has not changed.

use lvs_api::{Errno, MarkFamily, MarkRule, Refusal};
use lvs_core::Family;
use lvs_director::{self as director, Match, Pattern};
use std::fmt::Display;

/// The director's rule.
///
/// # Errors
/// `EINVAL`, with the field and the word that it cannot have.
pub(crate) fn to_director(rule: &MarkRule) -> Result<director::MarkRule, Refusal> {
    fn words<T: Pattern>(rule: &MarkRule, field: &str, of: &[String]) -> Result<Match<T>, Refusal> {
        Match::parse(of.iter().map(String::as_str)).map_err(|why| {
            let mark = rule.mark;
            Refusal::new(
                Errno::Invalid,
                format!("the rule for mark {mark}: in `{field}`, {why}"),
            )
        })
    }
    Ok(director::MarkRule {
        mark: rule.mark,
        family: rule.family.map(|family| match family {
            MarkFamily::Ipv4 => Family::V4,
            MarkFamily::Ipv6 => Family::V6,
        }),
        interface: words(rule, "interface", &rule.interface)?,
        protocol: words(rule, "protocol", &rule.protocol)?,
        source: words(rule, "source", &rule.source)?,
        destination: words(rule, "destination", &rule.destination)?,
        source_port: words(rule, "source_port", &rule.source_port)?,
        destination_port: words(rule, "destination_port", &rule.destination_port)?,
        local: rule.local,
    })
}

/// The words of a rule.
pub(crate) fn from_director(rule: &director::MarkRule) -> MarkRule {
    fn words<T: Display>(of: &Match<T>) -> Vec<String> {
        let within = of.within.iter().map(ToString::to_string);
        let without = of.without.iter().map(|word| format!("!{word}"));
        within.chain(without).collect()
    }
    MarkRule {
        mark: rule.mark,
        family: rule.family.map(|family| match family {
            Family::V4 => MarkFamily::Ipv4,
            Family::V6 => MarkFamily::Ipv6,
        }),
        interface: words(&rule.interface),
        protocol: words(&rule.protocol),
        source: words(&rule.source),
        destination: words(&rule.destination),
        source_port: words(&rule.source_port),
        destination_port: words(&rule.destination_port),
        local: rule.local,
    }
}
