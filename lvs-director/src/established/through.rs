//! The straight way through a tunnel: IPIP, and GRE and GUE without a checksum of their own.
//!
//! In: a plain frame of an established connection whose packets go through a tunnel. Out: the frame behind
//! its outer header and the next hop, or nothing: then nothing was changed or counted. The same test as
//! of NAT's straight way holds it to the general one.

use super::sort;
use crate::decide::Decider;
use crate::destination::Destination;
use crate::route::{Routes, Way};
use crate::settings::Setting;
use crate::transmit::room_in_tunnel;
use lvs_conn::Hit;
use lvs_core::{Flow, Protocol, TunnelKind};
use lvs_packet::{Frame, Plain, tunnel};

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Sends on a packet that may leave, and leaves the connection in its state.
    #[inline(never)]
    pub(super) fn through<const V4: bool, const TCP: bool>(
        &mut self,
        frame: &mut Frame<'_>,
        hit: &Hit<'g>,
        destination: &'g Destination,
        settled: bool,
    ) -> Option<u32> {
        let plain = const { sort(V4, TCP) };
        let conn = hit.conn;
        let (server, kind) = (destination.spec.endpoint.addr, destination.spec.tunnel);
        let Way::Forward(route) = self.routes.way(conn.server_addr()) else {
            return None;
        };
        let limit = destination.ledger.path_mtu.limit(route.mtu, self.now);
        let room = room_in_tunnel(limit, tunnel::overhead(kind, server.family()), server)?;
        let length = plain.ip_len(frame)?;
        if length > room {
            return None;
        }
        let options = tunnel::Options {
            ident: self.identification.upcoming(),
            copy_df: self.settings.is_on(Setting::PmtuDisc),
            source_port: match kind {
                TunnelKind::Gue { .. } => self.source_port(plain, hit),
                _ => 0,
            },
        };
        let ends = (route.source, server);
        if !tunnel::send_plain(frame, plain.family(), kind, ends, &options) {
            return None;
        }
        self.identification.next();
        if let Some(counters) = destination.counters.of(self.worker) {
            counters.packet_in(length);
        }
        conn.count_in_packet();
        match settled {
            true => conn.touch(self.now),
            false => self.unsettled(plain.is_tcp(), hit),
        }
        Some(route.hop)
    }

    /// The source port of the connection's packets behind GUE.
    fn source_port(&self, plain: Plain, hit: &Hit<'g>) -> u16 {
        let (client, vip) = (hit.conn.client(), hit.conn.virtual_endpoint());
        let protocol = match plain.is_tcp() {
            true => Protocol::Tcp,
            false => Protocol::Udp,
        };
        let flow = Flow::new(protocol, client, vip);
        tunnel::gue_source_port(&flow, self.identification.key())
    }
}
