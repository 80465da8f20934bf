//! Ctrl-C and SIGTERM, noticed while sleeping, so that everything is taken away in order.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Sleeps, unless it is told to end. The process must make its namespaces before: this has no
/// thread of its own, but tokio may.
#[derive(Debug)]
pub(super) struct Interrupt {
    runtime: Runtime,
    signals: [Signal; 2],
    came: bool,
}

impl Interrupt {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async {
            io::Result::Ok([
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ])
        })?;
        Ok(Self {
            runtime,
            signals,
            came: false,
        })
    }

    /// Whether it was told to end, at the latest after `time`.
    pub(super) fn sleep(&mut self, time: Duration) -> bool {
        let [interrupt, terminate] = &mut self.signals;
        self.came |= self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        });
        self.came
    }

    /// Whether it was told to end.
    pub(super) const fn came(&self) -> bool {
        self.came
    }
}
