//! Services, destinations and the trash (IPVS 0.1 to 0.5), and what editing them does.

use super::schedulers::{Ask, Flags, Model as List, Server};
use super::{SECOND, World};
use lvs_core::{Counters, Endpoint, ForwardMethod, ServiceKey, Thresholds};

/// A counter and its baseline (7.3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub total: Counters,
    pub zero: Counters,
}

impl Tally {
    pub fn shown(&self) -> Counters {
        self.total - self.zero
    }
}

/// What an operator says of a service.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub scheduler: &'static str,
    pub flags: Flags,
    /// Seconds and netmask (bits of IPv6).
    pub persistence: Option<(u32, u32)>,
    pub one_packet: bool,
}

#[derive(Debug)]
pub struct Service {
    pub key: ServiceKey,
    pub persistence: Option<(u32, u32)>,
    pub one_packet: bool,
    pub list: List,
    pub tally: Tally,
    /// Tells it from one of the same key that there was before.
    pub serial: u32,
}

/// A destination; whoever is in the trash has its counts here instead of in the service's list.
#[derive(Debug)]
pub struct Dest {
    pub id: u32,
    pub service: ServiceKey,
    pub service_serial: u32,
    pub endpoint: Endpoint,
    pub method: ForwardMethod,
    pub templates: u32,
    pub tally: Tally,
    pub trash: Option<Trash>,
}

#[derive(Debug)]
pub struct Trash {
    pub server: Server,
    pub idle_since: Option<u64>,
}

impl Dest {
    pub fn is_available(&self) -> bool {
        self.trash.is_none()
    }
}

