//! Packets for a director in memory, whose every packet has to be forwarded.

use lvs_core::{Addr, Endpoint, Tick};
use lvs_director::{Route, Routes, Verdict, Way, Worker};
use lvs_packet::{Frame, Offload, TcpFlags, build};

/// Every host is on the one way there is.
struct Everywhere;

impl Routes for Everywhere {
    fn way(&mut self, destination: Addr) -> Way {
        let source = if destination.is_v4() {
            "10.2.0.254"
        } else {
            "fd02::fe"
        };
        Way::Forward(Route {
            hop: 1,
            mtu: 1500,
            source: source.parse().unwrap(),
        })
    }

    fn arrival_address(&mut self, _: Addr) -> Option<Addr> {
        None
    }
}

/// Gives a worker a frame, which it has to forward.
pub(crate) fn send(worker: &mut Worker, now: Tick, frame: &[u8]) {
    let mut buffer = [0; 2048];
    let place = buffer.get_mut(64..64 + frame.len()).unwrap();
    place.copy_from_slice(frame);
    let mut frames = [Frame::new(&mut buffer, 64, frame.len(), Offload::default())];
    let mut verdicts = [Verdict::Pass];
    worker.process(now, &mut Everywhere, &mut frames, &mut verdicts);
    assert!(matches!(verdicts, [Verdict::Forward(_)]), "{verdicts:?}");
}

/// A TCP segment.
pub(crate) fn tcp(from: Endpoint, to: Endpoint, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let header = build::Tcp {
        flags,
        ..build::Tcp::syn(from.port, to.port)
    };
    let mut frame = vec![0; 128 + payload.len()];
    let ip = build::Ip::new(from.addr, to.addr);
    let len = build::tcp(&mut frame, &ip, &header, payload).unwrap();
    frame.truncate(len);
    frame
}

/// A UDP datagram.
pub(crate) fn udp(from: Endpoint, to: Endpoint, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 128 + payload.len()];
    let ip = build::Ip::new(from.addr, to.addr);
    let len = build::udp(&mut frame, &ip, from.port, to.port, payload).unwrap();
    frame.truncate(len);
    frame
}
