//! What a connection is made of: the values that somebody who inserts one has to say.
//!
//! In: nothing; out: nothing. Plain values, which [`Guard::insert`](crate::Guard::insert) takes.

use crate::conn::{ConnId, DestinationId};
use crate::entry::Identity;
use crate::timeouts::{self, First};
use lvs_core::{Endpoint, Flow, ForwardMethod, Protocol, Tick};

/// What kind of connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ConnKind {
    /// One that packets find.
    #[default]
    Normal,
    /// A persistence template (IPVS 2.5): only [`Guard::lookup_template`](crate::Guard::lookup_template)
    /// finds it, only by its client's flow.
    Template,
    /// Made for one packet (IPVS 2.6): nothing finds it, and it ends at the collector's next run.
    OnePacket,
}

/// What [`Guard::insert`](crate::Guard::insert) makes a connection of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnection {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: Endpoint,
    /// What it asks for: the VIP and its port.
    pub virtual_endpoint: Endpoint,
    /// The server that gets it.
    pub destination: Endpoint,
    /// FULLNAT's own endpoint towards the server.
    pub local: Option<Endpoint>,
    /// How packets reach the server.
    pub method: ForwardMethod,
    /// The server as the caller's rules number it.
    pub dest: DestinationId,
    /// The firewall mark of the packet that made it.
    pub mark: u32,
    /// Whether the server has to be told its client, as it sees the director (FULLNAT).
    pub tell: bool,
    /// What kind of connection.
    pub kind: ConnKind,
    /// The connection that controls it: its template, or that of the protocol's commands. It does
    /// not end before those that it controls (IPVS 2.4, rule 4). Of the present guard; one that is
    /// ending at this moment is left out.
    pub control: Option<ConnId>,
    /// Whether somebody looks into what it carries, or it waits for its client's port; see
    /// [`Conn::is_helped`](crate::Conn::is_helped). Not with FULLNAT.
    pub helped: bool,
    /// Ticks until it ends, unless a packet moves it on.
    pub timeout: u32,
    /// What the packet that it is made for makes of it, instead of `timeout`: that packet does not
    /// move it on again. Of a connection that packets find.
    pub first: Option<First>,
    /// The present moment.
    pub now: Tick,
}

impl Default for NewConnection {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            client: Endpoint::default(),
            virtual_endpoint: Endpoint::default(),
            destination: Endpoint::default(),
            local: None,
            method: ForwardMethod::Masquerade,
            dest: DestinationId::default(),
            mark: 0,
            tell: false,
            kind: ConnKind::Normal,
            control: None,
            helped: false,
            timeout: timeouts::NEW,
            first: None,
            now: Tick::default(),
        }
    }
}

impl NewConnection {
    /// The flow of the client's packets.
    #[inline]
    pub(crate) const fn request(&self) -> Flow {
        Flow::new(self.protocol, self.client, self.virtual_endpoint)
    }

    /// What does not change while it lives.
    pub(crate) const fn identity(&self) -> Identity {
        Identity {
            protocol: self.protocol,
            method: self.method,
            client: self.client,
            virtual_: self.virtual_endpoint,
            server: self.destination,
            local: self.local,
        }
    }
}
