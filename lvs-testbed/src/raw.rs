//! Frames as they are: a packet socket with the virtio-net header, VLAN tags, hardware addresses.
//!
//! In and out: whole Ethernet frames. Everything is opened on the interface of the calling thread's
//! namespace; use [`Namespace::run`](crate::Namespace::run).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{Error, Result};

/// The length of `struct virtio_net_hdr` as packet sockets use it.
pub const VNET_HEADER: usize = 10;

/// A packet socket on one interface; what the interface sends itself is not received.
#[derive(Debug)]
pub struct RawSocket {
    socket: Socket,
    vnet: bool,
}

impl RawSocket {
    /// Opens for every protocol, without virtio-net headers.
    ///
    /// # Errors
    ///
    /// No such interface, or no `CAP_NET_RAW`.
    pub fn open(interface: &str) -> Result<Self> {
        Self::open_with(interface, false)
    }

    /// Opens for every protocol; each frame is preceded by [`VNET_HEADER`] octets that say which
    /// checksum is still to be computed and into which segments it is to be cut.
    ///
    /// # Errors
    ///
    /// No such interface, or no `CAP_NET_RAW`.
    pub fn open_with_offloads(interface: &str) -> Result<Self> {
        Self::open_with(interface, true)
    }

    fn open_with(interface: &str, vnet: bool) -> Result<Self> {
        let doing = || format!("open a packet socket on {interface}");
        let all = libc::ETH_P_ALL;
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
            .map_err(Error::io(doing()))?;
        let index = rustix::net::netdevice::name_to_index(&socket, interface)
            .map_err(Error::errno(doing()))?;
        set_option(&socket, libc::PACKET_IGNORE_OUTGOING, 1).map_err(Error::io(doing()))?;
        if vnet {
            set_option(&socket, libc::PACKET_VNET_HDR, 1).map_err(Error::io(doing()))?;
        }
        // As large as the host allows; the default holds a few GSO frames only.
        let _ = socket.set_recv_buffer_size(8 << 20);
        let _ = socket.set_send_buffer_size(4 << 20);
        let address = link_address(index, u16::try_from(all).unwrap_or(3));
        socket.bind(&address).map_err(Error::io(doing()))?;
        Ok(Self { socket, vnet })
    }

