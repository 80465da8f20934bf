//! Offloads of an interface, on or off, by the ethtool ioctl.

use std::io;
use std::os::fd::AsRawFd;

use crate::{Error, Namespace, Result};

/// What an interface can be asked to leave to the other end, or to do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Checksums of what is sent stay to be computed by the receiver.
    TxChecksum,
    /// Scatter-gather; segmentation needs it.
    ScatterGather,
    /// TCP segments larger than the MTU are handed over whole.
    Tso,
    /// The same in software, for what TSO does not cover.
    Gso,
    /// Received segments are joined.
    Gro,
}

impl Offload {
    /// The `ETHTOOL_S*` command of `linux/ethtool.h`.
    const fn command(self) -> u32 {
        match self {
            Self::TxChecksum => 0x17,
            Self::ScatterGather => 0x19,
            Self::Tso => 0x1f,
            Self::Gso => 0x24,
            Self::Gro => 0x2c,
        }
    }
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Namespace {
    /// Switches one offload of `interface`.
    ///
    /// # Errors
    ///
    /// When there is no such interface or the driver refuses.
    pub fn set_offload(&self, interface: &str, offload: Offload, on: bool) -> Result<()> {
        self.run(|| set(interface, offload, on))?
            .map_err(Error::io(format!("set {offload:?}={on} of {interface}")))
    }

    /// Switches segmentation of every kind, and checksums when `on` is false, so that every frame
    /// on the wire is one that a network card could send.
    ///
    /// # Errors
    ///
    /// As [`Namespace::set_offload`].
    pub fn set_offloads(&self, interface: &str, on: bool) -> Result<()> {
        for offload in [
            Offload::TxChecksum,
            Offload::ScatterGather,
            Offload::Tso,
            Offload::Gso,
        ] {
            self.set_offload(interface, offload, on)?;
        }
        Ok(())
    }
}

fn set(interface: &str, offload: Offload, on: bool) -> io::Result<()> {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut value = Value {
        command: offload.command(),
        data: u32::from(on),
    };
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names an `ethtool_value`, which is what these commands read and write,
    // and both live until the call returns.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
