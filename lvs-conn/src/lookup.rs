//! Which connection has a packet: one by one, and many at a time in stages.
//!
//! In: flows. Out: connections and directions. Never: a wait, a write, an allocation.
//!
//! A connection is found by its client's endpoint, which is the source of its requests and the
//! destination of its replies. So a flow may be at home in two places. The other endpoint of the
//! two is that of a service or a server, of which there are few, so its place is most likely in the
//! cache; which one is the client's is told by the caller or guessed from the ports, and a wrong
//! guess costs some instructions.

use crate::conn::{Conn, Direction, Hit};
use crate::entry::NIL;
use crate::handle::Guard;
use crate::index::{Bucket, Key, Named, Place, View};
use crate::raw::prefetch;
use crate::sync::Ordering::Acquire;
use crate::table::Table;
use lvs_core::{Endpoint, Flow};

/// Keys that are looked up together.
const STAGE: usize = 64;

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
        for (flows, hits) in flows.chunks(STAGE).zip(hits.chunks_mut(STAGE)) {
            // The side with the higher port is the client, most likely.
            self.table().look_up_stages(flows, hits, |_, flow| {
                if flow.src.port >= flow.dst.port {
                    Direction::FromClient
                } else {
                    Direction::FromServer
                }
            });
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
            self.table().look_up_stages(flows, hits, |n, _| {
                expected.get(n).copied().unwrap_or(Direction::FromClient)
            });
        }
    }
}

/// A bit for each flow of a batch.
type Bits = u64;

impl Table {
    #[inline(always)]
    fn look_up_stages<'g>(
        &'g self,
        flows: &[Flow],
        hits: &mut [Option<Hit<'g>>],
        expected: impl Fn(usize, &Flow) -> Direction,
    ) {
        let count = flows.len().min(hits.len()).min(STAGE);
        let mut words = [0; STAGE];
        let mut candidates = [Candidates::default(); STAGE];
        let mut directions = [Direction::FromClient; STAGE];
        // All of one length, so that the loops below need not ask.
        let (Some(flows), Some(hits), Some(words), Some(candidates), Some(directions)) = (
            flows.get(..count),
            hits.get_mut(..count),
            words.get_mut(..count),
            candidates.get_mut(..count),
            directions.get_mut(..count),
        ) else {
            return;
        };
        let ends = flows.iter().zip(words.iter_mut());
        for (n, ((flow, word), direction)) in ends.zip(directions.iter_mut()).enumerate() {
            *direction = expected(n, flow);
            *word = self.hash.word(flow.protocol, end(flow, *direction));
        }
        self.hash.words(words);
        let index = self.index.view();
        for word in words.iter_mut() {
            let place = index.place(*word);
            index.prefetch(place);
            *word = place.pack();
        }
        let mut absent: Bits = 0;
        for (n, (place, candidates)) in words.iter().zip(candidates.iter_mut()).enumerate() {
            *candidates = self.probe(&index, Place::unpack(*place));
            absent |= Bits::from(candidates.found == 0) << n;
        }
        if absent != 0 {
            self.probe_other_ends(flows, absent, words, candidates, directions);
        }
        let found = flows.iter().zip(candidates.iter()).zip(directions.iter());
        for (n, (((flow, candidates), direction), hit)) in found.zip(hits).enumerate() {
            *hit = self.recognise(candidates.first, flow, *direction);
            if hit.is_none() && !candidates.is_certain() {
                let place = words.get(n).map_or(0, |word| *word);
                *hit = self.look_further(
                    &index,
                    Place::unpack(place),
                    candidates.found,
                    flow,
                    *direction,
                );
            }
        }
    }

