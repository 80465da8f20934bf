//! Sends prepared frames from a thread of its own, in batches.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, ptr};

use crate::raw::{RawSocket, udp_packet};
use crate::{Namespace, Result};

/// What a [`Sender`] sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderConfig {
    /// The interface in the client's namespace.
    pub interface: String,
    /// The Ethernet address of the next hop.
    pub next_hop: [u8; 6],
    /// The source of the first flow; each further one has the next port.
    pub from: SocketAddr,
    /// Where everything goes.
    pub to: SocketAddr,
    /// Number of flows, at least 1.
    pub flows: u16,
    /// Octets behind the UDP header; 18 make the smallest Ethernet frame.
    pub payload: usize,
    /// Packets a second, none for as many as possible.
    pub rate: Option<u32>,
}

/// Sends until dropped.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
}

/// Frames handed to the kernel in one call.
const BATCH: usize = 64;

impl Sender {
    /// Starts.
    ///
    /// # Errors
    ///
    /// No such interface, or no `CAP_NET_RAW`.
    pub fn start(client: &Namespace, config: &SenderConfig) -> Result<Self> {
        let socket = client.run(|| RawSocket::open(&config.interface))??;
        // Nothing is read from it.
        socket.set_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)])?;
        socket.bypass_qdisc()?;
        let frames = frames(config, client.mac(&config.interface)?);
        let shared = Arc::new(Shared::default());
        let (theirs, rate) = (Arc::clone(&shared), config.rate);
        let thread = client.spawn_thread(move || run(&theirs, &socket, frames, rate))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Packets sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Stops and says how many packets were sent in all.
    #[must_use]
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// One frame for each flow.
fn frames(config: &SenderConfig, source: [u8; 6]) -> Vec<Vec<u8>> {
    let kind = if config.to.is_ipv4() {
        0x0800
    } else {
        0x86dd_u16
    };
    let payload = vec![0x5a; config.payload];
    (0..config.flows.max(1))
        .map(|flow| {
            let port = config.from.port().wrapping_add(flow).max(1);
            let from = SocketAddr::new(config.from.ip(), port);
            let packet = udp_packet(from, config.to, &payload);
            [&config.next_hop[..], &source, &kind.to_be_bytes(), &packet].concat()
        })
        .collect()
}

fn run(shared: &Shared, socket: &RawSocket, mut frames: Vec<Vec<u8>>, rate: Option<u32>) {
    // Whole batches, so that each call sends the same number.
    let whole = frames.len().next_multiple_of(BATCH);
    let given = frames.clone();
    frames.extend(given.into_iter().cycle().take(whole - frames.len()));
    let mut queue = Queue::new(frames);
    let start = Instant::now();
    let mut sent = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        match queue.send(socket.as_fd()) {
            Ok(count) => {
                sent += count;
                shared.sent.store(sent, Ordering::Relaxed);
            }
            // The receiver's queue was full; what did not fit is sent again.
            Err(_) => std::thread::yield_now(),
        }
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(sent_seconds(sent, rate));
            let ahead = due.saturating_sub(start.elapsed());
            if ahead > Duration::from_micros(200) {
                std::thread::sleep(ahead);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn sent_seconds(sent: u64, rate: u32) -> f64 {
    sent as f64 / f64::from(rate.max(1))
}

/// Frames and the kernel's descriptions of them, in a ring of batches.
struct Queue {
    _frames: Vec<Vec<u8>>,
    _parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    next: usize,
}

impl Queue {
    fn new(mut frames: Vec<Vec<u8>>) -> Self {
        let mut parts: Vec<libc::iovec> = frames
            .iter_mut()
            .map(|frame| libc::iovec {
                iov_base: frame.as_mut_ptr().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let messages = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all zeros is a valid `mmsghdr`: no address, no parts, no control data.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = ptr::from_mut(part);
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        Self {
            _frames: frames,
            _parts: parts,
            messages,
            next: 0,
        }
    }

    /// Sends the next frames, at most a batch, and says how many.
    fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<u64> {
        if self.next >= self.messages.len() {
            self.next = 0;
        }
        let batch = self.messages.iter_mut().skip(self.next).take(BATCH);
        let count = u32::try_from(batch.len()).unwrap_or(0);
        let Some(first) = self.messages.get_mut(self.next) else {
            return Ok(0);
        };
        let first = ptr::from_mut(first);
        // SAFETY: `count` messages follow `first` in the vector. Each names one part, each part one
        // frame, and both vectors are owned by `self` and never changed after `new`; their heap
        // blocks stay where they are when `self` moves.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), first, count, 0) };
        let Ok(sent) = usize::try_from(sent) else {
            return Err(io::Error::last_os_error());
        };
        self.next += sent;
        Ok(sent as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sink, measure};
    use super::*;
    use crate::Veth;
    use crate::test::networked;

    #[test]
    fn what_is_sent_is_delivered_and_counted() {
        networked(&[], || {
            let client = Namespace::new("client").unwrap();
            let server = Namespace::new("server").unwrap();
            Veth::connect(&client, "eth0", &server, "eth0").unwrap();
            for (from, to, prefix) in [
                ("10.0.0.1:5000", "10.0.0.2:9", 24),
                ("[fd00::1]:5000", "[fd00::2]:9", 64),
            ] {
                let (from, to): (SocketAddr, SocketAddr) =
                    (from.parse().unwrap(), to.parse().unwrap());
                client.add_address("eth0", from.ip(), prefix).unwrap();
                server.add_address("eth0", to.ip(), prefix).unwrap();
                let mut config = SenderConfig {
                    interface: "eth0".into(),
                    next_hop: server.mac("eth0").unwrap(),
                    from,
                    to,
                    flows: 100,
                    payload: 18,
                    rate: Some(20_000),
                };
                let sink = Sink::open(&server, to).unwrap();
                let sender = Sender::start(&client, &config).unwrap();
                let deadline = Instant::now() + Duration::from_secs(10);
                // So few that the sink's buffer holds them all, however late it is woken.
                while sender.sent() < 150 && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                let sent = sender.stop();
                while sink.delivered().unwrap() < sent && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                assert_eq!(
                    (sink.delivered().unwrap(), sink.damaged().unwrap()),
                    (sent, 0)
                );
                drop(sink);
                config.rate = None;
                let short = Duration::from_millis(100);
                let figures = measure(&client, &config, &server, to, short, short).unwrap();
                assert!(figures.delivered > 0, "{figures}");
            }
        });
    }
}
