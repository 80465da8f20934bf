//! Does a frame arrive as it was sent: its bytes, its offload, its tag, its room?

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Copied, in_namespace, ip, ipv4, layouts, open, pair, receive, segmented, without_hint,
};
use lvs_core::DropReason;
use lvs_io_afpacket::{MAX_BATCH, Port, PortConfig};
use lvs_packet::{Offload, SegmentKind, Segmentation};

/// Sends all frames from one end to the other, and expects them whole and in order.
fn passes(config: &PortConfig, pair: [u32; 2], frames: &[(Vec<u8>, Offload)]) -> Vec<Copied> {
    let [mut near, mut far] = open(pair, config);
    assert!(far.concessions.is_empty(), "{:?}", far.concessions);
    assert_eq!(far.receiver.version(), config.version);
    for (bytes, offload) in frames {
        near.sender.send(bytes, offload).unwrap();
    }
    near.sender.flush().unwrap();
    let received = receive(&mut far.receiver, frames.len());
    assert_eq!(received.len(), frames.len(), "{config:?}");
    for (got, (bytes, offload)) in received.iter().zip(frames) {
        assert!(
            got.bytes == *bytes,
            "{} of {} bytes differ",
            got.bytes.len(),
            bytes.len()
        );
        assert_eq!(without_hint(got.offload), *offload);
        assert!(got.headroom >= config.headroom);
    }
    received
}

#[test]
fn frames_of_all_sizes_arrive_whole_and_in_order() {
    in_namespace(|| {
        let pair = pair();
        ip("link set near mtu 65535");
        ip("link set far mtu 65535");
        let sizes = [0, 18, 64, 500, 1472, 1990, 2100, 4000, 9000, 30_000, 65_000];
        let frames: Vec<_> = sizes
            .into_iter()
            .cycle()
            .take(44)
            .zip(1..)
            .map(|(size, port)| ipv4(17, [port, 80], size, None))
            .collect();
        for config in layouts(pair[1]) {
            passes(&config, pair, &frames);
        }
    });
}

#[test]
fn segmented_frames_pass_whole() {
    in_namespace(|| {
        let pair = pair();
        let mut frames = Vec::new();
        for payload in [1_500, 2_896, 10_000, 40_000, 65_450] {
            frames.push(segmented(6, payload, 1448, None));
        }
        frames.push(segmented(17, 14_000, 1400, None));
        let (bytes, mut offload) = segmented(6, 5_000, 1000, None);
        if let Some(segmentation) = &mut offload.segmentation {
            segmentation.ecn = true;
        }
        frames.push((bytes, offload));
        for config in layouts(pair[1]) {
            passes(&config, pair, &frames);
        }
    });
}

#[test]
fn an_interface_that_does_not_segment_gets_packets() {
    in_namespace(|| {
        let pair = pair();
        ip("link set near gso_max_size 8000");
        for bypass in [false, true] {
            let mut far = Port::open(&PortConfig::new(pair[1])).unwrap();
            let mut near = Port::open(&PortConfig {
                qdisc_bypass: bypass,
                ..PortConfig::new(pair[0])
            })
            .unwrap();
            assert_eq!(near.sender.bypasses(), bypass);
            let (small, offload) = ipv4(17, [1, 2], 10, None);
            near.sender.send(&small, &offload).unwrap();
            let (large, large_offload) = segmented(6, 20_000, 1000, None);
            near.sender.send(&large, &large_offload).unwrap();
            near.sender.send(&small, &offload).unwrap();
            near.sender.flush().unwrap();
            let received = receive(&mut far.receiver, 22);
            let payload: Vec<u8> = received[1..21]
                .iter()
                .flat_map(|frame| frame.bytes[54..].to_vec())
                .collect();
            assert!(payload == large[54..]);
            assert_eq!(received[0].bytes, small);
            assert_eq!(received[21].bytes, small);
            assert!(!near.sender.bypasses());
        }
    });
}

#[test]
fn a_finished_checksum_stays_finished() {
    in_namespace(|| {
        let pair = pair();
        let (bytes, _) = ipv4(17, [1, 2], 100, None);
        for config in layouts(pair[1]) {
            passes(&config, pair, &[(bytes.clone(), Offload::default())]);
        }
    });
}

#[test]
fn a_vlan_tag_survives() {
    in_namespace(|| {
        let pair = pair();
        let frames = [
            ipv4(17, [1, 2], 40, Some(0x2064)),
            ipv4(6, [1, 2], 40, None),
            segmented(6, 40_000, 1400, Some(100)),
        ];
        for config in layouts(pair[1]) {
            passes(&config, pair, &frames);
        }
    });
}

#[test]
fn a_vlan_with_an_interface_of_its_own_is_passed_over() {
    in_namespace(|| {
        let pair = pair();
        let tagged = |id| ipv4(17, [1, 2], 40, Some(id));
        for config in layouts(pair[1]) {
            let [mut near, mut far] = open(pair, &config);
            far.receiver.pass_over([100, 300]);
            for (bytes, offload) in [
                tagged(0x2000 | 100),
                tagged(200),
                tagged(300),
                ipv4(17, [1, 2], 40, None),
            ] {
                near.sender.send(&bytes, &offload).unwrap();
            }
            near.sender.flush().unwrap();
            let received = receive(&mut far.receiver, 2);
            assert_eq!(received[0].bytes, tagged(200).0);
            assert_eq!(received[1].bytes, ipv4(17, [1, 2], 40, None).0);
            assert_eq!(far.receiver.statistics().other_station, 2);
        }
    });
}

