//! The CPU time of the whole machine, from `/proc/stat`.

use std::fs;
use std::ops::Sub;

use crate::{Error, Result};

/// Seconds since boot that all cores together have spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// Doing anything: user, system, interrupts, stolen.
    pub busy: f64,
    /// In soft interrupts, where the kernel forwards packets.
    pub softirq: f64,
}

impl CpuTime {
    /// Until now.
    ///
    /// # Errors
    ///
    /// Without `/proc`.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").map_err(Error::io("read /proc/stat"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        /// `USER_HZ`, which the kernel's interface to user space fixes at 100.
        const HERTZ: f64 = 100.0;
        let total = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = total
            .split_whitespace()
            .skip(1)
            .take(8)
            .flat_map(str::parse)
            .collect();
        match ticks.as_slice() {
            [user, nice, system, _idle, _wait, irq, softirq, steal] => Self {
                busy: (user + nice + system + irq + softirq + steal) / HERTZ,
                softirq: softirq / HERTZ,
            },
            _ => Self::default(),
        }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            busy: self.busy - earlier.busy,
            softirq: self.softirq - earlier.softirq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_not_busy() {
        let time = CpuTime::parse("cpu  100 200 300 99999 50 10 40 50 7 7\ncpu0 1 2 3\n");
        assert!((time.busy - 7.0).abs() < 1e-9 && (time.softirq - 0.4).abs() < 1e-9);
        assert!(CpuTime::now().unwrap().busy > 0.0);
    }
}
