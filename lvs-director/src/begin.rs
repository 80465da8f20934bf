//! The first packet of a connection: find its service, ask the scheduler, make the entry (4.2).

use crate::decide::Decider;
use crate::destination::Destination;
use crate::route::{Routes, Way};
use crate::rules::{FTP_DATA, Service};
use crate::verdict::Verdict;
use lvs_conn::{Conn, ConnId, First, Inserted, NewConnection};
use lvs_core::{Addr, DropReason, Endpoint, Family, Flow, ForwardMethod, Protocol, ServiceKey};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Kind, Packet};
use lvs_sched::Request;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What is asked for: which service, by whom, and with which mark.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'g> {
    pub(crate) service: &'g Arc<Service>,
    /// From the client to the virtual service, whatever the packet's own direction.
    pub(crate) flow: Flow,
    /// Where the packet itself is for, which some schedulers look at: the virtual service, or, of one that an
    /// error quotes, the client.
    pub(crate) towards: Addr,
    /// 0: the service was not found by a mark.
    pub(crate) mark: u32,
}

/// What the scheduling step has made.
pub(crate) enum Begun<'g> {
    /// A connection.
    Connection(Conn<'g>, &'g Arc<Destination>),
    /// Another worker, or an earlier packet of this batch, was first: it is theirs.
    Other(Conn<'g>, &'g Arc<Destination>),
    /// One-packet scheduling: no table has to hold it.
    OnePacket(Endpoint, &'g Arc<Destination>),
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// A packet that belongs to no connection.
    pub(crate) fn begin(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        if self.waiting.load(Relaxed) != 0
            && packet.kind == Kind::Tcp
            && let Some(conn) = self.awaited(packet)
        {
            return self.request(frame, packet, conn);
        }
        if let Some(verdict) = self.refuse_reply(frame, packet) {
            return verdict;
        }
        if !self.may_begin(packet) {
            return self.stranger(frame, packet);
        }
        let Some(asked) = self.asked(packet, packet.flow) else {
            return self.stranger(frame, packet);
        };
        if self.defence.drops_packet() {
            return Verdict::Drop(DropReason::DropPacket);
        }
        if packet.flow.src.port == FTP_DATA {
            return self.stranger(frame, packet);
        }
        // IPv4 takes nothing from others that is from an address of its own, or from nobody's.
        let Flow { src, dst, .. } = packet.flow;
        if packet.family == Family::V4
            && (src.addr == dst.addr || src.addr == Addr::from_v4_bits(0))
            && !self.routes.is_from_host()
        {
            return Verdict::Drop(DropReason::BadAddress);
        }
        let begun = self.schedule(&asked, Some((frame, packet)));
        self.go_on(frame, packet, &asked, begun)
    }

    /// A packet whose connection has just been made, or could not be.
    pub(crate) fn go_on(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        asked: &Asked<'g>,
        begun: Result<Begun<'g>, DropReason>,
    ) -> Verdict {
        match begun {
            Ok(Begun::Connection(conn, destination) | Begun::Other(conn, destination)) => {
                self.forward_request(frame, packet, conn, destination)
            }
            Ok(Begun::OnePacket(server, destination)) => {
                self.only(frame, packet, server, destination)
            }
            Err(DropReason::NoDestination) => self.leave(frame, packet, asked),
            Err(reason @ DropReason::LocalPortsUsedUp) => {
                self.problem(frame, packet, IcmpProblem::PortUnreachable, Some(reason))
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The service of a flow (0.2): that of the packet's mark, or else that of its destination.
    #[inline]
    pub(crate) fn asked(&mut self, packet: &Packet, flow: Flow) -> Option<Asked<'g>> {
        let rules = self.rules;
        if rules.has_marks()
            && let Some((service, mark)) = self.marked(packet)
        {
            return Some(Asked {
                service,
                flow,
                towards: flow.dst.addr,
                mark,
            });
        }
        let service = self.service_for(flow.protocol, &flow.dst)?;
        Some(Asked {
            service,
            flow,
            towards: flow.dst.addr,
            mark: 0,
        })
    }

    /// The service that takes a packet to `to`; most likely that of the packet before.
    #[inline(always)]
    pub(crate) fn service_for(
        &mut self,
        protocol: Protocol,
        to: &Endpoint,
    ) -> Option<&'g Arc<Service>> {
        match &self.latest {
            Some(((last, asked), service)) if *last == protocol && asked == to => Some(service),
            _ => self.other_service_for(protocol, *to),
        }
    }

    #[inline(never)]
    fn other_service_for(&mut self, protocol: Protocol, to: Endpoint) -> Option<&'g Arc<Service>> {
        let service = self.rules.service_for(protocol, to)?;
        self.latest = Some(((protocol, to), service));
        Some(service)
    }

    /// The service of the mark that the packet itself carries.
    #[cold]
    pub(crate) fn marked(&mut self, packet: &Packet) -> Option<(&'g Arc<Service>, u32)> {
        let rules = self.rules;
        let marks = &rules.marks;
        let local = marks.ask_for_local() && self.routes.way(packet.flow.dst.addr) == Way::Local;
        let mark = marks.of(&packet.flow, self.routes.interface(), local);
        let family = packet.family;
        let service = rules.service(&ServiceKey::FwMark { family, mark })?;
        Some((service, mark))
    }

    /// The scheduling step. `payload`: the packet, where an engine may look into it.
    pub(crate) fn schedule(
        &mut self,
        asked: &Asked<'g>,
        payload: Option<(&Frame<'_>, &Packet)>,
    ) -> Result<Begun<'g>, DropReason> {
        let Asked { service, flow, .. } = *asked;
        let (destination, template) = match service.persistence {
            Some(persistence) => {
                let (destination, template) = self.persistent(asked, &persistence, payload)?;
                (destination, Some(template))
            }
            // It was found by FTP's rule, which is for persistent ones.
            None if service.is_elsewhere(flow.dst.port) => return Err(DropReason::NoDestination),
            None => (self.pick(service, &flow, asked.towards)?, None),
        };
        let server = server_of(destination, service, flow.dst.port);
        if service.one_packet && flow.protocol == Protocol::Udp {
            return Ok(Begun::OnePacket(server, destination));
        }
        self.connect(asked, destination, server, template.map(Conn::id), None)
    }

    /// Makes the connection to a destination. `first`: what the packet makes of it, if it is nothing
    /// else's to say.
    #[inline(never)]
    pub(crate) fn connect(
        &mut self,
        asked: &Asked<'g>,
        destination: &'g Arc<Destination>,
        server: Endpoint,
        control: Option<ConnId>,
        first: Option<First>,
    ) -> Result<Begun<'g>, DropReason> {
        let Asked {
            service,
            flow,
            mark,
            ..
        } = *asked;
        let method = destination.spec.method;
        let local = match method {
            ForwardMethod::FullNat => {
                let taken = self.cursor.take(&destination.locals);
                Some(taken.ok_or(DropReason::LocalPortsUsedUp)?)
            }
            _ => None,
        };
        let new = NewConnection {
            protocol: flow.protocol,
            client: flow.src,
            virtual_endpoint: flow.dst,
            destination: server,
            method,
            dest: destination.id,
            local,
            tell: local.is_some() && service.tell_client,
            mark,
            control,
            helped: self.will_help(&flow, method),
            first,
            now: self.now,
            ..NewConnection::default()
        };
        let begun = self.enter(&new, destination);
        if let Some(local) = local {
            match begun {
                // A reply has it at one end, and its client at neither.
                Ok(Begun::Connection(..)) => self.fresh.add(local),
                _ => destination.give_back(local),
            }
        }
        begun
    }

    /// Has a new connection in the table and counted, unless it is there.
    #[inline(always)]
    pub(crate) fn enter(
        &mut self,
        new: &NewConnection,
        destination: &'g Arc<Destination>,
    ) -> Result<Begun<'g>, DropReason> {
        match self.guard.insert(new) {
            Ok(Inserted::New(conn)) => {
                self.fresh.add(new.client);
                destination
                    .backend
                    .opened(new.first.is_some_and(First::is_active));
                if let Some(counters) = destination.counters.of(self.worker) {
                    counters.connection();
                }
                Ok(Begun::Connection(conn, destination))
            }
            Ok(Inserted::Existing(conn)) => match self.rules.destination_of(conn.dest()) {
                Some(destination) => Ok(Begun::Other(conn, destination)),
                None => Err(DropReason::DestinationGone),
            },
            Err(_) => Err(DropReason::TableFull),
        }
    }

    /// The scheduler's choice; `towards` is [`Asked::towards`].
    #[inline(always)]
    pub(crate) fn pick(
        &self,
        service: &Service,
        flow: &Flow,
        towards: Addr,
    ) -> Result<&'g Arc<Destination>, DropReason> {
        let request = Request {
            dst: towards,
            ..Request::new(flow.src, flow.dst, self.now)
        };
        let rules = self.rules;
        service
            .pool
            .pick(&request)
            .and_then(|backend| rules.destination(backend.id()))
            .ok_or(DropReason::NoDestination)
    }

    /// One-packet scheduling (2.6): the connection begins and ends with the packet.
    fn only(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        server: Endpoint,
        destination: &Destination,
    ) -> Verdict {
        destination.backend.opened(false);
        if let Some(counters) = destination.counters.of(self.worker) {
            counters.connection();
            counters.packet_in(packet.ip_len());
        }
        let method = destination.spec.method;
        let verdict = self.transmit(frame, packet, (server, method), destination);
        destination.backend.closed(false);
        verdict
    }
}

/// Where a connection to `port` of a service goes at its destination (2.5, 2.6): persistence keeps
/// the ports that are not the service's own.
pub(crate) fn server_of(destination: &Destination, service: &Service, port: u16) -> Endpoint {
    let endpoint = destination.spec.endpoint;
    let kept = service.persistence.is_some() && !service.is_at(port);
    Endpoint {
        port: if endpoint.port == 0 || kept {
            port
        } else {
            endpoint.port
        },
        ..endpoint
    }
}
