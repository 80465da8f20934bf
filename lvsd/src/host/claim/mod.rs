//! Keeps the host's own stack away from traffic that is ours.
//!
//! An `AF_PACKET` socket sees a copy of each frame; the host's stack has the original, and would
//! answer it (with a reset, because nobody listens) or forward it a second time. A [`Claim`] drops
//! the original of what a [`ClaimSet`] names, behind the tap and before anything else of the host:
//!
//! ```text
//!   NIC ─▶ AF_PACKET tap ─▶ tc ingress ─▶ netdev ingress hook: our chain ─▶ the host's stack
//!              │                                  └ drop what is claimed
//!              └▶ lvsd
//! ```
//!
//! In: what is claimed, and the interfaces. Out: an nftables table of the `netdev` family with one
//! chain for each interface. Never: anything that outlives the process. The table belongs to the
//! netlink socket (`NFT_TABLE_F_OWNER`), and the kernel removes it when the socket closes, also
//! after `kill -9`. Nobody else can change it meanwhile; `nft list ruleset` shows it.
//!
//! A frame with a VLAN's tag is claimed on the interface of that VLAN, not on the trunk by which it
//! came; without such an interface the host does not take it anyway. Nor is a frame claimed on an
//! interface to which it is not addressed: it may be for another one of the host (macvlan, bridge).
//!
//! Not matched: ICMP errors that quote an IPv4 packet with options or an IPv6 packet with extension
//! headers, and packets that come over interfaces without a chain (the loopback interface, unless
//! it was added).
//!
//! ```
//! use lvs_core::Protocol;
//! use lvsd::host::claim::ClaimSet;
//!
//! let mut set = ClaimSet::default();
//! set.services.push((Protocol::Tcp, "192.0.2.10:80".parse()?));
//! set.replies.push((Protocol::Tcp, "10.0.0.2:8080".parse()?));
//! // The health checker's own connections to 10.0.0.2 come back to this address.
//! set.host_addresses.push("10.0.0.1".parse().unwrap());
//! # Ok::<(), lvs_core::ParseEndpointError>(())
//! ```

mod batch;
mod error;
mod expressions;
mod marks;
mod rules;
mod sets;
#[cfg(test)]
mod tests;

pub use batch::What;
pub use error::ClaimError;

use crate::host::netlink::{Attributes, Socket};
use batch::Batch;
use lvs_core::{Addr, Endpoint, Protocol};
use lvs_director::MarkRule;
use sets::Contents;
use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;

/// What is claimed. A port of 0 stands for all ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimSet {
    /// Virtual services: packets to such an endpoint. Later fragments have no port and are claimed
    /// by address and protocol.
    pub services: Vec<(Protocol, Endpoint)>,
    /// Destinations whose answers come back through us (NAT): packets from such an endpoint, and
    /// ICMP errors that quote a packet to it. Later fragments as above.
    pub replies: Vec<(Protocol, Endpoint)>,
    /// VIPs that the host does not have: everything to them. ARP is not IP, and solicitations of
    /// neighbours go to a multicast address, so the host still sees both.
    pub owned_vips: Vec<Addr>,
    /// The host's own addresses: packets to them are not claimed as `replies`, so that the host can
    /// speak to the destinations itself (health checks). A local address of FULLNAT belongs here
    /// only if the host uses it too; then `local_ports` tells whose a packet is.
    pub host_addresses: Vec<Addr>,
    /// The ports of FULLNAT on local addresses that are among the `host_addresses`: packets from
    /// `replies` to these are claimed all the same. The host must not use these ports itself
    /// (`net.ipv4.ip_local_port_range`, `ip_local_reserved_ports`). The ranges of one address must
    /// not overlap.
    pub local_ports: Vec<(Addr, RangeInclusive<u16>)>,
    /// Rules of firewall marks, each with whether its mark has a service: the last one that takes a
    /// packet decides whether it is claimed.
    pub marks: Vec<(MarkRule, bool)>,
}

/// Packets and bytes that a claim has taken from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimCounters {
    /// By [`ClaimSet::services`].
    pub services: Taken,
    /// By [`ClaimSet::replies`].
    pub replies: Taken,
    /// By [`ClaimSet::owned_vips`].
    pub owned_vips: Taken,
    /// ICMP errors, by what they quote.
    pub icmp_errors: Taken,
    /// By [`ClaimSet::marks`].
    pub marks: Taken,
}

/// How much one kind of rule has matched since the claim was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Packets (a GSO packet counts as one).
    pub packets: u64,
    /// Bytes, from the network header on.
    pub bytes: u64,
}

