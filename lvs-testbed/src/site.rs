//! Clients, a director's place and servers, wired and addressed.
//!
//! In: a [`SiteConfig`]. Out: a [`Site`] whose director namespace has addresses and routes and
//! nothing else: whoever directs is started in it. The gateway forwards the replies of DR and TUN
//! servers, whose source is the VIP, straight to the clients: servers choose it by source address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::ForwardMethod;

use crate::http::HttpServer;
use crate::{Decapsulator, Namespace, Result, Veth};

/// How clients, director and servers are wired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wiring {
    /// Bridges on both sides and a gateway for direct replies: every forwarding method works.
    #[default]
    Switched,
    /// One client and one server, each at the other end of a veth of the director: the shortest
    /// way, to measure the director alone. NAT only.
    Direct,
}

/// Where the director's host has the VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VipPlace {
    /// Nowhere: somebody must answer for them.
    #[default]
    Nowhere,
    /// On `lo`. The kernel then answers ARP for them but no neighbour solicitation.
    Loopback,
    /// On `d0`, the clients' side, as LVS users do.
    Front,
}

/// What a [`Site`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// Number of clients, 1 to 100.
    pub clients: u16,
    /// Number of servers, 1 to 100.
    pub servers: u16,
    /// MTU of every interface, 1280 to 65535.
    pub mtu: u32,
    /// Whether interfaces hand over GSO frames and unfinished checksums.
    pub offloads: bool,
    /// Whether the director's kernel forwards.
    pub director_forwards: bool,
    /// Where the director's host has the VIPs.
    pub vips: VipPlace,
    /// How they are wired.
    pub wiring: Wiring,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            clients: 1,
            servers: 3,
            mtu: 1500,
            offloads: true,
            director_forwards: false,
            vips: VipPlace::Nowhere,
            wiring: Wiring::Switched,
        }
    }
}

/// The virtual addresses of a site, one for each forwarding method so that all work side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vip {
    /// 10.1.0.100, fd01::100.
    Nat,
    /// 10.1.0.101, fd01::101; also on the servers' `lo`.
    DirectRoute,
    /// 10.1.0.102, fd01::102; also on the servers' `lo`.
    Tunnel,
}

impl Vip {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nat, Self::DirectRoute, Self::Tunnel];

    /// The method that this address is for.
    #[must_use]
    pub const fn method(self) -> ForwardMethod {
        match self {
            Self::Nat => ForwardMethod::Masquerade,
            Self::DirectRoute => ForwardMethod::DirectRoute,
            Self::Tunnel => ForwardMethod::Tunnel,
        }
    }

    /// The word of configuration files: `nat`, `dr`, `tun`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::DirectRoute => "dr",
            Self::Tunnel => "tun",
        }
    }

    /// The address.
    ///
    /// ```
    /// use lvs_testbed::Vip;
    /// assert_eq!(Vip::Nat.address(false).to_string(), "10.1.0.100");
    /// assert_eq!(Vip::Tunnel.address(true).to_string(), "fd01::102");
    /// ```
    #[must_use]
    pub fn address(self, ipv6: bool) -> IpAddr {
        let last = match self {
            Self::Nat => 0,
            Self::DirectRoute => 1,
            Self::Tunnel => 2,
        };
        if ipv6 {
            front6(0x100 + last)
        } else {
            IpAddr::from([10, 1, 0, 100 + u8::try_from(last).unwrap_or(0)])
        }
    }

    /// The address and a port.
    #[must_use]
    pub fn endpoint(self, ipv6: bool, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(ipv6), port)
    }
}

/// The network. Everything in it goes with it.
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    clients: Vec<Namespace>,
    director: Namespace,
    servers: Vec<Namespace>,
    fabric: Option<Namespace>,
    decapsulators: Vec<Decapsulator>,
}

fn v4(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, net, 0, host).into()
}

fn v6(net: u16, host: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00 + net, 0, 0, 0, 0, 0, 0, host).into()
}

