//! One worker: takes batches of frames, rewrites them, answers with a verdict for each.
//!
//! Nothing here allocates, frees, locks, logs or makes a system call (a thread that for the first
//! time sees rules edited allocates one small node, `arc-swap`'s, that threads hand on). All packets
//! of a batch are parsed first and looked up together, so that the cache misses of their
//! connections overlap.

use crate::decide::Decider;
use crate::director::Director;
use crate::established::Rows;
use crate::fragments::Fragments;
use crate::fresh::Fresh;
use crate::limit::RateLimit;
use crate::locals::Cursor;
use crate::opening::Opened;
use crate::released::Released;
use crate::resets::Resets;
use crate::route::Routes;
use crate::rules::Rules;
use crate::settings::Setting;
use crate::tunnelled::Identification;
use crate::verdict::Verdict;
use arc_swap::{ArcSwap, Cache};
use lvs_conn::{Guard, Handle, Hit};
use lvs_core::{DropReason, Family, Flow, ForwardMethod, Tick};
use lvs_packet::options::{self, Recorded};
use lvs_packet::{Frame, Kind, Packet, Plain};
use std::sync::Arc;

/// Frames that are looked up together.
pub const BATCH: usize = 64;

/// The packet path of one thread. Made by [`Director::worker`].
#[derive(Debug)]
pub struct Worker {
    pub(crate) director: Arc<Director>,
    pub(crate) number: usize,
    pub(crate) rules: Cache<Arc<ArcSwap<Rules>>, Arc<Rules>>,
    pub(crate) handle: Handle,
    pub(crate) limit: RateLimit,
    pub(crate) fragments: Fragments,
    pub(crate) released: Released,
    pub(crate) identification: Identification,
    pub(crate) cursor: Cursor,
    pub(crate) resets: Resets,
    /// What the batch at hand was parsed to; kept here so that no batch has to clear it first. A frame
    /// is plain, or has a packet.
    plains: [Option<Plain>; BATCH],
    packets: [Option<Packet>; BATCH],
    flows: [Flow; BATCH],
}

/// What a frame that is not plain, or not ours, is parsed to; `None` if there is nothing to be decided.
#[inline(never)]
fn parse_any(frame: &Frame<'_>, rules: &Rules, verdict: &mut Verdict) -> Option<Packet> {
    match lvs_packet::parse(frame) {
        Ok(parsed) if rules.handles(parsed.family) || is_for_tunnels(rules, &parsed) => {
            Some(parsed)
        }
        Ok(_) => None,
        // Who takes packets from the host tells their senders what the host would have told them.
        Err(DropReason::BadIpOptions) if rules.handles(Family::V4) => {
            *verdict = Verdict::Drop(DropReason::BadIpOptions);
            lvs_packet::despite_options(frame).ok()
        }
        Err(reason) => {
            *verdict = Verdict::Drop(reason);
            None
        }
    }
}

