//! ICMP errors about packets of a NAT connection, translated in both directions (IPVS 3.6).
//!
//! The ICMP checksum is verified before, and computed anew after; so is the header checksum of a
//! quoted IPv4 packet. Quoted transport checksums stay. The TTL of the error is not touched.
//!
//! ```
//! use lvs_packet::{Frame, Offload, build, icmp, parse, parse_quoted};
//! // A reply from the VIP was too big for a router outside, which tells the VIP.
//! let mut reply = [0; 64];
//! let ip = build::Ip::new("10.0.0.1".parse()?, "10.1.0.5".parse()?);
//! let length = build::udp(&mut reply, &ip, 80, 40001, b"reply")?;
//! let mut buffer = [0; 128];
//! let ip = build::Ip::new("10.1.0.254".parse()?, "10.0.0.1".parse()?);
//! let length = build::icmp(&mut buffer, &ip, (3, 4), 1400, &reply[14..length])?;
//! let mut frame = Frame::new(&mut buffer, 0, length, Offload::default());
//! let packet = parse(&frame).unwrap();
//! let quoted = parse_quoted(&frame, &packet).unwrap();
//! assert_eq!(quoted.mtu(), Some(1400));
//! // It was the server who sent it.
//! let server = "10.2.0.1:8080".parse()?;
//! icmp::translate_to_server(&mut frame, &packet, &quoted, server).unwrap();
//! let packet = parse(&frame).unwrap();
//! assert_eq!(parse_quoted(&frame, &packet).unwrap().flow.src, server);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::bytes::{array_mut, set, set_u16};
use crate::checksum;
use crate::frame::Frame;
use crate::nat::{self, End};
use crate::packet::{Kind, Packet};
use crate::parse::Quoted;
use lvs_core::{DropReason, Endpoint, Family};

/// An error that someone outside sent about a reply: it goes to the `server` (address and port of
/// the connection's destination), whose packet it then seems to quote.
///
/// # Errors
/// [`DropReason::BadIcmpChecksum`]; [`DropReason::BadFragment`] if this is a piece of an error;
/// [`DropReason::BadIcmpQuote`] if `quoted` is not what this frame quotes, or of the server's
/// other family. The frame is unchanged.
pub fn translate_to_server(
    frame: &mut Frame<'_>,
    packet: &Packet,
    quoted: &Quoted,
    server: Endpoint,
) -> Result<(), DropReason> {
    check(frame, packet, quoted, server)?;
    nat::rewrite_destination(frame, packet, Endpoint::new(server.addr, 0));
    rewrite_quoted(frame, quoted, server, End::Source);
    finish(frame, packet, server, packet.flow.src);
    Ok(())
}

/// An error that a server or a router on its side sent about a request: to the client it comes
/// from the `vip` (address and port of the service) and quotes what the client sent.
///
/// # Errors
/// As [`translate_to_server`].
pub fn translate_to_client(
    frame: &mut Frame<'_>,
    packet: &Packet,
    quoted: &Quoted,
    vip: Endpoint,
) -> Result<(), DropReason> {
    check(frame, packet, quoted, vip)?;
    nat::rewrite_source(frame, packet, Endpoint::new(vip.addr, 0));
    rewrite_quoted(frame, quoted, vip, End::Destination);
    finish(frame, packet, vip, packet.flow.dst);
    Ok(())
}

pub(crate) fn check(
    frame: &mut Frame<'_>,
    packet: &Packet,
    quoted: &Quoted,
    new: Endpoint,
) -> Result<(), DropReason> {
    let family = packet.family;
    if packet.kind != Kind::IcmpError || new.addr.family() != family || quoted.family != family {
        return Err(DropReason::BadIcmpQuote);
    }
    if !packet.fragment.is_whole() {
        return Err(DropReason::BadFragment);
    }
    if frame.offload.checksum.is_none() && checksum::verify(frame, packet) != Some(true) {
        return Err(DropReason::BadIcmpChecksum);
    }
    Ok(())
}

/// The quoted packet gets another end.
pub(crate) fn rewrite_quoted(frame: &mut Frame<'_>, quoted: &Quoted, new: Endpoint, end: End) {
    let l3 = usize::from(quoted.l3);
    let l4 = usize::from(quoted.l4);
    let bytes = frame.bytes_mut();
    match quoted.family {
        Family::V4 => {
            set(bytes, l3 + end.v4_address(), new.addr.v4_octets());
            let Some(header) = bytes.get_mut(l3..l4) else {
                return;
            };
            set_u16(header, 10, 0);
            let checksum = checksum::full(header);
            set_u16(header, 10, checksum);
        }
        Family::V6 => set(bytes, l3 + end.v6_address(), new.addr.v6_octets()),
    }
    if quoted.has_ports {
        set_u16(bytes, l4 + end.port(), new.port);
    }
}

/// The ICMP checksum over what is there now; of the two ends of the error only one has changed.
pub(crate) fn finish(frame: &mut Frame<'_>, packet: &Packet, new: Endpoint, other: Endpoint) {
    frame.offload.checksum = None;
    let (at, tail) = (packet.transport(), packet.tail());
    let Some(message) = frame.bytes_mut().get_mut(at..tail) else {
        return;
    };
    if let Some([_, _, c0, c1]) = array_mut(message, 0) {
        [*c0, *c1] = [0, 0];
    }
    let checksum = match packet.family {
        Family::V4 => checksum::full(message),
        // Which of the two is the source does not matter to a sum.
        Family::V6 => checksum::transport(new.addr, other.addr, packet.protocol, message),
    };
    set_u16(message, 2, checksum);
}
