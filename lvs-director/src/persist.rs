//! Persistence: a client stays with its destination (IPVS 2.5).
//!
//! In: the first packet of a connection to a persistent service. Out: its destination, and the
//! template that remembers it, found or made. A template is an entry of the connection table that
//! no packet finds.

use crate::begin::server_of;
use crate::decide::Decider;
use crate::route::Routes;
use crate::rules::{Destination, Service};
use crate::settings::Setting;
use core::sync::atomic::Ordering::Relaxed;
use lvs_conn::{Conn, ConnKind, Inserted, NewConnection};
use lvs_core::{Addr, DropReason, Endpoint, Family, Flow, Persistence, Tick};
use lvs_packet::Packet;
use std::sync::Arc;

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// The destination of the packet's client, and its template.
    pub(crate) fn persistent(
        &mut self,
        service: &Service,
        persistence: &Persistence,
        packet: &Packet,
    ) -> Result<(&'g Arc<Destination>, Option<Conn<'g>>), DropReason> {
        let (client, vip) = (packet.flow.src, packet.flow.dst);
        // A service of all ports has one template for all of them.
        let vport = if service.is_at(vip.port) { vip.port } else { 0 };
        let flow = Flow::new(
            packet.flow.protocol,
            Endpoint::new(masked(client.addr, persistence), 0),
            Endpoint::new(vip.addr, vport),
        );
        let guard = self.guard;
        if let Some(template) = guard.lookup_template(&flow) {
            if let Some(destination) = self.remembered(template) {
                // Each new connection gives it its time again.
                template.touch(self.now);
                return Ok((destination, Some(template)));
            }
            template.invalidate();
        }
        let destination = self.pick(service, packet)?;
        let new = NewConnection {
            protocol: flow.protocol,
            client: flow.src,
            virtual_endpoint: flow.dst,
            destination: server_of(destination, service, vport),
            method: destination.spec.method,
            dest: destination.id,
            kind: ConnKind::Template,
            timeout: Tick::seconds(persistence.timeout),
            now: self.now,
            ..NewConnection::default()
        };
        match guard.insert(&new) {
            Ok(Inserted::New(template)) => {
                destination.templates.fetch_add(1, Relaxed);
                destination.backend.judge();
                Ok((destination, Some(template)))
            }
            // Another worker was first: its choice stands.
            Ok(Inserted::Existing(template)) => match self.remembered(template) {
                Some(destination) => Ok((destination, Some(template))),
                None => Err(DropReason::DestinationGone),
            },
            Err(_) => Err(DropReason::TableFull),
        }
    }

    /// The destination of a template that is still valid; whether it is overloaded does not matter.
    fn remembered(&self, template: Conn<'_>) -> Option<&'g Arc<Destination>> {
        let rules = self.rules;
        let destination = rules.destination_of(template.dest())?;
        let quiesced = destination.backend.weight() == 0
            && self.settings.is_on(Setting::ExpireQuiescentTemplate);
        (destination.backend.is_available() && !quiesced).then_some(destination)
    }
}

/// The part of a client's address that counts.
fn masked(client: Addr, persistence: &Persistence) -> Addr {
    match client.family() {
        Family::V4 => Addr::from_v4_bits(client.low_word() & persistence.netmask),
        Family::V6 => client.masked(u8::try_from(persistence.netmask).unwrap_or(u8::MAX)),
    }
}
