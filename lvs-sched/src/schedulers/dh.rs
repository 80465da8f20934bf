//! `dh`: by destination hash. 256 buckets are dealt to the backends in turn, whatever their
//! weights; the address that the client asked for chooses the bucket. If its backend is not
//! usable, nobody gets the connection.
//!
//! Source: IPVS 1.5. The table is dealt anew when a backend is added or removed.

use crate::hash::hash32;
use crate::scheduler::{After, List, Scheduler};
use crate::{Options, Request};
use alloc::sync::Arc;
use lvs_core::SchedFlags;

const BITS: u32 = 8;

#[derive(Debug)]
struct DestinationHash {
    table: [u32; 1 << BITS],
}

impl DestinationHash {
    fn new(list: &List) -> Self {
        let mut table = [u32::MAX; 1 << BITS];
        #[expect(clippy::cast_possible_truncation, reason = "lists are shorter")]
        for (bucket, at) in table.iter_mut().zip((0..list.len()).cycle()) {
            *bucket = at as u32;
        }
        Self { table }
    }
}

pub(crate) fn build(list: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(DestinationHash::new(list))
}

impl Scheduler for DestinationHash {
    #[inline]
    fn pick(&self, list: &List, _: SchedFlags, request: &Request) -> Option<usize> {
        let at = *self.table.get(hash32(request.dst.fold(), BITS) as usize)? as usize;
        list.get(at)?.is_usable().then_some(at)
    }

    fn edited(&self, list: &List, after: After) -> Option<Arc<dyn Scheduler>> {
        after
            .members
            .then(|| Arc::new(Self::new(list)) as Arc<dyn Scheduler>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;
    use alloc::vec::Vec;
    use lvs_core::{Endpoint, Thresholds};

    #[test]
    fn table_of_the_worked_example() {
        let list: Vec<_> = [3, 2, 1]
            .map(|n| Backend::new(n, Endpoint::default(), n - 1, Thresholds::default()))
            .into();
        let table = DestinationHash::new(&list).table;
        let ids: Vec<_> = table.map(|at| list[at as usize].id()).into();
        assert_eq!(ids[..8], [3, 2, 1, 3, 2, 1, 3, 2]);
    }
}
