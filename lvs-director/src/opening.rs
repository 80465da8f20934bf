//! The straight way for the packet that opens a connection: a plain SYN of TCP or datagram of UDP to a
//! service that asks for nothing but a scheduler's choice.
//!
//! In: a plain frame of no connection. Out: its verdict, with the connection made as its first packet
//! leaves it; or nothing: then nothing was done, and [`Decider::decide`] decides as if this file did
//! not exist. As with [`Decider::straight`] the outcome is the same either way, and the same test
//! holds the two to each other.
//!
//! What keeps off this way: marks, persistence, one-packet scheduling, helpers, what looks at more
//! than the service (defence against floods, `nat_icmp_send`, expected connections), a TTL that ends
//! here. Where the choice has been made and sending on is not plain, the general way goes on from there.

use crate::begin::{Asked, Begun, server_of};
use crate::decide::Decider;
use crate::route::{Routes, Way};
use crate::rules::{FTP_DATA, Service};
use crate::verdict::Verdict;
use lvs_conn::protocol::TcpEvent;
use lvs_conn::{Event, NewConnection};
use lvs_core::{DropReason, Endpoint, Flow, ForwardMethod, Protocol};
use lvs_packet::swift::{Headers, HeadersV4, HeadersV6};
use lvs_packet::{Frame, Packet, Plain, TcpFlags};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How far a plain frame was brought that belongs to no connection.
pub(crate) enum Opened<'g> {
    /// Nothing was done.
    No,
    /// On its way to this next hop.
    Sent(u32),
    /// The choice has been made, and nothing else.
    Chosen(&'g Arc<Service>, Result<Begun<'g>, DropReason>),
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Opens a connection by a plain frame that belongs to none, if that is all there is to do.
    #[inline(always)]
    pub(crate) fn open(&mut self, frame: &mut Frame<'_>, plain: Plain, flow: &Flow) -> Opened<'g> {
        if frame.offload.segmentation.is_some() {
            return Opened::No;
        }
        let summed = frame.offload.checksum.is_none();
        let opened = match plain {
            Plain::Tcp4 => HeadersV4::<true>::of(frame).map(|one| self.open_by(one, summed, flow)),
            Plain::Udp4 => HeadersV4::<false>::of(frame).map(|one| self.open_by(one, summed, flow)),
            Plain::Tcp6 => HeadersV6::<true>::of(frame).map(|one| self.open_by(one, summed, flow)),
            Plain::Udp6 => HeadersV6::<false>::of(frame).map(|one| self.open_by(one, summed, flow)),
        };
        opened.unwrap_or(Opened::No)
    }

    /// Whether a packet is of a connection that this batch has made.
    #[cold]
    #[inline(never)]
    fn is_fresh(&self, flow: &Flow) -> bool {
        self.guard.lookup(flow).is_some()
    }

    /// The general way of a packet from where the choice has been made.
    pub(crate) fn go_on_with(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        flow: &Flow,
        (service, begun): (&'g Arc<Service>, Result<Begun<'g>, DropReason>),
    ) -> Verdict {
        let asked = Asked {
            service,
            flow: *flow,
            towards: flow.dst.addr,
            mark: 0,
        };
        // What the packet has made of the connection, it makes of it once more: the same.
        self.go_on(frame, packet, &asked, begun)
    }

    /// Once for each family and protocol. `summed`: the checksum is whole.
    #[inline(never)]
    fn open_by<H: Headers>(&mut self, mut headers: H, summed: bool, flow: &Flow) -> Opened<'g> {
        let (protocol, event) = match H::TCP {
            true => (Protocol::Tcp, Event::Tcp(TcpEvent::Syn)),
            false => (Protocol::Udp, Event::Udp),
        };
        let flags = headers.tcp_flags().0 & (TcpFlags::SYN | TcpFlags::RST).0;
        if H::TCP && flags != TcpFlags::SYN.0 {
            return Opened::No;
        }
        let asks_for_more = self.is_watchful
            || self.waiting.load(Relaxed) != 0
            || flow.src.port == FTP_DATA
            || flow.src.addr == flow.dst.addr
            || (self.helped.may_have(flow.dst.port) && self.is_helped(flow.dst.port));
        if asks_for_more
            || headers.ttl() <= 1
            || headers.is_from_loopback()
            || (self.fresh.may_have(flow) && self.is_fresh(flow))
        {
            return Opened::No;
        }
        let Some(service) = self.service_for(protocol, &flow.dst) else {
            return Opened::No;
        };
        if service.persistence.is_some()
            || service.one_packet
            || service.is_elsewhere(flow.dst.port)
        {
            return Opened::No;
        }
        let destination = match self.pick(service, flow, flow.dst.addr) {
            Ok(destination) => destination,
            Err(reason) => return Opened::Chosen(service, Err(reason)),
        };
        let method = destination.spec.method;
        let server = server_of(destination, service, flow.dst.port);
        let first = self.timeouts.first(protocol, method, event);
        if method == ForwardMethod::FullNat {
            let asked = Asked {
                service,
                flow: *flow,
                towards: flow.dst.addr,
                mark: 0,
            };
            let begun = self.connect(&asked, destination, server, None, Some(first));
            return Opened::Chosen(service, begun);
        }
        let begun = self.enter(
            &NewConnection {
                protocol,
                client: flow.src,
                virtual_endpoint: flow.dst,
                destination: server,
                method,
                dest: destination.id,
                first: Some(first),
                now: self.now,
                ..NewConnection::default()
            },
            destination,
        );
        let Ok(Begun::Connection(conn, _)) = begun else {
            return Opened::Chosen(service, begun);
        };
        let length = headers.ip_len();
        match self.routes.way(server.addr) {
            Way::Forward(route)
                if length <= route.mtu && send_first(&mut headers, summed, (server, method)) =>
            {
                if let Some(counters) = destination.counters.of(self.worker) {
                    counters.packet_in(length);
                }
                conn.count_in_packet();
                Opened::Sent(route.hop)
            }
            _ => Opened::Chosen(service, begun),
        }
    }
}

/// Sends a first packet on to its server; whether that was done.
#[inline(always)]
fn send_first<H: Headers>(
    headers: &mut H,
    summed: bool,
    (server, method): (Endpoint, ForwardMethod),
) -> bool {
    match method {
        ForwardMethod::DirectRoute => {
            headers.pass();
            true
        }
        ForwardMethod::Masquerade => summed && headers.send_to(server),
        _ => false,
    }
}
