//! Connections: how they are found, made, moved and ended (IPVS 2.1 to 2.4, 2.11).

use super::states::ESTABLISHED;
use super::{SECOND, World};
use lvs_core::{Endpoint, ForwardMethod, Protocol};

/// The columns of the state tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
    InputOnly,
}

#[derive(Clone, Debug)]
pub struct Conn {
    pub id: u64,
    pub protocol: Protocol,
    pub client: Endpoint,
    pub vip: Endpoint,
    pub server: Endpoint,
    pub method: ForwardMethod,
    pub dest: u32,
    pub template: bool,
    pub parent: Option<u64>,
    pub state: &'static str,
    pub assured: bool,
    pub no_output: bool,
    pub inactive: bool,
    /// Ticks.
    pub timeout: u64,
    /// When its timer fires.
    pub deadline: u64,
    /// A template that is not found any more (2.5).
    pub invalid: bool,
    /// Expired, and only waiting for its timer (2.4, rule 6).
    pub expired: bool,
}

impl World {
    pub fn conn(&mut self, id: u64) -> &mut Conn {
        self.conns.iter_mut().find(|conn| conn.id == id).unwrap()
    }

    pub(super) fn find(&self, is: impl Fn(&Conn) -> bool) -> Option<Conn> {
        let found = self.conns.iter().find(|conn| !conn.expired && is(conn));
        found.cloned()
    }

    pub(super) fn children(&self, id: u64) -> usize {
        let of = |conn: &&Conn| conn.parent == Some(id);
        self.conns.iter().filter(of).count()
    }

    /// Makes one, bound to its destination (2.4, rules 1 and 2).
    pub(super) fn make(&mut self, mut conn: Conn) -> u64 {
        self.last_conn += 1;
        conn.id = self.last_conn;
        conn.method = self.dest(conn.dest).method;
        conn.no_output = conn.method != ForwardMethod::Masquerade;
        conn.inactive = true;
        if conn.template {
            self.dest(conn.dest).templates += 1;
            self.server(conn.dest).judge();
        } else {
            self.server(conn.dest).opened(false);
        }
        let id = conn.id;
        self.conns.push(conn);
        self.arm(id);
        id
    }

    /// A packet is done with it: its timer starts again.
    pub(super) fn arm(&mut self, id: u64) {
        let now = self.now;
        let conn = self.conn(id);
        conn.deadline = now + conn.timeout;
    }

    /// Expires it now (2.4, rule 6).
    pub(super) fn expire(&mut self, id: u64) {
        let now = self.now;
        let conn = self.conn(id);
        conn.expired = true;
        conn.deadline = now;
    }

    /// The state machine (2.8 to 2.11).
    pub(super) fn advance(&mut self, id: u64, side: Side, what: u8) {
        let conn = self.conn(id).clone();
        let side = match side {
            Side::Input if conn.no_output => Side::InputOnly,
            other => other,
        };
        let to = self.states.next(conn.protocol, conn.state, side, what);
        let active = self.states.is_active(conn.protocol, to);
        if to != conn.state && active == conn.inactive {
            self.server(conn.dest).moved(active);
            self.conn(id).inactive = !active;
        }
        let timeout = self.states.seconds(conn.protocol, to) * SECOND;
        let change = self.conn(id);
        change.state = to;
        change.timeout = timeout;
        if side == Side::Output {
            change.no_output = false;
        }
        let proved = match conn.protocol {
            Protocol::Udp => side == Side::Output,
            _ => to != conn.state && to == ESTABLISHED,
        };
        if proved && let Some(parent) = conn.parent {
            self.conn(parent).assured = true;
        }
    }

    /// Unhashed, detached, uncounted (2.4, rule 4).
    fn remove(&mut self, id: u64) {
        let at = self.conns.iter().position(|conn| conn.id == id).unwrap();
        let conn = self.conns.remove(at);
        if conn.template {
            self.dest(conn.dest).templates -= 1;
        } else {
            self.server(conn.dest).closed(!conn.inactive);
        }
    }

    /// Its timer fires.
    fn fire(&mut self, id: u64) {
        if self.children(id) == 0 {
            self.remove(id);
            return;
        }
        self.conn(id).timeout = 60 * SECOND;
        self.arm(id);
        self.held_at = self.now;
    }

    /// All connections whose destination is gone (0.4, `expire_nodest_conn`).
    fn sweep(&mut self) {
        let ids: Vec<_> = self.conns.iter().map(|conn| conn.id).collect();
        for id in ids {
            let Some(conn) = self.conns.iter().find(|conn| conn.id == id).cloned() else {
                continue;
            };
            if self.dest(conn.dest).is_available() || self.children(id) != 0 {
                continue;
            }
            self.remove(id);
            if let Some(parent) = conn.parent
                && self.children(parent) == 0
            {
                self.remove(parent);
            }
        }
    }

    /// The next moment at which something may happen, if it comes before `until`.
    pub fn next_moment(&self, until: u64) -> u64 {
        let timers = self.conns.iter().map(|conn| conn.deadline);
        let minute = (self.now / super::MINUTE + 1) * super::MINUTE;
        let sweep = self.sweep.then_some(0);
        let next = timers.chain(sweep).chain([minute]).min().unwrap_or(until);
        next.max(self.now + 1).min(until)
    }

    /// Lets time come to a moment, and what is due happen.
    pub fn pass_to(&mut self, moment: u64) {
        self.now = moment;
        if core::mem::take(&mut self.sweep) {
            self.sweep();
        }
        let first = |world: &Self| {
            let due = world.conns.iter().filter(|conn| conn.deadline <= moment);
            // Of a connection and its template that are due at once the template is the last: the
            // kernel's timers of one moment fire in the reverse order of their arming (recorded).
            due.min_by_key(|conn| (conn.deadline, conn.template))
                .map(|conn| conn.id)
        };
        while let Some(id) = first(self) {
            self.fire(id);
        }
        if moment.is_multiple_of(super::MINUTE) {
            self.empty_trash();
        }
    }
}
