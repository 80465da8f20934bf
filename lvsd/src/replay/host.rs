//! What the host around a director makes of a packet that the director leaves to it: a Linux that
//! routes, on which nothing listens.
//!
//! In: a frame that was passed. Out: what became of it; the frame is rewritten to fit that.
//! Never: anything about connections or services.

use super::site::{NextHop, Site};
use lvs_core::{Addr, DropReason, Family};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::options::{self, Recorded, Refused};
use lvs_packet::{Fragment, Frame, Kind, Packet, TcpFlags, checksum, ttl};

/// IGMP and PIM (IPv4), nothing at all (IPv6), UDP-Lite: a Linux says nothing of what it has and nobody asked
/// for.
const SILENT: [&[u8]; 2] = [&[2, 103, 136], &[59, 136]];
/// IPIP, IPv6 in IPv4, GRE: a Linux that has these, but no such tunnel, says "port unreachable" of
/// those over IPv4.
const TUNNELS: [u8; 3] = [4, 41, 47];

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The host keeps it, or drops it, and says nothing.
    Nothing,
    /// It has become the host's answer to its sender.
    Answer,
    /// It was forwarded as by any router.
    Forward(NextHop),
}

/// Gives a packet to the host.
pub(crate) fn handle(site: &Site, side: usize, frame: &mut Frame<'_>, packet: &Packet) -> Outcome {
    let destination = packet.flow.dst.addr;
    if !packet.is_ip() || !destination.is_unicast() {
        return Outcome::Nothing;
    }
    // IPv4 takes nothing from others that is from an address of its own.
    if packet.family == Family::V4 && site.is_local(packet.flow.src.addr) {
        return Outcome::Nothing;
    }
    let local = site.is_local(destination);
    let mut recorded = Recorded::default();
    if options::may_be_in(packet) {
        let arrived = site.address(side, packet.flow.src.addr);
        let own = if local { Some(destination) } else { arrived };
        let own = own.unwrap_or(destination);
        let is_own = |addr| site.is_local(addr);
        match options::receive(frame, packet, own, 0, is_own) {
            Ok(written) => recorded = written,
            Err(Refused::Silently) => return Outcome::Nothing,
            Err(Refused::Problem { code, pointer }) => {
                let problem = IcmpProblem::BadOption { code, pointer };
                return match answer::icmp_error(frame, packet, problem, own) {
                    Ok(()) => Outcome::Answer,
                    Err(_) => Outcome::Nothing,
                };
            }
        }
    }
    if local {
        // IPv6 says nothing from an address that is only routed to the host.
        let from = match packet.family {
            Family::V6 if !site.has(destination) => site.address(side, packet.flow.src.addr),
            _ => Some(destination),
        };
        return match stack(frame, packet, from.unwrap_or(destination)) {
            Ok(true) => Outcome::Answer,
            Ok(false) | Err(_) => Outcome::Nothing,
        };
    }
    let outcome = forward(site, side, frame, packet);
    if let Outcome::Forward(hop) = outcome {
        if let Some(own) = site.address(hop.side, packet.flow.src.addr) {
            options::leave_from(frame, packet, recorded, own);
        }
        options::seal(frame, packet);
    }
    outcome
}

/// Ordinary forwarding.
fn forward(site: &Site, side: usize, frame: &mut Frame<'_>, packet: &Packet) -> Outcome {
    /// "Network unreachable" (RFC 792), which a host without a route says; IPv6's "no route".
    const NO_ROUTE: IcmpProblem = IcmpProblem::Relayed {
        icmp_type: 3,
        icmp_code: 0,
        icmp_info: 0,
    };
    let Some(hop) = site.leg(packet.flow.dst.addr) else {
        let problem = match packet.family {
            Family::V4 => NO_ROUTE,
            Family::V6 => IcmpProblem::HostUnreachable,
        };
        return refuse(site, side, frame, packet, problem);
    };
    if packet.ttl <= 1 {
        return refuse(site, side, frame, packet, IcmpProblem::TimeExceeded);
    }
    let mtu = site.mtu(hop.side);
    if packet.dont_fragment && packet.ip_len() > mtu {
        return refuse(site, side, frame, packet, IcmpProblem::TooBig { mtu });
    }
    ttl::decrement(frame, packet);
    Outcome::Forward(hop)
}

