//! What the director asks of whoever knows the way: the I/O room's routes.

use lvs_core::Addr;

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next hop in the I/O room's own numbers; comes back in [`Verdict::Forward`](crate::Verdict).
    pub hop: u32,
    /// The longest IP packet that fits, in bytes.
    pub mtu: u32,
    /// The host's address on that side: source of tunnels and of errors.
    pub source: Addr,
}

/// What the routes say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Send it there.
    Forward(Route),
    /// It is an address of this host.
    Local,
    /// There is none.
    Unreachable,
}

/// Knows the way to an address. Called for most packets: an implementation answers from memory,
/// without a lock or a system call.
pub trait Routes {
    /// The way to `destination`.
    fn way(&mut self, destination: Addr) -> Way;

    /// The host's address on the side where the batch at hand came in, of the same family as
    /// `towards`: source of the errors that a router sends.
    fn arrival_address(&mut self, towards: Addr) -> Option<Addr>;

    /// Whether the host was given this very address, and does not only take what goes to it.
    fn has_address(&mut self, addr: Addr) -> bool {
        self.way(addr) == Way::Local
    }

    /// The name of the interface where the batch at hand came in, for the rules of marks; empty:
    /// not known.
    fn interface(&self) -> &str {
        ""
    }

    /// Whether the batch at hand comes from the host itself, and not from an interface.
    fn is_from_host(&self) -> bool {
        false
    }

    /// Whether the host takes a translated packet for an address of its own, and its answers come
    /// back through the director. Where they do not, NAT to the host itself is dropped.
    fn host_is_server(&self) -> bool {
        false
    }
}
