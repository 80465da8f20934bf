//! UOA: the client's address in an option of IPv4, for a UDP server behind FULLNAT.
//!
//! ```text
//!   option 31 · length 8 · client's port · client's IPv4 address      in network order
//! ```
//!
//! As the kernel modules for servers of such sites read it: an IPv4 option, first among them. IPv6 has
//! no such option. What comes in is a parsed frame, what goes out the frame grown by the option; UDP's
//! own checksum does not cover it. A packet without room is left as it is, and said to be.
//!
//! ```
//! use lvs_core::Endpoint;
//! use lvs_packet::{Frame, Offload, build, checksum, parse, uoa};
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("198.51.100.7".parse()?, "192.0.2.10".parse()?);
//! let length = build::udp(&mut buffer[32..], &ip, 5000, 53, b"query")?;
//! let mut frame = Frame::new(&mut buffer, 32, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! let client: Endpoint = "198.51.100.7:5000".parse()?;
//! uoa::insert(&mut frame, &packet, client, 1500).unwrap();
//! let packet = parse(&frame).unwrap(); // the header's checksum is true
//! assert_eq!(uoa::read(&frame, &packet), Some(client));
//! assert_eq!(checksum::verify(&frame, &packet), Some(true));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array, set, set_u16, u8_at, u16_at};
use crate::checksum;
use crate::frame::Frame;
use crate::packet::{Fragment, Kind, Packet};
use crate::parse::IPV4_LEN;
use crate::toa::NoRoom;
use lvs_core::{Addr, Endpoint, Family};

/// The option's number.
pub const OPTION: u8 = 31;
/// Its length.
pub const LENGTH: u8 = 8;

const ADDED: usize = LENGTH as usize;
/// The longest IPv4 header.
const IPV4_MAX: usize = 60;
const CHECKSUM: usize = 10;

/// Puts the client's endpoint into an IPv4 packet of UDP, and answers what the packet is now.
///
/// # Errors
/// [`NoRoom`]; the frame is unchanged. Also for what is no whole UDP packet over IPv4, and for a frame
/// that stands for several.
pub fn insert(
    frame: &mut Frame<'_>,
    packet: &Packet,
    client: Endpoint,
    mtu: u32,
) -> Result<Packet, NoRoom> {
    let fits = packet.kind == Kind::Udp
        && packet.family == Family::V4
        && client.addr.is_v4()
        && packet.fragment == Fragment::None
        && frame.offload.segmentation.is_none()
        && packet.ip_len() + u32::from(LENGTH) <= mtu
        && packet.transport() - packet.ip() + ADDED <= IPV4_MAX;
    if !fits {
        return Err(NoRoom);
    }
    let at = packet.ip();
    frame.open_gap(at + IPV4_LEN, ADDED).map_err(|_| NoRoom)?;
    let packet = Packet {
        l4: packet.l4 + u16::from(LENGTH),
        end: packet.end + u32::from(LENGTH),
        ..*packet
    };
    let Some(header) = frame.bytes_mut().get_mut(at..packet.transport()) else {
        return Ok(packet);
    };
    let words = u8_at(header, 0).unwrap_or_default();
    set(header, 0, [words + LENGTH / 4]);
    let length = u16_at(header, 2).unwrap_or_default();
    set_u16(header, 2, length.wrapping_add(u16::from(LENGTH)));
    set(header, IPV4_LEN, [OPTION, LENGTH]);
    set_u16(header, IPV4_LEN + 2, client.port);
    set(header, IPV4_LEN + 4, client.addr.v4_octets());
    set_u16(header, CHECKSUM, 0);
    let sum = checksum::full(header);
    set_u16(header, CHECKSUM, sum);
    Ok(packet)
}

/// The client that a packet names, if the option is the first: what a server reads.
#[must_use]
pub fn read(frame: &Frame<'_>, packet: &Packet) -> Option<Endpoint> {
    if packet.family != Family::V4 || !packet.is_ip() {
        return None;
    }
    let header = frame.bytes().get(packet.ip()..packet.transport())?;
    let [OPTION, LENGTH] = *array::<2>(header, IPV4_LEN)? else {
        return None;
    };
    let addr = Addr::from_v4_octets(*array(header, IPV4_LEN + 4)?);
    Some(Endpoint::new(addr, u16_at(header, IPV4_LEN + 2)?))
}
