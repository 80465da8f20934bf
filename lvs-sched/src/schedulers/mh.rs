//! `mh`: Maglev hashing. Each backend has its own order of preference over the slots of a table of
//! prime size; in turn each takes the first free slots of its order, as many as its weight says.
//! The client's address chooses the slot; few slots change hands when the list changes.
//!
//! `mh-port` (flag 2) hashes the client's port too. If the slot's backend is not usable, nobody
//! gets the connection, or with `mh-fallback` (flag 1) the first usable one that rehashing meets.
//! A backend set to weight 0 keeps its slots: the table goes by the last weight.
//!
//! Source: IPVS 1.7; Eisenbud et al., "Maglev", NSDI 2016, 3.4. The table is that of
//! [`super::maglev`], dealt anew when an edit changes what each takes at a time.

use super::maglev::Table;
use crate::scheduler::{After, List, Scheduler};
use crate::usable::Usable;
use crate::{Options, Request};
use alloc::sync::Arc;
use lvs_core::SchedFlags;

/// What of a request is hashed.
#[inline]
pub(crate) fn value(request: &Request, flags: SchedFlags) -> u32 {
    let port = if flags.flag2 { request.src_port } else { 0 };
    request.src.fold().wrapping_add(u32::from(port))
}

#[derive(Debug)]
struct Maglev {
    table: Table,
    usable: Usable,
}

impl Maglev {
    fn new(list: &List, table: Table) -> Self {
        Self {
            table,
            usable: Usable::new(list),
        }
    }
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Maglev::new(list, Table::new(list, options.mh_index)))
}

impl Scheduler for Maglev {
    #[inline]
    fn pick(&self, list: &List, flags: SchedFlags, request: &Request) -> Option<usize> {
        let table = &self.table;
        let value = value(request, flags);
        let usable = |slot| {
            let at = table.owner(slot)?;
            self.usable.at(list, at).then_some(at)
        };
        let slot = table.slot(value);
        let first = usable(slot);
        if first.is_some() || !flags.flag1 || table.is_empty() {
            return first;
        }
        (0..table.size()).find_map(|offset| {
            let rehash = (offset + slot) % table.size();
            usable(table.slot(value.wrapping_add(rehash)))
        })
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        let next = self.table.edited(list, after)?;
        Some(Arc::new(Self::new(list, next)))
    }

    fn capacity(&self) -> usize {
        self.table.capacity()
    }
}
