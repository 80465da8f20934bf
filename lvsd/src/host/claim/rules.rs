//! The table, its chains and its rules.
//!
//! In: an interface. Out: messages of a [`Batch`]. Never: a packet dropped that no set names.
//!
//! ```text
//!   chain if-<number>  { hook ingress; policy accept; for another station, or of a VLAN: return;
//!                        ip → jump claim4; ip6 → jump claim6 }
//!   chain claim4 / claim6:
//!     what a mark's rules take ................... drop (in chain marks4 / marks6)
//!     to an owned VIP ............................ drop
//!     to a service (port, all ports, fragment) ... drop
//!     from a destination to a port of FULLNAT .... drop
//!     to an address of the host .................. return
//!     from a destination (port, all ports, ...) .. drop
//!     ICMP error that quotes a packet to one ..... drop
//! ```

use super::batch::{Batch, DEL_CHAIN, NEW_CHAIN, NEW_RULE, NEW_TABLE, What};
use super::expressions::{Base, Expressions, Meta, REGISTER, Verdict};
use super::sets::{Set, SetKind};
use super::{Taken, marks};
use crate::host::netlink::{APPEND, Attributes, CREATE, EXCLUSIVE, Writer, be_u64};
use lvs_core::Family;

/// `NFTA_RULE_TABLE`
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;

/// Before the host's own ingress chains and flow tables, which could send a packet on.
const PRIORITY: i32 = -500;

/// What a rule that counts is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Services,
    Replies,
    Owned,
    IcmpErrors,
    Marks,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Services,
        Self::Replies,
        Self::Owned,
        Self::IcmpErrors,
        Self::Marks,
    ];

    /// The comment on the rule, as `nft` lists it.
    const fn comment(self) -> &'static str {
        match self {
            Self::Services => "virtual services",
            Self::Replies => "replies of destinations",
            Self::Owned => "VIPs of lvsd",
            Self::IcmpErrors => "ICMP errors about our connections",
            Self::Marks => "virtual services by mark",
        }
    }
}

/// The table itself, owned by the socket.
pub(super) fn table(batch: &mut Batch<'_>) {
    const OWNER: u32 = 2;
    let table = batch.table();
    batch.add(What::Table, NEW_TABLE, CREATE | EXCLUSIVE, |w| {
        w.text(1, table);
        w.be_u32(2, OWNER);
    });
}

/// The chains that decide.
pub(super) fn chains(batch: &mut Batch<'_>) {
    for family in [Family::V4, Family::V6] {
        let chain = chain(family);
        let table = batch.table();
        batch.add(What::Chain, NEW_CHAIN, CREATE | EXCLUSIVE, |w| {
            w.text(1, table);
            w.text(3, chain);
        });
        add_rule(batch, chain, None, |e| {
            e.verdict(Verdict::Jump(marks::chain(family)));
        });
        let layout = Layout::of(family);
        let set = |kind| Set { family, kind }.name();
        rule(batch, chain, Some(Kind::Owned), |e| {
            e.load(REGISTER, Base::Network, layout.destination, layout.address);
            e.lookup(REGISTER, &set(SetKind::Owned));
        });
        let services = [
            set(SetKind::Services),
            set(SetKind::ServicesAnyPort),
            set(SetKind::ServicesFragments),
        ];
        endpoints(
            batch,
            &layout,
            Kind::Services,
            layout.destination,
            2,
            &services,
        );
        for (kind, with_port) in [(SetKind::Replies, true), (SetKind::RepliesAnyPort, false)] {
            rule(batch, chain, Some(Kind::Replies), |e| {
                e.load(REGISTER, Base::Network, layout.destination, layout.address);
                e.load(layout.protocol_register(), Base::Transport, 2, 2);
                e.lookup(REGISTER, &set(SetKind::LocalPorts));
                layout.load_end(e, layout.source, with_port.then_some(0));
                e.lookup(REGISTER, &set(kind));
            });
        }
        rule(batch, chain, None, |e| {
            e.load(REGISTER, Base::Network, layout.destination, layout.address);
            e.lookup(REGISTER, &set(SetKind::Host));
        });
        let replies = [
            set(SetKind::Replies),
            set(SetKind::RepliesAnyPort),
            set(SetKind::RepliesFragments),
        ];
        endpoints(batch, &layout, Kind::Replies, layout.source, 0, &replies);
        for (set, with_port) in [(&replies[0], true), (&replies[1], false)] {
            rule(batch, chain, Some(Kind::IcmpErrors), |e| {
                layout.is_icmp_error(
                    e,
                    &Set {
                        family,
                        kind: SetKind::IcmpErrors,
                    }
                    .name(),
                );
                layout.load_quoted(e, with_port);
                e.lookup(REGISTER, set);
            });
        }
    }
}