fn front6(host: u16) -> IpAddr {
    v6(1, host)
}

/// An address on the front (net 1) or back (net 2) side, in both families.
fn both(net: u8, host: u8) -> [(IpAddr, u8); 2] {
    // Hosts look alike in both families: 10.2.0.11 and fd02::11.
    let alike = u16::from_str_radix(&host.to_string(), 16).unwrap_or(0);
    [(v4(net, host), 24), (v6(u16::from(net), alike), 64)]
}

fn put_vips(namespace: &Namespace, interface: &str, vips: &[Vip]) -> Result<()> {
    for vip in vips {
        namespace.add_address(interface, vip.address(false), 32)?;
        namespace.add_address(interface, vip.address(true), 128)?;
    }
    Ok(())
}

/// The director, on both nets.
const DIRECTOR: u8 = 1;
/// The gateway of direct replies, on both nets.
const GATEWAY: u8 = 254;

impl Site {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// What is missing or refused.
    pub fn new(config: SiteConfig) -> Result<Self> {
        let numbered = |what: &str, count: u16| {
            (1..=count)
                .map(|n| Namespace::new(&format!("{what}-{n}")))
                .collect::<Result<Vec<_>>>()
        };
        let mut site = Self {
            config,
            clients: numbered("client", config.clients)?,
            director: Namespace::new("director")?,
            servers: numbered("server", config.servers)?,
            fabric: None,
            decapsulators: Vec::new(),
        };
        match config.wiring {
            Wiring::Switched => site.wire_switched()?,
            Wiring::Direct => site.wire_direct()?,
        }
        site.address_director()?;
        for (n, client) in (0..).zip(&site.clients) {
            site.plug(client, "eth0", 1, 2 + n)?;
            client.add_default_route(v4(1, DIRECTOR))?;
            client.add_default_route(front6(u16::from(DIRECTOR)))?;
        }
        for (n, server) in (0..).zip(&site.servers) {
            site.plug(server, "eth0", 2, 11 + n)?;
            site.prepare_server(server)?;
        }
        if config.wiring == Wiring::Switched {
            for server in &site.servers {
                site.decapsulators
                    .push(Decapsulator::start(server, "eth0")?);
            }
        }
        Ok(site)
    }

    fn wire_switched(&mut self) -> Result<()> {
        let fabric = Namespace::new("fabric")?;
        for (bridge, net) in [("front", 1), ("back", 2)] {
            fabric.add_bridge(bridge)?;
            fabric.set_mtu(bridge, self.config.mtu)?;
            for (address, prefix) in both(net, GATEWAY) {
                fabric.add_address(bridge, address, prefix)?;
            }
        }
        let plug = |namespace: &Namespace, end: &str, bridge: &str, port: &str| {
            Veth::connect(namespace, end, &fabric, port)?;
            fabric.set_mtu(port, self.config.mtu)?;
            fabric.set_offloads(port, self.config.offloads)?;
            fabric.add_port(bridge, port)
        };
        plug(&self.director, "d0", "front", "d0")?;
        plug(&self.director, "d1", "back", "d1")?;
        for (n, client) in (1..).zip(&self.clients) {
            plug(client, "eth0", "front", &format!("c{n}"))?;
        }
        for (n, server) in (1..).zip(&self.servers) {
            plug(server, "eth0", "back", &format!("s{n}"))?;
        }
        for bridge in ["front", "back"] {
            fabric.set_mtu(bridge, self.config.mtu)?;
        }
        fabric.set_forwarding(true)?;
        self.fabric = Some(fabric);
        Ok(())
    }

    fn wire_direct(&self) -> Result<()> {
        if let Some(client) = self.clients.first() {
            Veth::connect(client, "eth0", &self.director, "d0")?;
        }
        if let Some(server) = self.servers.first() {
            Veth::connect(server, "eth0", &self.director, "d1")?;
        }
        Ok(())
    }

