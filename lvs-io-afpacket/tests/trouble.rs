//! What happens when something is full, down, gone or not allowed?

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{in_namespace, ip, ipv4, layouts, near, open, pair, receive, segmented, until_link};
use lvs_core::DropReason;
use lvs_io_afpacket::{
    Fanout, FanoutMode, Link, OpenError, Port, PortConfig, Receiver, RingVersion, Sender, Waker,
    wait,
};

#[test]
fn a_full_ring_is_counted() {
    in_namespace(|| {
        let pair = pair();
        let config = PortConfig {
            receive_slots: 64,
            ..PortConfig::new(pair[1])
        };
        let [mut near, mut far] = open(pair, &config);
        let (bytes, offload) = ipv4(17, [1, 2], 40, None);
        for _ in 0..400 {
            near.sender.send(&bytes, &offload).unwrap();
        }
        near.sender.flush().unwrap();
        assert_eq!(receive(&mut far.receiver, 124).len(), 124);
        let statistics = far.receiver.statistics();
        assert_eq!(
            (statistics.kernel_frames, statistics.kernel_drops),
            (400, 276)
        );
        // Accumulated, and working again.
        near.sender.send(&bytes, &offload).unwrap();
        near.sender.flush().unwrap();
        assert_eq!(receive(&mut far.receiver, 1).len(), 1);
        let statistics = far.receiver.statistics();
        assert_eq!(
            (statistics.kernel_frames, statistics.kernel_drops),
            (401, 276)
        );
        assert_eq!(
            (statistics.frames, statistics.bytes),
            (125, 125 * bytes.len() as u64)
        );
    });
}

#[test]
fn full_blocks_are_counted() {
    in_namespace(|| {
        let pair = pair();
        let config = PortConfig {
            version: RingVersion::V3,
            blocks: 2,
            block_size: 128 << 10,
            ..PortConfig::new(pair[1])
        };
        let [mut near, mut far] = open(pair, &config);
        let (bytes, offload) = segmented(6, 60_000, 1448, None);
        for _ in 0..6 {
            near.sender.send(&bytes, &offload).unwrap();
        }
        let received = receive(&mut far.receiver, 4).len() as u64;
        let statistics = far.receiver.statistics();
        assert!(statistics.kernel_drops > 0 && statistics.kernel_freezes > 0);
        assert_eq!(received + statistics.kernel_drops, 6);
    });
}

#[test]
fn a_frame_that_fits_nowhere_is_counted_as_truncated() {
    in_namespace(|| {
        let pair = pair();
        let config = PortConfig {
            large_queue: 4096,
            ..PortConfig::new(pair[1])
        };
        let [mut near, mut far] = open(pair, &config);
        let (large, offload) = segmented(6, 60_000, 1448, None);
        for _ in 0..4 {
            near.sender.send(&large, &offload).unwrap();
        }
        let (small, offload) = ipv4(17, [1, 2], 40, None);
        near.sender.send(&small, &offload).unwrap();
        near.sender.flush().unwrap();
        let received = receive(&mut far.receiver, 2);
        assert_eq!(received[0].bytes, large);
        assert_eq!(received[1].bytes, small);
        assert_eq!(far.receiver.statistics().truncated, 3);
    });
}

#[test]
fn more_large_frames_than_buffers_take_several_batches() {
    in_namespace(|| {
        let pair = pair();
        let config = PortConfig {
            large_frames: 2,
            ..PortConfig::new(pair[1])
        };
        let [mut near, mut far] = open(pair, &config);
        let (large, offload) = segmented(6, 20_000, 1448, None);
        for _ in 0..7 {
            near.sender.send(&large, &offload).unwrap();
        }
        let received = receive(&mut far.receiver, 7);
        assert_eq!(received.len(), 7);
        assert!(received.iter().all(|frame| frame.bytes == large));
    });
}

/// Sends until something arrives: when a link comes back, the kernel takes up to a second to
/// connect the sending side to its queue again, and drops frames meanwhile.
fn until_passing(from: &mut Sender, to: &mut Receiver) {
    let (bytes, offload) = ipv4(17, [1, 2], 40, None);
    let end = Instant::now() + Duration::from_secs(5);
    while to.receive(64, |_| ()).is_none() {
        assert!(Instant::now() < end, "nothing arrives");
        from.send(&bytes, &offload).unwrap();
        let to = std::slice::from_ref(&*to);
        let from = std::slice::from_mut(from);
        wait(to, from, None, Some(Duration::from_millis(10))).unwrap();
    }
}