/// Rules about one end of a packet: with its port, on all ports, in a fragment.
fn endpoints(
    batch: &mut Batch<'_>,
    layout: &Layout,
    kind: Kind,
    address: u32,
    port: u32,
    [exact, any_port, fragments]: &[String; 3],
) {
    let chain = chain(layout.family);
    rule(batch, chain, Some(kind), |e| {
        layout.load_end(e, address, Some(port));
        e.lookup(REGISTER, exact);
    });
    rule(batch, chain, Some(kind), |e| {
        layout.load_end(e, address, None);
        e.lookup(REGISTER, any_port);
    });
    rule(batch, chain, Some(kind), |e| {
        layout.is_later_fragment(e);
        layout.load_end(e, address, None);
        e.lookup(REGISTER, fragments);
    });
}

/// The chain of an interface.
pub(super) fn interface(batch: &mut Batch<'_>, ifindex: u32, name: &str) {
    const INGRESS: u32 = 0;
    const ACCEPT: u32 = 1;
    /// `PACKET_OTHERHOST`
    const OTHER_HOST: u8 = 3;
    let table = batch.table();
    let base = base_chain(ifindex);
    batch.add(What::Interface, NEW_CHAIN, CREATE | EXCLUSIVE, |w| {
        w.text(1, table);
        w.text(3, &base);
        w.nest(4, |w| {
            w.be_u32(1, INGRESS);
            w.octets(2, &PRIORITY.to_be_bytes());
            w.text(3, name);
        });
        w.be_u32(5, ACCEPT);
        w.text(7, "filter");
    });
    // What is for another station goes to the interface of that station, if it is in this host.
    rule(batch, &base, None, |e| {
        e.meta(REGISTER, Meta::PacketType);
        e.equal(REGISTER, &[OTHER_HOST]);
    });
    // What has a tag goes to the VLAN's interface, which has a chain of its own, or to nobody. The
    // identifier 0 is no VLAN.
    for tag in [[0x81, 0x00], [0x88, 0xa8]] {
        rule(batch, &base, None, |e| {
            e.load(REGISTER, Base::Link, 12, 2);
            e.equal(REGISTER, &tag);
            e.load(REGISTER, Base::Link, 14, 2);
            e.any_bit(REGISTER, [0x0f, 0xff]);
        });
    }
    for (family, ether_type) in [(Family::V4, [0x08, 0x00]), (Family::V6, [0x86, 0xdd])] {
        add_rule(batch, &base, None, |e| {
            e.meta(REGISTER, Meta::Protocol);
            e.equal(REGISTER, &ether_type);
            e.verdict(Verdict::Jump(chain(family)));
        });
    }
}

/// The end of an interface's chain.
pub(super) fn remove_interface(batch: &mut Batch<'_>, ifindex: u32) {
    let table = batch.table();
    batch.add(What::RemoveChain, DEL_CHAIN, 0, |w| {
        w.text(1, table);
        w.text(3, &base_chain(ifindex));
    });
}

/// The kind of a listed rule and how much it has counted.
pub(super) fn counted(rule: Attributes<'_>) -> Option<(Kind, Taken)> {
    let note = rule.clone().find(RULE_USERDATA)?;
    let kind = Kind::ALL
        .into_iter()
        .find(|k| userdata(k.comment()) == note)?;
    for (_, expression) in Attributes(rule.find(RULE_EXPRESSIONS)?) {
        let attributes = Attributes(expression);
        if attributes.clone().find(1) == Some(b"counter\0") {
            let data = Attributes(attributes.find(2)?);
            let taken = Taken {
                bytes: be_u64(data.clone().find(1)?)?,
                packets: be_u64(data.find(2)?)?,
            };
            return Some((kind, taken));
        }
    }
    None
}

const fn chain(family: Family) -> &'static str {
    match family {
        Family::V4 => "claim4",
        Family::V6 => "claim6",
    }
}

