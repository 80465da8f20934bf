//! Destinations that were deleted while connections still hold them (IPVS 0.4).
//!
//! They keep their number, their backend and their counts, so that their connections end in order,
//! and so that the same destination added again goes on where it was.

use crate::rules::Destination;
use ahash::RandomState;
use core::sync::atomic::Ordering::Relaxed;
use hashbrown::HashMap;
use lvs_core::{Endpoint, ServiceKey, Tick};
use std::sync::Arc;

/// How long a destination without connections stays, in seconds.
const KEPT: u32 = 120;

/// The deleted destinations.
#[derive(Debug, Default)]
pub(crate) struct Trash(HashMap<(ServiceKey, Endpoint), Trashed, RandomState>);

#[derive(Debug)]
struct Trashed {
    destination: Arc<Destination>,
    /// When it was first seen without connections since its deletion.
    idle_since: Option<Tick>,
}

impl Trash {
    pub(crate) fn push(&mut self, destination: Arc<Destination>) {
        // One of a kind: adding a destination takes it back first.
        let key = (destination.service, destination.spec.endpoint);
        let trashed = Trashed {
            destination,
            idle_since: None,
        };
        self.0.insert(key, trashed);
    }

    /// Takes back the destination that was deleted from the same service at the same endpoint.
    pub(crate) fn revive(
        &mut self,
        service: &ServiceKey,
        endpoint: Endpoint,
    ) -> Option<Arc<Destination>> {
        let trashed = self.0.remove(&(*service, endpoint))?;
        Some(trashed.destination)
    }

    /// Takes out those that no connection has held for two minutes.
    pub(crate) fn empty(&mut self, now: Tick) -> Vec<Arc<Destination>> {
        let mut gone = Vec::new();
        self.0.retain(|_, trashed| {
            let backend = &trashed.destination.backend;
            let templates = trashed.destination.templates.load(Relaxed);
            if backend.active() != 0 || backend.inactive() != 0 || templates != 0 {
                trashed.idle_since = None;
                return true;
            }
            let since = *trashed.idle_since.get_or_insert(now);
            let keep = now.since(since) < Tick::seconds(KEPT);
            if !keep {
                gone.push(Arc::clone(&trashed.destination));
            }
            keep
        });
        gone
    }
}