#[test]
fn more_headroom_is_given_when_asked_for() {
    in_namespace(|| {
        let pair = pair();
        for mut config in layouts(pair[1]) {
            config.headroom = 300;
            passes(
                &config,
                pair,
                &[ipv4(17, [1, 2], 40, None), segmented(6, 40_000, 1400, None)],
            );
        }
    });
}

#[test]
fn frames_are_changed_in_place_and_sent_on() {
    in_namespace(|| {
        let pair = pair();
        for config in layouts(pair[1]) {
            let [mut near, far] = open(pair, &config);
            let Port {
                mut receiver,
                mut sender,
                ..
            } = far;
            let (bytes, offload) = ipv4(17, [1, 2], 40, None);
            for _ in 0..100 {
                near.sender.send(&bytes, &offload).unwrap();
            }
            near.sender.flush().unwrap();
            let mut seen = 0;
            let end = Instant::now() + Duration::from_secs(5);
            while seen < 100 {
                assert!(
                    Instant::now() < end,
                    "{seen} frames: {:?}",
                    receiver.statistics()
                );
                let batch = receiver.receive(MAX_BATCH, |frames| {
                    assert!(frames.len() <= MAX_BATCH);
                    for frame in &mut *frames {
                        frame.open_gap(14, 40).unwrap();
                        frame.bytes_mut()[14..54].fill(0xab);
                        sender.send(frame.bytes(), &frame.offload).unwrap();
                    }
                    frames.len()
                });
                sender.flush().unwrap();
                seen += batch.unwrap_or_default();
            }
            let back = receive(&mut near.receiver, 100);
            assert_eq!(back.len(), 100);
            for frame in back {
                assert_eq!(frame.bytes[..14], bytes[..14]);
                assert_eq!(frame.bytes[14..54], [0xab; 40]);
                assert_eq!(frame.bytes[54..], bytes[14..]);
                assert_eq!(frame.offload.checksum.unwrap().start, 74);
            }
        }
    });
}

#[test]
fn a_ring_goes_round_many_times() {
    in_namespace(|| {
        let pair = pair();
        for mut config in layouts(pair[1]) {
            config.receive_slots = 64;
            config.blocks = 2;
            let [mut near, mut far] = open(pair, &config);
            for round in 0..40_u16 {
                let frames: Vec<_> = (0..50)
                    .map(|i| match i % 25 {
                        0 => segmented(6, 30_000, 1448, None),
                        _ => ipv4(17, [round, i], 30, None),
                    })
                    .collect();
                for (bytes, offload) in &frames {
                    near.sender.send(bytes, offload).unwrap();
                }
                near.sender.flush().unwrap();
                let received = receive(&mut far.receiver, 50);
                let received: Vec<_> = received.into_iter().map(|frame| frame.bytes).collect();
                let sent: Vec<_> = frames.into_iter().map(|(bytes, _)| bytes).collect();
                assert!(received == sent, "round {round}");
            }
            let statistics = far.receiver.statistics();
            assert_eq!(statistics.frames, 2000);
            assert_eq!(statistics.kernel_frames, 2000);
            assert_eq!(statistics.kernel_drops, 0);
            assert_eq!(near.sender.statistics().frames, 2000);
            assert_eq!(near.sender.statistics().large, 80);
        }
    });
}

#[test]
fn a_malformed_frame_costs_only_itself() {
    in_namespace(|| {
        let pair = pair();
        let [mut near, mut far] = open(pair, &PortConfig::new(pair[1]));
        let (bytes, offload) = ipv4(17, [1, 2], 40, None);
        let nonsense = Offload {
            segmentation: Some(Segmentation {
                kind: SegmentKind::TcpV6,
                size: 0,
                header_len: 0,
                ecn: false,
            }),
            checksum: None,
        };
        for good in [true, false, false, true, true, false] {
            let offload = if good { offload } else { nonsense };
            near.sender.send(&bytes, &offload).unwrap();
        }
        near.sender.flush().unwrap();
        near.sender.send(&bytes, &nonsense).unwrap();
        near.sender.flush().unwrap();
        assert_eq!(near.sender.statistics().malformed, 4);
        assert_eq!(near.sender.waiting(), 0);
        // The ring is in order afterwards.
        for _ in 0..400 {
            near.sender.send(&bytes, &offload).unwrap();
        }
        near.sender.flush().unwrap();
        assert_eq!(receive(&mut far.receiver, 403).len(), 403);

        let (large, _) = segmented(6, 40_000, 1448, None);
        assert_eq!(
            near.sender.send(&large, &nonsense),
            Err(DropReason::TransmitFailed)
        );
        assert_eq!(
            near.sender.send(&bytes[..13], &offload),
            Err(DropReason::TransmitFailed)
        );
    });
}
