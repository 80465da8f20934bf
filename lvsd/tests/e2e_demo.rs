//! The demo gives what it promises: traffic by each method, and nothing left behind.

mod common;

use common::LVSD;
use lvs_testbed::test::networked;
use lvsd::demo::{Options, run};

#[test]
fn it_runs_to_its_end_by_each_family() {
    networked(&[], || {
        for ipv6 in [false, true] {
            let options = Options {
                seconds: 1,
                ipv6,
                program: Some(LVSD.into()),
                ..Options::default()
            };
            run(&options).unwrap();
        }
    });
}

#[test]
fn a_director_that_does_not_start_is_quoted() {
    networked(&["false"], || {
        let options = Options {
            program: lvs_testbed::program::find("false"),
            ..Options::default()
        };
        let error = run(&options).unwrap_err().to_string();
        assert!(error.contains("start lvsd: exit status: 1"), "{error}");
    });
}
