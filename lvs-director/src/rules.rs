//! The rule table: services by key, destinations by number, as one immutable snapshot.
//!
//! The control plane clones the snapshot, edits the clone and publishes it; cloning shares all that
//! did not change, so that an edit costs a few microseconds whatever the number of services.

use crate::destination::{Destination, Home};
use crate::director::MANY;
use crate::helper::Helpers;
use crate::marks::Marks;
use crate::shards::{Notes, Shards};
use lvs_conn::DestinationId;
use lvs_core::{
    Addr, Endpoint, Engine, Family, ForwardMethod, LocalAddresses, OnRemoval, Persistence,
    Protocol, SchedFlags, ServiceKey,
};
use lvs_sched::Pool;
use std::sync::Arc;

/// Destinations are held in shared chunks of this many.
const CHUNK: usize = 256;

/// An array, so that a packet finds its destination without asking for a length.
type Chunk = [Option<Arc<Destination>>; CHUNK];

impl Kinds {
    const fn any(self) -> bool {
        self.all_ports > 0 || self.ftp > 0 || self.marks > 0
    }
}

/// Whether a service is that of FTP's commands.
pub(crate) fn is_ftp(protocol: Protocol, vip: Endpoint) -> bool {
    protocol == Protocol::Tcp && vip.port == FTP
}

/// The port of FTP's commands.
pub(crate) const FTP: u16 = 21;
/// The port from which FTP servers open data connections.
pub(crate) const FTP_DATA: u16 = 20;
/// Passive data connections go to ports from here on (the kernel's `ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;

/// A virtual service with its scheduler. A value: edited by cloning.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) key: ServiceKey,
    pub(crate) persistence: Option<Persistence>,
    pub(crate) one_packet: bool,
    pub(crate) engine: Option<Engine>,
    pub(crate) local: LocalAddresses,
    pub(crate) tell_client: bool,
    pub(crate) on_removal: OnRemoval,
    /// The destinations as the scheduler sees them, newest first; `Backend::id` is the index of
    /// the destination.
    pub(crate) pool: Pool,
    pub(crate) home: Arc<Home>,
}

impl Service {
    pub(crate) fn flags(&self) -> SchedFlags {
        self.pool.flags()
    }

    /// Whether the service is that of another port than this.
    pub(crate) fn is_elsewhere(&self, port: u16) -> bool {
        matches!(self.key, ServiceKey::Endpoint { vip, .. } if vip.port != port)
    }

    /// Whether the service is that of this very port, and not of all.
    pub(crate) fn is_at(&self, port: u16) -> bool {
        matches!(self.key, ServiceKey::Endpoint { vip, .. } if vip.port == port)
    }
}

/// How many destinations have an endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Server {
    /// Those whose packets are kept from the host.
    kept: u32,
    /// Those that were given this very endpoint.
    real: u32,
}

/// How many more there are, or less.
#[derive(Debug, Clone, Copy)]
struct More {
    kept: i8,
    real: i8,
}

impl More {
    fn new(kept: bool, real: bool, added: bool) -> Self {
        let one = if added { 1 } else { -1 };
        let more = |counts| if counts { one } else { 0 };
        Self {
            kept: more(kept),
            real: more(real),
        }
    }

    /// What becomes of what there is; `None`: nobody is left.
    fn of(self, there: Option<Server>) -> Option<Server> {
        let there = there.unwrap_or_default();
        let kept = there.kept.saturating_add_signed(self.kept.into());
        let real = there.real.saturating_add_signed(self.real.into());
        (kept != 0 || real != 0).then_some(Server { kept, real })
    }
}

/// So many chunks that 65,535 is no index of theirs, which stands for all that a connection's first
/// line has no room for.
const NEAR: usize = u16::MAX as usize / CHUNK;

/// Some of the destinations: all, but for those of sets that are huge.
#[derive(Clone, Copy)]
pub(crate) struct Near<'a>(&'a [Arc<Chunk>]);

impl<'a> Near<'a> {
    /// `None`: it is not one of these. `Some(None)`: there is none of this index.
    #[inline(always)]
    pub(crate) fn get(self, index: u16) -> Option<Option<&'a Arc<Destination>>> {
        let index = usize::from(index);
        let chunk = self.0.get(index / CHUNK)?;
        Some(chunk.get(index % CHUNK)?.as_ref())
    }
}

