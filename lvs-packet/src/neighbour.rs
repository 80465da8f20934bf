//! Who has this address? Answers to ARP requests and neighbour solicitations, in place.
//!
//! ```
//! use lvs_packet::{Frame, Offload, neighbour, parse};
//! let mut buffer = [0; 42];
//! buffer[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
//! buffer[28..32].copy_from_slice(&[192, 0, 2, 1]);
//! buffer[38..42].copy_from_slice(&[192, 0, 2, 10]);
//! let mut frame = Frame::new(&mut buffer, 0, 42, Offload::default());
//! let packet = parse(&frame).unwrap();
//! assert_eq!(neighbour::arp_request_target(&frame, &packet), "192.0.2.10".parse().ok());
//! neighbour::answer_arp(&mut frame, &packet, [2, 0, 0, 0, 0, 1]).unwrap();
//! assert_eq!(frame.bytes()[20..22], [0, 2]);
//! ```

use crate::bytes::{array, array_mut, set, set_u16};
use crate::checksum;
use crate::ethernet;
use crate::frame::{Frame, Offload};
use crate::packet::{Kind, Packet};
use crate::parse::{ARP_LEN, IPV6_LEN, number};
use lvs_core::{Addr, DropReason};

/// `ff02::1`: all nodes of the link.
const ALL_NODES: Addr = Addr {
    hi: 0xff02 << 48,
    lo: 1,
};
/// Where a solicitation, and an advertisement, have the target.
const TARGET: usize = 8;
const SOLICITATION_LEN: usize = 24;
const LINK_ADDRESS_LEN: usize = 8;
const ADVERTISEMENT: u8 = 136;
/// The answer is to one who asked; it replaces what he knew.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Whose link-layer address an ARP request asks for; `None` if `packet` is none.
#[must_use]
pub fn arp_request_target(frame: &Frame<'_>, packet: &Packet) -> Option<Addr> {
    if packet.kind != Kind::ArpRequest {
        return None;
    }
    let target = array(frame.bytes(), packet.ip() + 24)?;
    Some(Addr::from_v4_octets(*target))
}

/// Answers an ARP request: the address asked for is at `mac` (RFC 826).
///
/// # Errors
/// [`DropReason::BadVersion`] if `packet` is no ARP request. The frame is unchanged.
pub fn answer_arp(frame: &mut Frame<'_>, packet: &Packet, mac: [u8; 6]) -> Result<(), DropReason> {
    if packet.kind != Kind::ArpRequest {
        return Err(DropReason::BadVersion);
    }
    let at = packet.ip();
    let arp: &mut [u8; ARP_LEN] = array_mut(frame.bytes_mut(), at).ok_or(DropReason::Truncated)?;
    let asking: [u8; 10] = *array(arp, 8).ok_or(DropReason::Truncated)?;
    let target: [u8; 4] = *array(arp, 24).ok_or(DropReason::Truncated)?;
    set(arp, 6, [0, 2]);
    set(arp, 8, mac);
    set(arp, 14, target);
    set(arp, 18, asking);
    let [m0, m1, m2, m3, m4, m5, ..] = asking;
    ethernet::set_addresses(frame, [m0, m1, m2, m3, m4, m5], mac);
    Ok(())
}

/// Whose link-layer address a neighbour solicitation asks for; `None` if `packet` is none, or none
/// that may be answered (RFC 4861, 7.1.1: hop limit 255, code 0, a true checksum, a unicast target).
#[must_use]
pub fn solicitation_target(frame: &Frame<'_>, packet: &Packet) -> Option<Addr> {
    if packet.kind != Kind::NeighbourSolicitation || packet.ttl != 255 {
        return None;
    }
    let message = frame.bytes().get(packet.transport()..packet.tail())?;
    let header: &[u8; SOLICITATION_LEN] = message.first_chunk()?;
    let target = Addr::from_v6_octets(*array(header, TARGET)?);
    let [_, code, ..] = header;
    if *code != 0 || !target.is_unicast() || checksum::verify(frame, packet) == Some(false) {
        return None;
    }
    Some(target)
}

/// Answers a neighbour solicitation: the target is at `mac`. One who has no address yet and wants
/// to know whether it is taken is answered to all nodes (RFC 4861, 7.2.4).
///
/// # Errors
/// [`DropReason::BadAddress`] if [`solicitation_target`] finds none,
/// [`DropReason::NoHeadroom`] if the frame has no room for the answer. The frame is unchanged.
pub fn answer_solicitation(
    frame: &mut Frame<'_>,
    packet: &Packet,
    mac: [u8; 6],
) -> Result<(), DropReason> {
    let target = solicitation_target(frame, packet).ok_or(DropReason::BadAddress)?;
    let (asking, flags) = match packet.flow.src.addr {
        Addr::UNSPECIFIED => (ALL_NODES, OVERRIDE),
        asking => (asking, SOLICITED | OVERRIDE),
    };
    let to = match asking {
        ALL_NODES => [0x33, 0x33, 0, 0, 0, 1],
        _ => ethernet::source(frame).ok_or(DropReason::Truncated)?,
    };
    let l3 = packet.ip();
    let needed = l3 + IPV6_LEN + SOLICITATION_LEN + LINK_ADDRESS_LEN;
    if let Some(missing) = needed.checked_sub(frame.len()) {
        frame.open_gap(l3, missing)?;
    }
    frame.set_len(needed)?;
    frame.offload = Offload::default();
    ethernet::set_addresses(frame, to, mac);
    let Some((header, message)) = frame
        .bytes_mut()
        .get_mut(l3..)
        .and_then(|rest| rest.split_at_mut_checked(IPV6_LEN))
    else {
        return Err(DropReason::Truncated);
    };
    set(header, 0, [0x60, 0, 0, 0, 0, 32, number::ICMPV6, 255]);
    set(header, 8, target.v6_octets());
    set(header, 24, asking.v6_octets());
    set(message, 0, [ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
    set(message, TARGET, target.v6_octets());
    // The target's link-layer address, one unit of eight bytes.
    set(message, SOLICITATION_LEN, [2, 1]);
    set(message, SOLICITATION_LEN + 2, mac);
    let checksum = checksum::transport(target, asking, number::ICMPV6, message);
    set_u16(message, 2, checksum);
    Ok(())
}