    /// How long a receive waits; none for ever.
    ///
    /// # Errors
    ///
    /// What the system call says.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.socket
            .set_read_timeout(timeout)
            .map_err(Error::io("set a receive timeout"))
    }

    /// Receives only what a classic BPF program lets through.
    ///
    /// # Errors
    ///
    /// What the system call says.
    pub fn set_filter(&self, filter: &[socket2::SockFilter]) -> Result<()> {
        self.socket
            .attach_filter(filter)
            .map_err(Error::io("attach a filter"))
    }

    /// The next frame: its virtio-net header, if opened so, and its length in `buffer`. A tag that
    /// the kernel stripped is not put back.
    ///
    /// # Errors
    ///
    /// `WouldBlock` after the timeout, and what the system call says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<([u8; VNET_HEADER], usize)> {
        let mut header = [0; VNET_HEADER];
        let read = if self.vnet {
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            rustix::io::readv(&self.socket, &mut parts)?.saturating_sub(VNET_HEADER)
        } else {
            rustix::io::read(&self.socket, buffer)?
        };
        Ok((header, read))
    }

    /// Sends one frame; `header` counts only when opened with offloads.
    ///
    /// # Errors
    ///
    /// What the system call says: the interface is down, the frame too long.
    pub fn send(&self, header: &[u8; VNET_HEADER], frame: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(header), IoSlice::new(frame)];
        let parts = if self.vnet { &parts[..] } else { &parts[1..] };
        rustix::io::writev(&self.socket, parts)?;
        Ok(())
    }

    /// Leaves the queueing discipline out when sending.
    ///
    /// # Errors
    ///
    /// What the system call says.
    pub fn bypass_qdisc(&self) -> Result<()> {
        set_option(&self.socket, libc::PACKET_QDISC_BYPASS, 1)
            .map_err(Error::io("bypass the queueing discipline"))
    }

    /// Whether a VLAN tag stood in the next frame, and which: tag protocol and tag control.
    ///
    /// The kernel takes the outer tag out of received frames and tells it apart; this receives with
    /// that information.
    ///
    /// # Errors
    ///
    /// `WouldBlock` after the timeout, and what the system call says.
    pub fn receive_tagged(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<(u16, u16)>)> {
        set_option(&self.socket, libc::PACKET_AUXDATA, 1)?;
        recvmsg_tagged(&self.socket, buffer)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Puts a VLAN tag behind the Ethernet addresses of `frame`.
///
/// ```
/// let frame = [&[0; 12][..], &[0x08, 0x00, 1, 2]].concat();
/// let tagged = lvs_testbed::raw::tag(&frame, 0x8100, 5);
/// assert_eq!(tagged[12..], [0x81, 0x00, 0, 5, 0x08, 0x00, 1, 2]);
/// ```
#[must_use]
pub fn tag(frame: &[u8], protocol: u16, control: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    let [p, c] = [protocol.to_be_bytes(), control.to_be_bytes()];
    [addresses, &p, &c, rest].concat()
}

/// An IP and a UDP header with finished checksums around `payload`: the packet without Ethernet.
///
/// Both addresses are of one family. A payload that no packet can carry is cut at 65,000 octets.
///
/// ```
/// let from = "10.0.0.1:5000".parse().unwrap();
/// let packet = lvs_testbed::raw::udp_packet(from, "10.0.0.2:9".parse().unwrap(), b"hello");
/// assert_eq!(packet.len(), 20 + 8 + 5);
/// ```
#[must_use]
pub fn udp_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..65_000).unwrap_or(payload);
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let addresses = [octets(from), octets(to)].concat();
    let ports = [from.port(), to.port(), length].map(u16::to_be_bytes);
    let [ports, length_octets] = [ports.as_flattened(), &length.to_be_bytes()];
    let checksum = checksum(&[&addresses, &[0, 17], length_octets, ports, payload]);
    // Zero stands for no checksum (RFC 768).
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    let udp = [ports, &checksum.to_be_bytes(), payload].concat();
    let header = if from.is_ipv6() {
        let [high, low] = length.to_be_bytes();
        [&[0x60, 0, 0, 0, high, low, 17, 64], &addresses[..]].concat()
    } else {
        let [high, low] = (20 + length).to_be_bytes();
        let fixed = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17];
        let checksum = self::checksum(&[&fixed, &addresses]);
        [&fixed[..], &checksum.to_be_bytes(), &addresses].concat()
    };
    [header, udp].concat()
}

/// The Internet checksum (RFC 1071) of parts that, but for the last, have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let total: u32 = words
        .map(|word| match word {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high, ..] => u32::from(*high) << 8,
            [] => 0,
        })
        .sum();
    let folded = (total & 0xffff) + (total >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

pub(crate) fn hardware_address(interface: &str) -> io::Result<[u8; 6]> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.as_bytes()) {
        *to = from.cast_signed();
    }
    let fd = socket.as_raw_fd();
    // SAFETY: the request is an `ifreq` with a terminated name, which is what SIOCGIFHWADDR reads
    // and writes.
    let answer = unsafe { libc::ioctl(fd, libc::SIOCGIFHWADDR as _, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just filled this member of the union.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address.sa_data) {
        *to = from.cast_unsigned();
    }
    Ok(mac)
}

fn link_address(index: u32, protocol: u16) -> SockAddr {
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: a link-layer address fits into the storage and every value of it is valid.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(17);
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index.cast_signed();
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(20);
    // SAFETY: the storage holds a link-layer address of that length.
    unsafe { SockAddr::new(storage, length) }
}

fn set_option(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = u32::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    let (fd, value) = (socket.as_raw_fd(), (&raw const value).cast());
    // SAFETY: the value is an int that lives until the call returns, and its length is given.
    let answer = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, value, length) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn recvmsg_tagged(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<(u16, u16)>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = [0_u64; 16];
    // SAFETY: all zeros is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message names one buffer and one control area, both alive and of these lengths.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(read) = usize::try_from(read) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel has filled the control area that the message names.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: either null or the first complete header of that area.
    let Some(header) = (unsafe { first.as_ref() }) else {
        return Ok((read, None));
    };
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return Ok((read, None));
    }
    // SAFETY: `first` is a complete header, and its data follow it.
    let data = unsafe { libc::CMSG_DATA(first) }.cast::<libc::tpacket_auxdata>();
    // SAFETY: a header of this level and type is followed by this structure, perhaps unaligned.
    let aux = unsafe { data.read_unaligned() };
    let tagged = aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Ok((read, tagged.then_some((aux.tp_vlan_tpid, aux.tp_vlan_tci))))
}
