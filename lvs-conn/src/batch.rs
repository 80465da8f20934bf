//! Which connections have the packets of a batch.
//!
//! In: flows. Out: connections and directions. Never: a wait, a write, an allocation.
//!
//! A batch goes through three stages together, so that each flow's cache misses overlap with those
//! of the others: hash all and fetch their buckets; look for their tags and fetch the entries;
//! compare. What is not so simple leaves the stages and is looked up alone, in lines that are in the
//! cache by then.

use crate::conn::{Conn, Direction, Hit};
use crate::entry::{Entry, NIL};
use crate::hash::Hasher;
use crate::index::{Bucket, Home, Key, Named, View};
use crate::lookup::{STAGE, home};
use crate::ports::sought_ports;
use crate::raw::{Level, Work, prefetch};
use crate::table::Table;
use lvs_core::Flow;

/// How many flows before its turn a bucket, and then an entry, is asked for again. The processor drops
/// fetches when two dozen are under way (measured on Zen 4): without this, each one dropped would be
/// waited for alone.
const AGAIN: usize = 8;

/// A bit for each flow of a batch.
type Bits = u64;

/// The lookup of up to [`STAGE`] flows.
pub(crate) struct Batch<'a, 'g, H, E, const LIKELY: bool> {
    pub(crate) table: &'g Table,
    pub(crate) hasher: &'a H,
    pub(crate) flows: &'a [Flow],
    pub(crate) hits: &'a mut [Option<Hit<'g>>],
    /// From which side a flow is expected; if `LIKELY`, always [`likely`](crate::sides::View::likely).
    pub(crate) expected: E,
}

/// What the stages leave to each other about a flow, beside the bucket where its client is at home.
/// All zero at first, which is quickly written.
#[derive(Clone, Copy)]
struct Seeking {
    /// See [`sought_ports`].
    ports: u64,
    /// What marks the slots of its client.
    tag: u32,
    /// The first candidate, or an entry that does not exist.
    first: u32,
    direction: Direction,
}

impl Seeking {
    const NOTHING: Self = Self {
        ports: 0,
        tag: 0,
        first: 0,
        direction: Direction::FromClient,
    };

    #[inline(always)]
    fn home<'g>(&self, bucket: Option<&'g Bucket>) -> Option<Home<'g>> {
        let tag = self.tag;
        bucket.map(|bucket| Home { bucket, tag })
    }

    /// Goes to the flow's end of this direction, and begins to fetch its bucket.
    #[inline(always)]
    fn turn<'g>(
        &mut self,
        index: &View<'g>,
        hasher: &impl Hasher,
        flow: &Flow,
        direction: Direction,
    ) -> Option<&'g Bucket> {
        let home = home(index, hasher, flow, direction)?;
        prefetch(home.bucket);
        self.tag = home.tag;
        self.face(flow, direction);
        Some(home.bucket)
    }

    #[inline(always)]
    fn face(&mut self, flow: &Flow, direction: Direction) {
        self.direction = direction;
        self.ports = sought_ports(flow, direction == Direction::FromServer);
    }
}

impl<H: Hasher, E: Fn(usize, &Flow) -> Direction, const LIKELY: bool> Work
    for Batch<'_, '_, H, E, LIKELY>
{
    type Done = ();

    #[inline(always)]
    fn run<L: Level>(self, level: L) {
        // `None` for what cannot be: an index without buckets.
        let _ = self.stages(level);
    }
}

