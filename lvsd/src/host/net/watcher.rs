//! Follows the kernel's tables and publishes what they say.
//!
//! In: notifications of rtnetlink, and dumps. Out: [`NetSnapshot`]s for readers on any thread,
//! [`InterfaceEvent`]s for the control thread. Never: a guess; for links, addresses and routes a
//! notification says only *that* something changed, and the dump that follows says what. (The
//! kernel removes routes without telling when their interface goes down.) Neighbours change too
//! often for that and are followed one by one; each is told of.

use super::decode;
use super::interface::{InterfaceChange, InterfaceEvent, changes};
use super::routes::RouteTable;
use super::snapshot::{Neighbour, NetSnapshot};
use crate::host::netlink::{Messages, Received, Socket};
use arc_swap::ArcSwap;
use lvs_core::Addr;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tracing::{debug, info, warn};

/// A neighbour's change is published this long after it was heard, with all heard meanwhile.
const NEIGHBOURS_AFTER: Duration = Duration::from_millis(1);
/// Another table's change is read this long after it was heard.
const TABLES_AFTER: Duration = Duration::from_millis(10);
/// Reading the tables takes at most this part of the time: one in so many.
const SHARE: u32 = 10;
/// After an error.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// All is read anew now and then, whatever was heard.
const RESYNC: Duration = Duration::from_secs(60);
/// Datagrams read before other tasks have their turn.
const AT_ONCE: usize = 64;

/// The kernel's tables cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// No socket.
    #[error(
        "cannot open a netlink socket ({0}): run where AF_NETLINK is allowed (systemd: \
         RestrictAddressFamilies=AF_NETLINK AF_PACKET AF_UNIX AF_INET AF_INET6)"
    )]
    Open(#[source] io::Error),
    /// No answer, or not a good one.
    #[error("the kernel does not tell its interfaces, routes and neighbours: {0}")]
    Dump(#[source] io::Error),
    /// The socket of the notifications broke.
    #[error("the kernel's notifications broke off: {0}")]
    Lost(#[source] io::Error),
    /// The runtime is shutting down.
    #[error("stopped")]
    Stopped,
}

/// Follows interfaces, routes and neighbours of the network namespace in which it was opened.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use lvsd::host::net::NetWatcher;
/// let (watcher, mut events) = NetWatcher::open()?;
/// let snapshots = watcher.snapshots();
/// tokio::spawn(watcher.run());
/// println!("{:?}", snapshots.load().route("192.0.2.1".parse()?));
/// while let Some(event) = events.recv().await {
///     println!("{} {}", event.interface.name, event.change);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct NetWatcher {
    shared: Arc<ArcSwap<NetSnapshot>>,
    generation: watch::Sender<u64>,
    events: mpsc::UnboundedSender<InterfaceEvent>,
    notifications: AsyncFd<Socket>,
    dumps: Option<Socket>,
    neighbours: BTreeMap<(u32, Addr), Neighbour>,
    pending: Pending,
}

/// What is to be read or published, and not before when.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    /// When links, addresses and routes are to be read.
    tables: Option<Instant>,
    /// When the neighbours heard of are to be published.
    neighbours: Option<Instant>,
    /// The neighbours are to be read as well.
    overrun: bool,
    /// Tables are not read before.
    not_before: Option<Instant>,
}

/// What a reading found.
#[derive(Debug)]
struct Fresh {
    interfaces: Vec<super::Interface>,
    routes: RouteTable,
    neighbours: Option<Vec<Neighbour>>,
}

impl NetSnapshot {
    /// Asks the kernel once, in the network namespace of the calling thread. Who wants to follow
    /// its changes opens a [`NetWatcher`].
    ///
    /// # Errors
    /// [`WatchError::Open`] and [`WatchError::Dump`].
    pub fn read() -> Result<Self, WatchError> {
        let mut socket = Socket::route(0).map_err(WatchError::Open)?;
        let fresh = read(&mut socket, true).map_err(WatchError::Dump)?;
        let mut neighbours = fresh.neighbours.unwrap_or_default();
        neighbours.sort_by_key(|n| (n.ifindex, n.addr));
        Ok(Self {
            generation: 1,
            interfaces: fresh.interfaces.into(),
            routes: Arc::new(fresh.routes),
            neighbours: neighbours.into(),
        })
    }
}

