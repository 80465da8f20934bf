//! Claims in network namespaces of their own: frames come in by a link, and what the host's stack
//! does with them is observed from outside.

mod lifetime;
mod packets;
mod traffic;
