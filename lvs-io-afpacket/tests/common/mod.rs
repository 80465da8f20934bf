//! A network namespace for each test, and frames to send in it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use lvs_io_afpacket::{Link, Port, PortConfig, Receiver, RingVersion, wait};
use lvs_packet::{Offload, PartialChecksum, SegmentKind, Segmentation};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Set for the copy of the test that runs in a user namespace.
const INSIDE: &str = "LVS_IO_TEST_INSIDE";

/// Runs `test` in a network namespace of its own, in which `ip` can be used; or says aloud why it
/// cannot.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: there is no `ip` command");
        return;
    }
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let thread = std::thread::spawn(move || {
        // SAFETY: only this thread changes its namespace, and it owns no descriptor tied to it.
        if unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.is_ok() {
            // Without IPv6 the stack sends nothing of its own.
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            test();
            return true;
        }
        false
    });
    if thread.join().expect("the test failed") {
        return;
    }
    assert!(
        std::env::var_os(INSIDE).is_none(),
        "no namespace in a user namespace"
    );
    let inside = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output();
    match inside {
        Ok(output) if output.status.success() => {}
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running") => {
            panic!(
                "in a user namespace:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        _ => eprintln!("SKIPPED: no privilege to make a network namespace"),
    }
}

/// `ip <words of arguments>`, which must succeed.
pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The numbers of the two ends of a new pair `near` and `far`, both up.
pub fn pair() -> [u32; 2] {
    ip("link add name near index 10 address 02:00:00:00:00:01 \
        type veth peer name far index 11 address 02:00:00:00:00:02");
    ip("link set near up");
    ip("link set far up");
    [10, 11]
}

/// The layouts of the receive ring that everything is tried with.
pub fn layouts(ifindex: u32) -> Vec<PortConfig> {
    let config = PortConfig::new(ifindex);
    vec![
        config.clone(),
        PortConfig {
            receive_slot_size: 66_000,
            receive_slots: 512,
            ..config.clone()
        },
        PortConfig {
            version: RingVersion::V3,
            ..config
        },
    ]
}

/// The first port of the pair; it receives whatever comes.
pub fn near(ifindex: u32) -> Port {
    Port::open(&PortConfig {
        other_stations: true,
        ..PortConfig::new(ifindex)
    })
    .unwrap()
}

/// Opens the pair: what is sent by the first port is received by the second.
pub fn open(pair: [u32; 2], config: &PortConfig) -> [Port; 2] {
    let [a, b] = pair;
    [
        near(a),
        Port::open(&PortConfig {
            ifindex: b,
            ..config.clone()
        })
        .unwrap(),
    ]
}

/// A frame received, copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    pub bytes: Vec<u8>,
    pub offload: Offload,
    pub headroom: usize,
}

/// Receives until there are `count` frames or five seconds have passed.
pub fn receive(receiver: &mut Receiver, count: usize) -> Vec<Copied> {
    let mut all = Vec::new();
    let end = Instant::now() + Duration::from_secs(5);
    while all.len() < count && Instant::now() < end {
        let batch = receiver.receive(64, |frames| {
            frames
                .iter()
                .map(|frame| Copied {
                    bytes: frame.bytes().to_vec(),
                    offload: frame.offload,
                    headroom: frame.headroom(),
                })
                .collect::<Vec<_>>()
        });
        match batch {
            Some(batch) => all.extend(batch),
            None => {
                let rest = end.saturating_duration_since(Instant::now());
                wait(std::slice::from_ref(receiver), &mut [], None, Some(rest)).unwrap();
            }
        }
    }
    all
}

/// Waits until the interface is as it should be, for five seconds.
pub fn until_link(receiver: &Receiver, link: Link) {
    let end = Instant::now() + Duration::from_secs(5);
    while receiver.link() != link {
        assert!(Instant::now() < end, "link is {:?}", receiver.link());
        wait(
            std::slice::from_ref(receiver),
            &mut [],
            None,
            Some(Duration::from_millis(5)),
        )
        .unwrap();
    }
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Source and destination of [`ipv4`].
pub const ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

/// An Ethernet frame with IPv4 from 10.0.0.1 to 10.0.0.2, `protocol` 6 or 17, whose transport
/// checksum is still to be computed; `payload` bytes counting up.
pub fn ipv4(
    protocol: u8,
    ports: [u16; 2],
    payload: usize,
    vlan: Option<u16>,
) -> (Vec<u8>, Offload) {
    let transport = if protocol == 6 { 20 } else { 8 };
    let total = u16::try_from(20 + transport + payload).unwrap();
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if let Some(tci) = vlan {
        frame.extend([0x81, 0]);
        frame.extend(tci.to_be_bytes());
    }
    frame.extend([8, 0]);
    let l3 = frame.len();
    frame.extend([0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(ADDRESSES.concat());
    let checksum = !sum(&frame[l3..], 0);
    frame[l3 + 10..l3 + 12].copy_from_slice(&checksum.to_be_bytes());
    let pseudo = sum(
        &ADDRESSES.concat(),
        u32::from(protocol) + u32::from(total) - 20,
    );
    let l4 = frame.len();
    frame.extend(ports.map(u16::to_be_bytes).concat());
    let offset = if protocol == 6 {
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x10, 0]);
        frame.extend(pseudo.to_be_bytes());
        frame.extend([0, 0]);
        16
    } else {
        frame.extend((total - 20).to_be_bytes());
        frame.extend(pseudo.to_be_bytes());
        6
    };
    frame.extend((0..payload).map(|i| (i % 251) as u8));
    let offload = Offload {
        checksum: Some(PartialChecksum {
            start: u16::try_from(l4).unwrap(),
            offset,
        }),
        segmentation: None,
    };
    (frame, offload)
}

/// The same, standing for packets of `size` bytes.
pub fn segmented(protocol: u8, payload: usize, size: u16, vlan: Option<u16>) -> (Vec<u8>, Offload) {
    let (frame, mut offload) = ipv4(protocol, [1000, 80], payload, vlan);
    offload.segmentation = Some(Segmentation {
        kind: if protocol == 6 {
            SegmentKind::TcpV4
        } else {
            SegmentKind::Udp
        },
        size,
        header_len: 0,
        ecn: false,
    });
    (frame, offload)
}

/// Without the hint that the kernel may change.
pub fn without_hint(mut offload: Offload) -> Offload {
    if let Some(segmentation) = &mut offload.segmentation {
        segmentation.header_len = 0;
    }
    offload
}
