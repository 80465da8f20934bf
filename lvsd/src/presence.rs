//! What the world sees of the rules: traffic claimed from the host, addresses answered for and
//! announced, neighbours kept at hand.
//!
//! In: the director's rules and the kernel's tables. Out: the claim in the kernel, the list that
//! workers answer ARP from, announcements. Never: a decision about a packet.

use crate::dataplane::{AnsweredVips, Dataplane};
use crate::host::announce::{self, Announcement};
use crate::host::claim::{Claim, ClaimError, ClaimSet};
use crate::host::net::{Hop, Interface, NetSnapshot};
use arc_swap::ArcSwap;
use lvs_core::Addr;
use lvs_director::{Director, LOCAL_PORTS};
use lvs_io_afpacket::Membership;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tracing::{error, info, warn};

/// Keeps the host in step with the rules.
#[derive(Debug)]
pub struct Presence {
    director: Arc<Director>,
    snapshots: Arc<ArcSwap<NetSnapshot>>,
    vips: Arc<ArcSwap<AnsweredVips>>,
    neighbours: Arc<ArcSwap<Vec<Hop>>>,
    wanted: SyncSender<Hop>,
    claim: Option<Claim>,
    dataplane: Option<Dataplane>,
    /// What has been announced, so that it is announced once.
    announced: Vec<(u32, Addr)>,
    memberships: Vec<((u32, Addr), Membership)>,
}

impl Presence {
    /// With a data plane, a way to ask for neighbours (`wanted`; `neighbours` are those kept) and, unless the operator does that otherwise, a claim.
    #[must_use]
    pub fn new(
        director: Arc<Director>,
        snapshots: Arc<ArcSwap<NetSnapshot>>,
        vips: Arc<ArcSwap<AnsweredVips>>,
        neighbours: Arc<ArcSwap<Vec<Hop>>>,
        wanted: SyncSender<Hop>,
        claim: Option<Claim>,
        dataplane: Dataplane,
    ) -> Self {
        let announced = Vec::new();
        Self {
            director,
            snapshots,
            vips,
            neighbours,
            wanted,
            claim,
            dataplane: Some(dataplane),
            announced,
            memberships: Vec::new(),
        }
    }

    /// Works on an interface from now on.
    pub fn attach(&mut self, interface: &Interface) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        // Claimed first: between the two the host is silent, and does not answer for us.
        if let Some(claim) = &mut self.claim
            && let Err(error) = claim.add_interface(interface.index, &interface.name)
        {
            error!(interface = %interface.name, "its traffic cannot be claimed: {error}");
        }
        if let Err(error) = dataplane.attach(interface) {
            error!(interface = %interface.name, "cannot be used: {error}");
            self.release(interface.index);
        }
    }

    /// Leaves an interface.
    pub fn detach(&mut self, ifindex: u32) {
        if let Some(dataplane) = &mut self.dataplane {
            dataplane.detach(ifindex);
        }
        self.announced.retain(|(on, _)| *on != ifindex);
        self.release(ifindex);
    }

    fn release(&mut self, ifindex: u32) {
        if let Some(claim) = &mut self.claim
            && let Err(error) = claim.remove_interface(ifindex)
        {
            warn!("the claim on interface {ifindex} cannot be removed: {error}");
        }
    }

    /// Brings everything in step with the rules and the kernel's tables of this moment.
    pub fn follow(&mut self) {
        let Some(dataplane) = &self.dataplane else {
            return;
        };
        let net = self.snapshots.load_full();
        let claims = self.director.claims();
        // Local addresses of FULLNAT are the director's as VIPs are.
        let vips = claims.services.iter().map(|(_, vip)| vip.addr);
        let vips = vips.chain(claims.locals.iter().copied());
        let foreign = announce::foreign(vips.clone(), &net);
        let unanswered = announce::unanswered(vips, &net);
        let interfaces = dataplane.interfaces();
        self.vips
            .store(Arc::new(AnsweredVips::new(&unanswered, &interfaces, &net)));

        let servers = self.director.servers();
        let mut hops: Vec<Hop> = servers
            .into_iter()
            .filter_map(|addr| net.hop(addr))
            .collect();
        hops.sort_unstable();
        hops.dedup();
        let known = self.neighbours.load();
        for hop in hops.iter().filter(|hop| !known.contains(hop)) {
            // Asked for before the first client comes; a full queue leaves it to the next second.
            let _ = self.wanted.try_send(*hop);
        }
        self.neighbours.store(Arc::new(hops));

        let set = ClaimSet {
            local_ports: shared_locals(&claims.locals, &net),
            marks: claims.marks,
            services: claims.services,
            replies: claims.replies,
            owned_vips: foreign,
            host_addresses: net.addresses().collect(),
        };
        if let Some(claim) = &mut self.claim
            && let Err(error) = claim.replace(&set)
        {
            error!("the host may answer beside us, for its traffic cannot be claimed: {error}");
        }
        let announcements = announce::announcements(unanswered, &interfaces, &net);
        let pair = |found: &Announcement| (found.ifindex, found.vip);
        for announcement in &announcements {
            if !self.announced.contains(&pair(announcement)) {
                info!(vip = %announcement.vip, "answering for it, since the host does not");
                let mut buffer = [0; Announcement::MAX_LEN];
                dataplane.send(announcement.ifindex, announcement.write(&mut buffer));
            }
        }
        self.announced = announcements.iter().map(pair).collect();
        self.listen();
    }

    /// Joins the groups to which neighbour solicitations for our IPv6 VIPs are sent.
    fn listen(&mut self) {
        let wanted = |on: &(u32, Addr)| self.announced.contains(on);
        self.memberships.retain(|(on, _)| wanted(on));
        for &(ifindex, vip) in self.announced.iter().filter(|(_, vip)| !vip.is_v4()) {
            if self.memberships.iter().any(|(on, _)| *on == (ifindex, vip)) {
                continue;
            }
            match Membership::join(ifindex, solicited_node(vip)) {
                Ok(membership) => self.memberships.push(((ifindex, vip), membership)),
                Err(error) => warn!(%vip, "its neighbour solicitations may not arrive: {error}"),
            }
        }
    }

    /// The data plane, while it runs.
    #[must_use]
    pub const fn dataplane(&self) -> Option<&Dataplane> {
        self.dataplane.as_ref()
    }

    /// Stops the workers, then gives the traffic back to the host.
    pub fn stop(&mut self) {
        if let Some(dataplane) = self.dataplane.take() {
            dataplane.stop();
        }
        self.claim = None;
    }
}

/// The local addresses that the host has too, with the ports that FULLNAT gives out.
fn shared_locals(locals: &[Addr], net: &NetSnapshot) -> Vec<(Addr, RangeInclusive<u16>)> {
    let shared = net.addresses().filter(|addr| locals.contains(addr));
    shared.map(|addr| (addr, LOCAL_PORTS)).collect()
}

/// The Ethernet group of an address's solicited-node group (RFC 4291, 2.7.1; RFC 2464, 7).
const fn solicited_node(vip: Addr) -> [u8; 6] {
    let [_, high, middle, low] = vip.low_word().to_be_bytes();
    [0x33, 0x33, 0xff, high, middle, low]
}

/// A claim, or why there is none.
///
/// # Errors
/// As [`Claim::open`].
pub fn claim(wanted: bool) -> Result<Option<Claim>, ClaimError> {
    wanted.then(Claim::open).transpose()
}
