//! The first packet of a connection: find its service, ask the scheduler, make the entry (4.2).

use crate::decide::{Decider, is_ftp_data, may_begin, server_of};
use crate::route::Routes;
use crate::verdict::Verdict;
use lvs_conn::{Inserted, NewConnection};
use lvs_core::DropReason;
use lvs_packet::answer::IcmpProblem;
use lvs_packet::{Frame, Packet};
use lvs_sched::Request;

impl<R: Routes> Decider<'_, '_, R> {
    /// A packet that belongs to no connection.
    pub(crate) fn begin(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Verdict {
        if !may_begin(packet) {
            return self.stranger(frame, packet);
        }
        let flow = packet.flow;
        let Some(service) = self.rules.service_at(flow.protocol, flow.dst) else {
            return self.stranger(frame, packet);
        };
        // A service of port 0 schedules only if it is persistent (2.6).
        if flow.dst.port == 0 || is_ftp_data(packet) {
            return self.stranger(frame, packet);
        }
        let request = Request::new(flow.src, flow.dst, self.now);
        let destination = service
            .pool
            .pick(&request)
            .and_then(|backend| self.rules.destination(backend.id()));
        let Some(destination) = destination else {
            return self.problem(
                frame,
                packet,
                IcmpProblem::PortUnreachable,
                Some(DropReason::NoDestination),
            );
        };
        let new = NewConnection {
            protocol: flow.protocol,
            client: flow.src,
            virtual_endpoint: flow.dst,
            destination: server_of(destination, flow.dst.port),
            method: destination.spec.method,
            dest: destination.id,
            now: self.now,
            ..NewConnection::default()
        };
        match self.guard.insert(&new) {
            Ok(Inserted::New(conn)) => {
                self.fresh.add(flow.src);
                destination.backend.opened(false);
                if let Some(counters) = destination.counters.of(self.worker) {
                    counters.connection();
                }
                self.forward_request(frame, packet, conn, destination)
            }
            // Another worker, or an earlier packet of this batch, was first: its choice stands.
            Ok(Inserted::Existing(conn)) => match self.rules.destination_of(conn.dest()) {
                Some(destination) => self.forward_request(frame, packet, conn, destination),
                None => Verdict::Drop(DropReason::DestinationGone),
            },
            Err(_) => Verdict::Drop(DropReason::TableFull),
        }
    }
}
