//! CPU time from `/proc`: of the whole machine, and of this process with its children.

use std::fs;
use std::ops::Sub;

use crate::{Error, Result};

/// `USER_HZ`, which the kernel's interface to user space fixes at 100.
const HERTZ: f64 = 100.0;

/// Seconds since boot that all cores together have spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// Doing anything: user, system, interrupts, stolen.
    pub busy: f64,
    /// In soft interrupts, where the kernel forwards packets.
    pub softirq: f64,
    /// In this process and its children, with the soft interrupts that came while they ran: what
    /// counts where the machine has other work too. Soft interrupts that the kernel's own threads
    /// took over are missing.
    pub ours: f64,
}

impl CpuTime {
    /// Until now.
    ///
    /// # Errors
    ///
    /// Without `/proc`.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").map_err(Error::io("read /proc/stat"))?;
        Ok(Self {
            ours: ours(),
            ..Self::parse(&text)
        })
    }

    fn parse(text: &str) -> Self {
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
                ours: 0.0,
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
            ours: self.ours - earlier.ours,
        }
    }
}

/// Seconds of this process, of its children that have ended, and of those that live.
fn ours() -> f64 {
    let me = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0.0;
    };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which may hold anything: state, parent, ... (proc_pid_stat(5)).
            let (_, fields) = stat.rsplit_once(')')?;
            let fields: Vec<&str> = fields.split_whitespace().collect();
            let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
            let parent: u32 = fields.get(1)?.parse().ok()?;
            let own = number(11)? + number(12)?;
            if pid == me {
                Some(own + number(13)? + number(14)?)
            } else {
                (parent == me).then_some(own)
            }
        })
        .sum::<f64>()
        / HERTZ
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_not_busy() {
        let time = CpuTime::parse("cpu  100 200 300 99999 50 10 40 50 7 7\ncpu0 1 2 3\n");
        assert!((time.busy - 7.0).abs() < 1e-9 && (time.softirq - 0.4).abs() < 1e-9);
        let now = CpuTime::now().unwrap();
        assert!(now.busy > 0.0 && now.busy > now.ours);
    }
}