impl NetWatcher {
    /// Subscribes, reads everything once and publishes it. Each interface is reported as
    /// [`InterfaceChange::Appeared`].
    ///
    /// # Errors
    /// [`WatchError::Open`] and [`WatchError::Dump`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn open() -> Result<(Self, mpsc::UnboundedReceiver<InterfaceEvent>), WatchError> {
        // Subscribed before the first dump, so that nothing falls between.
        let notifications = Socket::route(groups()).map_err(WatchError::Open)?;
        let mut dumps = Socket::route(0).map_err(WatchError::Open)?;
        let fresh = read(&mut dumps, true).map_err(WatchError::Dump)?;
        match decode::policy_rules(&mut dumps) {
            Ok(0) => {}
            Ok(count) => warn!(
                count,
                "policy routing rules (ip rule) are not followed; only the tables main and local are"
            ),
            Err(error) => debug!(%error, "policy routing rules cannot be listed"),
        }
        let (events, receiver) = mpsc::unbounded_channel();
        let mut watcher = Self {
            shared: Arc::default(),
            generation: watch::Sender::new(0),
            events,
            notifications: registered(notifications).map_err(WatchError::Open)?,
            dumps: Some(dumps),
            neighbours: BTreeMap::new(),
            pending: Pending::default(),
        };
        watcher.publish(Some(fresh));
        Ok((watcher, receiver))
    }

    /// The snapshots; load at any time, on any thread.
    #[must_use]
    pub fn snapshots(&self) -> Arc<ArcSwap<NetSnapshot>> {
        Arc::clone(&self.shared)
    }

    /// Tells the generation of the latest snapshot, after it was published.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Follows the kernel until the runtime ends or the socket breaks.
    ///
    /// # Errors
    /// [`WatchError::Lost`] and [`WatchError::Stopped`]; a table that cannot be read is tried again.
    pub async fn run(mut self) -> Result<(), WatchError> {
        let mut resync = interval_at(Instant::now() + RESYNC, RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.pending.due();
            tokio::select! {
                ready = self.notifications.readable_mut() => {
                    let mut ready = ready.map_err(WatchError::Lost)?;
                    let socket = ready.get_inner_mut();
                    let more = hear(socket, &mut self.neighbours, &mut self.pending)
                        .map_err(WatchError::Lost)?;
                    if !more {
                        ready.clear_ready();
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.refresh().await?;
                }
                _ = resync.tick() => self.pending.everything(),
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), WatchError> {
        let now = Instant::now();
        if self.pending.tables_due().is_none_or(|due| due > now) {
            self.pending.neighbours = None;
            self.publish(None);
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let mut socket = match self.dumps.take() {
            Some(socket) => socket,
            None => Socket::route(0).map_err(WatchError::Open)?,
        };
        let overrun = pending.overrun;
        let reading = tokio::task::spawn_blocking(move || {
            let fresh = read(&mut socket, overrun);
            (socket, fresh)
        });
        let (socket, fresh) = reading.await.map_err(|_| WatchError::Stopped)?;
        self.dumps = Some(socket);
        match fresh {
            Ok(fresh) => {
                self.pending.not_before = Some(Instant::now() + now.elapsed() * SHARE);
                self.publish(Some(fresh));
            }
            Err(error) => {
                warn!(%error, "cannot read the kernel's interfaces and routes; trying again");
                self.pending.everything();
                self.pending.not_before = Some(Instant::now() + AGAIN_AFTER);
            }
        }
        Ok(())
    }

    fn publish(&mut self, fresh: Option<Fresh>) {
        let before = self.shared.load_full();
        let mut next = NetSnapshot {
            generation: before.generation + 1,
            ..NetSnapshot::clone(&before)
        };
        if let Some(fresh) = fresh {
            next.interfaces = fresh.interfaces.into();
            next.routes = Arc::new(fresh.routes);
            if let Some(neighbours) = fresh.neighbours {
                let keyed = neighbours.into_iter().map(|n| ((n.ifindex, n.addr), n));
                self.neighbours = keyed.collect();
            }
        }
        next.neighbours = self.neighbours.values().copied().collect();
        let generation = next.generation;
        let next = Arc::new(next);
        self.shared.store(Arc::clone(&next));
        self.generation.send_replace(generation);
        for event in changes(&before.interfaces, &next.interfaces) {
            report(&event);
            // Nobody may be listening; the snapshot says it all the same.
            let _ = self.events.send(event);
        }
    }
}

#[cfg(test)]
impl NetWatcher {
    /// Leaves room for a few notifications only.
    pub(super) fn shrink_for_test(&mut self) {
        let socket = self.notifications.get_ref();
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, 4096).unwrap();
    }
}

impl Pending {
    /// When something is to be done.
    fn due(&self) -> Option<Instant> {
        [self.tables_due(), self.neighbours]
            .into_iter()
            .flatten()
            .min()
    }

    fn tables_due(&self) -> Option<Instant> {
        self.tables.max(self.tables.and(self.not_before))
    }

    fn everything(&mut self) {
        self.overrun = true;
        soon(&mut self.tables, TABLES_AFTER);
    }
}

/// What was due earlier stays so.
fn soon(due: &mut Option<Instant>, delay: Duration) {
    due.get_or_insert_with(|| Instant::now() + delay);
}

/// The groups of rtnetlink that tell of links, addresses, routes, next hops and neighbours.
const fn groups() -> u32 {
    const LINK: u32 = 1;
    const NEIGHBOUR: u32 = 3;
    const IPV4_ADDRESS: u32 = 5;
    const IPV4_ROUTE: u32 = 7;
    const IPV6_ADDRESS: u32 = 9;
    const IPV6_ROUTE: u32 = 11;
    const IPV6_INTERFACE: u32 = 12;
    const NEXT_HOP: u32 = 32;
    const fn bit(group: u32) -> u32 {
        1 << (group - 1)
    }
    bit(LINK)
        | bit(NEIGHBOUR)
        | bit(IPV4_ADDRESS)
        | bit(IPV4_ROUTE)
        | bit(IPV6_ADDRESS)
        | bit(IPV6_ROUTE)
        | bit(IPV6_INTERFACE)
        | bit(NEXT_HOP)
}

fn registered(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor for all its life, always names the same one, and
    // nothing closes it before the `AsyncFd` that owns the `Socket` is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

fn read(socket: &mut Socket, neighbours: bool) -> io::Result<Fresh> {
    Ok(Fresh {
        interfaces: decode::interfaces(socket)?,
        routes: RouteTable::new(decode::routes(socket)?),
        neighbours: neighbours.then(|| decode::neighbours(socket)).transpose()?,
    })
}

/// Takes in notifications; whether there may be more.
fn hear(
    socket: &mut Socket,
    neighbours: &mut BTreeMap<(u32, Addr), Neighbour>,
    pending: &mut Pending,
) -> io::Result<bool> {
    for _ in 0..AT_ONCE {
        match socket.receive()? {
            Received::Messages(messages) => take_in(messages, neighbours, pending),
            Received::Nothing => return Ok(false),
            Received::Overrun => {
                debug!("notifications were lost; reading everything anew");
                pending.everything();
            }
        }
    }
    Ok(true)
}

fn take_in(
    messages: Messages<'_>,
    neighbours: &mut BTreeMap<(u32, Addr), Neighbour>,
    pending: &mut Pending,
) {
    for message in messages {
        match message.kind {
            decode::NEW_NEIGHBOUR | decode::DEL_NEIGHBOUR => {
                let Some(neighbour) = decode::neighbour(&message) else {
                    continue;
                };
                let key = (neighbour.ifindex, neighbour.addr);
                let changed = if message.kind == decode::NEW_NEIGHBOUR {
                    neighbours.insert(key, neighbour) != Some(neighbour)
                } else {
                    neighbours.remove(&key).is_some()
                };
                if changed {
                    soon(&mut pending.neighbours, NEIGHBOURS_AFTER);
                }
            }
            decode::NEW_LINK
            | decode::DEL_LINK
            | decode::NEW_ADDRESS
            | decode::DEL_ADDRESS
            | decode::NEW_ROUTE
            | decode::DEL_ROUTE
            | decode::NEW_NEXTHOP
            | decode::DEL_NEXTHOP => soon(&mut pending.tables, TABLES_AFTER),
            _ => {}
        }
    }
}

fn report(event: &InterfaceEvent) {
    let i = &event.interface;
    match event.change {
        InterfaceChange::Mac | InterfaceChange::Mtu | InterfaceChange::Renamed => {
            debug!(interface = %i.name, index = i.index, mtu = i.mtu, "{}", event.change);
        }
        _ => info!(interface = %i.name, index = i.index, up = i.running, "{}", event.change),
    }
}
