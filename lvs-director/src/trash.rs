//! Destinations that were deleted while connections still hold them (IPVS 0.4).
//!
//! They keep their number, their backend and their counts, so that their connections end in order,
//! and so that the same destination added again goes on where it was.
//!
//! In: destinations that are deleted, a bin for each service, which is taken out while the service is
//! edited. Out: those that are added again, and at last those that nobody holds.

use crate::destination::Destination;
use ahash::RandomState;
use core::sync::atomic::Ordering::Relaxed;
use hashbrown::HashMap;
use lvs_core::{Endpoint, ServiceKey, Tick};
use std::sync::Arc;

/// How long a destination without connections stays, in seconds.
const KEPT: u32 = 120;

/// The deleted destinations, by their service.
#[derive(Debug, Default)]
pub(crate) struct Trash(HashMap<ServiceKey, Bin, RandomState>);

/// Those of one service. One of a kind: adding a destination takes it back first.
#[derive(Debug, Default)]
pub(crate) struct Bin {
    trashed: Vec<Trashed>,
    /// Where each stands, once many were looked for; built anew after others have come or gone.
    places: Option<HashMap<Endpoint, usize, RandomState>>,
}

#[derive(Debug)]
struct Trashed {
    destination: Arc<Destination>,
    /// When it was first seen without connections since its deletion.
    idle_since: Option<Tick>,
}

impl Trashed {
    fn endpoint(&self) -> Endpoint {
        self.destination.spec.endpoint
    }

    /// Whether it stays, at this moment.
    fn is_kept(&mut self, now: Tick) -> bool {
        let backend = &self.destination.backend;
        let templates = self.destination.ledger.templates.load(Relaxed);
        if backend.active() != 0 || backend.inactive() != 0 || templates != 0 {
            self.idle_since = None;
            return true;
        }
        let since = *self.idle_since.get_or_insert(now);
        now.since(since) < Tick::seconds(KEPT)
    }
}

impl Bin {
    /// Room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.trashed.reserve(more);
    }

    pub(crate) fn push(&mut self, destination: Arc<Destination>) {
        self.places = None;
        self.trashed.push(Trashed {
            destination,
            idle_since: None,
        });
    }

    /// Takes back the destination that was deleted from the service at this endpoint.
    pub(crate) fn revive(&mut self, endpoint: Endpoint) -> Option<Arc<Destination>> {
        /// Up to this many are looked through.
        const FEW: usize = 16;
        let trashed = &self.trashed;
        let place = if trashed.len() > FEW {
            let endpoints = trashed.iter().map(Trashed::endpoint);
            let places = self
                .places
                .get_or_insert_with(|| endpoints.zip(0..).collect());
            places.remove(&endpoint)?
        } else {
            self.places = None;
            trashed.iter().position(|one| one.endpoint() == endpoint)?
        };
        let taken = self.trashed.swap_remove(place);
        if let (Some(places), Some(moved)) = (&mut self.places, self.trashed.get(place)) {
            places.insert(moved.endpoint(), place);
        }
        Some(taken.destination)
    }
}

impl Trash {
    /// Takes out what was deleted from a service.
    pub(crate) fn take(&mut self, service: &ServiceKey) -> Bin {
        self.0.remove(service).unwrap_or_default()
    }

    /// Puts back what was taken out, with what has come to it.
    pub(crate) fn put(&mut self, service: ServiceKey, bin: Bin) {
        if !bin.trashed.is_empty() {
            self.0.insert(service, bin);
        }
    }

    /// Takes out those that no connection has held for two minutes.
    pub(crate) fn empty(&mut self, now: Tick) -> Vec<Arc<Destination>> {
        let mut gone = Vec::new();
        self.0.retain(|_, bin| {
            let before = bin.trashed.len();
            bin.trashed.retain_mut(|trashed| {
                let keep = trashed.is_kept(now);
                if !keep {
                    gone.push(Arc::clone(&trashed.destination));
                }
                keep
            });
            if bin.trashed.len() != before {
                bin.places = None;
            }
            !bin.trashed.is_empty()
        });
        gone
    }
}
