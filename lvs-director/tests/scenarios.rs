//! Random scenarios: rules and their edits, packets of clients and servers, time that passes; checked
//! after each step against a slow and obvious model of IPVS (`ipvs/`).
//!
//! A few seconds here; `LVS_SCENARIOS=100000 cargo test --release -p lvs-director --test scenarios`
//! plays that many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    clippy::must_use_candidate,
    clippy::cast_possible_truncation,
    dead_code,
    reason = "a model in tests: plain code first"
)]

mod ipvs;

use ipvs::stage::Stage;
use ipvs::steps::scenario;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn cases(few: u32) -> u32 {
    let wanted = std::env::var("LVS_SCENARIOS").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(few)
}

#[test]
fn the_director_does_what_the_model_does() {
    let config = Config {
        cases: cases(256),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let strategy = (any::<bool>(), scenario(150));
    TestRunner::new(config)
        .run(&strategy, |(vips_are_local, steps)| {
            let played = Stage::new(vips_are_local).play(&steps);
            played.map_err(TestCaseError::fail)
        })
        .unwrap();
}