    /// What the first candidate was not: the others of its bucket, and then anywhere.
    #[inline(never)]
    fn look_further(
        &self,
        index: &View<'_>,
        place: Place,
        found: u16,
        flow: &Flow,
        direction: Direction,
    ) -> Option<Hit<'_>> {
        let mut more = u32::from(found);
        more &= more.wrapping_sub(1);
        while let Some(home) = index.home(place).filter(|_| more != 0) {
            let hit = self.recognise(index.candidate(home, more).entry, flow, direction);
            if hit.is_some() {
                return hit;
            }
            more &= more - 1;
        }
        self.look_up(flow)
    }

    /// Looks for the flows of `absent` at their other ends. Answers those that may be anywhere.
    #[inline(never)]
    fn probe_other_ends(
        &self,
        flows: &[Flow],
        absent: Bits,
        places: &mut [u64],
        candidates: &mut [Candidates],
        directions: &mut [Direction],
    ) {
        let index = self.index.view();
        let wide = self.has_wide();
        let mut words = [0; STAGE];
        let mut len = 0;
        for (n, word) in ones(absent).zip(&mut words) {
            if let (Some(flow), Some(direction)) = (flows.get(n), directions.get_mut(n)) {
                *direction = direction.reversed();
                *word = self.hash.word(flow.protocol, end(flow, *direction));
            }
            len += 1;
        }
        let Some(words) = words.get_mut(..len) else {
            return;
        };
        self.hash.words(words);
        for word in words.iter_mut() {
            let place = index.place(*word);
            index.prefetch(place);
            *word = place.pack();
        }
        for (n, word) in ones(absent).zip(words) {
            if let (Some(candidates), Some(place)) = (candidates.get_mut(n), places.get_mut(n)) {
                // Where the first end is not at home it may be further on, and of a crowd anywhere.
                let elsewhere = wide || candidates.passed;
                *candidates = self.probe(&index, Place::unpack(*word));
                candidates.passed |= elsewhere;
                *place = *word;
            }
        }
    }

    /// A look at a key's home bucket. Fetches what it finds.
    #[inline(always)]
    fn probe(&self, index: &View<'_>, place: Place) -> Candidates {
        let Some(home) = index.home(place) else {
            return Candidates::default();
        };
        let found = index.candidates(home, place);
        if found == 0 {
            let passed = home.is_passed();
            if passed {
                index.prefetch_next(place);
            }
            return Candidates {
                passed,
                ..Candidates::default()
            };
        }
        let first = index.candidate(home, found).entry;
        self.prefetch_first(first);
        let more = found & (found - 1);
        if more != 0 {
            self.prefetch_more(index, home, more);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a bit for each of 15 slots"
        )]
        Candidates {
            first,
            found: found as u16,
            passed: false,
        }
    }

    #[inline(never)]
    fn prefetch_more(&self, index: &View<'_>, home: &Bucket, mut found: u32) {
        while found != 0 {
            self.prefetch_first(index.candidate(home, found).entry);
            found &= found - 1;
        }
    }

    /// Brings what a lookup compares into the cache.
    #[inline]
    fn prefetch_first(&self, index: u32) {
        if let Some(entry) = self.entries.get(index as usize) {
            prefetch(entry);
        }
    }

    /// The connection of a flow, wherever it is.
    #[inline(never)]
    pub(crate) fn look_up(&self, flow: &Flow) -> Option<Hit<'_>> {
        if *flow == Flow::NONE {
            return None;
        }
        let ends = [
            (flow.src, Direction::FromClient),
            (flow.dst, Direction::FromServer),
        ];
        let places = ends.map(|(end, direction)| {
            let place = self.narrow(flow.protocol, end);
            self.index.prefetch(place);
            (place, direction)
        });
        for (place, direction) in places {
            let hit = self
                .index
                .find(place, |named| self.recognise(named.entry, flow, direction));
            if hit.is_some() {
                return hit;
            }
        }
        if !self.has_wide() {
            return None;
        }
        self.index.find(self.wide(flow), |named| {
            let direction = match named.key {
                Key::Request => Direction::FromClient,
                Key::Reply => Direction::FromServer,
            };
            self.recognise(named.entry, flow, direction)
        })
    }

    /// Whether there are connections that are found by their whole flow.
    #[inline]
    fn has_wide(&self) -> bool {
        // Acquire: who saw one inserted sees it counted.
        self.wide_count.load(Acquire) != 0
    }

    /// The entry's connection, if a packet of this flow and direction belongs to it.
    #[inline(always)]
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

/// What a look at a key's home bucket says.
#[derive(Clone, Copy)]
struct Candidates {
    /// The first entry with the key's tag: most likely it.
    first: u32,
    /// A bit for each slot with the tag.
    found: u16,
    /// None here, but maybe elsewhere.
    passed: bool,
}

impl Default for Candidates {
    fn default() -> Self {
        Self {
            first: NIL,
            found: 0,
            passed: false,
        }
    }
}

impl Candidates {
    /// Whether there is nothing if the first is not it.
    #[inline]
    const fn is_certain(self) -> bool {
        self.found == 0 && !self.passed
    }
}

/// The client's endpoint in a packet of this direction.
#[inline(always)]
const fn end(flow: &Flow, direction: Direction) -> &Endpoint {
    match direction {
        Direction::FromClient => &flow.src,
        Direction::FromServer => &flow.dst,
    }
}

/// The numbers of the bits that are set.
fn ones(mut bits: Bits) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(bit)
    })
}