#[test]
fn an_interface_that_goes_down_is_reported_and_comes_back() {
    in_namespace(|| {
        let pair = pair();
        for config in layouts(pair[1]) {
            let [mut near, mut far] = open(pair, &config);
            let (bytes, offload) = ipv4(17, [1, 2], 40, None);
            assert_eq!(far.link(), Link::Up);
            ip("link set far down");
            let receivers = [far.receiver];
            let woken = wait(&receivers, &mut [], None, Some(Duration::from_secs(5))).unwrap();
            assert!(woken.trouble);
            until_link(&receivers[0], Link::Down);
            // Reported once, not for ever.
            let woken = wait(&receivers, &mut [], None, Some(Duration::from_millis(1))).unwrap();
            assert!(!woken.trouble);
            let [receiver] = receivers;
            far.receiver = receiver;

            far.sender.send(&bytes, &offload).unwrap();
            far.sender.send(&bytes, &offload).unwrap();
            assert_eq!(far.sender.flush(), Err(DropReason::InterfaceDown));
            assert_eq!(far.sender.statistics().interface_down, 2);
            let (large, large_offload) = segmented(6, 20_000, 1448, None);
            assert_eq!(
                far.sender.send(&large, &large_offload),
                Err(DropReason::InterfaceDown)
            );
            assert!(matches!(
                Port::open(&config),
                Err(OpenError::InterfaceDown { ifindex: 11 })
            ));

            ip("link set far up");
            until_link(&far.receiver, Link::Up);
            until_passing(&mut near.sender, &mut far.receiver);
            until_passing(&mut far.sender, &mut near.receiver);
        }
    });
}

#[test]
fn a_peer_that_is_down_does_not_make_frames_stale() {
    in_namespace(|| {
        let pair = pair();
        let [mut near, mut far] = open(pair, &PortConfig::new(pair[1]));
        let (bytes, offload) = ipv4(17, [1, 2], 40, None);
        ip("link set far down");
        for _ in 0..100 {
            near.sender.send(&bytes, &offload).unwrap();
            let _ = near.sender.flush();
        }
        assert!(near.sender.waiting() < 32, "{}", near.sender.waiting());
        ip("link set far up");
        until_link(&far.receiver, Link::Up);
        until_passing(&mut near.sender, &mut far.receiver);
    });
}

#[test]
fn an_interface_that_is_deleted_is_gone_even_if_the_number_returns() {
    in_namespace(|| {
        let numbers = pair();
        for config in layouts(numbers[1]) {
            let [near, mut far] = open(numbers, &config);
            ip("link del near");
            until_link(&far.receiver, Link::Gone);
            let (bytes, offload) = ipv4(17, [1, 2], 40, None);
            let _ = far.sender.send(&bytes, &offload);
            assert_eq!(far.sender.flush(), Err(DropReason::InterfaceDown));
            assert!(matches!(
                Port::open(&config),
                Err(OpenError::NoSuchInterface { ifindex: 11 })
            ));
            assert_eq!(pair(), numbers);
            assert_eq!(far.link(), Link::Gone);
            assert_eq!(near.link(), Link::Gone);
            let [mut near, mut far] = open(numbers, &config);
            near.sender.send(&bytes, &offload).unwrap();
            near.sender.flush().unwrap();
            assert_eq!(receive(&mut far.receiver, 1).len(), 1);
        }
    });
}

#[test]
fn a_fanout_group_splits_by_flow() {
    in_namespace(|| {
        let pair = pair();
        for config in layouts(pair[1]) {
            let shared = PortConfig {
                fanout: Some(Fanout {
                    group: 7,
                    mode: FanoutMode::Hash,
                }),
                ..config.clone()
            };
            let mut near = near(pair[0]);
            let mut members: Vec<_> = (0..3).map(|_| Port::open(&shared).unwrap()).collect();
            assert!(matches!(
                Port::open(&PortConfig {
                    fanout: Some(Fanout {
                        group: 7,
                        mode: FanoutMode::Cpu
                    }),
                    ..config
                }),
                Err(OpenError::Fanout { group: 7, .. })
            ));
            for round in 0..5 {
                for port in 0..60 {
                    let (bytes, offload) = ipv4(17, [1000 + port, 80], round * 10, None);
                    near.sender.send(&bytes, &offload).unwrap();
                }
            }
            near.sender.flush().unwrap();
            let end = Instant::now() + Duration::from_secs(5);
            let mut seen: HashMap<(u8, u8), (usize, usize)> = HashMap::new();
            let mut counts = [0; 3];
            while counts.iter().sum::<usize>() < 300 && Instant::now() < end {
                for (member, port) in members.iter_mut().enumerate() {
                    port.receiver.receive(64, |frames| {
                        for frame in frames {
                            let bytes = frame.bytes();
                            let flow = seen.entry((bytes[34], bytes[35])).or_insert((member, 0));
                            assert_eq!(flow.0, member, "a flow has two members");
                            flow.1 += 1;
                            counts[member] += 1;
                        }
                    });
                }
            }
            assert_eq!(seen.len(), 60);
            assert!(seen.values().all(|(_, frames)| *frames == 5));
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
            // What a member sends is not what the group hears.
            let (bytes, offload) = ipv4(17, [1, 2], 40, None);
            members[0].sender.send(&bytes, &offload).unwrap();
            members[0].sender.flush().unwrap();
            assert_eq!(receive(&mut near.receiver, 1).len(), 1);
            assert!(members.iter().all(|member| !member.receiver.is_ready()));
        }
    });
}

