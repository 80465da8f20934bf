//! A draft is no more and no less than as many single edits of a pool, for every scheduler.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure")]

use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Draft, EditError, NAMES, Pool, Request};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
enum Edit {
    Add(u32),
    /// Adds one again that was removed.
    Revive,
    Remove(u8),
    Weight(u8, u32),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0u32..9).prop_map(Edit::Add),
        1 => Just(Edit::Revive),
        2 => any::<u8>().prop_map(Edit::Remove),
        2 => (any::<u8>(), 0u32..9).prop_map(|(which, weight)| Edit::Weight(which, weight)),
    ]
}

/// A pool and its backends, the present ones and those that were removed.
struct Side {
    pool: Pool,
    all: Vec<Arc<Backend>>,
    removed: Vec<Arc<Backend>>,
    next: u32,
}

impl Side {
    fn new(name: &str) -> Self {
        Self {
            pool: Pool::new(name, SchedFlags::default()).unwrap(),
            all: Vec::new(),
            removed: Vec::new(),
            next: 0,
        }
    }

    /// Makes the edits, by what adds, removes and sets a weight.
    fn make<T>(
        &mut self,
        edits: &[Edit],
        on: &mut T,
        add: impl Fn(&mut T, Arc<Backend>),
        remove: impl Fn(&mut T, &Backend) -> bool,
        weigh: impl Fn(&mut T, &Backend, u32) -> bool,
    ) {
        for edit in edits {
            let found = |which: u8| (usize::from(which)).checked_rem(self.all.len());
            match *edit {
                Edit::Add(weight) => {
                    let endpoint = Endpoint::new(Addr::from_v4_bits(0x0a01_0000 + self.next), 80);
                    let new = Backend::new(self.next, endpoint, weight, Thresholds::default());
                    self.next += 1;
                    self.all.push(Arc::clone(&new));
                    add(on, new);
                }
                Edit::Revive => {
                    if let Some(back) = self.removed.pop() {
                        self.all.push(Arc::clone(&back));
                        add(on, back);
                    }
                }
                Edit::Remove(which) => {
                    if let Some(place) = found(which) {
                        let gone = self.all.remove(place);
                        assert!(remove(on, &gone) && !remove(on, &gone));
                        self.removed.push(gone);
                    }
                }
                Edit::Weight(which, weight) => {
                    let backend = found(which).and_then(|place| self.all.get(place));
                    if let Some(backend) = backend {
                        assert!(weigh(on, backend, weight));
                    }
                }
            }
        }
    }

    fn singly(&mut self, edits: &[Edit]) {
        let mut pool = self.pool.clone();
        self.make(
            edits,
            &mut pool,
            |pool, backend| pool.add(backend).unwrap(),
            Pool::remove,
            |pool, backend, weight| {
                backend.set_weight(weight);
                pool.updated(backend)
            },
        );
        self.pool = pool;
    }

    fn at_once(&mut self, edits: &[Edit]) {
        let mut draft = Draft::new(self.pool.clone());
        self.make(
            edits,
            &mut draft,
            Draft::add,
            Draft::remove,
            |draft, backend, weight| draft.update(backend, |backend| backend.set_weight(weight)),
        );
        self.pool = draft.finish().unwrap();
    }

    /// Whom some clients get, the connections staying.
    fn choices(&self, from: u32) -> Vec<Option<u32>> {
        let choose = |n: u32| {
            let chosen = self.pool.pick(&Request {
                src: Addr::from_v4_bits(0xc633_0000 + from + n),
                src_port: 4000,
                dst: Addr::from_v4_bits(0xcb00_7100 + n % 8),
                now: Tick(n),
            })?;
            chosen.opened(n.is_multiple_of(2));
            Some(chosen.id())
        };
        (0..12).map(choose).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_draft_is_as_many_single_edits(
        rounds in proptest::collection::vec(proptest::collection::vec(edit(), 0..12), 1..6),
    ) {
        for name in NAMES {
            let (mut one, mut other) = (Side::new(name), Side::new(name));
            for (round, edits) in (0..).zip(&rounds) {
                one.singly(edits);
                other.at_once(edits);
                let ids = |side: &Side| side.pool.backends().iter().map(|b| b.id()).collect::<Vec<_>>();
                prop_assert_eq!(ids(&one), ids(&other), "{}", name);
                prop_assert_eq!(one.choices(round * 100), other.choices(round * 100), "{}", name);
            }
        }
    }
}

#[test]
fn a_draft_that_cannot_be_changes_nothing() {
    let mut side = Side::new("mh");
    side.singly(&[Edit::Add(1), Edit::Add(2)]);
    let before = side.choices(0);
    let mut draft = Draft::new(side.pool.clone());
    draft.remove(side.all.first().unwrap());
    draft.add(Arc::clone(side.all.last().unwrap()));
    assert!(matches!(draft.finish(), Err(EditError::AlreadyThere)));
    assert_eq!(side.choices(0), before);
}