/// The claim in force. Dropping it gives everything back.
#[derive(Debug)]
pub struct Claim {
    socket: Socket,
    table: String,
    interfaces: BTreeMap<u32, String>,
    contents: Contents,
    marks: Vec<(MarkRule, bool)>,
}

impl Claim {
    /// Creates the table in the network namespace of the calling thread; it claims nothing yet.
    ///
    /// # Errors
    /// What the kernel lacks or forbids; see [`ClaimError`].
    pub fn open() -> Result<Self, ClaimError> {
        /// Process numbers are unique in one PID namespace only.
        const NAMES: u32 = 16;
        let mut socket = Socket::netfilter().map_err(ClaimError::Socket)?;
        let pid = std::process::id();
        let mut name = format!("lvsd-{pid}");
        let mut tried = 0;
        loop {
            let mut batch = Batch::new(&mut socket, &name);
            rules::table(&mut batch);
            let contents = sets::create(&mut batch);
            marks::chains(&mut batch);
            rules::chains(&mut batch);
            match batch.commit() {
                Ok(()) => {
                    return Ok(Self {
                        socket,
                        table: name,
                        interfaces: BTreeMap::new(),
                        contents,
                        marks: Vec::new(),
                    });
                }
                Err(ClaimError::NameTaken) if tried < NAMES => {
                    tried += 1;
                    name = format!("lvsd-{pid}-{tried}");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The name of the table, as `nft list table netdev …` wants it.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Claims what comes in by an interface too. Again for the same number: under its new name.
    ///
    /// # Errors
    /// [`ClaimError::NoInterface`] if there is none of that name (any more). Kernels from 6.16 on
    /// accept that, and claim as soon as an interface has this name.
    pub fn add_interface(&mut self, ifindex: u32, name: &str) -> Result<(), ClaimError> {
        match self.interfaces.get(&ifindex) {
            Some(known) if known == name => return Ok(()),
            Some(_) => self.remove_interface(ifindex)?,
            None => {}
        }
        let mut batch = Batch::new(&mut self.socket, &self.table);
        rules::interface(&mut batch, ifindex, name);
        batch.commit()?;
        self.interfaces.insert(ifindex, name.to_owned());
        Ok(())
    }

    /// Leaves an interface to the host again. Not an error if it is gone.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_interface(&mut self, ifindex: u32) -> Result<(), ClaimError> {
        if self.interfaces.remove(&ifindex).is_none() {
            return Ok(());
        }
        let mut batch = Batch::new(&mut self.socket, &self.table);
        rules::remove_interface(&mut batch, ifindex);
        match batch.commit() {
            // Some kernels remove the chain with its interface.
            Err(ClaimError::Kernel {
                what: What::RemoveChain,
                source,
            }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The interfaces with a chain, by number.
    pub fn interfaces(&self) -> impl Iterator<Item = (u32, &str)> {
        self.interfaces
            .iter()
            .map(|(&index, name)| (index, &**name))
    }

    /// Claims this and nothing else, from one packet to the next.
    ///
    /// # Errors
    /// If the kernel refuses; what was claimed before still is.
    pub fn replace(&mut self, set: &ClaimSet) -> Result<(), ClaimError> {
        let wanted = sets::contents(set);
        let mut batch = Batch::new(&mut self.socket, &self.table);
        sets::update(&mut batch, &self.contents, &wanted);
        if self.marks != set.marks {
            marks::replace(&mut batch, &set.marks);
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.commit()?;
        self.contents = wanted;
        self.marks.clone_from(&set.marks);
        Ok(())
    }

    /// How much has been taken from the host.
    ///
    /// # Errors
    /// If the kernel does not list the rules.
    pub fn counters(&mut self) -> Result<ClaimCounters, ClaimError> {
        let table = self.table.clone();
        let found = self
            .socket
            .dump(
                batch::GET_RULE,
                &batch::header(batch::NETDEV),
                |w| w.text(rules::RULE_TABLE, &table),
                |found, message| {
                    let attributes = Attributes::after(message.payload, batch::HEADER);
                    found.extend(rules::counted(attributes));
                },
            )
            .map_err(|source| ClaimError::Kernel {
                what: What::Counters,
                source,
            })?;
        let mut counters = ClaimCounters::default();
        for (kind, taken) in found {
            let counter = match kind {
                rules::Kind::Services => &mut counters.services,
                rules::Kind::Replies => &mut counters.replies,
                rules::Kind::Owned => &mut counters.owned_vips,
                rules::Kind::IcmpErrors => &mut counters.icmp_errors,
                rules::Kind::Marks => &mut counters.marks,
            };
            counter.packets += taken.packets;
            counter.bytes += taken.bytes;
        }
        Ok(counters)
    }
}
