//! A director in a site: frames in on one side, at a moment; what leaves, on whichever side, out.
//!
//! One frame at a time, with simulated time: connections end when their time is over, as late as
//! the kernel's timers are. What the director leaves to its host, the host handles
//! ([`super::host`]). Never: a socket, a clock.

use super::host;
use super::scenes::pieces::{self, Key};
use super::setup;
use super::site::{NextHop, Site};
use crate::control;
use lvs_core::Tick;
use lvs_director::{Cut, Director, DirectorConfig, Verdict, Worker};
use lvs_packet::{Fragment, Frame, Kind, Offload, Packet, ethernet, parse};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes before a frame, as a ring leaves them: enough for an ICMP error or a tunnel.
const HEADROOM: usize = 128;
/// Room for one packet that was cut from a segmented frame.
const SCRATCH: usize = 16 << 10;
/// Where the clock stands at the first frame, so that there is a time before it.
const START: Tick = Tick(250_000);
/// Timers of 2 to 16 seconds are looked at every 64 ticks (IPVS 2.4).
const STEP: u32 = 64;

/// Where a frame that leaves comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It came in, and goes on, rewritten or not.
    Forwarded,
    /// It goes on behind an outer header, which is the director's own.
    Tunnelled,
    /// It is an answer to what came in.
    Answer,
}

/// A frame that leaves.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// By which side.
    pub(crate) side: usize,
    /// All of it, from its Ethernet header.
    pub(crate) bytes: Vec<u8>,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Became {
    /// What the director said.
    pub(crate) verdict: Verdict,
    /// What the host did with it, if it was left to the host.
    pub(crate) host: Option<host::Outcome>,
    /// What leaves.
    pub(crate) sent: Vec<Sent>,
}

/// The director, its host, its network and its clock.
pub(crate) struct Machine {
    pub(crate) director: Arc<Director>,
    pub(crate) rules: control::Rules,
    pub(crate) site: Site,
    /// Whether there is a host, which handles what is left to it.
    pub(crate) has_host: bool,
    worker: Worker,
    now: Tick,
    scratch: Vec<u8>,
    /// Fragments that wait in the director, as the host has them.
    kept: HashMap<Key, Vec<Vec<u8>>>,
    /// Fragments for the host, which makes datagrams whole.
    held: HashMap<Key, Vec<Vec<u8>>>,
}

impl Machine {
    /// One without rules.
    ///
    /// # Errors
    /// If it cannot have its memory.
    pub(crate) fn new(connections: usize, site: Site) -> Result<Self, String> {
        let config = DirectorConfig {
            connections,
            workers: 1,
        };
        let director = Director::new(&config).map_err(|error| error.to_string())?;
        let worker = director.worker().ok_or("no worker")?;
        Ok(Self {
            rules: control::Rules::new(Arc::clone(&director), || {}),
            director,
            site,
            has_host: true,
            worker,
            now: START,
            scratch: vec![0; SCRATCH],
            kept: HashMap::new(),
            held: HashMap::new(),
        })
    }

    /// What time it is.
    pub(crate) const fn now(&self) -> Tick {
        self.now
    }

    /// Lets time pass until `time` after the first frame.
    pub(crate) fn pass_to(&mut self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let then = START + Tick::from_millis(milliseconds).0;
        while self.now.0 < then.0 {
            // The next moment at which something may be due.
            let next = (self.now.0 / STEP + 1) * STEP;
            self.now = Tick(next.min(then.0));
            self.director.collect(self.now, usize::MAX);
            if self.now.0 / Tick::PER_SECOND != (self.now.0.saturating_sub(STEP)) / Tick::PER_SECOND
            {
                self.director.tick(self.now);
                setup::defend(&self.director, self.now);
            }
        }
    }

