//! TTL and hop limit: one less per director (IPVS 3.1).
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, parse, ttl};
//! let mut buffer = [0; 128];
//! let ip = build::Ip { ttl: 33, ..build::Ip::new("10.1.0.5".parse()?, "10.0.0.1".parse()?) };
//! let length = build::udp(&mut buffer, &ip, 1, 2, b"hello").unwrap();
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! ttl::decrement(&mut frame, &packet);
//! assert_eq!(parse(&frame).unwrap().ttl, 32);
//! # Ok::<(), core::net::AddrParseError>(())
//! ```

use crate::bytes::{array_mut, set};
use crate::checksum;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::parse::{IPV4_LEN, IPV6_LEN};
use lvs_core::Family;

/// Takes 1 from the TTL or hop limit and keeps the IPv4 header checksum true. 0 stays 0; it is the
/// caller who refuses to forward a packet whose last one it was.
#[inline]
pub fn decrement(frame: &mut Frame<'_>, packet: &Packet) {
    if !packet.is_ip() {
        return;
    }
    let at = packet.ip();
    match packet.family {
        Family::V4 => {
            let Some(header) = array_mut::<IPV4_LEN>(frame.bytes_mut(), at) else {
                return;
            };
            let [_, _, _, _, _, _, _, _, ttl, protocol, c0, c1, ..] = *header;
            let Some(ttl) = ttl.checked_sub(1) else {
                return;
            };
            let checksum = u16::from_be_bytes([c0, c1]);
            let [c0, c1] = checksum::update(checksum, 0x0100, 0).to_be_bytes();
            set(header, 8, [ttl, protocol, c0, c1]);
        }
        Family::V6 => {
            if let Some([_, _, _, _, _, _, _, limit, ..]) =
                array_mut::<IPV6_LEN>(frame.bytes_mut(), at)
            {
                *limit = limit.saturating_sub(1);
            }
        }
    }
}