    fn address_director(&self) -> Result<()> {
        self.plug(&self.director, "d0", 1, DIRECTOR)?;
        self.plug(&self.director, "d1", 2, DIRECTOR)?;
        self.director
            .set_forwarding(self.config.director_forwards)?;
        match self.config.vips {
            VipPlace::Nowhere => Ok(()),
            VipPlace::Loopback => put_vips(&self.director, "lo", &Vip::ALL),
            VipPlace::Front => put_vips(&self.director, "d0", &Vip::ALL),
        }
    }

    /// MTU, offloads and addresses of one interface.
    fn plug(&self, namespace: &Namespace, interface: &str, net: u8, host: u8) -> Result<()> {
        namespace.set_mtu(interface, self.config.mtu)?;
        namespace.set_offloads(interface, self.config.offloads)?;
        for (address, prefix) in both(net, host) {
            namespace.add_address(interface, address, prefix)?;
        }
        Ok(())
    }

    /// NAT replies go through the director, replies from a VIP through the gateway.
    fn prepare_server(&self, server: &Namespace) -> Result<()> {
        for ((director, _), (gateway, _)) in both(2, DIRECTOR).into_iter().zip(both(2, GATEWAY)) {
            server.add_default_route(director)?;
            if self.config.wiring == Wiring::Switched {
                for (table, vip) in (100..).zip([Vip::DirectRoute, Vip::Tunnel]) {
                    server.route_from(vip.address(gateway.is_ipv6()), gateway, table)?;
                }
            }
        }
        server.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        server.set_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
        put_vips(server, "lo", &[Vip::DirectRoute, Vip::Tunnel])
    }

    /// What it was built from.
    #[must_use]
    pub const fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// The first client.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        self.clients.first().unwrap_or(&self.director)
    }

    /// Every client.
    #[must_use]
    pub fn clients(&self) -> &[Namespace] {
        &self.clients
    }

    /// The director's place: `d0` towards the clients, `d1` towards the servers.
    #[must_use]
    pub const fn director(&self) -> &Namespace {
        &self.director
    }

    /// Every server.
    #[must_use]
    pub fn servers(&self) -> &[Namespace] {
        &self.servers
    }

    /// The bridges `front` and `back`; none when wired directly.
    #[must_use]
    pub const fn fabric(&self) -> Option<&Namespace> {
        self.fabric.as_ref()
    }

    /// The decapsulators of the servers, in their order.
    #[must_use]
    pub fn decapsulators(&self) -> &[Decapsulator] {
        &self.decapsulators
    }

    /// The address of server `index`, from 0: 10.2.0.11 and on, fd02::11 and on.
    #[must_use]
    pub fn server_address(&self, index: u16, ipv6: bool) -> IpAddr {
        let [(v4, _), (v6, _)] = both(2, 11 + u8::try_from(index).unwrap_or(0));
        if ipv6 { v6 } else { v4 }
    }

    /// The address of client `index`, from 0: 10.1.0.2 and on, fd01::2 and on.
    #[must_use]
    pub fn client_address(&self, index: u16, ipv6: bool) -> IpAddr {
        let [(v4, _), (v6, _)] = both(1, 2 + u8::try_from(index).unwrap_or(0));
        if ipv6 { v6 } else { v4 }
    }

    /// The director's address on the servers' side (`true`) or the clients'.
    #[must_use]
    pub fn director_address(&self, back: bool, ipv6: bool) -> IpAddr {
        let [(v4, _), (v6, _)] = both(if back { 2 } else { 1 }, DIRECTOR);
        if ipv6 { v6 } else { v4 }
    }

    /// An HTTP server on every server, on `port` of every address: `server-1`, `server-2`, ...
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn start_http(&self, port: u16) -> Result<Vec<HttpServer>> {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        self.servers
            .iter()
            .map(|server| HttpServer::start(server, &[any], server.name()))
            .collect()
    }
}
