//! The first packet of a connection: find its service, ask the scheduler, make the entry (4.2).

use crate::decide::{Decider, is_ftp_data};
use crate::route::Routes;
use crate::rules::{Destination, Service};
use crate::verdict::Verdict;
use lvs_conn::{Conn, Inserted, NewConnection};
use lvs_core::{DropReason, Endpoint, Protocol};
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Packet};
use lvs_sched::Request;
use std::sync::Arc;

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// A packet that belongs to no connection.
    pub(crate) fn begin(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        if !self.may_begin(packet) || is_ftp_data(packet) {
            return self.stranger(frame, packet);
        }
        let rules = self.rules;
        let Some(service) = rules.service_for(packet.flow.protocol, packet.flow.dst) else {
            return self.stranger(frame, packet);
        };
        let chosen = match service.persistence {
            Some(persistence) => self.persistent(service, &persistence, packet),
            None => self.pick(service, packet).map(|found| (found, None)),
        };
        let (destination, template) = match chosen {
            Ok(chosen) => chosen,
            Err(DropReason::NoDestination) => {
                let problem = IcmpProblem::PortUnreachable;
                return self.problem(frame, packet, problem, Some(DropReason::NoDestination));
            }
            Err(reason) => return Verdict::Drop(reason),
        };
        let server = server_of(destination, service, packet.flow.dst.port);
        if service.one_packet && packet.flow.protocol == Protocol::Udp {
            return self.only(frame, packet, server, destination);
        }
        let new = NewConnection {
            protocol: packet.flow.protocol,
            client: packet.flow.src,
            virtual_endpoint: packet.flow.dst,
            destination: server,
            method: destination.spec.method,
            dest: destination.id,
            control: template.map(Conn::id),
            now: self.now,
            ..NewConnection::default()
        };
        match self.guard.insert(&new) {
            Ok(Inserted::New(conn)) => {
                self.fresh.add(packet.flow.src);
                destination.backend.opened(false);
                if let Some(counters) = destination.counters.of(self.worker) {
                    counters.connection();
                }
                self.forward_request(frame, packet, conn, destination)
            }
            // Another worker, or an earlier packet of this batch, was first: its choice stands.
            Ok(Inserted::Existing(conn)) => match rules.destination_of(conn.dest()) {
                Some(destination) => self.forward_request(frame, packet, conn, destination),
                None => Verdict::Drop(DropReason::DestinationGone),
            },
            Err(_) => Verdict::Drop(DropReason::TableFull),
        }
    }

    /// The scheduler's choice.
    pub(crate) fn pick(
        &self,
        service: &Service,
        packet: &Packet,
    ) -> Result<&'g Arc<Destination>, DropReason> {
        let request = Request::new(packet.flow.src, packet.flow.dst, self.now);
        let rules = self.rules;
        service
            .pool
            .pick(&request)
            .and_then(|backend| rules.destination(backend.id()))
            .ok_or(DropReason::NoDestination)
    }

    /// One-packet scheduling (2.6): the connection begins and ends with the packet, and no table
    /// has to hold it.
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
