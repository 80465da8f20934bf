//! Parsing takes any bytes: it never panics, and what it says lies inside of the frame.

use lvs_core::Family;
use lvs_packet::{
    Fragment, Frame, Kind, Offload, Packet, SegmentKind, Segmentation, checksum, fragment,
    neighbour, parse_quoted, parse_quoted_tunnel,
};

/// The first byte says whether the frame is segmented; the rest is the frame.
pub fn parse(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let segmentation = (how & 1 != 0).then_some(Segmentation {
        kind: SegmentKind::TcpV4,
        size: 1,
        header_len: 0,
        ecn: false,
    });
    let offload = Offload {
        checksum: None,
        segmentation,
    };
    let mut buffer = bytes.to_vec();
    let length = buffer.len();
    let frame = Frame::new(&mut buffer, 0, length, offload);
    let Ok(packet) = lvs_packet::parse(&frame) else {
        return;
    };
    let end = packet.end as usize;
    let order = [
        14,
        usize::from(packet.l3),
        usize::from(packet.l4),
        end,
        length,
    ];
    assert!(order.is_sorted(), "{packet:?}");
    if segmentation.is_none() {
        pieces_are_the_packet(&frame, &packet, 68 + u32::from(*how) * 8);
    }
    let _ = checksum::verify(&frame, &packet);
    let _ = neighbour::arp_request_target(&frame, &packet);
    let _ = neighbour::solicitation_target(&frame, &packet);
    let Ok(quoted) = parse_quoted(&frame, &packet) else {
        return;
    };
    assert_eq!(packet.kind, Kind::IcmpError);
    let inside = [packet.l4, quoted.l3, quoted.l4].map(usize::from);
    assert!(
        inside.is_sorted() && inside[2] <= quoted.end as usize,
        "{quoted:?}"
    );
    assert!(quoted.end <= packet.end);
    if let Ok(inner) = parse_quoted_tunnel(&frame, &quoted) {
        assert!(
            inner.l3 >= quoted.l4 && inner.end == quoted.end,
            "{inner:?}"
        );
    }
}

/// No piece is longer than allowed, and all payloads together are that of the packet.
fn pieces_are_the_packet(frame: &Frame<'_>, packet: &Packet, limit: u32) {
    let Ok(mut pieces) = fragment::cut(frame, packet, limit, 7) else {
        return;
    };
    let l3 = usize::from(packet.l3);
    let own = if packet.family == Family::V6 { 8 } else { 0 };
    let head = pieces.head_len();
    let mut scratch = vec![0; pieces.frame_len() + 8];
    let mut at = head;
    while let Ok(Some(piece)) = pieces.next_into(&mut scratch, 0) {
        assert!(piece.len() - l3 <= limit as usize, "{packet:?}");
        let payload = &piece.bytes()[head + own..];
        assert_eq!(payload, &frame.bytes()[at..at + payload.len()]);
        at += payload.len();
    }
    // A piece of IPv4 near the end of all offsets is the only one that cannot be cut to its end.
    assert!(at == packet.end as usize || packet.fragment == Fragment::Later);
}
