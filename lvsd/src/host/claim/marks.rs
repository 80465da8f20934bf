//! The rules of firewall marks, as rules of the claim.
//!
//! In: the director's rules in their order, each with whether its mark has a service. Out: rules of
//! the chains `marks4` and `marks6`, where the last of them that takes a packet decides whether it is
//! dropped. What a rule names several of makes a rule of the table for each combination.

use super::batch::{Batch, DEL_RULE, NEW_CHAIN, What};
use super::expressions::{Base, Expressions, Meta, REGISTER};
use super::rules::{Kind, Layout, RULE_CHAIN, RULE_TABLE, rule};
use super::sets::{Set, SetKind};
use crate::host::netlink::{CREATE, EXCLUSIVE};
use lvs_core::{Addr, Family, Protocol};
use lvs_director::{Addresses, Interface, MarkRule, Match, Pattern, Ports, Transport};

/// The longest name of an interface with its final zero (`IFNAMSIZ`).
const NAME: usize = 16;

pub(super) const fn chain(family: Family) -> &'static str {
    match family {
        Family::V4 => "marks4",
        Family::V6 => "marks6",
    }
}

/// The chains, empty.
pub(super) fn chains(batch: &mut Batch<'_>) {
    let table = batch.table();
    for family in [Family::V4, Family::V6] {
        batch.add(What::Chain, NEW_CHAIN, CREATE | EXCLUSIVE, |w| {
            w.text(1, table);
            w.text(3, chain(family));
        });
    }
}

/// Puts these rules into the chains in the place of those that are there.
pub(super) fn replace(batch: &mut Batch<'_>, marks: &[(MarkRule, bool)]) {
    let table = batch.table();
    for family in [Family::V4, Family::V6] {
        batch.add(What::Rule, DEL_RULE, 0, |w| {
            w.text(RULE_TABLE, table);
            w.text(RULE_CHAIN, chain(family));
        });
        for (mark, claimed) in marks.iter().rev() {
            each_combination(mark, family, |one| {
                rule(batch, chain(family), claimed.then_some(Kind::Marks), |e| {
                    one.write(e, family);
                });
            });
        }
    }
}

/// A rule of which each part is one, or any.
struct One<'a> {
    rule: &'a MarkRule,
    protocol: Protocol,
    source: Option<Addresses>,
    destination: Option<Addresses>,
    source_port: Option<Ports>,
    destination_port: Option<Ports>,
    interface: Option<&'a Interface>,
}

/// What a match names, or that it names nothing.
fn choices<T: Pattern + Clone>(of: &Match<T>) -> Vec<Option<T>> {
    if of.within.is_empty() {
        return vec![None];
    }
    of.within.iter().cloned().map(Some).collect()
}

/// The same of one family; empty: it names only others.
fn addresses(of: &Match<Addresses>, family: Family) -> Vec<Option<Addresses>> {
    let mut all = choices(of);
    all.retain(|found| found.is_none_or(|found| found.family() == family));
    all
}

fn each_combination(rule: &MarkRule, family: Family, mut each: impl FnMut(&One<'_>)) {
    if rule.family.is_some_and(|only| only != family) {
        return;
    }
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocols = protocols.map(Transport);
    let wanted = protocols
        .iter()
        .filter(|found| rule.protocol.takes(&found.0));
    let interfaces: Vec<_> = if rule.interface.within.is_empty() {
        vec![None]
    } else {
        rule.interface.within.iter().map(Some).collect()
    };
    for protocol in wanted {
        for source in addresses(&rule.source, family) {
            for destination in addresses(&rule.destination, family) {
                for source_port in choices(&rule.source_port) {
                    for destination_port in choices(&rule.destination_port) {
                        for interface in &interfaces {
                            each(&One {
                                rule,
                                protocol: protocol.0,
                                source,
                                destination,
                                source_port,
                                destination_port,
                                interface: *interface,
                            });
                        }
                    }
                }
            }
        }
    }
}

impl One<'_> {
    fn write(&self, e: &mut Expressions<'_>, family: Family) {
        let layout = Layout::of(family);
        let rule = self.rule;
        e.meta(REGISTER, Meta::Transport);
        e.equal(REGISTER, &[self.protocol.number()]);
        for (at, within, without) in [
            (layout.source, self.source, &rule.source.without),
            (
                layout.destination,
                self.destination,
                &rule.destination.without,
            ),
        ] {
            let of_family = |found: &&Addresses| found.family() == family;
            let ranges = within
                .iter()
                .map(|found| (found, true))
                .chain(without.iter().filter(of_family).map(|found| (found, false)));
            for (range, inside) in ranges {
                e.load(REGISTER, Base::Network, at, layout.address);
                e.range(REGISTER, inside, &octets(range.first), &octets(range.last));
            }
        }
        for (at, within, without) in [
            (0, self.source_port, &rule.source_port.without),
            (2, self.destination_port, &rule.destination_port.without),
        ] {
            let ranges = within
                .iter()
                .map(|found| (found, true))
                .chain(without.iter().map(|found| (found, false)));
            for (range, inside) in ranges {
                let (first, last) = (range.first.to_be_bytes(), range.last.to_be_bytes());
                e.load(REGISTER, Base::Transport, at, 2);
                e.range(REGISTER, inside, &first, &last);
            }
        }
        let names = self
            .interface
            .iter()
            .map(|found| (*found, true))
            .chain(rule.interface.without.iter().map(|found| (found, false)));
        for (interface, inside) in names {
            e.meta(REGISTER, Meta::InterfaceName);
            if inside {
                e.equal(REGISTER, &name(interface));
            } else {
                e.differs(REGISTER, &name(interface));
            }
        }
        if rule.local {
            let kind = SetKind::Host;
            e.load(REGISTER, Base::Network, layout.destination, layout.address);
            e.lookup(REGISTER, &Set { family, kind }.name());
        }
    }
}

/// What a register with the name of an interface begins with.
fn name(interface: &Interface) -> Vec<u8> {
    let text = interface.as_str();
    let mut bytes = match text.strip_suffix('*') {
        Some(start) => return start.as_bytes().to_vec(),
        None => text.as_bytes().to_vec(),
    };
    bytes.resize(NAME, 0);
    bytes
}

fn octets(addr: Addr) -> Vec<u8> {
    match addr.family() {
        Family::V4 => addr.v4_octets().to_vec(),
        Family::V6 => addr.v6_octets().to_vec(),
    }
}
