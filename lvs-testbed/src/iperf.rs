//! iperf3, where it is installed: streams of TCP and UDP, and what arrived of them.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::{Child, Error, Namespace, Result, program};

/// `iperf3 --server` for one test; ended when dropped.
///
/// For each test a new one: between two tests a server closes its listening socket and opens another,
/// and who connects in between is reset.
#[derive(Debug)]
pub struct IperfServer {
    _child: Child,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IperfTest {
    /// The server, or what stands before it.
    pub to: SocketAddr,
    /// How long, or how much.
    pub amount: Amount,
    /// Whether the server sends and the client receives.
    pub reverse: bool,
    /// UDP at this rate in bits a second; none for TCP.
    pub udp: Option<u64>,
    /// Octets of a datagram or write; none for what iperf3 chooses.
    pub length: Option<u32>,
    /// Streams side by side.
    pub streams: u32,
}

/// When a test ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// After so many seconds.
    Seconds(u32),
    /// After so many octets of payload.
    Bytes(u64),
}

/// What iperf3 reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IperfReport {
    /// Received bits a second of payload.
    pub bits_per_second: f64,
    /// UDP datagrams that did not arrive, in percent.
    pub lost_percent: f64,
    /// TCP segments sent again.
    pub retransmits: f64,
}

impl IperfServer {
    /// Starts it on `address` of `namespace` and waits until it listens.
    ///
    /// On every address would not do for UDP behind DR or TUN: iperf3 connects its socket to the
    /// client from the address that the route gives, which is not the VIP that was asked.
    ///
    /// # Errors
    ///
    /// When iperf3 is not installed or does not start.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let mut command = program::command("iperf3")?;
        command.args(["--server", "--one-off", "--bind", &address.ip().to_string()]);
        command.args(["--port", &address.port().to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = namespace.spawn(command)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let (file, listening) = listed(address);
        loop {
            let sockets = namespace.run(|| std::fs::read_to_string(file))?;
            let sockets = sockets.unwrap_or_default();
            let mut lines = sockets.lines();
            if lines.any(|line| line.contains(&listening) && line.contains(" 0A ")) {
                return Ok(Self { _child: child });
            }
            if child.try_wait()?.is_some() || Instant::now() >= deadline {
                return Err(Error::Timeout("the start of iperf3 --server".into()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The file in which the kernel lists a TCP socket of this local address, and how.
fn listed(address: SocketAddr) -> (&'static str, String) {
    let words = |octets: &[u8]| {
        let words = octets.as_chunks::<4>().0.iter();
        words
            .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
            .collect::<String>()
    };
    let (file, host) = match address.ip() {
        IpAddr::V4(v4) => ("/proc/thread-self/net/tcp", words(&v4.octets())),
        IpAddr::V6(v6) => ("/proc/thread-self/net/tcp6", words(&v6.octets())),
    };
    (file, format!("{host}:{:04X} ", address.port()))
}

impl IperfTest {
    /// TCP towards the server, one stream.
    #[must_use]
    pub const fn tcp(to: SocketAddr, amount: Amount) -> Self {
        Self {
            to,
            amount,
            reverse: false,
            udp: None,
            length: None,
            streams: 1,
        }
    }

    /// Runs it from `client`, with an [`IperfServer`] that was started for it.
    ///
    /// # Errors
    ///
    /// When iperf3 is not installed, and with its own words when it fails.
    pub fn run(&self, client: &Namespace) -> Result<IperfReport> {
        let mut command = Vec::new();
        let mut add = |words: &[&str]| command.extend(words.iter().map(|&word| word.to_owned()));
        add(&["--client", &self.to.ip().to_string(), "--json"]);
        add(&["--port", &self.to.port().to_string()]);
        match self.amount {
            Amount::Seconds(seconds) => add(&["--time", &seconds.to_string()]),
            Amount::Bytes(bytes) => add(&["--bytes", &bytes.to_string()]),
        };
        add(&["--connect-timeout", "5000"]);
        add(&["--parallel", &self.streams.to_string()]);
        if let Some(length) = self.length {
            add(&["--length", &length.to_string()]);
        }
        if self.reverse {
            add(&["--reverse"]);
        }
        if let Some(rate) = self.udp {
            add(&["--udp", "--bitrate", &rate.to_string()]);
        }
        let json = self.output(client, &command)?;
        let (received, sent) = if self.udp.is_some() {
            ("\"sum\"", "\"sum\"")
        } else {
            ("\"sum_received\"", "\"sum_sent\"")
        };
        Ok(IperfReport {
            bits_per_second: number(&json, received, "\"bits_per_second\""),
            lost_percent: number(&json, received, "\"lost_percent\""),
            retransmits: number(&json, sent, "\"retransmits\""),
        })
    }

    fn output(&self, client: &Namespace, arguments: &[String]) -> Result<String> {
        let mut command = program::command("iperf3")?;
        command.args(arguments);
        let output = client.output(command)?;
        let json = String::from_utf8_lossy(&output.stdout).into_owned();
        // With --json, an error is told there and the exit status says that all is well.
        let error = json.lines().find(|line| line.contains("\"error\":"));
        if error.is_none() && output.status.success() {
            return Ok(json);
        }
        Err(Error::Unexpected {
            doing: format!("iperf3 from {} to {}", client.name(), self.to),
            got: error.unwrap_or(&json).trim().to_owned(),
        })
    }
}

/// The number after `key` in the last object called `object`; 0 if there is none. iperf3 writes the
/// sums of the whole test last.
fn number(json: &str, object: &str, key: &str) -> f64 {
    let find = || {
        let inside = json.get(json.rfind(object)?..)?;
        let inside = inside.get(..inside.find('}')?)?;
        let value = inside.get(inside.find(key)? + key.len()..)?;
        let value = value.trim_start_matches([':', ' ', '\t']);
        let end = value.find([',', '\n', '}']).unwrap_or(value.len());
        value.get(..end)?.trim().parse().ok()
    };
    find().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_sum() {
        let json = r#"{"intervals": [{"sum": {"bits_per_second": 1, "x": 2}}],
            "end": {"sum": {"bits_per_second":	3.5e9, "lost_percent": 0.25}}}"#;
        assert_eq!(
            number(json, "\"sum\"", "\"bits_per_second\"").to_string(),
            "3500000000"
        );
        assert_eq!(
            number(json, "\"sum\"", "\"lost_percent\"").to_string(),
            "0.25"
        );
        assert_eq!(
            number(json, "\"sum_sent\"", "\"retransmits\"").to_string(),
            "0"
        );
    }
}
