//! The rings: memory shared with the kernel, as slots that are ours or its.
//!
//! Receive rings lend frames in place and take them back; the transmit ring takes copies. Nothing
//! here blocks, allocates after opening, or knows what a frame means.

mod layout;
mod receive_v2;
mod receive_v3;
mod transmit;

pub(crate) use receive_v2::RingV2;
pub(crate) use receive_v3::RingV3;
pub(crate) use transmit::TransmitRing;

use lvs_packet::Frame;
use smallvec::SmallVec;

use crate::sys::VNET_HEADER;

/// The most frames that a batch has.
pub const MAX_BATCH: usize = 64;

/// The frames of a batch, on the stack.
pub(crate) type Frames<'a> = SmallVec<[Frame<'a>; MAX_BATCH]>;

/// Why frames that reached a ring were not lent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refused {
    /// They exceeded what the ring can hold.
    pub(crate) truncated: u64,
    /// Their segmentation has no name.
    pub(crate) segmentation: u64,
    /// They were addressed to another station, or carried the tag of a VLAN that is not ours.
    pub(crate) other_station: u64,
}

/// Identifiers of VLANs.
#[derive(Debug)]
pub(crate) struct Vlans(Box<[u64; 64]>);

impl Default for Vlans {
    fn default() -> Self {
        Self(Box::new([0; 64]))
    }
}

impl Vlans {
    /// These and no others; numbers above 4095 are none.
    pub(crate) fn set(&mut self, ids: impl IntoIterator<Item = u16>) {
        self.0.fill(0);
        for id in ids {
            if let Some(word) = self.0.get_mut(usize::from(id / 64)) {
                *word |= 1 << (id % 64);
            }
        }
    }

    /// Whether the VLAN of a tag (its control information) is among them.
    #[inline]
    pub(crate) fn has(&self, tci: u16) -> bool {
        let id = tci & 0xfff;
        let word = self.0.get(usize::from(id / 64));
        word.is_some_and(|word| word >> (id % 64) & 1 != 0)
    }
}

/// Ethernet header, whose length the kernel puts between `tp_mac` and `tp_net`.
const ETHERNET: usize = 14;

/// Offset of a VLAN tag: behind both MAC addresses.
const VLAN_AT: usize = 12;
const VLAN_TAG: usize = 4;

/// `PACKET_RESERVE` that leaves `headroom` bytes between the headers (`header` bytes, the packet
/// header and the `sockaddr_ll`) and the frame, even if a VLAN tag is put back, and puts the virtio-net header at the start of a
/// cache line: it and the headers of most packets then share one.
fn reserve_for(header: usize, headroom: usize) -> usize {
    let wanted = headroom.clamp(64, 4096) + VLAN_TAG;
    // Where the kernel puts the frame without any reserve (tpacket_rcv): aligned to 16 behind room
    // for a link-layer header of 16, then the virtio-net header, less the Ethernet header.
    let plain = (header + 16).next_multiple_of(16) + VNET_HEADER - ETHERNET;
    let frame = (header + wanted).max(plain);
    let aligned = (frame - VNET_HEADER).next_multiple_of(64) + VNET_HEADER;
    aligned - plain
}

/// Puts back the VLAN tag that the kernel took out of a frame.
#[inline]
fn insert_vlan(frame: &mut Frame<'_>, tpid: u16, tci: u16) {
    if frame.open_gap(VLAN_AT, VLAN_TAG).is_err() {
        return;
    }
    let [t0, t1] = tpid.to_be_bytes();
    let [c0, c1] = tci.to_be_bytes();
    if let Some(tag) = frame.bytes_mut().get_mut(VLAN_AT..VLAN_AT + VLAN_TAG) {
        tag.copy_from_slice(&[t0, t1, c0, c1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_packet::Offload;

    #[test]
    fn the_reserve_leaves_the_headroom_and_aligns() {
        for header in [libc::TPACKET2_HDRLEN, libc::TPACKET3_HDRLEN] {
            for headroom in [0, 64, 65, 100, 128, 300] {
                let frame =
                    (header + 16).next_multiple_of(16) + 10 - 14 + reserve_for(header, headroom);
                assert!(frame >= header + headroom.max(64) + VLAN_TAG);
                assert_eq!((frame - VNET_HEADER) % 64, 0);
            }
        }
    }

    #[test]
    fn vlans_go_by_the_identifier_alone() {
        let mut vlans = Vlans::default();
        assert!((0..=u16::MAX).all(|tci| !vlans.has(tci)));
        vlans.set([0, 5, 64, 4095, 4096]);
        assert!(
            [0, 5, 0xa005, 64, 4095, 0x1000]
                .iter()
                .all(|tci| vlans.has(*tci))
        );
        assert!([4, 6, 63, 65].iter().all(|tci| !vlans.has(*tci)));
        vlans.set([6]);
        assert!(vlans.has(6) && !vlans.has(5));
    }

    #[test]
    fn a_tag_goes_behind_the_addresses() {
        let mut buffer = [0_u8; 32];
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = u8::try_from(i).unwrap();
        }
        let mut frame = Frame::new(&mut buffer, 8, 20, Offload::default());
        insert_vlan(&mut frame, 0x8100, 0x0123);
        let mut expected: Vec<u8> = (8..20).collect();
        expected.extend([0x81, 0, 0x01, 0x23]);
        expected.extend(20..28);
        assert_eq!(frame.bytes(), expected);
    }
}
