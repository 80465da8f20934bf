//! Network namespaces for tests: each test makes its own, and it is gone with the test's thread.
//!
//! Root is needed, or `unshare -Urn cargo test`. Without either a test says that it was skipped.

use std::os::fd::AsRawFd;
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

const ETH_P_ALL: u16 = 3;

/// A raw socket on an interface, that sees what comes in and sends what it is given.
pub(crate) struct Tap {
    socket: socket2::Socket,
}

impl Tap {
    pub(crate) fn new(name: &str) -> Self {
        let protocol = i32::from(ETH_P_ALL.to_be());
        let socket = socket2::Socket::new(
            socket2::Domain::PACKET,
            socket2::Type::RAW,
            Some(protocol.into()),
        )
        .unwrap();
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET.try_into().unwrap(),
            sll_protocol: ETH_P_ALL.to_be(),
            sll_ifindex: interface_index(name),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of_val(&address).try_into().unwrap();
        // SAFETY: the address is a whole `sockaddr_ll` of that length and outlives the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0);
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        Self { socket }
    }

    /// Sends an IP packet in an Ethernet frame to the other end of the link.
    pub(crate) fn send(&self, packet: &[u8]) {
        self.send_tagged(&[], packet);
    }

    /// The same with VLAN tags.
    pub(crate) fn send_tagged(&self, tags: &[u8], packet: &[u8]) {
        let ether_type = if packet[0] >> 4 == 4 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        let to_host = [2, 0, 0, 0, 0, 1];
        self.send_frame(&[&to_host, &[2, 0, 0, 0, 0, 2], tags, &ether_type, packet].concat());
    }

    /// Sends a whole frame.
    pub(crate) fn send_frame(&self, frame: &[u8]) {
        self.socket.send(frame).unwrap();
    }

    /// Waits for a frame that comes in and contains these bytes; the frames seen before it.
    pub(crate) fn frames_until(&mut self, wanted: &[u8]) -> Vec<Vec<u8>> {
        use std::io::Read;
        let begun = Instant::now();
        let mut seen = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{wanted:?} did not come"
            );
            let Ok(length) = self.socket.read(&mut buffer) else {
                continue;
            };
            let frame = &buffer[..length];
            if frame.windows(wanted.len()).any(|w| w == wanted) {
                return seen;
            }
            seen.push(frame.to_vec());
        }
    }
}

/// The number of an interface of the calling thread's namespace.
pub(crate) fn interface_index(name: &str) -> i32 {
    let text = run("ip", &format!("-j link show {name}"));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value[0]["ifindex"].as_i64().unwrap().try_into().unwrap()
}
