//! Packets per second through a director, and what they cost.
//!
//! A [`Sender`] sends small UDP packets of many flows as fast as a core can, from prepared frames. A
//! [`Sink`] is a socket that throws away what it gets, after the kernel has checked its checksum,
//! and counts it: the cheapest server there is, so that the director is what is measured.
//! [`measure`] runs both and reads the [`CpuTime`] of the whole machine, interrupts included.

mod cpu;
mod send;
mod sink;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

pub use cpu::CpuTime;
pub use send::{Sender, SenderConfig};
pub use sink::Sink;

use crate::{Namespace, Result};

/// What [`measure`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// How long was measured.
    pub seconds: f64,
    /// Packets sent in that time.
    pub sent: u64,
    /// Packets that reached the server whole.
    pub delivered: u64,
    /// Seconds that all cores together were busy, with everything.
    pub cpu: f64,
    /// Of these, seconds in soft interrupts.
    pub softirq: f64,
    /// Seconds of a core in our own processes, whatever else the machine does.
    pub ours: f64,
}

impl Figures {
    /// Packets delivered a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }

    /// Microseconds of a core in our processes for one delivered packet: sender, director, server.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn cpu_per_packet(&self) -> f64 {
        self.ours * 1e6 / self.delivered as f64
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>9.0} packets/s of {:>9.0} sent, {:.2} of {:.2} CPU s ours, {:.2} softirq, in {:.2} s, {:.2} us/packet",
            self.rate(),
            f64::from(u32::try_from(self.sent).unwrap_or(u32::MAX)) / self.seconds,
            self.ours,
            self.cpu,
            self.softirq,
            self.seconds,
            self.cpu_per_packet(),
        )
    }
}

/// Sends from `client` to `config.to` for `warm_up` and then `time`, and counts what reaches a sink
/// on `server`'s `address`.
///
/// # Errors
///
/// When a socket cannot be opened.
pub fn measure(
    client: &Namespace,
    config: &SenderConfig,
    server: &Namespace,
    address: SocketAddr,
    warm_up: Duration,
    time: Duration,
) -> Result<Figures> {
    let sink = Sink::open(server, address)?;
    let sender = Sender::start(client, config)?;
    thread::sleep(warm_up);
    let (start, cpu) = (Instant::now(), CpuTime::now()?);
    let (sent, delivered) = (sender.sent(), sink.delivered()?);
    thread::sleep(time);
    let (sent, delivered) = (sender.sent() - sent, sink.delivered()? - delivered);
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), CpuTime::now()? - cpu);
    Ok(Figures {
        seconds,
        sent,
        delivered,
        cpu: cpu.busy,
        softirq: cpu.softirq,
        ours: cpu.ours,
    })
}
