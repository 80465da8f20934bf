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
use crate::rules::FTP_DATA;
use crate::settings::Setting;
use crate::verdict::Verdict;
use lvs_conn::protocol::TcpEvent;
use lvs_conn::{Conn, Event};
use lvs_core::{Endpoint, Flow, ForwardMethod};
use lvs_packet::swift::{Headers, HeadersV4, HeadersV6};
use lvs_packet::{Frame, Plain, TcpFlags};
use std::sync::atomic::Ordering::Relaxed;

/// What a plain frame says beside its flow.
struct Seen {
    length: u32,
    ttl: u8,
    flags: TcpFlags,
    loopback: bool,
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Opens a connection by a plain frame that belongs to none, if that is all there is to do.
    #[inline(never)]
    pub(crate) fn open(
        &mut self,
        frame: &mut Frame<'_>,
        plain: Plain,
        flow: &Flow,
    ) -> Option<Verdict> {
        let seen = look(frame, plain)?;
        let event = match plain {
            Plain::Tcp4 | Plain::Tcp6 => {
                if seen.flags.0 & (TcpFlags::SYN | TcpFlags::RST).0 != TcpFlags::SYN.0 {
                    return None;
                }
                Event::Tcp(TcpEvent::Syn)
            }
            Plain::Udp4 | Plain::Udp6 => Event::Udp,
        };
        let asks_for_more = self.rules.has_marks()
            || self.waiting.load(Relaxed) != 0
            || self.settings.is_on(Setting::NatIcmpSend)
            || self.defence.is_dropping()
            || flow.src.port == FTP_DATA
            || flow.src.addr == flow.dst.addr
            || self.rules.helpers.of(flow.dst.port).is_some();
        if asks_for_more || seen.ttl <= 1 || seen.loopback || self.fresh.may_have(flow) {
            return None;
        }
        let service = self.service_for(flow.protocol, flow.dst)?;
        if service.persistence.is_some()
            || service.one_packet
            || service.is_elsewhere(flow.dst.port)
        {
            return None;
        }
        let asked = Asked {
            service,
            flow: *flow,
            mark: 0,
        };
        let begun = match self.pick(service, flow) {
            Ok(destination) => {
                let method = destination.spec.method;
                let server = server_of(destination, service, flow.dst.port);
                let first = self.timeouts.first(flow.protocol, method, event);
                self.connect(&asked, destination, server, None, Some(first))
            }
            Err(reason) => Err(reason),
        };
        if let Ok(Begun::Connection(conn, destination)) = begun
            && let Some(hop) = self.send_first(frame, plain, conn, seen.length)
        {
            if let Some(counters) = destination.counters.of(self.worker) {
                counters.packet_in(seen.length);
            }
            conn.count_in_packet();
            return Some(Verdict::Forward(hop));
        }
        let packet = plain.packet(frame, flow)?;
        // What the packet has made of the connection, it makes of it once more: the same.
        Some(self.go_on(frame, &packet, &asked, begun))
    }

    /// The next hop of the first packet, which was rewritten; nothing if that takes more.
    #[inline(always)]
    fn send_first(
        &mut self,
        frame: &mut Frame<'_>,
        plain: Plain,
        conn: Conn<'g>,
        length: u32,
    ) -> Option<u32> {
        let server = conn.destination();
        let hop = match self.routes.way(server.addr) {
            Way::Forward(route) if length <= route.mtu => route.hop,
            _ => return None,
        };
        let ports = conn.ports();
        let summed = frame.offload.checksum.is_none();
        let to = if ports.is_by(ForwardMethod::DirectRoute) {
            None
        } else if ports.is_by(ForwardMethod::Masquerade) && summed {
            Some(server)
        } else {
            return None;
        };
        send(frame, plain, to).then_some(hop)
    }
}

/// What a plain frame says; nothing of one that stands for several packets.
#[inline(always)]
fn look(frame: &mut Frame<'_>, plain: Plain) -> Option<Seen> {
    #[inline(always)]
    fn seen<H: Headers>(headers: &H) -> Seen {
        Seen {
            length: headers.ip_len(),
            ttl: headers.ttl(),
            flags: headers.tcp_flags(),
            loopback: headers.is_from_loopback(),
        }
    }
    if frame.offload.segmentation.is_some() {
        return None;
    }
    Some(match plain {
        Plain::Tcp4 => seen(&HeadersV4::<true>::of(frame)?),
        Plain::Udp4 => seen(&HeadersV4::<false>::of(frame)?),
        Plain::Tcp6 => seen(&HeadersV6::<true>::of(frame)?),
        Plain::Udp6 => seen(&HeadersV6::<false>::of(frame)?),
    })
}

/// Sends a plain frame on, to another endpoint if there is one; whether that was done.
#[inline(always)]
fn send(frame: &mut Frame<'_>, plain: Plain, to: Option<Endpoint>) -> bool {
    #[inline(always)]
    fn send<H: Headers>(headers: Option<H>, to: Option<Endpoint>) -> bool {
        match (headers, to) {
            (Some(mut headers), Some(to)) => headers.send_to(to),
            (Some(mut headers), None) => {
                headers.pass();
                true
            }
            (None, _) => false,
        }
    }
    match plain {
        Plain::Tcp4 => send(HeadersV4::<true>::of(frame), to),
        Plain::Udp4 => send(HeadersV4::<false>::of(frame), to),
        Plain::Tcp6 => send(HeadersV6::<true>::of(frame), to),
        Plain::Udp6 => send(HeadersV6::<false>::of(frame), to),
    }
}
