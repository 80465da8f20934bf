//! Expressions of nftables rules (`linux/netfilter/nf_tables.h`).
//!
//! In: what to load, compare and look up. Out: attributes. Never: a rule's meaning.
//!
//! An expression works on 32-bit registers; a set's key stands in consecutive ones, each field from
//! the start of a register.

use crate::host::netlink::Writer;

/// `NFT_REG32_00`
pub(super) const REGISTER: u32 = 8;
const REGISTER_VERDICT: u32 = 0;

/// Which header an offset counts from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    /// The Ethernet header, with a VLAN tag that the kernel has taken off back in its place.
    Link = 0,
    /// The IP header.
    Network = 1,
    /// What follows the IP header and its extensions; not there in later fragments.
    Transport = 2,
}

/// What `meta` tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    /// The EtherType, without VLAN tags that the kernel has taken off.
    Protocol = 1,
    /// The name of the interface where the packet came in.
    InterfaceName = 6,
    /// Whom the frame is for (`PACKET_HOST`, ...).
    PacketType = 19,
    /// The transport protocol, IPv6 extension headers stepped over.
    Transport = 16,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It is dropped.
    Drop,
    /// The rest of the chain is skipped.
    Return,
    /// Another chain decides.
    Jump(&'static str),
}

/// The expressions of one rule, under construction.
#[derive(Debug)]
pub(super) struct Expressions<'a>(pub(super) &'a mut Writer);

impl Expressions<'_> {
    /// Loads bytes of the packet; a packet that is shorter does not match.
    pub(super) fn load(&mut self, register: u32, base: Base, offset: u32, length: u32) {
        self.expression("payload", |w| {
            w.be_u32(1, register);
            w.be_u32(2, base as u32);
            w.be_u32(3, offset);
            w.be_u32(4, length);
        });
    }

    /// Loads what the kernel knows of the packet.
    pub(super) fn meta(&mut self, register: u32, key: Meta) {
        self.expression("meta", |w| {
            w.be_u32(1, register);
            w.be_u32(2, key as u32);
        });
    }

    /// Loads bytes of an IPv6 extension header; a packet without it does not match.
    pub(super) fn extension(&mut self, register: u32, header: u8, offset: u32, length: u32) {
        self.expression("exthdr", |w| {
            w.be_u32(1, register);
            w.octets(2, &[header]);
            w.be_u32(3, offset);
            w.be_u32(4, length);
        });
    }

    /// Goes on if the register begins with these bytes.
    pub(super) fn equal(&mut self, register: u32, value: &[u8]) {
        self.compare(register, 0, value);
    }

    /// Goes on if the register, masked, is not zero.
    pub(super) fn any_bit(&mut self, register: u32, mask: [u8; 2]) {
        self.expression("bitwise", |w| {
            w.be_u32(1, register);
            w.be_u32(2, register);
            w.be_u32(3, 2);
            w.nest(4, |w| w.octets(1, &mask));
            w.nest(5, |w| w.octets(1, &[0, 0]));
        });
        self.compare(register, 1, &[0, 0]);
    }

    /// Goes on if the register begins with other bytes.
    pub(super) fn differs(&mut self, register: u32, value: &[u8]) {
        self.compare(register, 1, value);
    }

    /// Goes on if the register begins with bytes from the first to the last, or with others.
    pub(super) fn range(&mut self, register: u32, inside: bool, first: &[u8], last: &[u8]) {
        self.expression("range", |w| {
            w.be_u32(1, register);
            w.be_u32(2, u32::from(!inside));
            w.nest(3, |w| w.octets(1, first));
            w.nest(4, |w| w.octets(1, last));
        });
    }

    fn compare(&mut self, register: u32, operator: u32, value: &[u8]) {
        self.expression("cmp", |w| {
            w.be_u32(1, register);
            w.be_u32(2, operator);
            w.nest(3, |w| w.octets(1, value));
        });
    }

    /// Goes on if the set holds the key that begins in the register.
    pub(super) fn lookup(&mut self, register: u32, set: &str) {
        self.expression("lookup", |w| {
            w.text(1, set);
            w.be_u32(2, register);
        });
    }

    /// Counts what has come so far.
    pub(super) fn count(&mut self) {
        self.expression("counter", |w| {
            w.octets(1, &[0; 8]);
            w.octets(2, &[0; 8]);
        });
    }

    /// Decides.
    pub(super) fn verdict(&mut self, verdict: Verdict) {
        let (code, chain): (i32, _) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Return => (-5, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
        };
        self.expression("immediate", |w| {
            w.be_u32(1, REGISTER_VERDICT);
            w.nest(2, |w| {
                w.nest(2, |w| {
                    w.octets(1, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        w.text(2, chain);
                    }
                });
            });
        });
    }

    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        self.0.nest(1, |w| {
            w.text(1, name);
            w.nest(2, data);
        });
    }
}
