//! Rules go between a kernel's IPVS and lvsd without a change, with every feature that ipvsadm knows.
//!
//! `restore/typed.rules` is what was typed, `restore/saved.rules` what `ipvsadm -S -n` (1.31, Linux 6.1) made
//! of it; `restore/there-and-back.sh` does it again where there is a kernel with IPVS, in both directions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Daemon, Seen};
use lvs_director::{Director, DirectorConfig};
use lvsd::control::{Backend, Memory, Rules};
use std::process::Command;
use std::sync::Arc;

const TYPED: &str = include_str!("restore/typed.rules");
const SAVED: &str = include_str!("restore/saved.rules");

/// What the script answers where there is no kernel to ask.
const SKIPPED: i32 = 77;

fn director() -> Arc<dyn Backend> {
    let config = DirectorConfig {
        connections: 1024,
        workers: 1,
    };
    Arc::new(Rules::new(Director::new(&config).unwrap(), || {}))
}

#[test]
fn what_ipvsadm_saved_is_restored_and_saved_the_same() {
    for backend in [director(), Arc::new(Memory::new())] {
        let daemon = Daemon::start(backend);
        let silent = Seen {
            status: 0,
            stdout: String::new(),
            stderr: String::new(),
        };
        for (restore, rules) in [
            (&["-R"][..], SAVED),
            (&["-R"], TYPED),
            (&["-R", "--atomic"], SAVED),
        ] {
            assert_eq!(daemon.run(restore, rules), silent);
            assert_eq!(daemon.run(&["-S", "-n"], "").stdout, SAVED);
            daemon.run(&["-C"], "");
        }
    }
}

/// With the programs and a real kernel; skipped where there is none.
#[test]
fn a_kernel_and_lvsd_restore_what_the_other_saved() {
    let daemon = Daemon::start(director());
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/restore/there-and-back.sh"
    );
    let mut command = Command::new("sh");
    command.arg(script).env("LVSD_SOCKET", &daemon.socket);
    command.env("LVSADM", env!("CARGO_BIN_EXE_lvsadm"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        println!("{said}");
        return;
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}\n{said}");
    let saved = shown.split("----\n").nth(1);
    assert_eq!(saved, Some(SAVED));
}
