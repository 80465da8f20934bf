//! A million connections are listed in a stream: neither the daemon nor `lvsadm`, both in this process, holds more
//! than slices of the listing, and packets go on while its reader takes its time.
//!
//! A program of its own, because it measures the memory of its process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Daemon, LocalNames, traffic};
use lvs_core::{Addr, Endpoint, Tick};
use lvs_director::{Director, DirectorConfig, Worker};
use lvs_packet::TcpFlags;
use lvsadm::{Surroundings, run};
use lvsd::control::Rules;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;

const CONNECTIONS: u32 = 1_000_000;

/// As long as nobody lets time pass, no connection ends.
const NOW: Tick = Tick::from_millis(1_000_000);

/// What the process may grow by while it lists; the listing itself is many times as long.
const GROWTH: usize = 16 << 20;

/// From one look at memory and packets to the next, in lines.
const STRIDE: usize = 10_000;

/// The clients, each with one connection.
fn client(number: u32) -> Endpoint {
    let address = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number;
    Endpoint::new(Addr::from(Ipv4Addr::from(address)), 4000)
}

/// The reader of a listing: counts, and sends packets in the middle of it.
struct Reader<'w> {
    worker: &'w mut Worker,
    /// The next client that has no connection yet.
    fresh: &'w mut u32,
    lines: usize,
    bytes: usize,
    /// Memory in use at its highest, in bytes.
    peak: usize,
}

impl Reader<'_> {
    fn look(&mut self) {
        self.peak = self.peak.max(resident());
        // One that is known, and one that is new.
        let to = "192.0.2.1:80".parse().unwrap();
        let known = traffic::tcp(client(7), to, TcpFlags::ACK, b"");
        traffic::send(self.worker, NOW, &known);
        let new = traffic::tcp(client(*self.fresh), to, TcpFlags::SYN, b"");
        traffic::send(self.worker, NOW, &new);
        *self.fresh += 1;
    }
}

impl Write for Reader<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len();
        for _ in bytes.iter().filter(|&&byte| byte == b'\n') {
            self.lines += 1;
            if self.lines.is_multiple_of(STRIDE) {
                self.look();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of this process that are in memory, as the kernel counts its pages.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.parse::<usize>().unwrap() << 10
}

#[test]
fn a_million_connections_are_listed_in_a_stream() {
    let director = Director::new(&DirectorConfig {
        connections: CONNECTIONS as usize + 10_000,
        workers: 1,
    })
    .unwrap();
    let rules = Rules::new(Arc::clone(&director), || {}).with_clock(|| NOW);
    let daemon = Daemon::start(Arc::new(rules));
    daemon.run(&["-A", "-t", "192.0.2.1:80", "-s", "rr"], "");
    daemon.run(&["-a", "-t", "192.0.2.1:80", "-r", "10.2.0.1:80", "-g"], "");
    let mut worker = director.worker().unwrap();
    let to = "192.0.2.1:80".parse().unwrap();
    for number in 0..CONNECTIONS {
        let syn = traffic::tcp(client(number), to, TcpFlags::SYN, b"");
        traffic::send(&mut worker, NOW, &syn);
    }

    let mut fresh = CONNECTIONS;
    for (words, title) in [(&["-L", "-c", "-n"][..], 2), (&["-L", "-c", "--json"], 0)] {
        let before = resident();
        let (least, had) = (fresh as usize + title, fresh);
        let mut reader = Reader {
            worker: &mut worker,
            fresh: &mut fresh,
            lines: 0,
            bytes: 0,
            peak: before,
        };
        let args = std::iter::once("lvsadm").chain(words.iter().copied());
        let args: Vec<String> = args.map(str::to_owned).collect();
        let mut errors = Vec::new();
        let status = run(
            &args,
            &mut Surroundings {
                input: &mut io::empty(),
                output: &mut reader,
                errors: &mut errors,
                socket: Some(daemon.socket.clone()),
                names: &LocalNames,
            },
        );
        let (lines, bytes) = (reader.lines, reader.bytes);
        let growth = reader.peak - before;
        let said = String::from_utf8_lossy(&errors);
        assert_eq!((status, &*said), (0, ""));
        // Those that came meanwhile may be there or not.
        let came = (fresh - had) as usize;
        assert!((least..=least + came).contains(&lines), "{lines} lines");
        assert_eq!(came, lines / STRIDE);
        assert!(bytes > 3 * GROWTH, "{bytes} bytes");
        assert!(growth < GROWTH, "{growth} bytes more for {words:?}");
    }
}