/// Begins to fetch what packets of FULLNAT need beyond what a lookup brings.
#[cold]
fn prefetch_locals(hits: &[Option<Hit<'_>>]) {
    for hit in hits.iter().flatten() {
        if hit.conn.ports().is_by(ForwardMethod::FullNat) {
            hit.conn.prefetch_rest();
        }
    }
}

/// Whether a packet of a family without services may be about the tunnels of the other one.
#[cold]
fn is_for_tunnels(rules: &Rules, packet: &Packet) -> bool {
    packet.kind == Kind::IcmpError && rules.has_tunnels()
}

impl Worker {
    pub(crate) fn new(director: &Arc<Director>, number: usize) -> Self {
        Self {
            director: Arc::clone(director),
            number,
            rules: Cache::new(Arc::clone(&director.rules)),
            handle: director.table.register(),
            limit: RateLimit::new(Arc::clone(&director.error_limits)),
            fragments: Fragments::default(),
            released: Released::default(),
            identification: Identification::new(ahash::RandomState::new().hash_one(number)),
            cursor: Cursor::new(number),
            resets: Resets::default(),
            plains: [None; BATCH],
            packets: [None; BATCH],
            flows: [Flow::NONE; BATCH],
        }
    }

    /// Decides on every frame and rewrites it in place. `verdicts` gets one verdict a frame, in
    /// order; frames beyond its length are left alone.
    ///
    /// `now` is the clock, read once for the batch.
    pub fn process<R: Routes>(
        &mut self,
        now: Tick,
        routes: &mut R,
        frames: &mut [Frame<'_>],
        verdicts: &mut [Verdict],
    ) {
        for (frames, verdicts) in frames.chunks_mut(BATCH).zip(verdicts.chunks_mut(BATCH)) {
            self.process_batch::<R, true>(now, routes, frames, verdicts);
        }
    }

    /// Counts a frame that the I/O around this worker had to drop.
    pub fn count_drop(&self, reason: DropReason) {
        if let Some(drops) = self.director.drops.get(self.number) {
            drops.count(reason);
        }
    }

    /// Without `STRAIGHT` nothing goes a straight way ([`Decider::straight`], [`Decider::open`]); for
    /// their test.
    pub(crate) fn process_batch<R: Routes, const STRAIGHT: bool>(
        &mut self,
        now: Tick,
        routes: &mut R,
        frames: &mut [Frame<'_>],
        verdicts: &mut [Verdict],
    ) {
        let Self {
            director,
            number,
            rules,
            handle,
            limit,
            fragments,
            identification,
            cursor,
            resets,
            plains,
            packets,
            flows,
            ..
        } = self;
        let rules: &Rules = rules.load();
        let Some(drops) = director.drops.get(*number) else {
            return;
        };
        let guard = handle.pin();
        let mut hits: [Option<Hit<'_>>; BATCH] = [None; BATCH];

        let count = frames.len().min(verdicts.len()).min(BATCH);
        let (Some(frames), Some(verdicts)) = (frames.get_mut(..count), verdicts.get_mut(..count))
        else {
            return;
        };
        let (Some(flows), Some(hits), Some(plains)) = (
            flows.get_mut(..count),
            hits.get_mut(..count),
            plains.get_mut(..count),
        ) else {
            return;
        };
        let others = look(frames, plains, flows, rules);
        for n in ones(others) {
            if let (Some(frame), Some(verdict), Some(packet), Some(flow)) = (
                frames.get(n),
                verdicts.get_mut(n),
                packets.get_mut(n),
                flows.get_mut(n),
            ) {
                *verdict = Verdict::Pass;
                *packet = parse_any(frame, rules, verdict);
                *flow = match packet {
                    Some(packet) if packet.has_ports() => packet.flow,
                    _ => Flow::NONE,
                };
            }
        }
        guard.lookup_batch(flows, hits);
        if rules.has_locals() {
            prefetch_locals(hits);
        }

        let mut decider = decider(
            (director, *number, rules, &guard),
            (now, routes),
            (limit, fragments, identification, cursor, resets),
        );
        let mut n = 0;
        while n < count {
            if STRAIGHT && hits.get(n).is_some_and(Option::is_some) {
                let went = decider.run(Rows {
                    frames: frames.get_mut(n..).unwrap_or_default(),
                    verdicts: verdicts.get_mut(n..).unwrap_or_default(),
                    plains: plains.get(n..).unwrap_or_default(),
                    hits: hits.get(n..).unwrap_or_default(),
                });
                if went > 0 {
                    n += went;
                    continue;
                }
            }
            let (Some(frame), Some(verdict)) = (frames.get_mut(n), verdicts.get_mut(n)) else {
                return;
            };
            let (Some(plain), Some(packet), Some(flow), Some(hit)) =
                (plains.get(n), packets.get(n), flows.get(n), hits.get(n))
            else {
                return;
            };
            match (plain, packet) {
                (Some(plain), _) => {
                    let opened = match hit {
                        None if STRAIGHT => decider.open(frame, *plain, flow),
                        _ => Opened::No,
                    };
                    if let Opened::Sent(hop) = opened {
                        *verdict = Verdict::Forward(hop);
                        n += 1;
                        continue;
                    }
                    *verdict = decider.plainly(frame, *plain, flow, *hit, opened);
                }
                (None, Some(packet)) => *verdict = decider.any(frame, packet, *hit),
                (None, None) => {}
            }
            if let Verdict::Drop(reason) | Verdict::Answer(Some(reason)) = *verdict {
                drops.count(reason);
            }
            n += 1;
        }
    }
}

/// Looks for the plain frames and their flows. Answers a bit for each other frame, the lowest for the first.
#[inline(never)]
fn look(
    frames: &[Frame<'_>],
    plains: &mut [Option<Plain>],
    flows: &mut [Flow],
    rules: &Rules,
) -> u64 {
    let mut others = 0;
    if rules.handles(Family::V4) {
        let rows = frames.iter().zip(plains.iter_mut()).zip(flows.iter_mut());
        for (n, ((frame, plain), flow)) in rows.enumerate() {
            *plain = Plain::v4(frame, flow);
            if plain.is_none() {
                others |= 1 << n;
            }
        }
    } else {
        plains.fill(None);
        others = u64::MAX >> (BATCH - frames.len().clamp(1, BATCH));
    }
    if rules.handles(Family::V6) {
        for n in ones(others) {
            if let (Some(frame), Some(plain), Some(flow)) =
                (frames.get(n), plains.get_mut(n), flows.get_mut(n))
            {
                *plain = Plain::v6(frame, flow);
                if plain.is_some() {
                    others &= !(1 << n);
                }
            }
        }
    }
    others
}

/// The numbers of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(bit)
    })
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Decides about a plain frame that does not simply go on. `opened`: how far it was brought.
    #[inline(never)]
    fn plainly(
        &mut self,
        frame: &mut Frame<'_>,
        plain: Plain,
        flow: &Flow,
        hit: Option<Hit<'g>>,
        opened: Opened<'g>,
    ) -> Verdict {
        let Some(packet) = plain.packet(frame, flow) else {
            return Verdict::Pass;
        };
        match opened {
            Opened::Chosen(service, begun) => {
                self.go_on_with(frame, &packet, flow, (service, begun))
            }
            _ => self.decide(frame, &packet, hit),
        }
    }

    /// Decides about any other.
    #[inline(never)]
    fn any(&mut self, frame: &mut Frame<'_>, packet: &Packet, hit: Option<Hit<'g>>) -> Verdict {
        if options::may_be_in(packet) {
            self.with_options(frame, packet, hit)
        } else {
            self.decide(frame, packet, hit)
        }
    }
}

/// What decides about packets, put together: the director's half that is shared, the caller's, and what
/// the worker keeps.
#[inline]
pub(crate) fn decider<'a, 'g, R>(
    (director, worker, rules, guard): (&'a Director, usize, &'g Rules, &'g Guard<'g>),
    (now, routes): (Tick, &'a mut R),
    (limit, fragments, identification, cursor, resets): (
        &'a mut RateLimit,
        &'a mut Fragments,
        &'a mut Identification,
        &'a mut Cursor,
        &'a mut Resets,
    ),
) -> Decider<'a, 'g, R> {
    Decider {
        now,
        worker,
        rules,
        near: rules.near(),
        helped: rules.helpers.ports(),
        timeouts: &director.timeouts,
        settled: director.timeouts.settled(),
        settings: &director.settings,
        defence: &director.defence,
        is_watchful: rules.has_marks()
            || director.settings.is_on(Setting::NatIcmpSend)
            || director.defence.is_dropping(),
        calls: &director.calls,
        waiting: &director.waiting,
        guard,
        routes,
        limit,
        fragments,
        identification,
        cursor,
        resets,
        drops: director.drops.get(worker),
        fresh: Fresh::default(),
        latest: None,
        largest_piece: None,
        recorded: Recorded::default(),
    }
}
