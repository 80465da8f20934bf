//! Every scheduler against its literal description, under random edits, events and choices.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test: what is missing is a failure"
)]

#[path = "model/mod.rs"]
mod model;

use model::duel::{Duel, MODELLED, RANDOM, Step};
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<u8>(), any::<u32>(), any::<u8>())
            .prop_map(|(count, weight, upper)| Step::Add { count, weight, upper }),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => (any::<u8>(), any::<u32>()).prop_map(|(a, b)| Step::Revive(a, b)),
        2 => (any::<u8>(), any::<u32>()).prop_map(|(a, b)| Step::Weight(a, b)),
        1 => (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| Step::Thresholds(a, b, c)),
        1 => any::<u8>().prop_map(Step::Touch),
        8 => (any::<u16>(), any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(client, target, open, active)| Step::Pick { client, target, open, active }),
        4 => any::<u8>().prop_map(Step::Burst),
        4 => any::<u16>().prop_map(Step::Move),
        6 => any::<u16>().prop_map(Step::Close),
        1 => any::<u16>().prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn chooses_as_described(
        steps in proptest::collection::vec(step(), 1..60),
        flags in 0u8..4,
    ) {
        for name in MODELLED.iter().chain(RANDOM) {
            let mut duel = Duel::new(name, flags);
            for step in &steps {
                duel.step(step);
            }
        }
    }

    #[test]
    fn changes_of_scheduler_lose_nothing(
        steps in proptest::collection::vec(
            prop_oneof![
                3 => step(),
                1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::Scheduler(a, b)),
            ],
            1..60,
        ),
    ) {
        let mut duel = Duel::new("rr", 0);
        for step in &steps {
            duel.step(step);
        }
    }
}
