//! What becomes of a packet whose service has nobody to give it to (IPVS 4.4).
//!
//! In: a packet that the scheduling step has left. Out: it goes where it was sent (`cache_bypass`),
//! or it is the host's (FTP's data), or its sender is told. Never: another try.

use crate::begin::Asked;
use crate::decide::Decider;
use crate::route::{Routes, Way};
use crate::rules::{FTP, is_ftp};
use crate::settings::Setting;
use crate::verdict::Verdict;
use lvs_conn::{Conn, Direction, Inserted, NewConnection};
use lvs_core::{Addr, DropReason, Endpoint, ForwardMethod, ServiceKey};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Packet, options, ttl};

impl<'g, R: Routes> Decider<'_, 'g, R> {
    #[cold]
    pub(crate) fn leave(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        asked: &Asked<'g>,
    ) -> Verdict {
        match asked.service.key {
            ServiceKey::FwMark { .. } if self.may_bypass(packet.flow.dst.addr) => {
                self.bypass(frame, packet, asked)
            }
            ServiceKey::Endpoint { protocol, vip }
                if is_ftp(protocol, vip) && packet.flow.dst.port != FTP =>
            {
                self.stranger(frame, packet)
            }
            _ => {
                let reason = DropReason::NoDestination;
                self.problem(frame, packet, IcmpProblem::PortUnreachable, Some(reason))
            }
        }
    }

    /// Whether a packet to this address may go there after all.
    fn may_bypass(&mut self, addr: Addr) -> bool {
        // The kernel looks for its own addresses of IPv4 only.
        self.settings.is_on(Setting::CacheBypass)
            && addr.is_unicast()
            && (!addr.is_v4() || self.routes.way(addr) != Way::Local)
    }

    /// A connection with nobody but the one whom it asked for.
    fn bypass(&mut self, frame: &mut Frame<'_>, packet: &Packet, asked: &Asked<'g>) -> Verdict {
        let flow = packet.flow;
        // As the kernel lists it: the address of nobody.
        let nobody = if flow.dst.addr.is_v4() {
            Addr::from_v4_bits(0)
        } else {
            Addr::UNSPECIFIED
        };
        let new = NewConnection {
            protocol: flow.protocol,
            client: flow.src,
            virtual_endpoint: flow.dst,
            destination: Endpoint::new(nobody, 0),
            method: ForwardMethod::Bypass,
            mark: asked.mark,
            now: self.now,
            ..NewConnection::default()
        };
        match self.guard.insert(&new) {
            Ok(Inserted::New(conn)) => {
                self.fresh.add(flow.src);
                self.forward_bypassed(frame, packet, conn)
            }
            Ok(Inserted::Existing(conn)) => self.request(frame, packet, conn),
            Err(_) => Verdict::Drop(DropReason::TableFull),
        }
    }

    /// A request of a connection that has no destination: no counters, nothing rewritten (3.5).
    pub(crate) fn forward_bypassed(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
    ) -> Verdict {
        self.advance(packet, conn, Direction::FromClient, None);
        conn.count_in_packet();
        self.send_on(frame, packet, conn.virtual_endpoint().addr)
    }

    /// Sends a packet on to an address as it is, but for its TTL.
    pub(crate) fn send_on(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        addr: Addr,
    ) -> Verdict {
        let route = match self.routes.way(addr) {
            Way::Forward(route) => route,
            Way::Local => return Verdict::Drop(DropReason::NoRoute),
            Way::Unreachable => {
                let (problem, reason) = (IcmpProblem::HostUnreachable, DropReason::NoRoute);
                return self.problem(frame, packet, problem, Some(reason));
            }
        };
        if packet.ttl <= 1 {
            let (problem, reason) = (IcmpProblem::TimeExceeded, DropReason::TtlExpired);
            return self.problem(frame, packet, problem, Some(reason));
        }
        ttl::decrement(frame, packet);
        if let Some(verdict) = self.too_big(frame, packet, route.mtu, Some(packet)) {
            return verdict;
        }
        options::seal(frame, packet);
        Verdict::Forward(route.hop)
    }
}
