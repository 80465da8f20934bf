//! The clock of the data path: monotonic, in ticks.

use lvs_core::Tick;
use rustix::time::{ClockId, clock_gettime};

/// The present moment; one call of the vDSO, no system call.
#[must_use]
pub fn now() -> Tick {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = time.tv_sec.unsigned_abs();
    Tick::from_millis(
        seconds
            .wrapping_mul(1000)
            .wrapping_add(time.tv_nsec.unsigned_abs() / 1_000_000),
    )
}
