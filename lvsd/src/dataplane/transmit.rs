//! What becomes of a frame after the verdict: out by an interface, to the host, or nowhere.
//!
//! In: frames and verdicts. Out: frames in transmit rings. Never: an allocation or a lock.

use super::hops::{Hops, NextHop};
use super::vips::AnsweredVips;
use crate::host::neighbour_wait::NeighbourWait;
use crate::host::net::{Hop, NetSnapshot};
use arc_swap::{ArcSwap, Cache};
use lvs_core::{DropReason, Tick};
use lvs_director::{Verdict, Worker};
use lvs_io_afpacket::{Injector, Sender, TransmitStatistics};
use lvs_packet::{Frame, Kind, Offload, ethernet, neighbour};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Room for one packet that was cut from a segmented frame.
const SCRATCH: usize = 16 << 10;

/// What a worker has to know of an interface.
#[derive(Clone, Copy, Debug)]
pub struct PortInfo {
    /// Its number.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

/// The sending half of a worker.
#[derive(Debug)]
pub(crate) struct Transmit {
    ports: Vec<PortInfo>,
    senders: Vec<Sender>,
    injector: Option<Injector>,
    injected: bool,
    waiting: NeighbourWait,
    wanted: SyncSender<Hop>,
    vips: Cache<Arc<ArcSwap<AnsweredVips>>, Arc<AnsweredVips>>,
    scratch: Box<[u8]>,
}

impl Transmit {
    /// Without interfaces; `injector` is the way to the host's own stack, `wanted` where neighbours
    /// are asked for, `vips` the addresses to answer for.
    #[must_use]
    pub(crate) fn new(
        injector: Option<Injector>,
        wanted: SyncSender<Hop>,
        vips: Arc<ArcSwap<AnsweredVips>>,
    ) -> Self {
        Self {
            ports: Vec::new(),
            senders: Vec::new(),
            injector,
            injected: false,
            waiting: NeighbourWait::new(),
            wanted,
            vips: Cache::new(vips),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
        }
    }

    /// Adds an interface, behind the others.
    pub(crate) fn attach(&mut self, info: PortInfo, sender: Sender) {
        self.ports.push(info);
        self.senders.push(sender);
    }

    /// Leaves an interface; answers its place.
    pub(crate) fn detach(&mut self, ifindex: u32) -> Option<usize> {
        let index = self.ports.iter().position(|port| port.ifindex == ifindex)?;
        self.ports.remove(index);
        self.senders.remove(index);
        Some(index)
    }

    /// The interface at a place; 0 for a place that is none.
    #[must_use]
    pub(crate) fn ifindex(&self, index: usize) -> u32 {
        self.ports.get(index).map_or(0, |port| port.ifindex)
    }

    /// The sending rings.
    pub(crate) fn senders(&mut self) -> &mut [Sender] {
        &mut self.senders
    }

    /// What the ring at a place has counted.
    #[must_use]
    pub(crate) fn statistics(&self, index: usize) -> TransmitStatistics {
        self.senders
            .get(index)
            .map(Sender::statistics)
            .unwrap_or_default()
    }

    /// Does what the verdict says with a frame that came in by the port at `index`.
    #[inline]
    pub(crate) fn act(
        &mut self,
        index: usize,
        frame: &mut Frame<'_>,
        verdict: &Verdict,
        hops: &Hops,
        now: Tick,
        worker: &Worker,
    ) {
        if let Err(reason) = self.perform(index, frame, verdict, hops, now) {
            worker.count_drop(reason);
        }
    }

    /// As [`Transmit::act`], for a frame that the worker lends.
    ///
    /// # Errors
    /// The frame did not leave, for this reason.
    pub(crate) fn perform(
        &mut self,
        index: usize,
        frame: &mut Frame<'_>,
        verdict: &Verdict,
        hops: &Hops,
        now: Tick,
    ) -> Result<(), DropReason> {
        match verdict {
            Verdict::Drop(_) | Verdict::Held => Ok(()),
            Verdict::Forward(hop) => match hops.get(*hop) {
                Some(hop) => self.send_to(hop, frame, now),
                None => Err(DropReason::NoRoute),
            },
            Verdict::ForwardSegments { hop, outer } => match hops.get(*hop) {
                Some(hop) => {
                    let mut scratch = core::mem::take(&mut self.scratch);
                    let mut last = Ok(());
                    let cut = outer.for_each_segment(frame, &mut scratch, |piece| {
                        last = self.send_to(hop, piece, now);
                    });
                    self.scratch = scratch;
                    cut.and(last)
                }
                None => Err(DropReason::NoRoute),
            },
            Verdict::ForwardPieces { hop, cut } => match hops.get(*hop) {
                Some(hop) => {
                    let mut scratch = core::mem::take(&mut self.scratch);
                    let mut last = Ok(());
                    let done = cut.for_each_piece(frame, &mut scratch, |piece| {
                        last = self.send_to(hop, piece, now);
                    });
                    self.scratch = scratch;
                    done.and(last)
                }
                None => Err(DropReason::NoRoute),
            },
            Verdict::Answer(_) => self.send_by(index, frame.bytes(), &frame.offload),
            Verdict::ToHost => self.give_to_host(frame),
            Verdict::Pass => self.answer_neighbour(index, frame),
        }
    }

