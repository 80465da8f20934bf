//! One worker thread: frames from all interfaces, through the director, out again.
//!
//! In: the rings. Out: the rings, the host's stack, requests for neighbours. Never: an allocation,
//! a lock, a log line or a system call for a packet; those of the rings are one a batch. What the
//! control thread wants done arrives as a [`Command`] and is looked at between batches.

use super::clock;
use super::hops::Hops;
use super::transmit::{PortInfo, Transmit};
use crate::host::net::NetSnapshot;
use arc_swap::{ArcSwap, Cache};
use lvs_core::DropReason;
use lvs_director::{BATCH, Verdict};
use lvs_io_afpacket::{Port, ReceiveStatistics, Receiver, TransmitStatistics, Waker, wait};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Inbox, TryRecvError};
use std::time::Duration;

/// How long an idle worker sleeps at the most: frames that wait for a neighbour are looked at again.
const NAP: Duration = Duration::from_millis(100);
/// Between two readings of the rings' statistics, in batches or naps.
const STATISTICS_EVERY: u32 = 256;

/// What the control thread asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Work on one more interface.
    Attach(PortInfo, Box<Port>),
    /// Leave an interface.
    Detach {
        /// Its number.
        ifindex: u32,
    },
    /// Send a frame of the director's own.
    Send {
        /// By this interface.
        ifindex: u32,
        /// From its Ethernet header on.
        frame: Box<[u8]>,
    },
    /// Flush and end.
    Stop,
}

/// What a ring has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortStatistics {
    /// The interface.
    pub ifindex: u32,
    /// What came in.
    pub received: ReceiveStatistics,
    /// What went out.
    pub sent: TransmitStatistics,
}

impl PortStatistics {
    /// Frames that the rings lost for this reason, which no worker could count.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        match reason {
            DropReason::RingFull => self.received.kernel_drops,
            DropReason::RingTruncated => self.received.truncated,
            DropReason::BadSegmentation => self.received.bad_segmentation,
            DropReason::TransmitFull => self.sent.discarded,
            DropReason::TransmitFailed => self.sent.malformed,
            DropReason::InterfaceDown => self.sent.interface_down,
            _ => 0,
        }
    }
}

/// What a worker has counted of its rings; written by the worker now and then.
pub(crate) type SharedStatistics = Arc<Mutex<Vec<PortStatistics>>>;

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct WorkerParts {
    /// The director's half.
    pub(crate) director: lvs_director::Worker,
    /// The kernel's tables.
    pub(crate) snapshots: Arc<ArcSwap<NetSnapshot>>,
    /// Where commands come from.
    pub(crate) inbox: Inbox<Command>,
    /// What wakes the worker when a command has been sent.
    pub(crate) waker: Arc<Waker>,
    /// Where to leave the statistics.
    pub(crate) statistics: SharedStatistics,
    /// The sending half.
    pub(crate) transmit: Transmit,
}

/// Runs until [`Command::Stop`].
pub(crate) fn run(parts: WorkerParts) {
    let WorkerParts {
        mut director,
        snapshots,
        inbox,
        waker,
        statistics,
        mut transmit,
    } = parts;
    let mut snapshots = Cache::new(snapshots);
    let mut receivers: Vec<Receiver> = Vec::new();
    let mut hops = Hops::default();
    let mut verdicts = [Verdict::Pass; BATCH];
    let mut rounds = 0_u32;
    let mut generation = 0;
    loop {
        let mut busy = false;
        let latest = snapshots.load();
        if latest.generation() != generation {
            generation = latest.generation();
            for (index, receiver) in receivers.iter_mut().enumerate() {
                receiver.pass_over(latest.vlans(transmit.ifindex(index)));
            }
        }
        for (index, receiver) in receivers.iter_mut().enumerate() {
            let snapshot = snapshots.load();
            let took = receiver.receive(BATCH, |frames| {
                let ifindex = transmit.ifindex(index);
                let now = clock::now();
                let mut ways = hops.ways(snapshot, ifindex);
                director.process(now, &mut ways, frames, &mut verdicts);
                for (frame, verdict) in frames.iter_mut().zip(&verdicts) {
                    transmit.act(index, frame, verdict, &hops, now, &director);
                }
                while let Some((mut frame, verdict)) =
                    director.next_released(now, &mut hops.ways(snapshot, ifindex))
                {
                    if let Err(reason) = transmit.perform(index, &mut frame, &verdict, &hops, now) {
                        director.count_drop(reason);
                    }
                }
            });
            busy |= took.is_some();
        }
        transmit.flush(&director);
        rounds = rounds.wrapping_add(1);
        if busy && !rounds.is_multiple_of(STATISTICS_EVERY) {
            continue;
        }
        loop {
            match inbox.try_recv() {
                Ok(Command::Attach(info, port)) => {
                    let Port {
                        receiver, sender, ..
                    } = *port;
                    receivers.push(receiver);
                    transmit.attach(info, sender);
                    // For the VLANs that this interface has already.
                    generation = 0;
                }
                Ok(Command::Detach { ifindex }) => {
                    if let Some(index) = transmit.detach(ifindex) {
                        drop(receivers.remove(index));
                    }
                }
                Ok(Command::Send { ifindex, frame }) => transmit.send_own(ifindex, &frame),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => break,
            }
        }
        transmit.release(snapshots.load(), clock::now(), &director);
        if rounds.is_multiple_of(STATISTICS_EVERY) || !busy {
            publish(&statistics, &mut receivers, &transmit);
        }
        if busy {
            continue;
        }
        // Out of memory for a moment: the next round tries again, not faster than this.
        if wait(&receivers, transmit.senders(), Some(&waker), Some(NAP)).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn publish(shared: &SharedStatistics, receivers: &mut [Receiver], transmit: &Transmit) {
    // A reader that holds the lock makes this worker come back later, not wait.
    let Some(mut shared) = shared.try_lock() else {
        return;
    };
    shared.clear();
    for (index, receiver) in receivers.iter_mut().enumerate() {
        shared.push(PortStatistics {
            ifindex: transmit.ifindex(index),
            received: receiver.statistics(),
            sent: transmit.statistics(index),
        });
    }
}
