//! What a choice may depend on beside the backends: who asks, for what, and when.

use lvs_core::{Addr, Endpoint, Tick};

/// A new connection that wants a backend.
///
/// ```
/// use lvs_core::Tick;
/// use lvs_sched::Request;
/// let request = Request::new("198.51.100.1:40000".parse()?, "192.0.2.10:80".parse()?, Tick(0));
/// assert_eq!(request.src_port, 40000);
/// # Ok::<(), lvs_core::ParseEndpointError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client. For a packet quoted in an ICMP error (IPVS 1.6 "inverse") the address that the
    /// quoted packet goes to, since that is the client.
    pub src: Addr,
    /// The client's port; 0 unless the protocol is TCP, UDP or SCTP.
    pub src_port: u16,
    /// Where the packet goes: to the virtual address, or to any address with a firewall mark; one quoted in an
    /// ICMP error to the client, and `dh`, `lblc` and `lblcr` take it as it is.
    pub dst: Addr,
    /// The moment.
    pub now: Tick,
}

impl Request {
    /// A request of `src` to `dst`.
    #[must_use]
    pub const fn new(src: Endpoint, dst: Endpoint, now: Tick) -> Self {
        Self {
            src: src.addr,
            src_port: src.port,
            dst: dst.addr,
            now,
        }
    }
}