/// The snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    services: Shards<ServiceKey, Arc<Service>>,
    chunks: Vec<Arc<Chunk>>,
    /// The addresses of services, with the number of services at each.
    vips: Shards<Addr, u32>,
    /// Local addresses of FULLNAT, with the number of destinations that each is for.
    locals: Shards<Addr, u32>,
    /// Those that services name, with the number of services at each, whoever uses them.
    pools: Shards<Addr, u32>,
    /// The endpoints of servers whose replies are rewritten.
    servers: Shards<(Protocol, Endpoint), Server>,
    /// Changes of those that are still to be made; none in a snapshot that is published.
    noted: Option<Notes<(Protocol, Endpoint), More>>,
    /// Who looks into connections.
    pub(crate) helpers: Arc<Helpers>,
    /// What gives packets their marks.
    pub(crate) marks: Arc<Marks>,
    /// The indexes of destinations behind tunnels, by their addresses, the last one added last.
    tunnels: Shards<Addr, Vec<u32>>,
    /// Services of IPv4 and of IPv6.
    families: [usize; 2],
    /// How many services there are of each kind that needs a look of its own.
    kinds: Kinds,
}

#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    all_ports: usize,
    ftp: usize,
    marks: usize,
}

impl Rules {
    pub(crate) fn new() -> Self {
        Self {
            services: Shards::new(),
            chunks: Vec::new(),
            vips: Shards::new(),
            locals: Shards::new(),
            pools: Shards::new(),
            servers: Shards::new(),
            noted: None,
            helpers: Arc::default(),
            marks: Arc::default(),
            tunnels: Shards::new(),
            families: [0; 2],
            kinds: Kinds::default(),
        }
    }

    /// About so many changes are coming.
    pub(crate) fn expect(&mut self, changes: usize) {
        if changes >= MANY {
            self.noted = Some(Notes::with_room_for(changes));
        }
    }

    /// Makes of the rules what can be published.
    pub(crate) fn settle(&mut self) {
        if let Some(noted) = self.noted.take() {
            self.servers.change_all(noted, |there, more| more.of(there));
        }
    }

    /// The service of a packet to `to` (IPVS 0.2, steps 2 and 4 are told apart by the port).
    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// Whether any service of the family exists: without one, no packet of it is touched (4.1).
    #[inline]
    pub(crate) fn handles(&self, family: Family) -> bool {
        let [v4, v6] = self.families;
        (if family == Family::V4 { v4 } else { v6 }) != 0
    }

    /// The service at an endpoint.
    pub(crate) fn service_at(&self, protocol: Protocol, vip: Endpoint) -> Option<&Arc<Service>> {
        self.service(&ServiceKey::Endpoint { protocol, vip })
    }

    /// The service that takes a packet to `to` (IPVS 0.2, steps 2 to 4): that of its port, that of
    /// FTP's commands for what may be its data, or else a persistent one of all ports. One of port 0
    /// that is not persistent never takes anything (2.6).
    pub(crate) fn service_for(&self, protocol: Protocol, to: Endpoint) -> Option<&Arc<Service>> {
        if to.port != 0
            && let Some(service) = self.service_at(protocol, to)
        {
            return Some(service);
        }
        if self.kinds.ftp > 0
            && protocol == Protocol::Tcp
            && (to.port == FTP_DATA || to.port >= UNPRIVILEGED)
            && let Some(service) = self.service_at(protocol, Endpoint { port: FTP, ..to })
        {
            return Some(service);
        }
        if self.kinds.all_ports == 0 {
            return None;
        }
        self.service_at(protocol, Endpoint { port: 0, ..to })
            .filter(|service| service.persistence.is_some())
    }

    /// Whether packets to this endpoint are kept from the host: those of a service, and all of TCP
    /// at an FTP service's address, whose data has ports that nobody knows before.
    pub(crate) fn is_claimed(&self, protocol: Protocol, to: Endpoint) -> bool {
        self.service_for(protocol, to).is_some()
            || (self.kinds.ftp > 0
                && protocol == Protocol::Tcp
                && self
                    .service_at(protocol, Endpoint { port: FTP, ..to })
                    .is_some())
    }

    /// Whether a packet's mark matters.
    #[inline]
    pub(crate) const fn has_marks(&self) -> bool {
        self.kinds.marks > 0
    }

