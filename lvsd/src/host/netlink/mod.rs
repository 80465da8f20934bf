//! Netlink, as much of it as two kernel interfaces need: a socket and a way to write and read
//! messages.
//!
//! In: typed values from [`super::net`] and [`super::claim`]. Out: bytes to the kernel, attributes
//! from it. Never: knowledge of what a message means.
//!
//! One small codec serves rtnetlink and nfnetlink. Attributes that it does not know are stepped
//! over, so a newer kernel cannot make an answer unreadable.

mod message;
mod socket;

pub(crate) use message::{
    Attributes, Message, Messages, Writer, be_u64, native_u16, native_u32, octets,
};
pub(crate) use socket::{Received, Socket};

/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR`, set by the kernel in a dump during which the table changed.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
