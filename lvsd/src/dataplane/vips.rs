//! For which addresses a worker answers ARP and neighbour solicitations, and on which interfaces.

use crate::host::announce;
use crate::host::net::NetSnapshot;
use lvs_core::Addr;

/// VIPs that the host does not have, each with the interfaces on which it is ours to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnsweredVips(Vec<(u32, Addr)>);

impl AnsweredVips {
    /// Those of `foreign` on each of the interfaces.
    #[must_use]
    pub fn new(foreign: &[Addr], interfaces: &[u32], net: &NetSnapshot) -> Self {
        let mut pairs: Vec<(u32, Addr)> = interfaces
            .iter()
            .flat_map(|ifindex| foreign.iter().map(|vip| (*ifindex, *vip)))
            .filter(|(ifindex, vip)| announce::speaks_on(*vip, *ifindex, net))
            .collect();
        pairs.sort_unstable();
        Self(pairs)
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is ours to answer for on this interface.
    #[must_use]
    pub fn contains(&self, ifindex: u32, vip: Addr) -> bool {
        self.0.binary_search(&(ifindex, vip)).is_ok()
    }
}