impl<H: Hasher, E: Fn(usize, &Flow) -> Direction, const LIKELY: bool> Batch<'_, '_, H, E, LIKELY> {
    #[inline(always)]
    fn stages(self, level: impl Level) -> Option<()> {
        let Self {
            table,
            hasher,
            flows,
            hits,
            expected,
        } = self;
        let index = table.index.view();
        let entries = &*table.entries;
        // Copied, so that it stays in registers.
        let hasher = *hasher;
        let mut buckets: [Option<&Bucket>; STAGE + AGAIN] = [None; STAGE + AGAIN];
        let mut seeking = [Seeking::NOTHING; STAGE + AGAIN];
        let flows = flows.get(..flows.len().min(STAGE))?;
        let rows = flows.iter().zip(&mut buckets).zip(&mut seeking);
        for (n, ((flow, bucket), seeking)) in rows.enumerate() {
            *bucket = seeking.turn(&index, &hasher, flow, expected(n, flow));
        }
        // Those that may be at their other ends, and those that may be further from home.
        let (mut turn, mut further): (Bits, Bits) = (0, 0);
        let wide = table.has_wide();
        let ahead = buckets.get(AGAIN..)?;
        let rows = flows.iter().zip(&buckets).zip(ahead).zip(&mut seeking);
        for (n, (((flow, bucket), ahead), seeking)) in rows.enumerate() {
            if let Some(ahead) = ahead {
                prefetch(*ahead);
            }
            let home = seeking.home(*bucket)?;
            let found = index.candidates(level, home);
            if found == 0 {
                seeking.first = NIL;
                if !LIKELY || table.sides.may_be_other(flow) {
                    turn |= 1 << n;
                }
                if wide || home.is_passed() {
                    further |= 1 << n;
                    index.prefetch_next(home);
                }
                continue;
            }
            let named = index.candidate(home, found);
            seeking.first = named.entry;
            prefetch_named(entries, named);
            let more = found & (found - 1);
            if more != 0 {
                prefetch_candidates(table, &index, home, more);
            }
        }
        if turn | further != 0 {
            Others {
                table,
                flows,
                buckets: &mut buckets,
                seeking: &mut seeking,
            }
            .probe(&hasher, level, turn, further)?;
        }
        let ahead = seeking.get(AGAIN..)?;
        let rows = flows.iter().zip(&buckets).zip(&seeking).zip(ahead);
        for ((((flow, bucket), seeking), ahead), hit) in rows.zip(hits) {
            // Behind the last one it is the first entry, which costs nothing.
            if let Some(entry) = entries.get(ahead.first as usize) {
                prefetch(entry);
            }
            let (index, direction) = (seeking.first, seeking.direction);
            let Some(entry) = entries.get(index as usize) else {
                *hit = None;
                continue;
            };
            let conn = Conn {
                table,
                entry,
                index,
            };
            let reply = direction == Direction::FromServer;
            if entry.is_plainly(flow, reply, seeking.ports) && conn.is_sought(false) {
                *hit = Some(Hit { conn, direction });
                continue;
            }
            if reply && entry.is_reply_to_local(flow) && conn.is_sought(false) {
                *hit = Some(Hit { conn, direction });
                continue;
            }
            let home = seeking.home(*bucket)?;
            *hit = table.look_up_again(home, flow, direction);
        }
        Some(())
    }
}

/// Begins to fetch what a lookup compares of an entry.
#[inline(always)]
fn prefetch_named(entries: &[Entry], named: Named) {
    if let Some(entry) = entries.get(named.entry as usize) {
        prefetch(entry);
        // By FULLNAT: its local endpoint is in the second line.
        if named.key == Key::Reply {
            entry.prefetch_second();
        }
    }
}

/// The same for each of these candidates.
#[inline(never)]
pub(crate) fn prefetch_candidates(table: &Table, index: &View<'_>, home: Home<'_>, mut found: u32) {
    while found != 0 {
        prefetch_named(&table.entries, index.candidate(home, found));
        found &= found - 1;
    }
}

/// What the first look at a batch leaves to be looked for.
struct Others<'a, 'g> {
    table: &'g Table,
    flows: &'a [Flow],
    buckets: &'a mut [Option<&'g Bucket>],
    seeking: &'a mut [Seeking],
}