    /// A frame comes in.
    pub(crate) fn receive(&mut self, side: usize, bytes: &[u8]) -> Became {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(bytes);
        let frame = Frame::new(&mut buffer, HEADROOM, bytes.len(), Offload::default());
        let mut frames = [frame];
        let mut verdicts = [Verdict::Pass];
        self.site.arrives(side);
        self.worker
            .process(self.now, &mut self.site, &mut frames, &mut verdicts);
        let ([frame], [verdict]) = (&mut frames, verdicts);
        let mut became = Became {
            verdict,
            host: None,
            sent: Vec::new(),
        };
        self.perform((side, bytes), frame, verdict, &mut became);
        while let Some((released, verdict)) = self.worker.next_released(self.now, &mut self.site) {
            let mut copy = released.bytes().to_vec();
            let len = copy.len();
            let mut frame = Frame::new(&mut copy, 0, len, released.offload);
            self.perform((side, bytes), &mut frame, verdict, &mut became);
        }
        became
    }

    /// Does what a verdict says.
    fn perform(
        &mut self,
        (side, came): (usize, &[u8]),
        frame: &mut Frame<'_>,
        verdict: Verdict,
        became: &mut Became,
    ) {
        match verdict {
            Verdict::Drop(_) => {}
            Verdict::Held => self.keep(frame),
            Verdict::Answer(_) => became.sent.push(answered(side, frame)),
            Verdict::Forward(hop) => {
                if let Some(hop) = self.site.hop(hop) {
                    let origin = self.origin(came, frame);
                    became.sent.push(self.leave(hop, frame, origin));
                }
            }
            Verdict::ForwardPieces { hop, cut } => {
                let mut scratch = core::mem::take(&mut self.scratch);
                let origin = self.origin(came, frame);
                let done = cut.for_each_piece(frame, &mut scratch, |piece| {
                    if let Some(hop) = self.site.hop(hop) {
                        became.sent.push(self.leave(hop, piece, origin));
                    }
                });
                self.scratch = scratch;
                if let Err(reason) = done {
                    became.verdict = Verdict::Drop(reason);
                }
            }
            Verdict::ForwardSegments { hop, outer } => {
                let mut scratch = core::mem::take(&mut self.scratch);
                let cut = outer.for_each_segment(frame, &mut scratch, |piece| {
                    if let Some(hop) = self.site.hop(hop) {
                        became.sent.push(self.leave(hop, piece, Origin::Tunnelled));
                    }
                });
                self.scratch = scratch;
                if let Err(reason) = cut {
                    became.verdict = Verdict::Drop(reason);
                }
            }
            Verdict::Pass | Verdict::ToHost => {
                let Ok(packet) = parse(frame) else {
                    return;
                };
                self.kept_to_the_host(side, frame, &mut became.sent);
                became.host = Some(self.left_to_the_host(side, frame, &packet, &mut became.sent));
            }
        }
    }

    /// Where a frame comes from that goes on. Only a tunnel's outer header is from the director itself;
    /// and what is about the inside of a tunnel is from another sender than what it came from.
    fn origin(&self, came: &[u8], goes: &Frame<'_>) -> Origin {
        let mut came = came.to_vec();
        let length = came.len();
        let before = parse(&Frame::new(&mut came, 0, length, Offload::default()));
        let (Ok(before), Ok(after)) = (before, parse(goes)) else {
            return Origin::Forwarded;
        };
        let mut sides = self.site.sides.iter();
        let (was, is) = (before.flow.src.addr, after.flow.src.addr);
        if was != is && sides.any(|side| side.addresses.contains(&is)) {
            return Origin::Tunnelled;
        }
        let other_ends = before.flow.src != after.flow.src && before.flow.dst != after.flow.dst;
        if after.kind == Kind::IcmpError && other_ends {
            Origin::Answer
        } else {
            Origin::Forwarded
        }
    }