    /// Whether the director speaks to any server from an address of its own (FULLNAT).
    #[inline]
    pub(crate) const fn has_locals(&self) -> bool {
        !self.locals.is_empty()
    }

    /// Whether some service listens at this address, or the director speaks to servers from it.
    #[inline]
    pub(crate) fn is_vip(&self, addr: Addr) -> bool {
        self.vips.contains_key(&addr) || self.locals.contains_key(&addr)
    }

    /// Whether packets of this server are kept from the host because replies are rewritten.
    #[inline]
    pub(crate) fn is_server(&self, protocol: Protocol, server: Endpoint) -> bool {
        let any_port = Endpoint { port: 0, ..server };
        let kept = |endpoint| {
            let found = self.servers.get(&(protocol, endpoint));
            found.is_some_and(|found| found.kept > 0)
        };
        kept(server) || (self.kinds.any() && kept(any_port))
    }

    /// Whether a packet of this endpoint comes from a destination that translates (IPVS 4.3).
    pub(crate) fn is_real_server(&self, protocol: Protocol, server: Endpoint) -> bool {
        let found = self.servers.get(&(protocol, server));
        found.is_some_and(|found| found.real > 0)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = (Protocol, Endpoint)> {
        let servers = self.servers.entries().filter(|(_, found)| found.kept > 0);
        servers.map(|(server, _)| *server)
    }

    /// Whether there are tunnels at all.
    pub(crate) fn has_tunnels(&self) -> bool {
        !self.tunnels.is_empty()
    }

    /// The destinations behind tunnels at an address, in the order in which they were added.
    pub(crate) fn tunnels_to(&self, addr: Addr) -> impl Iterator<Item = &Destination> {
        let indexes = self.tunnels.get(&addr).map(Vec::as_slice);
        indexes
            .unwrap_or_default()
            .iter()
            .filter_map(|index| self.destination(*index).map(|found| &**found))
    }

    /// The destination of an index, in service or still held by connections.
    #[inline]
    pub(crate) fn destination(&self, index: u32) -> Option<&Arc<Destination>> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    /// The destinations of small indexes, for who asks often.
    #[inline]
    pub(crate) fn near(&self) -> Near<'_> {
        Near(self.chunks.get(..NEAR).unwrap_or(&self.chunks))
    }

    /// The destination of a connection; `None` if it is another one by now.
    #[inline]
    pub(crate) fn destination_of(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.destination(id.index)
            .filter(|destination| destination.id.generation == id.generation)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// All destinations, in service or still held by connections.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flatten()
    }