    /// Sends what the batch has left, one system call an interface.
    pub(crate) fn flush(&mut self, worker: &Worker) {
        for sender in &mut self.senders {
            if let Err(reason) = sender.flush() {
                worker.count_drop(reason);
            }
        }
        if core::mem::take(&mut self.injected)
            && let Some(injector) = &mut self.injector
            && let Err(reason) = injector.flush()
        {
            worker.count_drop(reason);
        }
    }

    /// Sends frames whose neighbour is known by now, and gives up on those that waited too long.
    pub(crate) fn release(&mut self, snapshot: &NetSnapshot, now: Tick, worker: &Worker) {
        let Self {
            waiting,
            ports,
            senders,
            ..
        } = self;
        let send = |hop: Hop, frame: &mut [u8], offload: &Offload| {
            let port = ports.iter().position(|port| port.ifindex == hop.ifindex);
            let sent = match port.and_then(|index| senders.get_mut(index)) {
                Some(sender) => sender.send(frame, offload),
                None => Err(DropReason::InterfaceDown),
            };
            if let Err(reason) = sent {
                worker.count_drop(reason);
            }
        };
        waiting.release(snapshot, now, send, |reason| worker.count_drop(reason));
    }

    /// Sends a frame of the director's own by an interface.
    pub(crate) fn send_own(&mut self, ifindex: u32, frame: &[u8]) {
        let port = self.ports.iter().position(|port| port.ifindex == ifindex);
        if let Some(index) = port {
            // The interface may have gone down since; the next announcement comes when it is back.
            let _ = self.send_by(index, frame, &Offload::default());
        }
    }

    #[inline]
    fn send_to(
        &mut self,
        hop: &NextHop,
        frame: &mut Frame<'_>,
        now: Tick,
    ) -> Result<(), DropReason> {
        let Some(mac) = hop.mac else {
            let wanted = Hop {
                ifindex: hop.ifindex,
                addr: hop.addr,
            };
            ethernet::set_addresses(frame, [0; 6], hop.source_mac);
            if self
                .waiting
                .park(wanted, frame.bytes(), frame.offload, now)?
            {
                // A full queue: the neighbour is asked for with the next packet.
                let _ = self.wanted.try_send(wanted);
            }
            return Ok(());
        };
        ethernet::set_addresses(frame, mac, hop.source_mac);
        let port = self
            .ports
            .iter()
            .position(|port| port.ifindex == hop.ifindex);
        match port {
            Some(index) => self.send_by(index, frame.bytes(), &frame.offload),
            None => Err(DropReason::InterfaceDown),
        }
    }

    #[inline]
    fn send_by(&mut self, index: usize, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        match self.senders.get_mut(index) {
            Some(sender) => sender.send(bytes, offload),
            None => Err(DropReason::InterfaceDown),
        }
    }

    fn give_to_host(&mut self, frame: &mut Frame<'_>) -> Result<(), DropReason> {
        let Some(injector) = &mut self.injector else {
            return Err(DropReason::InterfaceDown);
        };
        self.injected = true;
        injector.inject(frame)
    }

    /// Answers ARP and neighbour discovery for a VIP that the host does not have.
    #[inline]
    fn answer_neighbour(&mut self, index: usize, frame: &mut Frame<'_>) -> Result<(), DropReason> {
        let vips = self.vips.load();
        let Some(port) = self.ports.get(index).copied() else {
            return Ok(());
        };
        if vips.is_empty() {
            return Ok(());
        }
        let Ok(packet) = lvs_packet::parse(frame) else {
            return Ok(());
        };
        let target = match packet.kind {
            Kind::ArpRequest => neighbour::arp_request_target(frame, &packet),
            Kind::NeighbourSolicitation => neighbour::solicitation_target(frame, &packet),
            _ => None,
        };
        if !target.is_some_and(|target| vips.contains(port.ifindex, target)) {
            return Ok(());
        }
        match packet.kind {
            Kind::ArpRequest => neighbour::answer_arp(frame, &packet, port.mac)?,
            _ => neighbour::answer_solicitation(frame, &packet, port.mac)?,
        }
        self.send_by(index, frame.bytes(), &frame.offload)
    }
}