fn base_chain(ifindex: u32) -> String {
    format!("if-{ifindex}")
}

/// A rule that drops and counts if it has a kind, and returns if not.
pub(super) fn rule(
    batch: &mut Batch<'_>,
    chain: &str,
    kind: Option<Kind>,
    matches: impl FnOnce(&mut Expressions<'_>),
) {
    add_rule(batch, chain, kind, |e| {
        matches(e);
        if kind.is_some() {
            e.count();
            e.verdict(Verdict::Drop);
        } else {
            e.verdict(Verdict::Return);
        }
    });
}

fn add_rule(
    batch: &mut Batch<'_>,
    chain: &str,
    kind: Option<Kind>,
    expressions: impl FnOnce(&mut Expressions<'_>),
) {
    let table = batch.table();
    batch.add(What::Rule, NEW_RULE, CREATE | APPEND, |w: &mut Writer| {
        w.text(RULE_TABLE, table);
        w.text(RULE_CHAIN, chain);
        w.nest(RULE_EXPRESSIONS, |w| expressions(&mut Expressions(w)));
        if let Some(kind) = kind {
            w.octets(RULE_USERDATA, &userdata(kind.comment()));
        }
    });
}

/// A comment as `nft` keeps it: type 0, length, text, final zero.
fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![0, length];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}

/// Where things stand in a packet of a family.
pub(super) struct Layout {
    family: Family,
    /// Bytes of an address.
    pub(super) address: u32,
    /// Offsets in the IP header.
    pub(super) source: u32,
    pub(super) destination: u32,
    protocol: u32,
    /// Bytes of the IP header without options or extensions.
    header: u32,
    icmp: u8,
}

impl Layout {
    /// RFC 791, 3.1; RFC 8200, 3.
    pub(super) const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                family,
                address: 4,
                source: 12,
                destination: 16,
                protocol: 9,
                header: 20,
                icmp: 1,
            },
            Family::V6 => Self {
                family,
                address: 16,
                source: 8,
                destination: 24,
                protocol: 6,
                header: 40,
                icmp: 58,
            },
        }
    }

    /// The register behind the address.
    const fn protocol_register(&self) -> u32 {
        REGISTER + self.address / 4
    }

    /// Loads the address at an offset, the protocol, and the port at an offset if wanted.
    fn load_end(&self, e: &mut Expressions<'_>, address: u32, port: Option<u32>) {
        e.load(REGISTER, Base::Network, address, self.address);
        e.meta(self.protocol_register(), Meta::Transport);
        if let Some(port) = port {
            e.load(self.protocol_register() + 1, Base::Transport, port, 2);
        }
    }

    fn is_later_fragment(&self, e: &mut Expressions<'_>) {
        /// The fragment header (RFC 8200, 4.5).
        const FRAGMENT: u8 = 44;
        match self.family {
            Family::V4 => {
                e.load(REGISTER, Base::Network, 6, 2);
                e.any_bit(REGISTER, [0x1f, 0xff]);
            }
            Family::V6 => {
                e.extension(REGISTER, FRAGMENT, 2, 2);
                e.any_bit(REGISTER, [0xff, 0xf8]);
            }
        }
    }

    fn is_icmp_error(&self, e: &mut Expressions<'_>, types: &str) {
        e.meta(REGISTER, Meta::Transport);
        e.equal(REGISTER, &[self.icmp]);
        e.load(REGISTER, Base::Transport, 0, 1);
        e.lookup(REGISTER, types);
    }

    /// Loads the quoted packet's destination, protocol and, if wanted, destination port. An ICMP
    /// header has eight bytes (RFC 792, RFC 4443).
    fn load_quoted(&self, e: &mut Expressions<'_>, with_port: bool) {
        const QUOTE: u32 = 8;
        if self.family == Family::V4 {
            // Version 4, no options: else the ports stand elsewhere.
            e.load(REGISTER, Base::Transport, QUOTE, 1);
            e.equal(REGISTER, &[0x45]);
        }
        let (destination, protocol) = (QUOTE + self.destination, QUOTE + self.protocol);
        e.load(REGISTER, Base::Transport, destination, self.address);
        e.load(self.protocol_register(), Base::Transport, protocol, 1);
        if with_port {
            let port = QUOTE + self.header + 2;
            e.load(self.protocol_register() + 1, Base::Transport, port, 2);
        }
    }
}
