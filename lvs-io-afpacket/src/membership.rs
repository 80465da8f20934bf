//! Listening to a group on an interface.
//!
//! In: a group's Ethernet address. Out: frames to it reach all packet sockets of the interface, for
//! as long as the membership lives. A NIC filters groups that nobody has asked for, among them the
//! one to which neighbour solicitations for an address are sent.

use crate::error::OpenError;
use crate::socket::Socket;

/// A membership in an Ethernet group (packet(7), `PACKET_ADD_MEMBERSHIP`); dropping it leaves the
/// group.
///
/// ```no_run
/// use lvs_io_afpacket::Membership;
/// let solicitations = Membership::join(2, [0x33, 0x33, 0xff, 0, 0, 0x10])?;
/// # drop(solicitations);
/// # Ok::<(), lvs_io_afpacket::OpenError>(())
/// ```
#[derive(Debug)]
pub struct Membership {
    _socket: Socket,
}

impl Membership {
    /// Joins a group on the interface `ifindex`.
    ///
    /// # Errors
    /// [`OpenError`]: no right to packet sockets, or no such interface.
    pub fn join(ifindex: u32, group: [u8; 6]) -> Result<Self, OpenError> {
        let socket = Socket::new(ifindex)?;
        let mut address = [0; 8];
        for (to, octet) in address.iter_mut().zip(group) {
            *to = octet;
        }
        let request = libc::packet_mreq {
            mr_ifindex: ifindex.cast_signed(),
            #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: address,
        };
        socket.need(
            "PACKET_ADD_MEMBERSHIP",
            libc::PACKET_ADD_MEMBERSHIP,
            &request,
        )?;
        Ok(Self { _socket: socket })
    }
}
