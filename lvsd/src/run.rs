//! `lvsd run`: everything put together, until somebody says stop.

use crate::config::{Config, ConfigError};
use crate::control::reload::{self, ReloadError};
use crate::control::{BindError, ControlSocket, Rules, serve};
use crate::dataplane::{AnsweredVips, Dataplane, Parts, clock};
use crate::host::claim::ClaimError;
use crate::host::net::{
    Hop, InterfaceChange, InterfaceEvent, NeighbourKeeper, NetWatcher, WatchError,
};
use crate::host::{icmp_limit, preflight};
use crate::presence::{self, Presence};
use crate::table::{self, TableFileError};
use arc_swap::ArcSwap;
use lvs_conn::TableError;
use lvs_io_afpacket::PortConfig;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

/// Neighbours that workers may ask for before the asking thread has looked.
const WANTED: usize = 256;
/// How often neighbours are looked after, and the rules' housekeeping is done.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The rules of the configuration.
    #[error(transparent)]
    Rules(#[from] ReloadError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// Rights or kernel features.
    #[error("{}", .0.join("\nlvsd: "))]
    Lacks(Vec<String>),
    /// The kernel's tables.
    #[error(transparent)]
    Net(#[from] WatchError),
    /// The claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The connection table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The file of the connection table.
    #[error(transparent)]
    TableFile(#[from] TableFileError),
    /// An interface of the configuration.
    #[error("there is no interface `{0}`; `ip link` lists those that there are")]
    NoInterface(String),
    /// Anything else.
    #[error("{what}: {why}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        why: io::Error,
    },
}

pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |why| RunError::System { what, why }
}

/// How packets come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Io {
    /// Through AF_PACKET rings on the interfaces of the configuration.
    #[default]
    Afpacket,
    /// Not at all: rules can be tried and listed, and nothing of the host is touched.
    None,
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads the rules of the file at `path` again.
///
/// # Errors
/// [`RunError`]; the host is as it was.
pub fn run(config: Config, path: Option<PathBuf>, io: Io) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start"))?;
    match io {
        Io::Afpacket => runtime.block_on(daemon(config, path.as_deref())),
        Io::None => runtime.block_on(crate::practice::run(config, path.as_deref())),
    }
}

async fn daemon(mut config: Config, path: Option<&Path>) -> Result<(), RunError> {
    // The socket first: a second daemon is told so before it has touched anything.
    let socket = ControlSocket::bind_as(&config.control);
    if let Err(error @ (BindError::InUse(_) | BindError::NotASocket(_))) = socket {
        return Err(error.into());
    }
    // Who may not make the socket most likely lacks the rest as well: all of it is said at once.
    let lacks = preflight::check();
    let mut lacks: Vec<_> = lacks.iter().map(ToString::to_string).collect();
    let socket = match socket {
        Err(error) if !lacks.is_empty() => {
            lacks.push(error.to_string());
            return Err(RunError::Lacks(lacks));
        }
        socket => socket?,
    };
    if !lacks.is_empty() {
        return Err(RunError::Lacks(lacks));
    }
    let (watcher, mut events) = NetWatcher::open()?;
    let snapshots = watcher.snapshots();
    if let Some(names) = &config.dataplane.interfaces {
        let net = snapshots.load();
        let missing = names
            .iter()
            .find(|name| net.interface_named(name).is_none());
        if let Some(name) = missing {
            return Err(RunError::NoInterface(name.clone()));
        }
    }
    let mut generations = watcher.generations();

    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = config.dataplane.workers.map_or(processors, usize::from);
    let director = table::director(&config, workers)?;
    director.set_error_limit(icmp_limit::of_host(workers));
    let vips = Arc::new(ArcSwap::from_pointee(AnsweredVips::default()));
    let neighbours = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let (wanted, asked) = sync_channel(WANTED);
    look_after_neighbours(asked, Arc::clone(&neighbours), Arc::clone(&snapshots))?;
    let claim = presence::claim(config.dataplane.claim)?;
    let dataplane = Dataplane::start(Parts {
        director: Arc::clone(&director),
        snapshots: Arc::clone(&snapshots),
        vips: Arc::clone(&vips),
        wanted: wanted.clone(),
        workers,
        rings: rings(&config),
    })
    .map_err(system("cannot start the workers"))?;
    let presence = Presence::new(
        Arc::clone(&director),
        Arc::clone(&snapshots),
        vips,
        neighbours,
        wanted,
        claim,
        dataplane,
    );
    let presence = Arc::new(Mutex::new(presence));
    let following = Arc::clone(&presence);
    let counting = Arc::clone(&presence);
    let follow = move || {
        following.lock().follow();
    };
    let rings = move || {
        let presence = counting.lock();
        presence
            .dataplane()
            .map(Dataplane::statistics)
            .unwrap_or_default()
    };
    let net = Arc::clone(&snapshots);
    let rules = Rules::new(Arc::clone(&director), follow)
        .with_rings(rings)
        .with_broadcasts(move || net.load().broadcasts());
    let rules = Arc::new(rules);

    let mut end = signal(SignalKind::terminate()).map_err(system("cannot take signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot take signals"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("cannot take signals"))?;
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut watching = tokio::spawn(watcher.run());
    // The interfaces that are there have all been reported by now.
    while let Ok(event) = events.try_recv() {
        interface_event(&presence, &config, &event);
    }
    presence.lock().follow();

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let backend = Arc::clone(&rules);
    let serving = tokio::spawn(async move {
        let ended = async { stopped.await.unwrap_or(()) };
        if let Err(why) = serve(&socket, backend, ended).await {
            error!("the control socket is out of order: {why}");
        }
        drop(socket);
    });
    info!(workers, "ready: {}", config.summary());
    notify(&[sd_notify::NotifyState::Ready]);

    let mut seconds = 0_u64;
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = hangup.recv() => {
                reread(path, &mut config, &rules);
                director.set_error_limit(icmp_limit::of_host(workers));
            }
            Some(event) = events.recv() => {
                interface_event(&presence, &config, &event);
                presence.lock().follow();
            }
            Ok(()) = generations.changed() => presence.lock().follow(),
            _ = second.tick() => {
                let now = clock::now();
                director.tick(now);
                director.defend(free_pages(), now);
                if seconds.is_multiple_of(2) {
                    director.estimate();
                }
                seconds += 1;
            }
            ended = &mut watching => {
                let why = match ended {
                    Ok(Err(why)) => why.to_string(),
                    _ => "the watching task ended".to_owned(),
                };
                error!("changes of routes and interfaces are no longer seen: {why}");
                break;
            }
        }
    }
    info!("stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    let _ = stop.send(());
    let _ = serving.await;
    presence.lock().stop();
    Ok(())
}

