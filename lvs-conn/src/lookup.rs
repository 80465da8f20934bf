//! Which connection has a packet: one by one here, many at a time in `batch.rs`.
//!
//! In: flows. Out: connections and directions. Never: a wait, a write, an allocation.
//!
//! A connection is found by its client's endpoint, which is the source of its requests and the
//! destination of its replies. So a flow may be at home in two places. The other endpoint of the
//! two is that of a service or a server. Which one is the client's is told by the caller or guessed
//! from the ports; the other end is looked at only if it may be one (`sides.rs`).

use crate::batch::Batch;
use crate::conn::{Conn, Direction, Hit};
use crate::handle::Guard;
use crate::hash::{Hasher, Kind};
use crate::index::{Home, Key, Named, View};
use crate::ports::{ends, sought_ports};
use crate::raw::{Common, Level, Work, prefetch, with_all_there_is};
use crate::sync::Ordering::Acquire;
use crate::table::Table;
use lvs_core::Flow;

/// Flows that are looked up together.
pub(crate) const STAGE: usize = 64;

impl Guard<'_> {
    /// The connection of a packet's flow.
    #[inline]
    #[must_use]
    pub fn lookup(&self, flow: &Flow) -> Option<Hit<'_>> {
        self.table().look_up(flow)
    }

    /// The template whose client has this flow (IPVS 2.5).
    #[must_use]
    pub fn lookup_template(&self, flow: &Flow) -> Option<Conn<'_>> {
        let table = self.table();
        table.index.find(table.wide(flow), |named| {
            table.recognise_request(named, flow, true)
        })
    }

    /// The connections of many flows, found in stages so that their cache misses overlap. A flow of
    /// [`Flow::NONE`] finds nothing.
    ///
    /// A hit reads two cache lines that are most likely not in the cache, one of the index and the
    /// connection's first; a miss one. Best with 32 flows or more.
    pub fn lookup_batch<'g>(&'g self, flows: &[Flow], hits: &mut [Option<Hit<'g>>]) {
        let sides = self.table().sides.view();
        for (flows, hits) in flows.chunks(STAGE).zip(hits.chunks_mut(STAGE)) {
            self.table()
                .look_up_stages::<true>(flows, hits, move |_, flow| sides.likely(flow));
        }
    }

    /// Like [`lookup_batch`](Self::lookup_batch), for a caller who knows what to expect: from the
    /// client what goes to an address of a service, from the server the rest. What comes against
    /// expectation is found as well, a little later.
    pub fn lookup_expected<'g>(
        &'g self,
        flows: &[Flow],
        expected: &[Direction],
        hits: &mut [Option<Hit<'g>>],
    ) {
        let batches = flows.chunks(STAGE).zip(expected.chunks(STAGE));
        for ((flows, expected), hits) in batches.zip(hits.chunks_mut(STAGE)) {
            self.table().look_up_stages::<false>(flows, hits, |n, _| {
                expected.get(n).copied().unwrap_or(Direction::FromClient)
            });
        }
    }
}

