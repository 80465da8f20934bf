//! `sh`: by source hash. The buckets are dealt to the backends in turn, to each as many in a row as
//! its weight (at least 1); the client's address chooses the bucket.
//!
//! `sh-port` (flag 2) hashes the client's port too. If the bucket's backend is not usable, nobody
//! gets the connection, or with `sh-fallback` (flag 1) the first usable one that a walk through all
//! the buckets meets, starting at twice the hash.
//!
//! Source: IPVS 1.6. The table is dealt anew after every edit.

use crate::hash::hash32;
use crate::scheduler::{After, List, Scheduler};
use crate::{Options, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use lvs_core::SchedFlags;

#[derive(Debug)]
struct SourceHash {
    /// Places; 2 to the power of `bits` of them, or none.
    table: Box<[u32]>,
    bits: u32,
}

impl SourceHash {
    fn new(list: &List, bits: u32) -> Self {
        let size = if list.is_empty() { 0 } else { 1 << bits };
        let mut table = Vec::with_capacity(size);
        for (at, backend) in (0u32..).zip(list).cycle() {
            let left = size - table.len();
            if left == 0 {
                break;
            }
            let run = left.min(backend.weight().max(1) as usize);
            table.extend(core::iter::repeat_n(at, run));
        }
        Self {
            table: table.into(),
            bits,
        }
    }

    #[inline]
    fn usable(&self, list: &List, bucket: u32) -> Option<usize> {
        let bucket = bucket & ((1 << self.bits) - 1);
        let at = *self.table.get(bucket as usize)? as usize;
        list.get(at)?.is_usable().then_some(at)
    }
}

pub(crate) fn build(list: &List, options: &Options) -> Arc<dyn Scheduler> {
    Arc::new(SourceHash::new(
        list,
        u32::from(options.sh_bits.clamp(4, 20)),
    ))
}

impl Scheduler for SourceHash {
    #[inline]
    fn pick(&self, list: &List, flags: SchedFlags, request: &Request) -> Option<usize> {
        let port = if flags.flag2 { request.src_port } else { 0 };
        let hash = hash32(request.src.fold().wrapping_add(u32::from(port)), self.bits);
        let first = self.usable(list, hash);
        if first.is_some() || !flags.flag1 || self.table.is_empty() {
            return first;
        }
        let mask = (1 << self.bits) - 1;
        (0..=mask).find_map(|offset| self.usable(list, ((hash + offset) & mask) + hash))
    }

    fn edited(&self, list: &List, _: After) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self::new(list, self.bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;
    use lvs_core::{Endpoint, Thresholds};

    fn start(weights: [u32; 3], count: usize) -> Vec<u32> {
        let list: Vec<_> = [1u32, 2, 3]
            .into_iter()
            .zip(weights)
            .map(|(n, weight)| Backend::new(n, Endpoint::default(), weight, Thresholds::default()))
            .rev()
            .collect();
        let table = SourceHash::new(&list, 8).table;
        assert_eq!(table.len(), 256);
        let owner = |at: &u32| list[*at as usize].id();
        table.iter().take(count).map(owner).collect()
    }

    #[test]
    fn tables_of_the_worked_example() {
        assert_eq!(start([3, 1, 2], 12), [3, 3, 2, 1, 1, 1, 3, 3, 2, 1, 1, 1]);
        assert_eq!(start([0, 1, 2], 8), [3, 3, 2, 1, 3, 3, 2, 1]);
        assert_eq!(start([1, 1, 1 << 30], 3), [3, 3, 3]);
    }
}
