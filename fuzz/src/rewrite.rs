//! Every rewriter takes any frame that parses: it never panics, the frame still parses, and a
//! checksum that was true stays true.

use arbitrary::{Arbitrary, Unstructured};
use lvs_core::{Addr, DropReason, Endpoint, TunnelChecksum, TunnelKind};
use lvs_packet::answer::{self, IcmpProblem};
use lvs_packet::{
    Frame, Kind, Offload, Packet, PartialChecksum, SegmentKind, Segmentation, checksum, ethernet,
    icmp, nat, neighbour, parse, parse_quoted, parse_quoted_tunnel, segment, ttl, tunnel,
};

const HEADROOM: usize = 128;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    rewriter: u8,
    /// Where the checksum is to be finished, if anywhere.
    partial: Option<(u16, u16)>,
    /// Kind and size of a segmented frame.
    segmented: Option<(u8, u16)>,
    v4: u32,
    v6: (u64, u64),
    port: u16,
    options: (u16, bool, u16),
    /// Whether a wrong IPv4 header checksum is put right, so that more comes through.
    repair: bool,
    bytes: &'a [u8],
}

impl Input<'_> {
    fn offload(&self) -> Offload {
        Offload {
            checksum: self
                .partial
                .map(|(start, offset)| PartialChecksum { start, offset }),
            segmentation: self.segmented.map(|(kind, size)| Segmentation {
                kind: match kind % 3 {
                    0 => SegmentKind::TcpV4,
                    1 => SegmentKind::TcpV6,
                    _ => SegmentKind::Udp,
                },
                size,
                header_len: 0,
                ecn: false,
            }),
        }
    }

    /// An endpoint of this packet's family.
    fn endpoint(&self, packet: &Packet) -> Endpoint {
        let (hi, lo) = self.v6;
        let addr = match packet.flow.src.addr.is_v4() {
            true => Addr::from_v4_bits(self.v4),
            // Neither mapped nor a group.
            false => Addr {
                hi: hi & !(0xff << 56) | 0xfd << 56,
                lo,
            },
        };
        Endpoint::new(addr, self.port)
    }

    fn tunnel(&self) -> TunnelKind {
        let checksum = match self.options.0 % 3 {
            0 => TunnelChecksum::None,
            1 => TunnelChecksum::Full,
            _ => TunnelChecksum::Remote,
        };
        match self.options.2 % 3 {
            0 => TunnelKind::Ipip,
            1 => TunnelKind::Gre { checksum },
            _ => TunnelKind::Gue {
                port: 6080,
                checksum,
            },
        }
    }
}

/// Puts the checksum of an untagged IPv4 header right.
fn repair(bytes: &mut [u8]) {
    if bytes.get(12..14) != Some(&[8, 0]) {
        return;
    }
    let length = bytes
        .get(14)
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    if let Some(header) = bytes.get_mut(14..14 + length)
        && let Some(field) = header.get_mut(10..12)
    {
        field.fill(0);
        let sum = checksum::full(header).to_be_bytes();
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum);
        }
    }
}

fn apply(input: &Input<'_>, frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    let other = input.endpoint(packet);
    let mac = [2; 6];
    let problem = match input.port % 4 {
        0 => IcmpProblem::PortUnreachable,
        1 => IcmpProblem::HostUnreachable,
        2 => IcmpProblem::TimeExceeded,
        _ => IcmpProblem::TooBig { mtu: input.v4 },
    };
    match input.rewriter % 15 {
        0 => nat::rewrite_destination(frame, packet, other),
        1 => nat::rewrite_source(frame, packet, other),
        2 => ttl::decrement(frame, packet),
        3 => {
            let quoted = parse_quoted(frame, packet)?;
            icmp::translate_to_server(frame, packet, &quoted, other)?;
        }
        4 => {
            let quoted = parse_quoted(frame, packet)?;
            icmp::translate_to_client(frame, packet, &quoted, other)?;
        }
        5 => answer::icmp_error(frame, packet, problem, other.addr)?,
        6 => {
            let quoted = parse_quoted(frame, packet)?;
            let inner = parse_quoted_tunnel(frame, &quoted)?;
            let source = match inner.flow.src.addr.is_v4() {
                true => Addr::from_v4_bits(input.v4),
                false => inner.flow.dst.addr,
            };
            answer::relay_error(frame, packet, &inner, problem, source)?;
        }
        7 => answer::tcp_reset(frame, packet)?,
        8 => answer::echo_reply(frame, packet)?,
        9 => neighbour::answer_arp(frame, packet, mac)?,
        10 => neighbour::answer_solicitation(frame, packet, mac)?,
        11 => ethernet::insert_vlan(frame, 0x8100, input.port)?,
        12 => checksum::finish_partial(frame)?,
        13 => {
            ethernet::set_addresses(frame, mac, mac);
            ethernet::swap_addresses(frame);
        }
        _ => {
            let (ident, copy_df, source_port) = input.options;
            let options = tunnel::Options {
                ident,
                copy_df,
                source_port,
            };
            let (from, to) = match input.port & 1 {
                0 => (other.addr, other.addr),
                _ => ("10.2.0.254".parse().unwrap(), "10.2.0.1".parse().unwrap()),
            };
            tunnel::encapsulate(frame, packet, input.tunnel(), from, to, &options)?;
        }
    }
    Ok(())
}

/// Rewrites whatever parses.
pub fn rewrite(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut buffer = vec![0; HEADROOM];
    buffer.extend(input.bytes);
    if input.repair {
        repair(buffer.get_mut(HEADROOM..).unwrap_or_default());
    }
    let offload = input.offload();
    let mut frame = Frame::new(&mut buffer, HEADROOM, input.bytes.len(), offload);
    let Ok(packet) = parse(&frame) else {
        return;
    };
    let before = checksum::verify(&frame, &packet);
    if offload.segmentation.is_some() && input.rewriter & 1 != 0 {
        cut(&frame, &packet);
    }
    if apply(&input, &mut frame, &packet).is_err() {
        return;
    }
    // What stays for the hardware may have been nonsense before.
    if offload != Offload::default() {
        return;
    }
    let new = input.endpoint(&packet);
    if matches!(input.rewriter % 15, 0 | 1 | 3 | 4 | 14) && !new.addr.is_unicast() {
        // Not what a parser lets through.
        return;
    }
    let Ok(after) = parse(&frame) else {
        panic!("{packet:?} became {:02x?}", frame.bytes());
    };
    if before == Some(true) {
        assert_ne!(
            checksum::verify(&frame, &after),
            Some(false),
            "{packet:?} became {after:?}"
        );
    }
}

/// The packets of a segmented frame.
fn cut(frame: &Frame<'_>, packet: &Packet) {
    let Ok(mut segments) = segment::segments(frame, packet) else {
        return;
    };
    let mut scratch = vec![0; HEADROOM + segments.frame_len()];
    let mut left = segments.len();
    // A packet of its own is checked as such; that of a routing header or so is the parser's.
    let mut checked = 0;
    while let Ok(Some(piece)) = segments.next_into(&mut scratch, HEADROOM) {
        left -= 1;
        let parsed = parse(&piece).unwrap();
        assert!(matches!(parsed.kind, Kind::Tcp | Kind::Udp));
        assert!(parsed.fragment.is_whole());
        assert_ne!(checksum::verify(&piece, &parsed), Some(false));
        checked += 1;
        if checked > 64 {
            return;
        }
    }
    assert!(left == 0 || packet.ip_len() > 0xffff);
}