fn rings(config: &Config) -> PortConfig {
    let mut rings = PortConfig::new(0);
    let slots = |bytes: u64, size: usize| {
        usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .checked_div(size)
            .unwrap_or(1)
            .max(1)
    };
    rings.version = config.dataplane.ring_version;
    rings.blocks = slots(config.dataplane.receive_ring, rings.block_size);
    rings.receive_slots = slots(config.dataplane.receive_ring, rings.receive_slot_size);
    rings.transmit_slots = slots(config.dataplane.transmit_ring, rings.transmit_slot_size);
    rings
}

/// Whether the configuration wants an interface.
fn wants(config: &Config, event: &InterfaceEvent) -> bool {
    let interface = &event.interface;
    if interface.loopback || interface.mac.is_none() {
        return false;
    }
    match &config.dataplane.interfaces {
        Some(names) => names.iter().any(|name| **name == *interface.name),
        // What comes in by a port comes in by the bridge or bond as well, where the host has it.
        None => interface.port_of.is_none(),
    }
}

fn interface_event(presence: &Mutex<Presence>, config: &Config, event: &InterfaceEvent) {
    let interface = &event.interface;
    if !wants(config, event) {
        // It may have been ours before.
        if matches!(
            event.change,
            InterfaceChange::Renamed | InterfaceChange::Joined
        ) {
            presence.lock().detach(interface.index);
        }
        return;
    }
    match event.change {
        InterfaceChange::Gone => {
            presence.lock().detach(interface.index);
        }
        // The rings outlive it, and work again when it comes back.
        InterfaceChange::Down => {}
        _ => {
            if interface.up {
                presence.lock().attach(interface);
            }
        }
    }
}

pub(crate) fn reread(path: Option<&Path>, config: &mut Config, rules: &Rules) {
    let Some(path) = path else {
        warn!("there is no configuration file to read again");
        return;
    };
    notify(&[sd_notify::NotifyState::Reloading]);
    match reload::reload(path, config, rules) {
        Ok(reloaded) => {
            info!(changes = reloaded.changes, "configuration read again");
            for setting in &reloaded.restart {
                warn!("{setting} has changed, which takes effect at the next start");
            }
            *config = reloaded.config;
        }
        Err(why) => error!("the rules stay as they are: {why}"),
    }
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Asks the kernel for neighbours that workers want, and keeps those of the servers at hand.
fn look_after_neighbours(
    asked: Receiver<Hop>,
    kept: Arc<ArcSwap<Vec<Hop>>>,
    snapshots: Arc<ArcSwap<crate::host::net::NetSnapshot>>,
) -> Result<(), RunError> {
    let mut keeper = NeighbourKeeper::open().map_err(system("cannot ask for neighbours"))?;
    let mut next = Instant::now();
    let task = move || {
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            match asked.recv_timeout(wait) {
                Ok(hop) => {
                    if let Err(why) = keeper.request(hop, Instant::now()) {
                        tracing::debug!("cannot ask for {}: {why}", hop.addr);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + SECOND;
                    keeper.keep(&kept.load(), &snapshots.load(), Instant::now());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    let thread = std::thread::Builder::new().name("neighbours".to_owned());
    thread
        .spawn(task)
        .map(drop)
        .map_err(system("cannot start a thread"))
}

/// Pages of 4 KiB that the host has free or as buffers, which defence goes by (IPVS 2.13).
fn free_pages() -> u64 {
    const PAGE: u64 = 4096;
    let memory = rustix::system::sysinfo();
    let bytes = u64::from(memory.mem_unit).saturating_mul(memory.freeram + memory.bufferram);
    bytes / PAGE
}

/// Tells systemd, if it asked to be told.
pub(crate) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        warn!("cannot tell the service manager: {why}");
    }
}
