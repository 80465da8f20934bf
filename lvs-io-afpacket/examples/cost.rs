//! What a frame costs in each way of handling it, on one thread, so that a busy machine disturbs
//! little: a batch is sent into one end of a veth pair, received at the other and sent back.
//!
//! ```text
//! unshare --net sh -c 'ip link add name near address 02:00:00:00:00:01 index 10 type veth \
//!     peer name far address 02:00:00:00:00:02 index 11; ip link set near up; ip link set far up;
//!     exec target/release/examples/cost'
//! ```
//! With a number, only frames with so many bytes of payload. For each way: nanoseconds a frame, the lower quartile of many batches, for bringing it into the
//! ring (sending on the other end, the kernel's path, the tap's copy), for receiving it and handing
//! it to the sender, and for flushing.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::time::{Duration, Instant};

use lvs_io_afpacket::{Port, PortConfig, RingVersion, wait};
use lvs_packet::{Offload, PartialChecksum, SegmentKind, Segmentation};

type Failure = Box<dyn std::error::Error>;

/// An IPv4 frame for the far end, with `payload` bytes; its checksums are nobody's business here.
fn frame(payload: u16, segmented: bool) -> (Vec<u8>, Offload) {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend((40 + payload).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([
        0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 1, 0, 0, 0, 0,
    ]);
    frame.resize(54 + usize::from(payload), 0);
    let offload = Offload {
        checksum: Some(PartialChecksum {
            start: 34,
            offset: 16,
        }),
        segmentation: segmented.then_some(Segmentation {
            kind: SegmentKind::TcpV4,
            size: 1448,
            header_len: 0,
            ecn: false,
        }),
    };
    (frame, offload)
}

fn quartile(times: &mut [Duration], frames: usize) -> u128 {
    times.sort_unstable();
    let time = times.get(times.len() / 4).copied().unwrap_or_default();
    time.as_nanos() / frames.max(1) as u128
}

fn measure(name: &str, config: &PortConfig, batch: usize, payload: u16) -> Result<(), Failure> {
    let (bytes, offload) = frame(payload, payload > 1460);
    let mut near = Port::open(&PortConfig {
        ifindex: 10,
        receive_slots: 64,
        large_queue: 4096,
        ..PortConfig::new(10)
    })?;
    let Port {
        receiver,
        mut sender,
        ..
    } = Port::open(config)?;
    let mut receivers = [receiver];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let end = Instant::now() + Duration::from_secs(1);
    let mut lost = 0;
    while Instant::now() < end {
        let start = Instant::now();
        for _ in 0..batch {
            let _ = near.sender.send(&bytes, &offload);
        }
        let _ = near.sender.flush();
        let sent = Instant::now();
        let mut seen = 0;
        let (mut receiving, mut flushing) = (Duration::ZERO, Duration::ZERO);
        while seen < batch {
            if !wait(&receivers, &mut [], None, Some(Duration::from_millis(20)))?.frames {
                lost += batch - seen;
                break;
            }
            let [receiver] = &mut receivers;
            let before = Instant::now();
            seen += receiver
                .receive(64, |frames| {
                    for frame in &mut *frames {
                        if let Some(addresses) = frame.bytes_mut().first_chunk_mut::<12>() {
                            *addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
                        }
                        let _ = sender.send(frame.bytes(), &frame.offload);
                    }
                    frames.len()
                })
                .unwrap_or_default();
            let received = Instant::now();
            let _ = sender.flush();
            receiving += received - before;
            flushing += received.elapsed();
        }
        let [into, receive, flush] = &mut times;
        into.push(sent - start);
        receive.push(receiving);
        flush.push(flushing);
    }
    let [into, receive, flush] = times.map(|mut times| quartile(&mut times, batch));
    println!(
        "{name:36} {payload:6} B x {batch:2}: in {into:6}, receive and send {receive:6}, \
         flush {flush:6}, all {:6} ns; lost {lost}",
        into + receive + flush
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let plain = PortConfig::new(11);
    let ways = [
        ("slots of 2 KB", plain.clone()),
        (
            "slots of 2 KB, 512 of them",
            PortConfig {
                receive_slots: 512,
                ..plain.clone()
            },
        ),
        (
            "slots of 64 KB, 128 of them",
            PortConfig {
                receive_slot_size: 66_000,
                receive_slots: 128,
                ..plain.clone()
            },
        ),
        (
            "slots of 64 KB, 512 of them",
            PortConfig {
                receive_slot_size: 66_000,
                receive_slots: 512,
                ..plain.clone()
            },
        ),
        (
            "blocks, 16 of 256 KB",
            PortConfig {
                version: RingVersion::V3,
                ..plain.clone()
            },
        ),
        (
            "slots of 2 KB, queueing discipline",
            PortConfig {
                qdisc_bypass: false,
                ..plain.clone()
            },
        ),
        (
            "slots of 2 KB, out by slots of 256 B",
            PortConfig {
                transmit_slot_size: 256,
                ..plain.clone()
            },
        ),
        (
            "slots of 2 KB, 2 large frames",
            PortConfig {
                large_frames: 2,
                ..plain.clone()
            },
        ),
        (
            "slots of 2 KB, 4 large frames",
            PortConfig {
                large_frames: 4,
                ..plain.clone()
            },
        ),
        (
            "slots of 2 KB, out by slots of 64 KB",
            PortConfig {
                transmit_slot_size: 65_536,
                ..plain
            },
        ),
    ];
    let only: Option<u16> = std::env::args().nth(1).and_then(|word| word.parse().ok());
    for _ in 0..3 {
        for (batch, payload) in [(64, 6), (64, 1400), (8, 64_000), (1, 6)] {
            if only.is_some_and(|only| only != payload) {
                continue;
            }
            for (name, config) in &ways {
                measure(name, config, batch, payload)?;
            }
        }
        println!();
    }
    Ok(())
}
