//! A forwarder and nothing else: IP frames that come in on one interface go out on the other with
//! new MAC addresses. It shows the floor under everything that is built on this crate.
//!
//! ```text
//! forward <in> <out> <mac of out> <next hop's mac> <mac of in> <previous hop's mac> [option=value …]
//! ```
//! Interfaces by number. Options: `version=2|3`, `workers=`, `rx_slots=`, `rx_slot=`, `large=`,
//! `blocks=`, `block=`, `timeout=`, `tx_slots=`, `tx_slot=`, `bypass=0|1`, `spin=` (empty looks
//! before sleeping), `seconds=`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lvs_io_afpacket::{Fanout, FanoutMode, MAX_BATCH, Port, PortConfig, RingVersion, wait};
use lvs_packet::Frame;

type Mac = [u8; 6];
type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Setup {
    interfaces: [u32; 2],
    /// Destination and source of what leaves on each interface.
    addresses: [[Mac; 2]; 2],
    config: PortConfig,
    workers: u16,
    spin: u32,
    seconds: u64,
}

fn mac(text: &str) -> Result<Mac, Failure> {
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16)?;
    }
    Ok(mac)
}

fn setup() -> Result<Setup, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, out, next, back, previous, options @ ..] = arguments.as_slice() else {
        return Err("usage: see the head of examples/forward.rs".into());
    };
    let mut setup = Setup {
        interfaces: [a.parse()?, b.parse()?],
        addresses: [[mac(previous)?, mac(back)?], [mac(next)?, mac(out)?]],
        config: PortConfig::new(0),
        workers: 1,
        spin: 0,
        seconds: 3600,
    };
    for option in options {
        let (name, value) = option.split_once('=').ok_or("option=value")?;
        let number: usize = value.parse()?;
        let config = &mut setup.config;
        match name {
            "version" if number == 3 => config.version = RingVersion::V3,
            "version" => config.version = RingVersion::V2,
            "workers" => setup.workers = value.parse()?,
            "rx_slots" => config.receive_slots = number,
            "rx_slot" => config.receive_slot_size = number,
            "large" => config.large_frames = number,
            "blocks" => config.blocks = number,
            "block" => config.block_size = number,
            "timeout" => config.block_timeout_ms = value.parse()?,
            "tx_slots" => config.transmit_slots = number,
            "tx_slot" => config.transmit_slot_size = number,
            "bypass" => config.qdisc_bypass = number != 0,
            "spin" => setup.spin = value.parse()?,
            "seconds" => setup.seconds = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(setup)
}

/// Gives the frame new addresses, unless it is not IP: ARP and the like stay here.
fn readdress(frame: &mut Frame<'_>, [destination, source]: &[Mac; 2]) -> bool {
    let Some(header) = frame.bytes_mut().first_chunk_mut::<14>() else {
        return false;
    };
    let [to @ .., _, _, _, _, _, _, t0, t1] = header;
    if !matches!((*t0, *t1), (0x08, 0) | (0x86, 0xdd)) || to[0] & 1 == 1 {
        return false;
    }
    let (to, rest) = header.split_at_mut(6);
    to.copy_from_slice(destination);
    rest.iter_mut()
        .zip(source)
        .for_each(|(to, from)| *to = *from);
    true
}

fn work(setup: &Setup) -> Result<(), Failure> {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let mut receivers = Vec::new();
    let mut senders = Vec::new();
    for (ifindex, group) in setup.interfaces.iter().zip(1..) {
        let fanout = Fanout {
            group,
            mode: FanoutMode::Hash,
        };
        let port = Port::open(&PortConfig {
            ifindex: *ifindex,
            fanout: (setup.workers > 1).then_some(fanout),
            ..setup.config.clone()
        })?;
        for concession in &port.concessions {
            eprintln!("interface {ifindex}: {concession}");
        }
        receivers.push(port.receiver);
        senders.push(port.sender);
    }
    if !REPORTED.swap(true, Ordering::Relaxed) {
        eprintln!("ready");
    }
    let end = Instant::now() + Duration::from_secs(setup.seconds);
    let (mut batches, mut waits, mut refused, mut empty) = (0_u64, 0_u64, 0_u64, 0);
    while Instant::now() < end {
        let mut idle = true;
        for (i, receiver) in receivers.iter_mut().enumerate() {
            let (Some(sender), Some(addresses)) =
                (senders.get_mut(1 - i), setup.addresses.get(1 - i))
            else {
                continue;
            };
            let seen = receiver.receive(MAX_BATCH, |frames| {
                for frame in frames {
                    if readdress(frame, addresses)
                        && sender.send(frame.bytes(), &frame.offload).is_err()
                    {
                        refused += 1;
                    }
                }
            });
            if seen.is_some() {
                batches += 1;
                idle = false;
                let _ = sender.flush();
            }
        }
        if !idle {
            empty = 0;
        } else if empty < setup.spin {
            empty += 1;
            std::hint::spin_loop();
        } else {
            empty = 0;
            waits += 1;
            wait(
                &receivers,
                &mut senders,
                None,
                Some(Duration::from_millis(200)),
            )?;
        }
    }
    eprintln!("batches {batches}, waits {waits}, refused {refused}");
    // Time on a CPU, which tells the cost of a frame also on a machine that does other things.
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let frames: u64 = senders
        .iter()
        .map(|sender| sender.statistics().frames)
        .sum();
    let nanoseconds = cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs();
    eprintln!(
        "{} ns of CPU for each of {frames} frames",
        nanoseconds / frames.max(1)
    );
    for receiver in &mut receivers {
        eprintln!("{:?}", receiver.statistics());
    }
    for sender in &senders {
        eprintln!("{:?}", sender.statistics());
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let setup = setup()?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..setup.workers)
            .map(|_| scope.spawn(|| work(&setup)))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok(())
    })
}
