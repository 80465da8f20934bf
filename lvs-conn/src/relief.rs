//! Ending many connections at once: those of a destination, those of a service, and, when room is
//! short, first those whose clients have proved nothing.
//!
//! In: a condition. Out: connections that end at the collector's next run. Never: a wait of a worker;
//! each step looks at a few hundred entries. The random defence of IPVS (`drop_entry`), which asks
//! the rules as well, is a caller of [`Table::scan_from`].
//!
//! ```
//! use lvs_conn::{NewConnection, Table, TableConfig};
//! use lvs_core::Tick;
//! use std::sync::Arc;
//!
//! let table = Arc::new(Table::new(&TableConfig::with_capacity(100))?);
//! let mut handle = table.register();
//! handle.pin().insert(&NewConnection::default())?;
//! let relief = table.relieve(&mut handle, 0, Tick(5), 10, usize::MAX);
//! assert_eq!((relief.expired, relief.next), (1, None));
//! assert_eq!(table.collect(Tick(5), usize::MAX, &mut |_| {}), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::conn::{Conn, DestinationId};
use crate::handle::Handle;
use crate::new_connection::ConnKind;
use crate::table::Table;
use lvs_core::state::{sctp, tcp, template};
use lvs_core::{Endpoint, Protocol, Tick};

/// How far [`Table::relieve`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relief {
    /// Connections that end at the collector's next run.
    pub expired: usize,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<usize>,
}

impl Conn<'_> {
    /// Whether the client has not proved yet that it exists: TCP and SCTP before the handshake is
    /// done, a template that is not assured. Of other protocols that cannot be told.
    #[must_use]
    pub fn is_half_open(self) -> bool {
        if self.kind() == ConnKind::Template {
            return self.state() != template::ASSURED;
        }
        match self.protocol() {
            Protocol::Tcp => matches!(
                self.state(),
                tcp::NONE | tcp::SYN_SENT | tcp::SYN_RECV | tcp::SYNACK
            ),
            Protocol::Sctp => self.state() < sctp::ESTABLISHED,
            _ => false,
        }
    }
}

impl Table {
    /// Makes room where it is cheapest: expires half-open connections from entry `from` on, until
    /// `wanted` are found or `budget` entries looked at, and those that they leave without use above
    /// them. What controls others stays. For a table that is nearly full; to be called again with
    /// [`Relief::next`], or from 0.
    pub fn relieve(
        &self,
        handle: &mut Handle,
        from: usize,
        now: Tick,
        wanted: usize,
        budget: usize,
    ) -> Relief {
        let end = from.saturating_add(budget);
        let mut relief = Relief {
            expired: 0,
            next: Some(from),
        };
        while let Some(at) = relief.next
            && relief.expired < wanted
            && at < end
        {
            relief.next = self.scan_from(handle, at, |conn| {
                if relief.expired < wanted && conn.is_half_open() && conn.children() == 0 {
                    conn.expire_chain(now);
                    relief.expired += 1;
                }
            });
        }
        relief
    }

    /// Expires all connections and templates of a destination; answers how many.
    pub fn expire_destination(&self, handle: &mut Handle, dest: DestinationId, now: Tick) -> usize {
        self.expire_where(handle, now, |conn| conn.dest() == dest)
    }

    /// Expires all connections that clients have with an endpoint, with port 0 with any of its
    /// ports; answers how many.
    pub fn expire_service(
        &self,
        handle: &mut Handle,
        protocol: Protocol,
        service: Endpoint,
        now: Tick,
    ) -> usize {
        self.expire_where(handle, now, |conn| {
            let at = conn.virtual_endpoint();
            let port = service.port == 0 || service.port == at.port;
            conn.protocol() == protocol && at.addr == service.addr && port
        })
    }

