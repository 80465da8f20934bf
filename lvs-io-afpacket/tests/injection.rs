//! Does the host's own stack get what is given back to it?

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{ADDRESSES, in_namespace, ip, ipv4, pair};
use lvs_io_afpacket::{Injector, LOOPBACK, OpenError};
use lvs_packet::{Frame, Offload};

fn inject(injector: &mut Injector, bytes: &[u8], offload: Offload) {
    let mut buffer = bytes.to_vec();
    let mut frame = Frame::new(&mut buffer, 0, bytes.len(), offload);
    injector.inject(&mut frame).unwrap();
    injector.flush().unwrap();
}

#[test]
fn a_datagram_reaches_a_socket_of_the_host_with_its_sender() {
    in_namespace(|| {
        assert!(matches!(
            Injector::open(),
            Err(OpenError::InterfaceDown { ifindex: LOOPBACK })
        ));
        ip("link set lo up");
        pair();
        ip("addr add 10.0.0.2/24 dev far");
        let socket = UdpSocket::bind("10.0.0.2:80").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut injector = Injector::open().unwrap();
        for (payload, vlan) in [(0, None), (40, Some(100)), (1400, None)] {
            let (bytes, offload) = ipv4(17, [1000, 80], payload, vlan);
            inject(&mut injector, &bytes, offload);
            let mut buffer = [0; 2000];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], bytes[bytes.len() - payload..]);
            assert_eq!(from.to_string(), "10.0.0.1:1000");
            assert_eq!(ADDRESSES[0], [10, 0, 0, 1]);
        }
        assert_eq!(injector.statistics().frames, 3);
    });
}

#[test]
fn the_loopback_of_the_host_is_not_disturbed() {
    in_namespace(|| {
        ip("link set lo up");
        let mut injector = Injector::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (bytes, offload) = ipv4(17, [1000, 80], 10, None);
        inject(&mut injector, &bytes, offload);
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    });
}
