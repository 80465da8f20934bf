//! What helpers do to the packets of a connection that they look into.
//!
//! In: a packet before it is rewritten. Out: the packet with the numbers, and the text, that its
//! receiver shall see; the connections that were announced. A packet that cannot be changed goes on
//! as it is.

use super::{Expected, Helper, Opener, Text};
use crate::decide::Decider;
use crate::route::Routes;
use lvs_conn::{Conn, Direction, Inserted, NewConnection};
use lvs_core::state::tcp;
use lvs_core::{Endpoint, Flow, ForwardMethod, Protocol, Tick};
use lvs_packet::{Frame, Kind, Packet, stream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How long an expected connection is waited for, in seconds: TCP's LISTEN (IPVS 2.7).
const LISTEN: u32 = 120;

/// The helpers of one director, by service port.
#[derive(Clone, Debug)]
pub(crate) struct Helpers {
    all: Vec<(u16, Arc<dyn Helper>)>,
    /// A bit for the ports of which one has a helper.
    ports: u64,
}

impl Default for Helpers {
    /// FTP at its port, as in the kernel.
    fn default() -> Self {
        Self::new(&[(crate::rules::FTP, Arc::new(super::Ftp))])
    }
}

impl Helpers {
    pub(crate) fn new(helpers: &[(u16, Arc<dyn Helper>)]) -> Self {
        Self {
            all: helpers.to_vec(),
            ports: helpers
                .iter()
                .fold(0, |ports, (port, _)| ports | bit(*port)),
        }
    }

    /// The ports of which one may have a helper.
    #[inline]
    pub(crate) const fn ports(&self) -> Ports {
        Ports(self.ports)
    }

    /// The helper of a service port.
    #[inline(always)]
    pub(crate) fn of(&self, port: u16) -> Option<&dyn Helper> {
        match self.ports & bit(port) {
            0 => None,
            _ => self.find(port),
        }
    }

    #[cold]
    fn find(&self, port: u16) -> Option<&dyn Helper> {
        let found = self.all.iter().find(|(of, _)| *of == port);
        found.map(|(_, helper)| &**helper)
    }
}

/// Ports, of which some have a helper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports(u64);

impl Ports {
    /// Whether this may be one that has.
    #[inline(always)]
    pub(crate) const fn may_have(self, port: u16) -> bool {
        self.0 & bit(port) != 0
    }
}

/// One of 64 bits, shared by many ports.
#[inline]
const fn bit(port: u16) -> u64 {
    1 << (port % 64)
}

impl<'g, R: Routes> Decider<'_, 'g, R> {
    /// Whether a connection that begins will be looked into.
    #[inline(always)]
    pub(crate) fn will_help(&self, flow: &Flow, method: ForwardMethod) -> bool {
        method == ForwardMethod::Masquerade
            && flow.protocol == Protocol::Tcp
            && self.rules.helpers.of(flow.dst.port).is_some()
    }

    /// Has the helper of a connection, if it has one, look into a packet and change it. Answers the
    /// packet as it is now if it was changed.
    #[inline]
    pub(crate) fn helped(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        from: Direction,
    ) -> Option<Packet> {
        let rules = self.rules;
        let helper = rules.helpers.of(conn.ports().virtual_port())?;
        if conn.is_helped() {
            self.help(frame, packet, conn, from, helper)
        } else {
            None
        }
    }

    #[cold]
    fn help(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        conn: Conn<'g>,
        from: Direction,
        helper: &dyn Helper,
    ) -> Option<Packet> {
        let numbers = stream::numbers(frame, packet).filter(|_| packet.kind == Kind::Tcp);
        let (sequence, acknowledged) = numbers?;
        let to = match from {
            Direction::FromClient => Direction::FromServer,
            Direction::FromServer => Direction::FromClient,
        };
        let (own, other) = (conn.shift(from), conn.shift(to));
        if !own.is_none() || !other.is_none() {
            let (forth, back) = (own.forth(sequence), other.back(acknowledged));
            stream::renumber(frame, packet, forth, back);
        }
        if conn.state() != tcp::ESTABLISHED {
            return None;
        }
        let payload = stream::payload(frame, packet)?;
        let expected = match from {
            Direction::FromClient => helper.client_said(payload),
            Direction::FromServer => helper.server_said(payload),
        }?;
        self.expect(conn, &expected);
        let at = expected.replace?;
        let mut text = Text::new();
        helper.write(
            Endpoint {
                port: expected.port,
                ..conn.virtual_endpoint()
            },
            &mut text,
        );
        let (old, new) = (at.len(), text.as_bytes().len());
        let by = i8::try_from(new.cast_signed() - old.cast_signed()).ok()?;
        stream::replace(frame, packet, at, text.as_bytes()).ok()?;
        if by != 0 {
            conn.set_shift(from, own.changed(sequence, by));
        }
        lvs_packet::parse(frame).ok()
    }

    /// Makes the connection that was announced, before its first packet comes.
    fn expect(&mut self, control: Conn<'g>, expected: &Expected) {
        let port = |endpoint: Endpoint, port| Endpoint { port, ..endpoint };
        let (client, vip) = (control.client(), control.virtual_endpoint());
        let server = control.destination();
        let (client, vip, server) = match expected.opener {
            Opener::Client => (
                port(client, 0),
                port(vip, expected.port),
                port(server, expected.port),
            ),
            Opener::Server => (
                port(client, expected.port),
                port(vip, vip.port.wrapping_sub(1)),
                port(server, server.port.wrapping_sub(1)),
            ),
        };
        let Some(destination) = self.rules.destination_of(control.dest()) else {
            return;
        };
        let new = NewConnection {
            protocol: Protocol::Tcp,
            client,
            virtual_endpoint: vip,
            destination: server,
            dest: control.dest(),
            mark: control.mark(),
            control: Some(control.id()),
            // It waits for its client's port.
            helped: client.port == 0,
            timeout: Tick::seconds(LISTEN),
            now: self.now,
            ..NewConnection::default()
        };
        let mut made = self.guard.insert(&new);
        if let Ok(Inserted::Existing(old)) = made {
            if old.destination() == server && old.state() == tcp::LISTEN {
                old.rearm(new.timeout, self.now);
                return;
            }
            // The client's own, of another time or another server.
            old.unlink(self.now);
            made = self.guard.insert(&new);
        }
        if let Ok(Inserted::New(conn)) = made {
            conn.set_state(tcp::LISTEN);
            destination.backend.opened(false);
            self.fresh.add(client);
            if client.port == 0 {
                self.waiting.fetch_add(1, Relaxed);
            }
        }
    }

    /// The connection that a client's first packet was expected to begin, with the port that it
    /// comes from (IPVS 2.2).
    #[cold]
    pub(crate) fn awaited(&mut self, packet: &Packet) -> Option<Conn<'g>> {
        let guard = self.guard;
        let nobody = Endpoint {
            port: 0,
            ..packet.flow.src
        };
        let hit = guard.lookup(&Flow {
            src: nobody,
            ..packet.flow
        })?;
        if hit.direction != Direction::FromClient || !hit.conn.is_helped() {
            return None;
        }
        let waited = hit.conn;
        let destination = self.rules.destination_of(waited.dest())?;
        let new = NewConnection {
            protocol: Protocol::Tcp,
            client: packet.flow.src,
            virtual_endpoint: waited.virtual_endpoint(),
            destination: waited.destination(),
            dest: waited.dest(),
            mark: waited.mark(),
            control: waited.control().map(Conn::id),
            now: self.now,
            ..NewConnection::default()
        };
        match guard.insert(&new) {
            Ok(Inserted::New(conn)) => {
                conn.set_state(waited.state());
                destination.backend.opened(false);
                self.fresh.add(packet.flow.src);
                waited.unlink(self.now);
                Some(conn)
            }
            Ok(Inserted::Existing(conn)) => Some(conn),
            Err(_) => None,
        }
    }
}
