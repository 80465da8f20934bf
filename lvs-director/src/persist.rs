//! Persistence: a client stays with its destination (IPVS 2.5).
//!
//! In: the first packet of a connection to a persistent service. Out: its destination, and the
//! template that remembers it, found or made. A template is an entry of the connection table that
//! no packet finds.

use crate::begin::Asked;
use crate::decide::Decider;
use crate::destination::Destination;
use crate::route::Routes;
use crate::rules::{FTP, Service};
use crate::settings::Setting;
use crate::sip;
use core::sync::atomic::Ordering::Relaxed;
use lvs_conn::{Conn, ConnKind, Inserted, NewConnection};
use lvs_core::{
    Addr, DropReason, Endpoint, Engine, Family, Flow, Health, Persistence, Protocol, Tick,
};
use lvs_packet::{Frame, Packet};
use std::sync::Arc;

/// Bytes of a UDP header.
const UDP_LEN: usize = 8;

/// A client's destination, and the template that says so.
pub(crate) type Remembered<'g> = (&'g Arc<Destination>, Conn<'g>);

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// The destination of the client, and its template.
    pub(crate) fn persistent(
        &mut self,
        asked: &Asked<'g>,
        persistence: &Persistence,
        payload: Option<(&Frame<'_>, &Packet)>,
    ) -> Result<Remembered<'g>, DropReason> {
        let flow = template_flow(asked, persistence);
        let Some(Engine::Sip) = asked.service.engine else {
            return match self.recall(&flow, |_| true) {
                Some(found) => Ok(found),
                None => self.remember(asked, persistence, &flow, 0),
            };
        };
        let call_id = call_id_of(payload).ok_or(DropReason::NoCallId)?;
        let (calls, key) = (self.calls, self.calls.key(&flow, call_id));
        if let Some(found) = self.recall(&key, |number| calls.is(number, call_id)) {
            return Ok(found);
        }
        let kept = calls.keep(call_id, flow.dst.port);
        let number = kept.ok_or(DropReason::TableFull)?;
        let found = self.remember(asked, persistence, &key, number);
        if !found.is_ok_and(|(_, template)| template.mark() == number) {
            // Nobody could take it, or another worker was first.
            calls.forget(number);
        }
        found
    }

    /// The template of a key whose number fits, if its destination can still be used.
    fn recall(&self, key: &Flow, fits: impl Fn(u32) -> bool) -> Option<Remembered<'g>> {
        let guard = self.guard;
        let template = guard.lookup_template(key)?;
        if !fits(template.mark()) {
            return None;
        }
        let Some(destination) = self.remembered(template) else {
            template.invalidate();
            return None;
        };
        // Each new connection gives it its time again.
        template.touch(self.now);
        Some((destination, template))
    }

    /// A new template. `number`: what an engine has kept for it.
    fn remember(
        &self,
        asked: &Asked<'g>,
        persistence: &Persistence,
        key: &Flow,
        number: u32,
    ) -> Result<Remembered<'g>, DropReason> {
        let destination = self.pick(asked.service, &asked.flow, asked.towards)?;
        let endpoint = destination.spec.endpoint;
        let port = match template_port(asked.service, asked.flow.dst.port) {
            0 => 0,
            _ => endpoint.port,
        };
        let new = NewConnection {
            protocol: key.protocol,
            client: key.src,
            virtual_endpoint: key.dst,
            destination: Endpoint { port, ..endpoint },
            method: destination.spec.method,
            dest: destination.id,
            mark: number,
            kind: ConnKind::Template,
            timeout: Tick::seconds(persistence.timeout),
            now: self.now,
            ..NewConnection::default()
        };
        match self.guard.insert(&new) {
            Ok(Inserted::New(template)) => {
                destination.ledger.templates.fetch_add(1, Relaxed);
                destination.backend.judge();
                Ok((destination, template))
            }
            // Another worker was first: its choice stands.
            Ok(Inserted::Existing(template)) => match self.remembered(template) {
                Some(destination) => Ok((destination, template)),
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
            && (self.settings.is_on(Setting::ExpireQuiescentTemplate)
                || destination.leaving.is_some()
                || destination.health == Health::Failed);
        (destination.backend.is_available() && !quiesced).then_some(destination)
    }
}

/// The Call-ID of a message of SIP.
fn call_id_of<'f>(payload: Option<(&'f Frame<'_>, &Packet)>) -> Option<&'f [u8]> {
    let (frame, packet) = payload?;
    if packet.flow.protocol != Protocol::Udp {
        return None;
    }
    let start = usize::from(packet.l4) + UDP_LEN;
    sip::call_id(frame.bytes().get(start..packet.end as usize)?)
}

/// The virtual port of a template: a service of all ports, or of FTP, has one for all of them.
fn template_port(service: &Service, port: u16) -> u16 {
    if service.is_at(port) && port != FTP {
        port
    } else {
        0
    }
}

/// What a client's template is found by.
fn template_flow(asked: &Asked<'_>, persistence: &Persistence) -> Flow {
    let Flow { protocol, src, dst } = asked.flow;
    let client = Endpoint::new(masked(src.addr, persistence), 0);
    if asked.mark != 0 {
        return Flow::new(
            Protocol::Ip,
            client,
            Endpoint::new(mark_addr(asked.mark, src.addr.family()), 0),
        );
    }
    let port = template_port(asked.service, dst.port);
    Flow::new(protocol, client, Endpoint::new(dst.addr, port))
}

/// A mark in the place of an address: its 32 bits are the first of the address (IPVS 2.5).
fn mark_addr(mark: u32, family: Family) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bits(mark),
        Family::V6 => Addr {
            hi: u64::from(mark) << 32,
            lo: 0,
        },
    }
}

/// The part of a client's address that counts.
fn masked(client: Addr, persistence: &Persistence) -> Addr {
    match client.family() {
        Family::V4 => Addr::from_v4_bits(client.low_word() & persistence.netmask),
        Family::V6 => client.masked(u8::try_from(persistence.netmask).unwrap_or(u8::MAX)),
    }
}