#[test]
fn frames_for_another_station_are_passed_over_unless_wanted() {
    in_namespace(|| {
        let pair = pair();
        ip("link set far promisc on");
        for mut config in layouts(pair[1]) {
            let [mut near, mut far] = open(pair, &config);
            config.other_stations = true;
            let mut all = Port::open(&config).unwrap();
            let (mut bytes, offload) = ipv4(17, [1, 2], 40, None);
            let (mut large, large_offload) = segmented(6, 20_000, 1448, None);
            for station in [2, 3, 2] {
                bytes[5] = station;
                large[5] = station;
                near.sender.send(&bytes, &offload).unwrap();
                near.sender.send(&large, &large_offload).unwrap();
            }
            near.sender.flush().unwrap();
            assert_eq!(receive(&mut all.receiver, 6).len(), 6);
            let received = receive(&mut far.receiver, 4);
            assert_eq!(received.len(), 4);
            assert!(received.iter().all(|frame| frame.bytes[5] == 2));
            assert_eq!(far.receiver.statistics().other_station, 2);
        }
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    in_namespace(|| {
        let say = |ifindex| {
            Port::open(&PortConfig::new(ifindex))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(say(77), "there is no interface with the number 77");
        assert_eq!(say(0), "there is no interface with the number 0");
        assert_eq!(say(1), "interface 1 is down");
        ip("tuntap add dev tunnel mode tun");
        ip("link set tunnel up");
        let number = rustix::net::netdevice::name_to_index(
            rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::DGRAM,
                None,
            )
            .unwrap(),
            "tunnel",
        )
        .unwrap();
        assert!(matches!(
            Port::open(&PortConfig::new(number)),
            Err(OpenError::NotEthernet {
                hardware: 0xfffe,
                ..
            })
        ));
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective
            .remove(rustix::thread::CapabilitySet::NET_RAW);
        rustix::thread::set_capabilities(None, sets).unwrap();
        assert_eq!(
            say(1),
            "not permitted to open a packet socket: CAP_NET_RAW is missing"
        );
    });
}

#[test]
fn waiting_ends_by_time_by_frames_and_by_a_waker() {
    in_namespace(|| {
        let pair = pair();
        for config in layouts(pair[1]) {
            let [mut near, far] = open(pair, &config);
            let receivers = [far.receiver];
            let waker = Waker::new().unwrap();
            let short = Some(Duration::from_millis(20));
            let start = Instant::now();
            let woken = wait(&receivers, &mut [], Some(&waker), short).unwrap();
            assert!(!woken.frames && !woken.wake && !woken.trouble);
            assert!(start.elapsed() >= Duration::from_millis(20));

            std::thread::scope(|scope| {
                scope.spawn(|| waker.wake());
                let woken = wait(&receivers, &mut [], Some(&waker), None).unwrap();
                assert!(woken.wake && !woken.frames);
            });
            // A waker is used up by one wait.
            let woken = wait(&receivers, &mut [], Some(&waker), short).unwrap();
            assert!(!woken.wake);

            let (bytes, offload) = ipv4(17, [1, 2], 40, None);
            near.sender.send(&bytes, &offload).unwrap();
            // Waiting flushes what is still to be sent, by which the frame comes.
            let mut senders = [near.sender];
            let end = Instant::now() + Duration::from_secs(5);
            while !wait(
                &receivers,
                &mut senders,
                Some(&waker),
                Some(Duration::from_secs(5)),
            )
            .unwrap()
            .frames
            {
                assert!(Instant::now() < end);
            }
            assert!(receivers[0].is_ready());
        }
    });
}
