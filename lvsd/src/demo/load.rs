//! Clients that ask and ask: every request on a connection of its own, some for a page, some for a
//! megabyte.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lvs_testbed::http::HttpClient;
use lvs_testbed::{Namespace, Result};

/// Side by side.
const CLIENTS: usize = 4;
/// Of so many connections one carries bulk.
const BULK_EVERY: u64 = 5;
/// Octets of bulk.
const BULK: u64 = 1_000_000;
/// For each connect, read and write.
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients have seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    bytes: u64,
    seconds: f64,
    servers: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.bytes += other.bytes;
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
        for (server, requests) in other.servers {
            *self.servers.entry(server).or_default() += requests;
        }
    }
}

impl fmt::Display for Tally {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.requests as f64 / self.seconds;
        let megabytes = self.bytes as f64 / 1e6 / self.seconds;
        write!(f, "{rate:>6.0} connections/s  {megabytes:>5.0} MB/s ")?;
        for (server, requests) in &self.servers {
            let share = *requests as f64 * 100.0 / self.requests as f64;
            write!(f, "  {server} {share:.1}%")?;
        }
        Ok(())
    }
}

/// Clients at work; they end when dropped.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    started: Instant,
    threads: Vec<JoinHandle<Result<Tally>>>,
}

impl Load {
    pub(super) fn start(client: &Namespace, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS)
            .filter_map(|_| {
                let stop = Arc::clone(&stop);
                let inside = client.duplicate().ok()?;
                client.spawn_thread(move || ask(&inside, to, &stop)).ok()
            })
            .collect();
        Self {
            stop,
            started: Instant::now(),
            threads,
        }
    }

    /// Lets them finish what they are doing, and adds up.
    pub(super) fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for thread in self.threads.drain(..) {
            if let Ok(Ok(tally)) = thread.join() {
                sum.add(tally);
            }
        }
        sum.seconds = self.started.elapsed().as_secs_f64();
        sum
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask(client: &Namespace, to: SocketAddr, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    // At least one each, however short the time.
    loop {
        let bulk = tally.requests % BULK_EVERY == BULK_EVERY - 1;
        match request(client, to, bulk) {
            Ok((server, bytes)) => {
                tally.requests += 1;
                tally.bytes += bytes;
                *tally.servers.entry(server).or_default() += 1;
            }
            Err(error) => {
                tally.failed += 1;
                tally.first_failure = Some(error.to_string());
                return tally;
            }
        }
        if stop.load(Ordering::Relaxed) {
            return tally;
        }
    }
}

fn request(client: &Namespace, to: SocketAddr, bulk: bool) -> Result<(String, u64)> {
    let mut http = HttpClient::connect(client, to, PATIENCE)?;
    let response = if bulk {
        http.get_bytes(BULK)?
    } else {
        http.get("/")?.0
    };
    Ok((response.server, response.length))
}