impl Table {
    /// The connection of a flow, wherever it is.
    pub(crate) fn look_up(&self, flow: &Flow) -> Option<Hit<'_>> {
        with_all_there_is(Single { table: self, flow })
    }

    #[inline]
    fn look_up_stages<'g, const LIKELY: bool>(
        &'g self,
        flows: &[Flow],
        hits: &mut [Option<Hit<'g>>],
        expected: impl Fn(usize, &Flow) -> Direction,
    ) {
        match self.hash.kind() {
            Kind::Aes(hasher) => with_all_there_is(Batch::<_, _, LIKELY> {
                table: self,
                hasher,
                flows,
                hits,
                expected,
            }),
            Kind::Sip(hasher) => with_all_there_is(Batch::<_, _, LIKELY> {
                table: self,
                hasher,
                flows,
                hits,
                expected,
            }),
        }
    }

    /// The connection of a flow that the first candidate of this home is not in the plain way: by
    /// FULLNAT, one of the other candidates or, if it may be, anywhere.
    #[inline(never)]
    pub(crate) fn look_up_again(
        &self,
        home: Home<'_>,
        flow: &Flow,
        direction: Direction,
    ) -> Option<Hit<'_>> {
        let index = self.index.view();
        let mut found = index.candidates(Common, home);
        while found != 0 {
            let hit = self.recognise(index.candidate(home, found).entry, flow, direction);
            if hit.is_some() {
                return hit;
            }
            found &= found - 1;
        }
        let elsewhere = home.is_passed() || self.has_wide() || self.sides.may_be_other(flow);
        if direction == self.sides.likely(flow) && !elsewhere {
            return None;
        }
        match self.hash.kind() {
            Kind::Aes(hasher) => with_all_there_is(Anywhere {
                table: self,
                hasher,
                flow,
            }),
            Kind::Sip(hasher) => with_all_there_is(Anywhere {
                table: self,
                hasher,
                flow,
            }),
        }
    }

    /// The first entry with the tag of one of these ends, or of the whole flow, that is not in its
    /// home bucket.
    #[inline(never)]
    pub(crate) fn find_further(
        &self,
        flow: &Flow,
        ends: [Option<(Home<'_>, Direction)>; 2],
    ) -> Option<(u32, Direction)> {
        for (home, direction) in ends.into_iter().flatten() {
            if let Some(named) = self.index.find_further(home, Some) {
                self.prefetch_first(named.entry);
                return Some((named.entry, direction));
            }
        }
        if !self.has_wide() {
            return None;
        }
        let named = self.index.find(self.wide(flow), Some)?;
        Some((named.entry, named.key.direction()))
    }

    /// Brings what a lookup compares into the cache.
    #[inline(always)]
    pub(crate) fn prefetch_first(&self, index: u32) {
        if let Some(entry) = self.entries.get(index as usize) {
            prefetch(entry);
        }
    }

    /// Whether there are connections that are found by their whole flow.
    #[inline]
    pub(crate) fn has_wide(&self) -> bool {
        // Acquire: who saw one inserted sees it counted.
        self.wide_count.load(Acquire) != 0
    }

    /// The entry's connection, if a packet of this flow and direction belongs to it.
    fn recognise(&self, index: u32, flow: &Flow, direction: Direction) -> Option<Hit<'_>> {
        let entry = self.entries.get(index as usize)?;
        let meant = match direction {
            Direction::FromClient => entry.is_request(flow),
            Direction::FromServer => entry.is_reply(flow),
        };
        let conn = Conn {
            table: self,
            entry,
            index,
        };
        (meant && conn.is_sought(false)).then_some(Hit { conn, direction })
    }

    /// The connection whose client has this flow, or the template.
    pub(crate) fn recognise_request(
        &self,
        named: Named,
        flow: &Flow,
        template: bool,
    ) -> Option<Conn<'_>> {
        let index = named.entry;
        let entry = self.entries.get(index as usize)?;
        let conn = Conn {
            table: self,
            entry,
            index,
        };
        (named.key == Key::Request && entry.is_request(flow) && conn.is_sought(template))
            .then_some(conn)
    }
}

/// Where the client of a packet is at home.
#[inline(always)]
pub(crate) fn home<'g>(
    index: &View<'g>,
    hasher: &impl Hasher,
    flow: &Flow,
    direction: Direction,
) -> Option<Home<'g>> {
    let (client, _) = ends(flow, direction == Direction::FromServer);
    index.home_of(hasher.endpoint(flow.protocol, client))
}

/// The lookup of one flow.
struct Single<'a, 'g> {
    table: &'g Table,
    flow: &'a Flow,
}

impl<'g> Work for Single<'_, 'g> {
    type Done = Option<Hit<'g>>;

    #[inline(always)]
    fn run<L: Level>(self, level: L) -> Option<Hit<'g>> {
        let Self { table, flow } = self;
        let index = table.index.view();
        let direction = table.sides.likely(flow);
        let reply = direction == Direction::FromServer;
        let home = match table.hash.kind() {
            Kind::Aes(hasher) => home(&index, hasher, flow, direction)?,
            Kind::Sip(hasher) => home(&index, hasher, flow, direction)?,
        };
        let found = index.candidates(level, home);
        let first = index.candidate(home, found).entry;
        if found != 0
            && let Some(entry) = table.entries.get(first as usize)
            && entry.is_plainly(flow, reply, sought_ports(flow, reply))
        {
            let conn = Conn {
                table,
                entry,
                index: first,
            };
            if conn.is_sought(false) {
                return Some(Hit { conn, direction });
            }
        }
        table.look_up_again(home, flow, direction)
    }
}

/// The lookup of one flow at all places where it may be.
struct Anywhere<'a, 'g, H> {
    table: &'g Table,
    hasher: &'a H,
    flow: &'a Flow,
}

impl<'g, H: Hasher> Work for Anywhere<'_, 'g, H> {
    type Done = Option<Hit<'g>>;

    #[inline(always)]
    fn run<L: Level>(self, level: L) -> Option<Hit<'g>> {
        let Self {
            table,
            hasher,
            flow,
        } = self;
        if *flow == Flow::NONE {
            return None;
        }
        let index = table.index.view();
        let likely = table.sides.likely(flow);
        let other = Some(likely.reversed()).filter(|_| table.sides.may_be_other(flow));
        for direction in core::iter::once(likely).chain(other) {
            let home = home(&index, hasher, flow, direction)?;
            let mut found = index.candidates(level, home);
            while found != 0 {
                let entry = index.candidate(home, found).entry;
                let hit = table.recognise(entry, flow, direction);
                if hit.is_some() {
                    return hit;
                }
                found &= found - 1;
            }
            if home.is_passed() {
                let hit = table
                    .index
                    .find_further(home, |named| table.recognise(named.entry, flow, direction));
                if hit.is_some() {
                    return hit;
                }
            }
        }
        if !table.has_wide() {
            return None;
        }
        table.index.find(table.wide(flow), |named| {
            table.recognise(named.entry, flow, named.key.direction())
        })
    }
}
