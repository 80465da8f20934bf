//! Transactions of nfnetlink: all of it or nothing (`linux/netfilter/nfnetlink.h`).
//!
//! In: messages about one table. Out: one datagram, and the kernel's verdict. Never: half a change.

use super::error::ClaimError;
use crate::host::netlink::{ACK, REQUEST, Socket, Writer};
use std::fmt;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`, the upper half of a message type.
const NFTABLES: u16 = 10;
pub(super) const NEW_TABLE: u16 = NFTABLES << 8;
pub(super) const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
pub(super) const DEL_CHAIN: u16 = NFTABLES << 8 | 5;
pub(super) const NEW_RULE: u16 = NFTABLES << 8 | 6;
pub(super) const DEL_RULE: u16 = NFTABLES << 8 | 8;
pub(super) const GET_RULE: u16 = NFTABLES << 8 | 7;
pub(super) const NEW_SET: u16 = NFTABLES << 8 | 9;
pub(super) const NEW_ELEMENTS: u16 = NFTABLES << 8 | 12;
pub(super) const DEL_ELEMENTS: u16 = NFTABLES << 8 | 14;
/// `NFPROTO_NETDEV`
pub(super) const NETDEV: u8 = 5;
/// Bytes of `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;

/// `struct nfgenmsg` for a family.
pub(super) const fn header(family: u8) -> [u8; HEADER] {
    [family, 0, 0, 0]
}

/// What a message asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Any transaction at all.
    Begin,
    /// The table.
    Table,
    /// A set of addresses and ports.
    Set,
    /// What the sets hold.
    Elements,
    /// A chain that others jump to.
    Chain,
    /// A rule.
    Rule,
    /// The chain of an interface.
    Interface,
    /// The removal of an interface's chain.
    RemoveChain,
    /// To be told the counters.
    Counters,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Begin => "a transaction of nftables",
            Self::Table => "an nftables table",
            Self::Set => "an nftables set",
            Self::Elements => "the elements of an nftables set",
            Self::Chain => "an nftables chain",
            Self::Rule => "an nftables rule",
            Self::Interface => "the nftables chain of an interface",
            Self::RemoveChain => "the removal of an nftables chain",
            Self::Counters => "the counters of nftables rules",
        })
    }
}

/// A transaction under construction.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    socket: &'a mut Socket,
    table: &'a str,
    writer: Writer,
    asked: Vec<(u32, What)>,
}

impl<'a> Batch<'a> {
    /// An empty transaction about the table of that name.
    pub(super) fn new(socket: &'a mut Socket, table: &'a str) -> Self {
        let mut batch = Self {
            socket,
            table,
            writer: Writer::default(),
            asked: Vec::new(),
        };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// The table's name.
    pub(super) const fn table(&self) -> &'a str {
        self.table
    }

    /// Whether nothing has been asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.len() <= 1
    }

    /// Adds a message.
    pub(super) fn add(
        &mut self,
        what: What,
        kind: u16,
        flags: u16,
        attributes: impl FnOnce(&mut Writer),
    ) {
        let sequence = self.socket.next_sequence();
        self.asked.push((sequence, what));
        let flags = REQUEST | flags;
        self.writer
            .message(kind, flags, sequence, &header(NETDEV), attributes);
    }

    fn bracket(&mut self, kind: u16) {
        let sequence = self.socket.next_sequence();
        if kind == BATCH_BEGIN {
            self.asked.push((sequence, What::Begin));
        }
        // res_id names the subsystem, in network byte order.
        let [high, low] = NFTABLES.to_be_bytes();
        self.writer
            .message(kind, REQUEST, sequence, &[0, 0, high, low], |_| {});
    }

    /// Carries it out.
    pub(super) fn commit(mut self) -> Result<(), ClaimError> {
        // A message that fails is told of in any case; the last one tells of success as well.
        self.writer.flag_last(ACK);
        self.bracket(BATCH_END);
        let failed = |source| ClaimError::Kernel {
            what: What::Begin,
            source,
        };
        let bytes = self.writer.bytes();
        self.socket.reserve(bytes.len()).map_err(failed)?;
        self.socket.send(bytes).map_err(failed)?;
        let last = self.asked.last().map(|(sequence, _)| *sequence);
        loop {
            let messages = self.socket.wait().map_err(failed)?;
            for message in messages {
                let Some(code) = message.error() else {
                    continue;
                };
                let asked = self.asked.iter().find(|(s, _)| *s == message.sequence);
                let Some(&(sequence, what)) = asked else {
                    continue;
                };
                if code != 0 {
                    return Err(ClaimError::of(what, code));
                }
                if Some(sequence) == last {
                    return Ok(());
                }
            }
        }
    }
}
