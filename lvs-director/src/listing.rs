//! What the control plane reads: services, destinations, connections, totals, claims.
//!
//! Reading takes the control lock for moments only and never makes a worker wait.

use crate::destination::Destination;
use crate::director::Director;
use crate::rules::{Rules, Service, is_ftp};
use crate::status::{Claims, ConnectionStatus, DestinationStatus, ServiceStatus};
use core::sync::atomic::Ordering::Relaxed;
use lvs_conn::{Conn, ConnKind};
use lvs_core::{Addr, Counters, Endpoint, Engine, Family, Rates, ServiceKey, Tick};

impl Director {
    /// All services with their destinations, in no particular order.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceStatus> {
        let rules = self.rules.load();
        rules
            .services()
            .map(|service| status_of_service(&rules, service))
            .collect()
    }

    /// One service with its destinations.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceStatus> {
        let rules = self.rules.load();
        rules
            .service(key)
            .map(|service| status_of_service(&rules, service))
    }

    /// What has passed in all, since the start or the last zeroing of everything.
    #[must_use]
    pub fn totals(&self) -> Counters {
        let departed = self.control.lock().departed;
        let rules = self.rules.load();
        rules.services().fold(departed, |sum, service| {
            sum + total_of_service(&rules, service) - service.home.history.lock().zero
        })
    }

    /// Calls `each` with every connection of the moment. Connections that come or go meanwhile may
    /// be missing or be there.
    pub fn connections(&self, now: Tick, mut each: impl FnMut(&ConnectionStatus)) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.connections_from(at, now, &mut each);
        }
    }

    /// A step of [`Director::connections`]: some of them, from the place `from` of the table on (0
    /// is the start). Answers the place to go on from; `None` at the end.
    pub fn connections_from(
        &self,
        from: usize,
        now: Tick,
        mut each: impl FnMut(&ConnectionStatus),
    ) -> Option<usize> {
        let mut handle = self.table.register();
        self.table.scan_from(&mut handle, from, |conn| {
            each(&self.status_of_connection(conn, now));
        })
    }

    /// The rates of the director as a whole.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.control.lock().estimator.rates()
    }

    /// The addresses of all destinations, those that only old connections hold included, once each.
    #[must_use]
    pub fn servers(&self) -> Vec<Addr> {
        let rules = self.rules.load();
        let mut servers: Vec<Addr> = rules
            .destinations()
            .map(|destination| destination.spec.endpoint.addr)
            .collect();
        servers.sort_unstable();
        servers.dedup();
        servers
    }

    /// What the host's stack must leave to the director under the present rules.
    #[must_use]
    pub fn claims(&self) -> Claims {
        let rules = self.rules.load();
        let mut claims = Claims::default();
        for service in rules.services() {
            let ServiceKey::Endpoint { protocol, vip } = service.key else {
                continue;
            };
            if is_ftp(protocol, vip) {
                claims
                    .services
                    .push((protocol, Endpoint { port: 0, ..vip }));
            }
            // One of all ports takes packets only if it is persistent.
            if vip.port != 0 || service.persistence.is_some() {
                claims.services.push((protocol, vip));
            }
        }
        if rules.has_marks() {
            let has_service = |mark| {
                [Family::V4, Family::V6]
                    .map(|family| ServiceKey::FwMark { family, mark })
                    .iter()
                    .any(|key| rules.service(key).is_some())
            };
            let marks = rules.marks.rules().iter();
            claims
                .marks
                .extend(marks.map(|rule| (rule.clone(), has_service(rule.mark))));
        }
        // Destinations that are gone count as long as connections hold them: their replies are
        // still translated.
        claims.replies.extend(rules.servers());
        claims.locals.extend(rules.locals());
        claims.locals.sort_unstable();
        claims.locals.dedup();
        claims.services.sort_unstable();
        claims.replies.sort_unstable();
        claims
    }

    fn status_of_connection(&self, conn: &Conn<'_>, now: Tick) -> ConnectionStatus {
        /// The port of both ends that the kernel gives a template whose destination is gone.
        const INVALID: u16 = 65535;
        let template = conn.kind() == ConnKind::Template;
        let (mut client, mut vip, mut server) =
            (conn.client(), conn.virtual_endpoint(), conn.destination());
        let kept = template.then(|| self.calls.read(conn.mark())).flatten();
        let engine = kept.map(|(value, port)| {
            // The ports of its key are a hash.
            (client.port, vip.port) = (0, port);
            (Engine::Sip, String::from_utf8_lossy(&value).into_owned())
        });
        if conn.is_invalid() {
            (vip.port, server.port) = (INVALID, INVALID);
        }
        ConnectionStatus {
            protocol: conn.protocol(),
            client,
            virtual_endpoint: vip,
            destination: server,
            local: conn.local(),
            method: conn.method(),
            state: conn.state(),
            expires: conn.expires_in(now) / Tick::PER_SECOND,
            template,
            engine,
        }
    }
}

/// What a service has counted in all, its zeroing left aside. Never holds two locks at once.
pub(crate) fn total_of_service(rules: &Rules, service: &Service) -> Counters {
    let departed = service.home.history.lock().departed;
    rules
        .destinations_in(service)
        .fold(departed, |sum, destination| sum + destination.counted())
}

fn status_of_service(rules: &Rules, service: &Service) -> ServiceStatus {
    let counters = total_of_service(rules, service) - service.home.history.lock().zero;
    ServiceStatus {
        key: service.key,
        scheduler: service.pool.scheduler_name(),
        flags: service.flags(),
        persistence: service.persistence,
        one_packet: service.one_packet,
        engine: service.engine,
        local: service.local,
        tell_client: service.tell_client,
        on_removal: service.on_removal,
        counters,
        rates: service.home.history.lock().estimator.rates(),
        destinations: rules
            .destinations_in(service)
            .map(|d| status_of_destination(d))
            .collect(),
    }
}

fn status_of_destination(destination: &Destination) -> DestinationStatus {
    let history = destination.ledger.history();
    DestinationStatus {
        spec: destination.spec(),
        active: destination.backend.active(),
        inactive: destination.backend.inactive(),
        persistent: destination.ledger.templates.load(Relaxed),
        health: destination.health,
        overloaded: destination.backend.is_overloaded(),
        counters: destination.counters.sum() - history.zero,
        rates: history.estimator.rates(),
    }
}