    /// A fragment waits in the director; the host has its own copy.
    fn keep(&mut self, frame: &Frame<'_>) {
        if let Some(piece) = pieces::piece(frame.bytes()) {
            let kept = self.kept.entry(piece.key).or_default();
            kept.push(frame.bytes().to_vec());
        }
    }

    /// What came before of a datagram that turns out to be the host's.
    fn kept_to_the_host(&mut self, side: usize, frame: &Frame<'_>, sent: &mut Vec<Sent>) {
        let key = pieces::piece(frame.bytes()).map(|piece| piece.key);
        let kept = key.and_then(|key| self.kept.remove(&key));
        for bytes in kept.unwrap_or_default() {
            let length = bytes.len();
            let mut buffer = vec![0; HEADROOM];
            buffer.extend_from_slice(&bytes);
            let mut frame = Frame::new(&mut buffer, HEADROOM, length, Offload::default());
            if let Ok(packet) = parse(&frame) {
                self.left_to_the_host(side, &mut frame, &packet, sent);
            }
        }
    }

    fn left_to_the_host(
        &mut self,
        side: usize,
        frame: &mut Frame<'_>,
        packet: &Packet,
        sent: &mut Vec<Sent>,
    ) -> host::Outcome {
        if !self.has_host {
            return host::Outcome::Nothing;
        }
        if packet.fragment != Fragment::None && self.site.is_local(packet.flow.dst.addr) {
            let Some(whole) = self.gather(frame) else {
                return host::Outcome::Nothing;
            };
            let length = whole.len();
            let mut buffer = vec![0; HEADROOM];
            buffer.extend_from_slice(&whole);
            let mut frame = Frame::new(&mut buffer, HEADROOM, length, Offload::default());
            return match parse(&frame) {
                Ok(packet) => self.host(side, &mut frame, &packet, sent),
                Err(_) => host::Outcome::Nothing,
            };
        }
        self.host(side, frame, packet, sent)
    }

    /// Keeps a fragment for the host; gives the datagram once it is whole.
    fn gather(&mut self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let key = pieces::piece(frame.bytes())?.key;
        let held = self.held.entry(key.clone()).or_default();
        held.push(frame.bytes().to_vec());
        let whole = pieces::assembled(held)?;
        self.held.remove(&key);
        Some(whole)
    }

    fn host(
        &mut self,
        side: usize,
        frame: &mut Frame<'_>,
        packet: &Packet,
        sent: &mut Vec<Sent>,
    ) -> host::Outcome {
        let outcome = host::handle(&self.site, side, frame, packet);
        let (hop, out, origin) = match outcome {
            host::Outcome::Nothing => return outcome,
            host::Outcome::Answer => (None, side, Origin::Answer),
            host::Outcome::Forward(hop) => (Some(hop), hop.side, Origin::Forwarded),
        };
        let cut = Cut {
            limit: self.site.mtu(out),
            identification: 0,
        };
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut leaves = |frame: &mut Frame<'_>| {
            sent.push(match hop {
                Some(hop) => self.leave(hop, frame, origin),
                None => answered(side, frame),
            });
        };
        let too_long = parse(frame).is_ok_and(|packet| packet.ip_len() > cut.limit);
        // What cannot be cut is gone.
        if !too_long {
            leaves(frame);
        } else if cut
            .for_each_piece(frame, &mut scratch, &mut leaves)
            .is_err()
        {
            sent.clear();
        }
        self.scratch = scratch;
        outcome
    }

    fn leave(&self, hop: NextHop, frame: &mut Frame<'_>, origin: Origin) -> Sent {
        let (to, from) = self.site.link(hop);
        ethernet::set_addresses(frame, to, from);
        Sent {
            side: hop.side,
            bytes: frame.bytes().to_vec(),
            origin,
        }
    }
}

/// A frame that goes back where it came from.
fn answered(side: usize, frame: &Frame<'_>) -> Sent {
    Sent {
        side,
        bytes: frame.bytes().to_vec(),
        origin: Origin::Answer,
    }
}