impl Others<'_, '_> {
    /// Looks for the flows of `turn` at their other ends, then for those of `further` behind their
    /// homes.
    #[inline(always)]
    fn probe(
        self,
        hasher: &impl Hasher,
        level: impl Level,
        turn: Bits,
        mut further: Bits,
    ) -> Option<()> {
        let index = self.table.index.view();
        let mut likely = [None; STAGE];
        for n in ones(turn) {
            let (bucket, seeking) = (self.buckets.get_mut(n)?, self.seeking.get_mut(n)?);
            let direction = seeking.direction;
            *likely.get_mut(n)? = seeking.home(*bucket).map(|home| (home, direction));
            let flow = self.flows.get(n)?;
            *bucket = seeking.turn(&index, hasher, flow, direction.reversed());
        }
        for n in ones(turn) {
            let seeking = self.seeking.get_mut(n)?;
            let home = seeking.home(*self.buckets.get(n)?)?;
            let found = index.candidates(level, home);
            if found != 0 {
                seeking.first = index.candidate(home, found).entry;
                further &= !(1 << n);
                prefetch_candidates(self.table, &index, home, found);
            } else if home.is_passed() {
                further |= 1 << n;
            }
        }
        for n in ones(further) {
            let seeking = self.seeking.get_mut(n)?;
            let home = seeking.home(*self.buckets.get(n)?)?;
            let ends = [*likely.get(n)?, Some((home, seeking.direction))];
            let flow = self.flows.get(n)?;
            if let Some((first, direction)) = self.table.find_further(flow, ends) {
                seeking.first = first;
                seeking.face(flow, direction);
            }
        }
        Some(())
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

#[cfg(all(test, not(lvs_loom), not(miri)))]
mod tests {
    use super::*;
    use crate::file::Plan;
    use crate::hash::FlowHash;
    use crate::mapping::Mapping;
    use crate::{ConnKind, Guard, Inserted, NewConnection};
    use lvs_core::{Addr, Endpoint, ForwardMethod, Protocol, Tick};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Few buckets, and so many entries that slots have tags of 4 bits: nothing is where it should
    /// be, and most candidates are not meant.
    fn crowded(hash: FlowHash) -> Arc<Table> {
        let plan = Plan {
            capacity: 1 << 26,
            buckets: 12,
        };
        let mapping = Arc::new(Mapping::anonymous(plan.len()));
        Arc::new(Table::in_memory(&mapping, plan, hash))
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        let addr = prop_oneof![
            (1..4_u32).prop_map(Addr::from_v4_bits),
            (0..2_u64, 1..3_u64).prop_map(|(hi, lo)| Addr { hi, lo }),
        ];
        let port = prop::sample::select(vec![1_u16, 80, 8080, 40_000, 40_001, u16::MAX]);
        (addr, port).prop_map(|(addr, port)| Endpoint::new(addr, port))
    }

    fn connection() -> impl Strategy<Value = NewConnection> {
        let method = prop::sample::select(vec![
            ForwardMethod::Masquerade,
            ForwardMethod::FullNat,
            ForwardMethod::DirectRoute,
        ]);
        let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
        (
            protocol,
            [endpoint(), endpoint(), endpoint(), endpoint()],
            method,
        )
            .prop_map(
                |(protocol, [client, virtual_endpoint, destination, local], method)| {
                    NewConnection {
                        protocol,
                        client,
                        virtual_endpoint,
                        destination,
                        local: (method == ForwardMethod::FullNat).then_some(local),
                        method,
                        kind: ConnKind::Normal,
                        timeout: 100,
                        ..NewConnection::default()
                    }
                },
            )
    }

    fn flows(new: &NewConnection) -> [Flow; 2] {
        let NewConnection {
            protocol,
            client,
            virtual_endpoint,
            destination,
            ..
        } = *new;
        let reply = match new.method {
            ForwardMethod::Masquerade => Flow::new(protocol, destination, client),
            ForwardMethod::FullNat => Flow::new(protocol, destination, new.local.unwrap_or(client)),
            _ => Flow::new(protocol, virtual_endpoint, client),
        };
        [Flow::new(protocol, client, virtual_endpoint), reply]
    }

    /// Whether this is an answer that a lookup of the flow may give, when these are connections.
    fn is_right(live: &[NewConnection], flow: &Flow, hit: Option<&Hit<'_>>) -> bool {
        let Some(Hit { conn, direction }) = hit else {
            return !live.iter().any(|new| flows(new).contains(flow));
        };
        live.iter().any(|new| {
            let [request, reply] = flows(new);
            let meant = match direction {
                Direction::FromClient => request,
                Direction::FromServer => reply,
            };
            meant == *flow && (conn.client(), conn.destination()) == (new.client, new.destination)
        })
    }

    fn all_ways(guard: &Guard<'_>, asked: &[Flow], mut each: impl FnMut(&Flow, Option<&Hit<'_>>)) {
        let mut hits = vec![None; asked.len()];
        guard.lookup_batch(asked, &mut hits);
        asked
            .iter()
            .zip(&hits)
            .for_each(|(flow, hit)| each(flow, hit.as_ref()));
        for direction in [Direction::FromClient, Direction::FromServer] {
            guard.lookup_expected(asked, &vec![direction; asked.len()], &mut hits);
            asked
                .iter()
                .zip(&hits)
                .for_each(|(flow, hit)| each(flow, hit.as_ref()));
        }
        asked
            .iter()
            .for_each(|flow| each(flow, guard.lookup(flow).as_ref()));
    }

    proptest! {
        /// What is there is found, by its own flows and no others, one by one and in batches,
        /// expected or not, with either hash and with what every processor has.
        #[test]
        fn every_flow_finds_its_connection_and_no_other(
            aes: bool,
            key: (u64, u64),
            new in prop::collection::vec(connection(), 1..200),
            others in prop::collection::vec((endpoint(), endpoint()), 0..50),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let hash = if aes {
                FlowHash::with_key(key.0, key.1)
            } else {
                FlowHash::siphash(key.0, key.1)
            };
            let table = crowded(hash);
            let mut handle = table.register();
            let guard = handle.pin();
            let mut live = vec![];
            for new in &new {
                if let Ok(Inserted::New(_)) = guard.insert(new) {
                    live.push(*new);
                }
            }
            for gone in gone {
                let Some(new) = live.get(gone.index(live.len().max(1))).copied() else {
                    break;
                };
                let [request, _] = flows(&new);
                let conn = live.iter().position(|live| flows(live)[0] == request).unwrap();
                if let Some(hit) = guard.lookup(&request)
                    && hit.direction == Direction::FromClient
                {
                    hit.conn.unlink(Tick(0));
                    live.remove(conn);
                }
            }
            let mut asked: Vec<Flow> = new.iter().flat_map(flows).collect();
            asked.extend(others.iter().map(|(a, b)| Flow::new(Protocol::Tcp, *a, *b)));
            asked.push(Flow::NONE);
            let mut wrong = vec![];
            all_ways(&guard, &asked, |flow, hit| {
                if !is_right(&live, flow, hit) {
                    wrong.push((*flow, hit.map(|hit| hit.direction)));
                }
            });
            prop_assert!(wrong.is_empty(), "{wrong:?}");
        }
    }
}