    /// Calls `each` with the connections that `which` chooses; otherwise like
    /// [`scan`](Self::scan).
    pub fn scan_where(
        &self,
        handle: &mut Handle,
        mut which: impl FnMut(&Conn<'_>) -> bool,
        mut each: impl FnMut(&Conn<'_>),
    ) {
        self.scan(handle, |conn| {
            if which(conn) {
                each(conn);
            }
        });
    }
}

#[cfg(all(test, not(lvs_loom)))]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]
mod tests {
    use super::*;
    use crate::{Direction, Event, Inserted, NewConnection, TableConfig, Timeouts};
    use lvs_core::Addr;
    use std::sync::Arc;

    fn new(n: u32) -> NewConnection {
        NewConnection {
            client: Endpoint::new(Addr::from_v4_bits(n), 1000),
            virtual_endpoint: Endpoint::new(Addr::from_v4_bits(7), 80 + (n % 2) as u16),
            dest: DestinationId {
                index: n % 3,
                generation: 1,
            },
            timeout: Tick::seconds(900),
            ..NewConnection::default()
        }
    }

    fn filled() -> (Arc<Table>, Handle) {
        let table = Arc::new(Table::new(&TableConfig::with_capacity(1200)).unwrap());
        let mut handle = table.register();
        let timeouts = Timeouts::default();
        for n in 0..1200 {
            let guard = handle.pin();
            let Ok(Inserted::New(conn)) = guard.insert(&new(n)) else {
                panic!("there is room")
            };
            let handshake = [
                (Direction::FromClient, 0x02),
                (Direction::FromServer, 0x12),
                (Direction::FromClient, 0x10),
            ];
            for (direction, flags) in handshake.into_iter().take(if n % 4 == 0 { 1 } else { 3 }) {
                conn.advance(direction, Event::tcp(flags), Tick(0), &timeouts);
            }
        }
        table.collect(Tick(0), usize::MAX, &mut |_| {});
        (table, handle)
    }

    /// Half-open ones go first, no more than wanted, and established ones not at all.
    #[test]
    fn half_open_ones_make_room() {
        let (table, mut handle) = filled();
        let first = table.relieve(&mut handle, 0, Tick(1), 100, usize::MAX);
        assert_eq!(first.expired, 100);
        let rest = table.relieve(&mut handle, 0, Tick(1), usize::MAX, usize::MAX);
        // Those that were expired before are still there until the collector runs.
        assert_eq!((rest.expired, rest.next), (300, None));
        let mut ended = 0;
        table.collect(Tick(1), usize::MAX, &mut |conn| {
            assert!(conn.is_half_open());
            ended += 1;
        });
        assert_eq!((ended, table.len()), (300, 900));
        let none = table.relieve(&mut handle, 0, Tick(1), 1, usize::MAX);
        assert_eq!((none.expired, none.next), (0, None));
    }

    /// Not longer than it may take, and all in the end.
    #[test]
    fn a_search_can_be_cut_in_slices() {
        let (table, mut handle) = filled();
        let (mut at, mut slices, mut expired) = (Some(0), 0, 0);
        while let Some(from) = at {
            let relief = table.relieve(&mut handle, from, Tick(1), usize::MAX, 300);
            assert!(relief.next.is_none_or(|next| next <= from + 512));
            (at, slices, expired) = (relief.next, slices + 1, expired + relief.expired);
        }
        assert_eq!((slices, expired), (3, 300));
    }

    #[test]
    fn all_of_a_destination_or_a_service_end() {
        let (table, mut handle) = filled();
        let dest = new(1).dest;
        assert_eq!(table.expire_destination(&mut handle, dest, Tick(1)), 400);
        assert_eq!(table.collect(Tick(1), usize::MAX, &mut |_| {}), 400);
        let other = DestinationId {
            generation: 2,
            ..new(2).dest
        };
        assert_eq!(table.expire_destination(&mut handle, other, Tick(1)), 0);
        let service = new(0).virtual_endpoint;
        let of = |protocol, service| (protocol, service);
        let (protocol, at) = of(Protocol::Udp, service);
        assert_eq!(table.expire_service(&mut handle, protocol, at, Tick(1)), 0);
        let mut seen = 0;
        table.scan_where(
            &mut handle,
            |conn| conn.virtual_endpoint() == service,
            |_| seen += 1,
        );
        assert_eq!(
            table.expire_service(&mut handle, Protocol::Tcp, service, Tick(1)),
            seen
        );
        assert_eq!(table.collect(Tick(1), usize::MAX, &mut |_| {}), seen);
        let any = Endpoint { port: 0, ..service };
        let left = table.len();
        assert_eq!(
            table.expire_service(&mut handle, Protocol::Tcp, any, Tick(1)),
            left
        );
    }
}
