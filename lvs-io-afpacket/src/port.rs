//! One worker's window on one interface: a receiving and a sending half.

use crate::config::PortConfig;
use crate::error::{Concession, OpenError};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::socket::Link;

/// One worker's receive ring and transmit ring on one interface.
///
/// The halves are public, so that a batch that is lent by one can be sent by the other.
///
/// ```no_run
/// use lvs_io_afpacket::{Port, PortConfig};
/// let Port { mut receiver, mut sender, .. } = Port::open(&PortConfig::new(2))?;
/// receiver.receive(64, |frames| {
///     for frame in frames {
///         let _ = sender.send(frame.bytes(), &frame.offload);
///     }
/// });
/// let _ = sender.flush();
/// # Ok::<(), lvs_io_afpacket::OpenError>(())
/// ```
#[derive(Debug)]
pub struct Port {
    /// What comes in.
    pub receiver: Receiver,
    /// What goes out.
    pub sender: Sender,
    /// What the kernel did not give as asked for.
    pub concessions: Vec<Concession>,
}

impl Port {
    /// Opens both halves.
    ///
    /// # Errors
    /// [`OpenError`] says which privilege, interface, memory or kernel feature is missing.
    pub fn open(config: &PortConfig) -> Result<Self, OpenError> {
        let mut concessions = Vec::new();
        let receiver = Receiver::open(config, &mut concessions)?;
        let sender = Sender::open(config, &mut concessions)?;
        Ok(Self {
            receiver,
            sender,
            concessions,
        })
    }

    /// How the interface is. After [`Link::Gone`] open another port.
    #[must_use]
    pub fn link(&self) -> Link {
        self.receiver.link()
    }
}
