//! The marks of a recording: match expressions of nft, in the director's own rules.
//!
//! An expression in (`ip daddr 10.5.0.0/16 tcp dport { 80, 443 }`), a [`MarkRule`] out, or the word
//! that is not understood. A recording marked packets before routing, and its director took only
//! those that were for its host: so does the rule.

use lvs_core::Family;
use lvs_director::{MarkRule, Match, Pattern};

/// The rule of an expression.
///
/// # Errors
/// What is not understood.
pub(crate) fn rule(expression: &str, mark: u32) -> Result<MarkRule, String> {
    let mut words = Words(tokens(expression));
    let mut rule = MarkRule {
        local: true,
        ..MarkRule::new(mark)
    };
    while let Some(word) = words.next() {
        let of = |family| move |rule: &mut MarkRule| rule.family = Some(family);
        match word.as_str() {
            "ip" => {
                of(Family::V4)(&mut rule);
                network(&mut rule, &mut words)?;
            }
            "ip6" => {
                of(Family::V6)(&mut rule);
                network(&mut rule, &mut words)?;
            }
            "tcp" | "udp" | "sctp" | "udplite" | "th" => transport(&mut rule, &word, &mut words)?,
            "meta" => meta(&mut rule, &mut words)?,
            "iif" | "iifname" => words.values(&mut rule.interface)?,
            "fib" => {
                for expected in ["daddr", "type", "local"] {
                    words.expect(expected)?;
                }
            }
            "counter" | "accept" => {}
            _ => return Err(format!("`{word}` of `{expression}` is not understood")),
        }
    }
    Ok(rule)
}

fn network(rule: &mut MarkRule, words: &mut Words) -> Result<(), String> {
    match words.word()?.as_str() {
        "daddr" => words.values(&mut rule.destination),
        "saddr" => words.values(&mut rule.source),
        "protocol" | "nexthdr" => words.values(&mut rule.protocol),
        other => Err(format!("`{other}` is no field of IP that is understood")),
    }
}

fn transport(rule: &mut MarkRule, protocol: &str, words: &mut Words) -> Result<(), String> {
    if protocol != "th" {
        let one = Match::parse([protocol]).map_err(|error| error.to_string())?;
        rule.protocol = one;
    }
    match words.word()?.as_str() {
        "dport" => words.values(&mut rule.destination_port),
        "sport" => words.values(&mut rule.source_port),
        other => Err(format!("`{other}` is no port")),
    }
}

fn meta(rule: &mut MarkRule, words: &mut Words) -> Result<(), String> {
    match words.word()?.as_str() {
        "l4proto" => words.values(&mut rule.protocol),
        "iif" | "iifname" => words.values(&mut rule.interface),
        "nfproto" | "protocol" => {
            let family = words.word()?;
            rule.family = match family.as_str() {
                "ipv4" | "ip" => Some(Family::V4),
                "ipv6" | "ip6" => Some(Family::V6),
                _ => return Err(format!("`{family}` is no family")),
            };
            Ok(())
        }
        other => Err(format!("`meta {other}` is not understood")),
    }
}

/// The words of an expression; brackets, commas and operators are words of their own.
fn tokens(expression: &str) -> std::vec::IntoIter<String> {
    let mut spaced = String::new();
    for letter in expression.chars() {
        match letter {
            '{' | '}' | ',' => {
                spaced.push(' ');
                spaced.push(letter);
                spaced.push(' ');
            }
            '"' => spaced.push(' '),
            other => spaced.push(other),
        }
    }
    let spaced = spaced.replace("!=", " != ").replace("==", " == ");
    let words: Vec<_> = spaced.split_whitespace().map(str::to_owned).collect();
    words.into_iter()
}

struct Words(std::vec::IntoIter<String>);

impl Words {
    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn word(&mut self) -> Result<String, String> {
        self.next()
            .ok_or_else(|| "the expression ends early".to_owned())
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        let word = self.word()?;
        if word == expected {
            Ok(())
        } else {
            Err(format!("`{word}` stands where `{expected}` is understood"))
        }
    }

    /// A value, or several in braces, after `==` or `!=` or neither.
    fn values<T: Pattern>(&mut self, into: &mut Match<T>) -> Result<(), String> {
        let mut word = self.word()?;
        let without = word == "!=";
        if without || word == "==" {
            word = self.word()?;
        }
        let mut values = Vec::new();
        if word == "{" {
            loop {
                match self.word()?.as_str() {
                    "}" => break,
                    "," => {}
                    value => values.push(known(value).to_owned()),
                }
            }
        } else {
            values.push(known(&word).to_owned());
        }
        let list = if without {
            &mut into.without
        } else {
            &mut into.within
        };
        for value in values {
            list.push(value.parse().map_err(|error: T::Err| error.to_string())?);
        }
        Ok(())
    }
}

/// Ports that nft knows by name.
fn known(word: &str) -> &str {
    match word {
        "ftp-data" => "20",
        "ftp" => "21",
        "ssh" => "22",
        "smtp" => "25",
        "domain" => "53",
        "http" => "80",
        "https" => "443",
        "sip" => "5060",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_as_they_are_written() {
        let written = |expression: &str| rule(expression, 7);
        let found = written("ip daddr 10.5.0.0/16").unwrap();
        assert_eq!((found.mark, found.local), (7, true));
        assert!(found.destination.takes(&"10.5.9.9".parse().unwrap()));
        let found = written("ip6 saddr != { fd01::9, fd01::10-fd01::20 } tcp dport {80,https}");
        let found = found.unwrap();
        assert_eq!(found.family, Some(Family::V6));
        assert!(!found.source.takes(&"fd01::15".parse().unwrap()));
        assert!(found.destination_port.takes(&443) && !found.destination_port.takes(&81));
        let found =
            written(r#"iifname "d0" meta l4proto { tcp, udp } th sport 1024-65535"#).unwrap();
        assert!(found.interface.takes("d0") && !found.interface.takes("d1"));
        assert_eq!(found.protocol.within.len(), 2);
        for wrong in [
            "ip daddr",
            "ip daddr x",
            "ip ttl 3",
            "tcp flags syn",
            "ct state new",
            "ip daddr { 10.0.0.1",
        ] {
            assert!(written(wrong).is_err(), "{wrong}");
        }
    }
}
