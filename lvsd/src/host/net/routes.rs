//! The kernel's routes, reduced to one answer per prefix.
//!
//! In: the routes of a dump. Out: a table that answers in one or two binary searches. Never: a
//! choice that the kernel would not make, apart from what [`super`] says is not followed.
//!
//! IPv4 matches the longest prefix of `main` and `local` together, because the kernel keeps both
//! in one trie as long as there are no policy rules, and prefers `local` among equal prefixes. IPv6
//! looks through `local` first. Among routes of one prefix the smallest metric wins.

use super::prefix::{Prefix, Ranges};
use lvs_core::{Addr, Family};

/// `RT_TABLE_MAIN`
pub(super) const MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`
pub(super) const LOCAL: u32 = 255;

/// A route as the kernel lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) prefix: Addr,
    pub(super) length: u8,
    pub(super) table: u32,
    pub(super) metric: u32,
    /// The rank of `RTA_PREF`: high 0, medium 1, low 2.
    pub(super) preference: u8,
    pub(super) route: Route,
}

/// What is known of the way to a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) target: Target,
    /// `RT_SCOPE_` of what the route leads to.
    pub(super) scope: u8,
    /// The source address that the route prescribes.
    pub(super) source: Option<Addr>,
    /// The MTU that the route prescribes; 0 if none.
    pub(super) mtu: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To the host itself.
    Local,
    /// Nowhere: blackhole, unreachable, prohibit, broadcast, multicast, or a way that needs an
    /// encapsulation which only the kernel can do.
    Nowhere,
    /// To a next hop; never empty.
    Hops(Box<[NextHop]>),
}

/// One next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextHop {
    pub(super) ifindex: u32,
    /// `None` where the destination is on the link.
    pub(super) gateway: Option<Addr>,
    /// The weights of this hop and of those before it.
    pub(super) weight_until: u32,
}

/// All routes.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteTable {
    v4: Ranges<u32>,
    v6_local: Ranges<u128>,
    v6_main: Ranges<u128>,
    routes: Box<[Route]>,
}

impl RouteTable {
    /// From the routes of a dump, in the kernel's order.
    pub(super) fn new(listed: Vec<Listed>) -> Self {
        let mut v4 = Vec::new();
        let mut v6_local = Vec::new();
        let mut v6_main = Vec::new();
        for route in listed {
            match (route.prefix.family(), route.table) {
                (Family::V4, MAIN | LOCAL) => v4.push(route),
                (Family::V6, LOCAL) => v6_local.push(route),
                (Family::V6, MAIN) => v6_main.push(route),
                _ => {}
            }
        }
        let mut routes = Vec::new();
        Self {
            v4: Ranges::new(best(v4, &mut routes)),
            v6_local: Ranges::new(best(v6_local, &mut routes)),
            v6_main: Ranges::new(best(v6_main, &mut routes)),
            routes: routes.into(),
        }
    }

    /// The route that leads to an address.
    pub(super) fn get(&self, to: Addr) -> Option<&Route> {
        let found = match to.v4_bits() {
            Some(bits) => self.v4.get(bits)?,
            None => {
                let key = bits_of(to);
                self.v6_local.get(key).or_else(|| self.v6_main.get(key))?
            }
        };
        self.routes.get(usize::try_from(found).ok()?)
    }
}

impl Target {
    /// The next hop towards an address; the same one each time.
    pub(super) fn hop(&self, to: Addr) -> Option<NextHop> {
        let Self::Hops(hops) = self else { return None };
        let total = hops.last()?.weight_until;
        if total <= 1 || hops.len() == 1 {
            return hops.first().copied();
        }
        let at = spread(to) % total;
        hops.iter().find(|hop| at < hop.weight_until).copied()
    }
}

/// Spreads addresses evenly over 32 bits (the finaliser of MurmurHash3, public domain).
fn spread(to: Addr) -> u32 {
    let mut x = to.fold();
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

const fn bits_of(addr: Addr) -> u128 {
    match addr.v4_bits() {
        Some(bits) => bits as u128,
        None => ((addr.hi as u128) << 64) | addr.lo as u128,
    }
}

/// The best route of each prefix goes to `routes`, its place and prefix to the result.
fn best(mut listed: Vec<Listed>, routes: &mut Vec<Route>) -> Vec<Prefix> {
    let key = |r: &Listed| {
        let table = std::cmp::Reverse(r.table);
        (r.prefix, r.length, table, r.metric, r.preference)
    };
    // Stable: among equals the kernel's order decides.
    listed.sort_by_key(key);
    listed.dedup_by_key(|r| (r.prefix, r.length));
    let mut prefixes = Vec::with_capacity(listed.len());
    for route in listed {
        let Ok(value) = u32::try_from(routes.len()) else {
            break;
        };
        let width: u32 = if route.prefix.is_v4() { 32 } else { 128 };
        let host = width.saturating_sub(u32::from(route.length));
        let first = bits_of(route.prefix.masked(route.length));
        let last = first | u128::MAX.checked_shr(128 - host).unwrap_or(0);
        prefixes.push(Prefix { first, last, value });
        routes.push(route.route);
    }
    prefixes
}