impl World {
    pub fn service(&mut self, key: &ServiceKey) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| service.key == *key)
    }

    pub fn dest(&mut self, id: u32) -> &mut Dest {
        self.dests.iter_mut().find(|dest| dest.id == id).unwrap()
    }

    /// The counts of a destination, wherever they are.
    pub fn server(&mut self, id: u32) -> &mut Server {
        let dest = self.dests.iter_mut().find(|dest| dest.id == id).unwrap();
        if let Some(trash) = &mut dest.trash {
            return &mut trash.server;
        }
        let key = dest.service;
        let service = self.services.iter_mut().find(|s| s.key == key).unwrap();
        service.list.server(id)
    }

    fn in_service(&self, key: &ServiceKey, endpoint: Endpoint) -> Option<u32> {
        let same =
            |dest: &&Dest| dest.is_available() && dest.service == *key && dest.endpoint == endpoint;
        self.dests.iter().find(same).map(|dest| dest.id)
    }

    pub fn add_service(&mut self, key: ServiceKey, wish: Wish) -> bool {
        if self.service(&key).is_some() {
            return false;
        }
        self.serial += 1;
        self.services.push(Service {
            key,
            persistence: wish.persistence,
            one_packet: wish.one_packet,
            list: List::new(wish.scheduler, wish.flags),
            tally: Tally::default(),
            serial: self.serial,
        });
        true
    }

    pub fn edit_service(&mut self, key: ServiceKey, wish: Wish) -> bool {
        let Some(service) = self.service(&key) else {
            return false;
        };
        service.list.set_scheduler(wish.scheduler, wish.flags);
        service.persistence = wish.persistence;
        service.one_packet = wish.one_packet;
        true
    }

    pub fn delete_service(&mut self, key: ServiceKey) -> bool {
        let Some(service) = self.service(&key) else {
            return false;
        };
        let ids: Vec<u32> = service
            .list
            .servers
            .iter()
            .map(|server| server.id)
            .collect();
        for id in ids {
            self.discard(id);
        }
        self.services.retain(|service| service.key != key);
        true
    }

    pub fn flush(&mut self) {
        let keys: Vec<_> = self.services.iter().map(|service| service.key).collect();
        for key in keys {
            self.delete_service(key);
        }
    }

    pub fn add_dest(
        &mut self,
        key: ServiceKey,
        endpoint: Endpoint,
        method: ForwardMethod,
        weight: u32,
        thresholds: Thresholds,
    ) -> bool {
        let endpoint = with_port(&key, endpoint, method);
        let Some(serial) = self.service(&key).map(|service| service.serial) else {
            return false;
        };
        if self.in_service(&key, endpoint).is_some() || thresholds.lower > thresholds.upper {
            return false;
        }
        let old = self
            .dests
            .iter_mut()
            .find(|dest| dest.service == key && dest.endpoint == endpoint);
        let server = match old {
            Some(dest) => {
                let mut server = dest.trash.take().unwrap().server;
                if dest.service_serial != serial {
                    dest.tally = Tally::default();
                }
                dest.service_serial = serial;
                dest.method = method;
                server.weight = weight.into();
                server.last_weight = weight.into();
                server.set_thresholds(thresholds);
                server
            }
            None => {
                self.last_dest += 1;
                let id = self.last_dest;
                self.dests.push(Dest {
                    id,
                    service: key,
                    service_serial: serial,
                    endpoint,
                    method,
                    templates: 0,
                    tally: Tally::default(),
                    trash: None,
                });
                Server::new(id, endpoint, weight, thresholds)
            }
        };
        self.service(&key).unwrap().list.add(server);
        true
    }

    pub fn edit_dest(
        &mut self,
        key: ServiceKey,
        endpoint: Endpoint,
        method: ForwardMethod,
        weight: u32,
        thresholds: Thresholds,
    ) -> bool {
        let endpoint = with_port(&key, endpoint, method);
        let Some(id) = self.in_service(&key, endpoint) else {
            return false;
        };
        if thresholds.lower > thresholds.upper {
            return false;
        }
        self.dest(id).method = method;
        let list = &mut self.service(&key).unwrap().list;
        list.set_weight(id, weight);
        list.server(id).set_thresholds(thresholds);
        list.updated();
        true
    }

    pub fn delete_dest(&mut self, key: ServiceKey, endpoint: Endpoint) -> bool {
        let Some(id) = self.in_service(&key, endpoint) else {
            return false;
        };
        self.discard(id);
        true
    }

    /// Into the trash (0.4).
    fn discard(&mut self, id: u32) {
        let key = self.dest(id).service;
        let server = self.service(&key).unwrap().list.remove(id);
        self.dest(id).trash = Some(Trash {
            server,
            idle_since: None,
        });
        if self.get("expire_nodest_conn") != 0 {
            self.sweep = true;
        }
    }

    /// The trash's timer, once a minute.
    pub(super) fn empty_trash(&mut self) {
        let now = self.now;
        self.dests.retain_mut(|dest| {
            let Some(trash) = &mut dest.trash else {
                return true;
            };
            let held = trash.server.active + trash.server.inactive != 0 || dest.templates != 0;
            if held {
                trash.idle_since = None;
                return true;
            }
            now - *trash.idle_since.get_or_insert(now) < 120 * SECOND
        });
    }

    pub fn zero(&mut self, key: Option<ServiceKey>) -> bool {
        if key.is_some_and(|key| self.service(&key).is_none()) {
            return false;
        }
        let meant = |of: ServiceKey| key.is_none_or(|key| key == of);
        for service in self.services.iter_mut().filter(|s| meant(s.key)) {
            service.tally.zero = service.tally.total;
        }
        for dest in self
            .dests
            .iter_mut()
            .filter(|d| d.is_available() && meant(d.service))
        {
            dest.tally.zero = dest.tally.total;
        }
        if key.is_none() {
            self.tally.zero = self.tally.total;
        }
        true
    }

    /// Counts something for a destination, its service and the total, if it is in service (7.1).
    pub(super) fn count(&mut self, id: u32, change: impl Fn(&mut Counters)) {
        if !self.dest(id).is_available() {
            return;
        }
        let key = self.dest(id).service;
        change(&mut self.dest(id).tally.total);
        change(&mut self.service(&key).unwrap().tally.total);
        change(&mut self.tally.total);
    }

    pub(super) fn pick(&mut self, key: &ServiceKey, ask: Ask) -> Option<u32> {
        self.service(key).unwrap().list.pick(ask)
    }
}

/// With direct routing and tunnels the port is the service's (5.3).
fn with_port(key: &ServiceKey, endpoint: Endpoint, method: ForwardMethod) -> Endpoint {
    match key {
        ServiceKey::Endpoint { vip, .. } if method != ForwardMethod::Masquerade => {
            Endpoint::new(endpoint.addr, vip.port)
        }
        _ => endpoint,
    }
}
