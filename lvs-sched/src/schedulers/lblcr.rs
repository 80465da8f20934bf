//! `lblcr`: `lblc` with replication. A destination address has a set of backends and goes to the
//! least loaded of them; when that one is full while another is half idle, or none will do, the
//! choice of `wlc` joins the set. A set that has not changed for the expiration time loses its most
//! loaded member.
//!
//! Source: IPVS 1.9. The memory outlives edits of the list. There is room for [`NODES`] members in
//! all; when it is used up, a choice is not remembered until something expires. A member that has
//! left the list is the first to be taken out of a set, since its load is not known.

use super::cache::{Cache, FreeList, NONE, Slot, halves, join};
use super::lblc::Survey;
use super::wlc::{Share, Wlc};
use crate::index::Contest;
use crate::scheduler::{After, List, Scheduler};
use crate::sync::{AtomicU64, Ordering};
use crate::{Options, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use lvs_core::{SchedFlags, Tick};

/// Members of all sets together.
const NODES: u32 = 1 << 15;

/// The members of the sets: a backend's serial number above, the next node below.
#[derive(Debug)]
struct Nodes {
    nodes: Box<[AtomicU64]>,
    free: FreeList,
}

impl Nodes {
    fn new() -> Self {
        Self {
            nodes: (1..=NODES)
                .map(|next| AtomicU64::new(join(0, if next == NODES { NONE } else { next })))
                .collect(),
            free: FreeList::new(NODES),
        }
    }

    /// The serial number and the next node.
    fn get(&self, at: u32) -> Option<(u32, u32)> {
        let node = self.nodes.get(at as usize)?;
        Some(halves(node.load(Ordering::Relaxed)))
    }

    fn set(&self, at: u32, serial: u32, next: u32) {
        if let Some(node) = self.nodes.get(at as usize) {
            node.store(join(serial, next), Ordering::Relaxed);
        }
    }

    /// The members of a set, as node and serial number; the newest first.
    fn members(&self, slot: &Slot) -> impl Iterator<Item = (u32, u32)> {
        let mut at = slot.value.load(Ordering::Relaxed);
        core::iter::from_fn(move || {
            let (serial, next) = self.get(at)?;
            let member = (at, serial);
            at = next;
            Some(member)
        })
    }

    fn insert(&self, slot: &Slot, serial: u32, now: Tick) {
        if self.members(slot).any(|(_, member)| member == serial) {
            return;
        }
        let next = |at| self.get(at).map_or(NONE, |(_, next)| next);
        if let Some(at) = self.free.pop(next) {
            self.set(at, serial, slot.value.load(Ordering::Relaxed));
            slot.value.store(at, Ordering::Relaxed);
            slot.changed.store(now.0, Ordering::Relaxed);
        }
    }

    fn remove(&self, slot: &Slot, gone: u32) {
        let Some((_, next)) = self.get(gone) else {
            return;
        };
        let before = self
            .members(slot)
            .find(|&(at, _)| self.get(at).is_some_and(|(_, next)| next == gone));
        match before {
            Some((at, serial)) => self.set(at, serial, next),
            None => slot.value.store(next, Ordering::Relaxed),
        }
        self.free.push(gone, |top| self.set(gone, 0, top));
    }

    fn clear(&self, slot: &Slot) {
        let mut at = slot.value.swap(NONE, Ordering::Relaxed);
        while let Some((_, next)) = self.get(at) {
            self.free.push(at, |top| self.set(at, 0, top));
            at = next;
        }
    }
}

#[derive(Debug)]
struct Memory {
    cache: Cache,
    nodes: Nodes,
}

#[derive(Debug)]
struct Replication {
    memory: Arc<Memory>,
    survey: Survey,
}

impl Replication {
    /// The least loaded member that may be used.
    fn least(&self, list: &List, slot: &Slot) -> Option<usize> {
        let mut best: Option<(usize, Share)> = None;
        for (_, serial) in self.memory.nodes.members(slot) {
            if let Some(at) = self.survey.place(serial)
                && let Some(share) = list.get(at).and_then(|backend| Wlc::key(backend))
                && best.is_none_or(|(_, holder)| share.is_below(holder))
            {
                best = Some((at, share));
            }
        }
        best.map(|(at, _)| at)
    }

    /// The node of the most loaded member of a weight above 0, or of one that has left the list.
    fn most(&self, list: &List, slot: &Slot) -> Option<u32> {
        let mut worst: Option<(u32, Share)> = None;
        for (node, serial) in self.memory.nodes.members(slot) {
            let Some(backend) = self.survey.place(serial).and_then(|at| list.get(at)) else {
                return Some(node);
            };
            let share = Share {
                load: backend.overhead(),
                weight: backend.weight(),
            };
            if share.weight > 0 && worst.is_none_or(|(_, holder)| holder.is_below(share)) {
                worst = Some((node, share));
            }
        }
        worst.map(|(node, _)| node)
    }

    /// Takes the most loaded member out of a set that has more than one and has rested too long.
    fn shrink(&self, list: &List, slot: &Slot, now: Tick) {
        let memory = &self.memory;
        let changed = Tick(slot.changed.load(Ordering::Relaxed));
        if now.since(changed) > memory.cache.expiration()
            && memory.nodes.members(slot).nth(1).is_some()
        {
            if let Some(node) = self.most(list, slot) {
                memory.nodes.remove(slot, node);
            }
            slot.changed.store(now.0, Ordering::Relaxed);
        }
    }
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Replication {
        memory: Arc::new(Memory {
            cache: Cache::new(options.cache_expiration),
            nodes: Nodes::new(),
        }),
        survey: Survey::new(list),
    })
}

impl Scheduler for Replication {
    fn pick(&self, list: &List, _: SchedFlags, request: &Request) -> Option<usize> {
        let (survey, nodes) = (&self.survey, &self.memory.nodes);
        let Some(mut bucket) = self.memory.cache.bucket(request.dst) else {
            return survey.least(list);
        };
        let mut known = bucket.find(request.dst, request.now);
        if let Some(slot) = known {
            let chosen = self.least(list, slot);
            self.shrink(list, slot, request.now);
            if let Some(at) = chosen
                && !survey.is_full(list, list.get(at)?)
            {
                return Some(at);
            }
        }
        let at = survey.least(list)?;
        if known.is_none() {
            known = bucket.insert(request.dst, request.now, |slot| nodes.clear(slot));
        }
        if let Some(slot) = known {
            nodes.insert(slot, list.get(at)?.serial(), request.now);
        }
        Some(at)
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        if !after.members {
            return None;
        }
        Some(Arc::new(Self {
            memory: Arc::clone(&self.memory),
            survey: Survey::new(list),
        }))
    }

    fn expire_after(&self, seconds: u32) {
        self.memory.cache.expire_after(seconds);
    }

    fn tick(&self, _: &List, now: Tick) {
        let memory = &self.memory;
        memory.cache.tick(now, |slot| memory.nodes.clear(slot));
    }
}