    /// The destinations of a service in its own order, newest first.
    pub(crate) fn destinations_in<'a>(
        &'a self,
        service: &'a Service,
    ) -> impl Iterator<Item = &'a Arc<Destination>> {
        service
            .pool
            .backends()
            .iter()
            .filter_map(|backend| self.destination(backend.id()))
    }

    /// Adds a service or replaces the one of the same key.
    pub(crate) fn put_service(&mut self, service: Service) {
        let (key, local) = (service.key, service.local);
        match self.services.put(key, Some(Arc::new(service))) {
            None => self.count_key(&key, true),
            Some(old) => self.count_pool(&old.local, false),
        }
        self.count_pool(&local, true);
    }

    pub(crate) fn remove_service(&mut self, key: &ServiceKey) {
        if let Some(old) = self.services.put(*key, None) {
            self.count_key(key, false);
            self.count_pool(&old.local, false);
        }
    }

    fn count_pool(&mut self, pool: &LocalAddresses, added: bool) {
        for addr in pool.iter() {
            self.pools.count(addr, added);
        }
    }

    fn count_key(&mut self, key: &ServiceKey, added: bool) {
        let [v4, v6] = &mut self.families;
        let services = if key.family() == Family::V4 { v4 } else { v6 };
        *services = services.saturating_add_signed(if added { 1 } else { -1 });
        let kind = match key {
            ServiceKey::FwMark { .. } => Some(&mut self.kinds.marks),
            ServiceKey::Endpoint { vip, .. } if vip.port == 0 => Some(&mut self.kinds.all_ports),
            ServiceKey::Endpoint { protocol, vip } if is_ftp(*protocol, *vip) => {
                Some(&mut self.kinds.ftp)
            }
            ServiceKey::Endpoint { .. } => None,
        };
        if let Some(kind) = kind {
            *kind = kind.saturating_add_signed(if added { 1 } else { -1 });
        }
        if let ServiceKey::Endpoint { vip, .. } = key {
            self.vips.count(vip.addr, added);
        }
    }

    /// Puts a destination at its index, or empties the index.
    pub(crate) fn put_destination(&mut self, index: u32, destination: Option<Arc<Destination>>) {
        let index = index as usize;
        while self.chunks.len() <= index / CHUNK {
            self.chunks.push(Arc::new([const { None }; CHUNK]));
        }
        if let Some(chunk) = self.chunks.get_mut(index / CHUNK)
            && let Some(slot) = Arc::make_mut(chunk).get_mut(index % CHUNK)
        {
            let new = destination.clone();
            let old = core::mem::replace(slot, destination);
            let stays = match (&old, &new) {
                (Some(old), Some(new)) => place(old) == place(new),
                (None, None) => true,
                _ => false,
            };
            if !stays {
                self.count_server(old.as_deref(), false);
                self.count_server(new.as_deref(), true);
                self.count_tunnel(old.as_deref(), false);
                self.count_tunnel(new.as_deref(), true);
            }
            self.count_locals(old.as_deref(), false);
            self.count_locals(new.as_deref(), true);
        }
    }

    /// A destination is deleted, or (`added`) back, or about to leave its index: deleted ones keep their
    /// index and their replies from the host, but are no real servers any more (IPVS 4.3).
    pub(crate) fn count_real(&mut self, destination: &Destination, added: bool) {
        for real in destination.real_servers() {
            self.change_server(real, More::new(false, true, added));
        }
    }

    fn change_server(&mut self, server: (Protocol, Endpoint), more: More) {
        match &mut self.noted {
            Some(noted) => self.servers.note(noted, server, more),
            None => self.servers.change(server, |there| more.of(there)),
        }
    }

    /// Local addresses are the director's as VIPs are.
    fn count_locals(&mut self, destination: Option<&Destination>, added: bool) {
        for local in destination.iter().flat_map(|found| found.locals.iter()) {
            self.locals.count(local.addr, added);
        }
    }

    /// The local addresses of FULLNAT, with those that only old connections use.
    pub(crate) fn locals(&self) -> impl Iterator<Item = Addr> {
        self.locals.keys().copied()
    }

    /// Whether an address is one of those.
    pub(crate) fn is_local(&self, addr: Addr) -> bool {
        self.locals.contains_key(&addr)
    }

    /// Whether an address is one of those, or in the pool of a service.
    pub(crate) fn is_pooled(&self, addr: Addr) -> bool {
        self.is_local(addr) || self.pools.contains_key(&addr)
    }

    /// Whether a service has this very address.
    pub(crate) fn has_service_at(&self, addr: Addr) -> bool {
        self.vips.contains_key(&addr)
    }

    /// A destination that was deleted is added again: as the last one.
    pub(crate) fn renew_tunnel(&mut self, destination: &Destination) {
        self.count_tunnel(Some(destination), true);
    }

    fn count_tunnel(&mut self, destination: Option<&Destination>, added: bool) {
        let tunnelled = |found: &&Destination| found.spec.method == ForwardMethod::Tunnel;
        let Some(destination) = destination.filter(tunnelled) else {
            return;
        };
        let (addr, index) = (destination.spec.endpoint.addr, destination.id.index);
        self.tunnels.change(addr, |there| {
            let mut there = there.unwrap_or_default();
            there.retain(|known| *known != index);
            if added {
                there.push(index);
            }
            (!there.is_empty()).then_some(there)
        });
    }

    fn count_server(&mut self, destination: Option<&Destination>, added: bool) {
        let Some(destination) = destination else {
            return;
        };
        let mut real = destination.real_servers();
        for kept in destination.rewritten_servers() {
            let real = real.next();
            // Mostly one and the same.
            let both = real == Some(kept);
            self.change_server(kept, More::new(true, both, added));
            if let Some(real) = real.filter(|_| !both) {
                self.change_server(real, More::new(false, true, added));
            }
        }
    }
}

/// What the maps of servers and tunnels know of a destination.
fn place(found: &Destination) -> (u32, ServiceKey, Endpoint, ForwardMethod) {
    let spec = &found.spec;
    (found.id.index, found.home.key, spec.endpoint, spec.method)
}
