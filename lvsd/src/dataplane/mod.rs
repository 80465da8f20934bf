//! The worker threads: rings, director and next hops put together.
//!
//! ```text
//!   control thread ──Command──▶ worker ◀──▶ receive and transmit rings, one pair an interface
//!                               worker ──▶ neighbours that are wanted
//!   collector thread: ends connections
//! ```
//!
//! [`Dataplane`] starts and stops them, and gives them interfaces. Frames are touched by workers
//! only; `worker.rs` shows what happens to one.

pub mod clock;
mod hops;
mod transmit;
mod vips;
mod worker;

pub use transmit::PortInfo;
pub use vips::AnsweredVips;
pub use worker::PortStatistics;

use crate::host::net::{Hop, Interface, NetSnapshot};
use arc_swap::ArcSwap;
use lvs_director::Director;
use lvs_io_afpacket::{Fanout, FanoutMode, Injector, OpenError, Port, PortConfig, Waker};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, SyncSender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tracing::{info, warn};
use transmit::Transmit;
use worker::{Command, SharedStatistics, WorkerParts};

/// How often the collector looks for ended connections.
const COLLECT_EVERY: Duration = Duration::from_millis(20);
/// How many connections it looks at in a turn.
const COLLECT_SLICE: usize = 1 << 16;

/// What the threads are made of.
#[derive(Debug)]
pub struct Parts {
    /// The director.
    pub director: Arc<Director>,
    /// The kernel's tables.
    pub snapshots: Arc<ArcSwap<NetSnapshot>>,
    /// The addresses to answer for.
    pub vips: Arc<ArcSwap<AnsweredVips>>,
    /// Where neighbours are asked for.
    pub wanted: SyncSender<Hop>,
    /// How many workers.
    pub workers: usize,
    /// Ring sizes; the interface and the fanout group are filled in.
    pub rings: PortConfig,
}

#[derive(Debug)]
struct WorkerThread {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    statistics: SharedStatistics,
    thread: JoinHandle<()>,
}

impl WorkerThread {
    fn tell(&self, command: Command) {
        // A worker that is gone has been told to stop.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

/// The running threads.
#[derive(Debug)]
pub struct Dataplane {
    workers: Vec<WorkerThread>,
    collector: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    rings: PortConfig,
    interfaces: BTreeMap<u32, PortInfo>,
}

impl Dataplane {
    /// Starts the threads, without interfaces, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the system has no thread or descriptor left.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let Parts {
            director,
            snapshots,
            vips,
            wanted,
            workers,
            rings,
        } = parts;
        let mut threads = Vec::new();
        for number in 0..workers {
            let Some(half) = director.worker() else { break };
            let injector = Injector::open()
                .map_err(|error| warn!("nothing can be given back to the host's stack: {error}"))
                .ok();
            let (commands, inbox) = channel();
            let waker = Arc::new(Waker::new()?);
            let statistics = SharedStatistics::default();
            let parts = WorkerParts {
                director: half,
                snapshots: Arc::clone(&snapshots),
                inbox,
                waker: Arc::clone(&waker),
                statistics: Arc::clone(&statistics),
                transmit: Transmit::new(injector, wanted.clone(), Arc::clone(&vips)),
            };
            let thread = Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker::run(parts))?;
            threads.push(WorkerThread {
                commands,
                waker,
                statistics,
                thread,
            });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let collector = Builder::new().name("collector".to_owned()).spawn(move || {
            while !stopping.load(Relaxed) {
                director.collect(clock::now(), COLLECT_SLICE);
                std::thread::sleep(COLLECT_EVERY);
            }
        })?;
        Ok(Self {
            workers: threads,
            collector,
            stop,
            rings,
            interfaces: BTreeMap::new(),
        })
    }

    /// Works on an interface; again after its Ethernet address changed.
    ///
    /// # Errors
    /// [`OpenError`]; the interface is left alone.
    pub fn attach(&mut self, interface: &Interface) -> Result<(), OpenError> {
        let Some(mac) = interface.mac else {
            return Ok(());
        };
        let info = PortInfo {
            ifindex: interface.index,
            mac,
        };
        if let Some(known) = self.interfaces.get(&interface.index) {
            if known.mac == mac {
                return Ok(());
            }
            self.detach(interface.index);
        }
        let mut config = PortConfig {
            ifindex: interface.index,
            ..self.rings.clone()
        };
        if self.workers.len() > 1 {
            // The kernel keeps groups by network namespace: the number has to be the interface's own.
            #[expect(clippy::cast_possible_truncation, reason = "any number that differs")]
            let group = (std::process::id().wrapping_mul(31) + interface.index) as u16;
            config.fanout = Some(Fanout {
                group,
                mode: FanoutMode::Hash,
            });
        }
        let mut ports = Vec::new();
        for _ in &self.workers {
            ports.push(Port::open(&config)?);
        }
        for (worker, port) in self.workers.iter().zip(ports) {
            for concession in &port.concessions {
                warn!(interface = %interface.name, "{concession}");
            }
            worker.tell(Command::Attach(info, Box::new(port)));
        }
        self.interfaces.insert(interface.index, info);
        info!(interface = %interface.name, "in use");
        Ok(())
    }

    /// Leaves an interface; whether it was in use.
    pub fn detach(&mut self, ifindex: u32) -> bool {
        let known = self.interfaces.remove(&ifindex).is_some();
        if known {
            self.workers
                .iter()
                .for_each(|worker| worker.tell(Command::Detach { ifindex }));
        }
        known
    }

    /// The interfaces in use.
    #[must_use]
    pub fn interfaces(&self) -> Vec<u32> {
        self.interfaces.keys().copied().collect()
    }

    /// Sends a frame of the director's own by an interface.
    pub fn send(&self, ifindex: u32, frame: &[u8]) {
        if let Some(worker) = self.workers.first() {
            worker.tell(Command::Send {
                ifindex,
                frame: frame.into(),
            });
        }
    }

    /// What the rings have counted, a row a worker and interface.
    #[must_use]
    pub fn statistics(&self) -> Vec<PortStatistics> {
        self.workers
            .iter()
            .flat_map(|worker| worker.statistics.lock().clone())
            .collect()
    }

    /// Ends all threads; frames that have a verdict still leave.
    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        self.workers
            .iter()
            .for_each(|worker| worker.tell(Command::Stop));
        for worker in self.workers {
            // A worker that has panicked has said so.
            let _ = worker.thread.join();
        }
        let _ = self.collector.join();
    }
}