/// Says to the sender that the packet goes no further, from the address where it came in.
fn refuse(
    site: &Site,
    side: usize,
    frame: &mut Frame<'_>,
    packet: &Packet,
    problem: IcmpProblem,
) -> Outcome {
    let from = site.address(side, packet.flow.src.addr);
    let told = from.map(|from| answer::icmp_error(frame, packet, problem, from));
    match told {
        Some(Ok(())) => Outcome::Answer,
        _ => Outcome::Nothing,
    }
}

/// What the host's stack makes of a packet for itself: true if the frame has become its answer.
/// `from`: who says so, if it is an ICMP error.
///
/// # Errors
/// What may not be answered.
pub(crate) fn stack(
    frame: &mut Frame<'_>,
    packet: &Packet,
    from: Addr,
) -> Result<bool, DropReason> {
    if packet.fragment != Fragment::None {
        return Ok(false);
    }
    let is_checked = matches!(packet.kind, Kind::Tcp | Kind::Udp);
    if is_checked && checksum::verify(frame, packet) == Some(false) {
        return Ok(false);
    }
    match packet.kind {
        Kind::Tcp if packet.tcp_flags.contains(TcpFlags::RST) => return Ok(false),
        Kind::Tcp => answer::tcp_reset(frame, packet)?,
        Kind::Udp => answer::icmp_error(frame, packet, IcmpProblem::PortUnreachable, from)?,
        Kind::OtherIp if is_silent(packet) => return Ok(false),
        Kind::OtherIp if packet.family == Family::V4 && TUNNELS.contains(&packet.protocol) => {
            answer::icmp_error(frame, packet, IcmpProblem::PortUnreachable, from)?;
        }
        Kind::Sctp | Kind::OtherIp => {
            answer::icmp_error(frame, packet, unknown_protocol(frame, packet), from)?;
        }
        Kind::IcmpEchoRequest => answer::echo_reply(frame, packet)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Whether a packet's protocol is one that nobody answers.
fn is_silent(packet: &Packet) -> bool {
    let [v4, v6] = SILENT;
    let silent = match packet.family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    silent.contains(&packet.protocol)
}

/// "Protocol unreachable" (RFC 792), as where a kernel has no SCTP; IPv6 says "unrecognized next
/// header" (RFC 4443, 3.4), and where that is said.
fn unknown_protocol(frame: &Frame<'_>, packet: &Packet) -> IcmpProblem {
    let (icmp_type, icmp_code, icmp_info) = match packet.family {
        Family::V4 => (3, 2, 0),
        Family::V6 => (4, 1, last_next_header(frame, packet)),
    };
    IcmpProblem::Relayed {
        icmp_type,
        icmp_code,
        icmp_info,
    }
}

/// Where in an IPv6 packet the number of its transport protocol stands (RFC 8200, 4): in the fixed
/// header, or at the start of the last extension header.
fn last_next_header(frame: &Frame<'_>, packet: &Packet) -> u32 {
    const IN_FIXED: usize = 6;
    const FIXED: usize = 40;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    let l3 = usize::from(packet.l3);
    let header = frame.bytes().get(l3..).unwrap_or_default();
    let transport = usize::from(packet.l4) - l3;
    let byte = |at: usize| header.get(at).copied().unwrap_or_default();
    let (mut field, mut at) = (IN_FIXED, FIXED);
    while at < transport {
        let units = usize::from(byte(at + 1));
        let length = match byte(field) {
            FRAGMENT => 8,
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        field = at;
        at += length;
    }
    u32::try_from(field).unwrap_or(u32::MAX)
}
