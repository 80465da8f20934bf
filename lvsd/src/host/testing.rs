//! Network namespaces for tests: each test makes its own, and it is gone with the test's thread.
//!
//! Root is needed, or `unshare -Urn cargo test`. Without either a test says that it was skipped.

use std::process::Command;
use std::time::{Duration, Instant};

/// Runs a test on a thread with a network namespace of its own, whose loopback interface is up.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if !unshare() {
            eprintln!("SKIPPED: no right to make a network namespace (root or `unshare -Urn`)");
            return;
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The same with a runtime.
pub(crate) fn in_namespace_async<F: Future<Output = ()>>(
    test: impl FnOnce() -> F + Send + 'static,
) {
    in_namespace(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
}

fn unshare() -> bool {
    // SAFETY: it changes the network namespace of the calling thread and touches no memory.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}

/// Runs `ip` with these arguments, separated by spaces, and returns what it printed.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &str, arguments: &str) -> String {
    let (ok, text) = attempt(command, arguments);
    assert!(ok, "{command} {arguments}: {text}");
    text
}

/// Runs a command; whether it succeeded, and what it printed.
pub(crate) fn attempt(command: &str, arguments: &str) -> (bool, String) {
    let output = Command::new(command)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Waits until something is so; a test fails that has to wait for more than ten seconds.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "waited for: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same without holding up the runtime.
pub(crate) async fn until_async(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "waited for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
