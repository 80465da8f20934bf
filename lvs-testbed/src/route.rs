//! Routes, rules and neighbours.

use std::net::IpAddr;

use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleAction;
use rtnetlink::RouteMessageBuilder;

use crate::{Error, Namespace, Result};

/// The main routing table.
const MAIN: u32 = 254;

impl Namespace {
    /// The default route of this family.
    ///
    /// # Errors
    ///
    /// When there is one already or the gateway is on no link.
    pub fn add_default_route(&self, gateway: IpAddr) -> Result<()> {
        self.add_route_in(MAIN, unspecified(gateway), 0, gateway)
    }

    /// Takes the default route through `gateway` away.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn delete_default_route(&self, gateway: IpAddr) -> Result<()> {
        let message = route(MAIN, unspecified(gateway), 0, gateway)?;
        let doing = format!("delete the route through {gateway}");
        self.netlink(doing, async |handle| {
            handle.route().del(message).execute().await
        })
    }

    /// A route to `destination`/`prefix` through `gateway`.
    ///
    /// # Errors
    ///
    /// When there is one already or the gateway is on no link.
    pub fn add_route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
        self.add_route_in(MAIN, destination, prefix, gateway)
    }

    /// Everything sent from `source` goes through `gateway`, by a rule and a table of its own.
    ///
    /// # Errors
    ///
    /// When the kernel has no policy routing, or the gateway is on no link.
    pub fn route_from(&self, source: IpAddr, gateway: IpAddr, table: u32) -> Result<()> {
        self.add_route_in(table, unspecified(gateway), 0, gateway)?;
        self.netlink(format!("add a rule from {source}"), async |handle| {
            let rule = handle.rule().add().table_id(table).priority(table);
            let rule = rule.action(RuleAction::ToTable);
            match source {
                IpAddr::V4(v4) => rule.v4().source_prefix(v4, 32).execute().await,
                IpAddr::V6(v6) => rule.v6().source_prefix(v6, 128).execute().await,
            }
        })
    }

    /// A permanent neighbour, so that no resolution happens.
    ///
    /// # Errors
    ///
    /// When there is no such interface.
    pub fn add_neighbour(&self, interface: &str, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(format!("add neighbour {address}"), async |handle| {
            let request = handle.neighbours().add(index, address);
            request.link_layer_address(&mac).replace().execute().await
        })
    }

    fn add_route_in(&self, table: u32, to: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
        let message = route(table, to, prefix, gateway)?;
        let doing = format!("add the route {to}/{prefix} through {gateway}");
        self.netlink(doing, async |handle| {
            handle.route().add(message).execute().await
        })
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn route(table: u32, to: IpAddr, prefix: u8, gateway: IpAddr) -> Result<RouteMessage> {
    match (to, gateway) {
        (IpAddr::V4(to), IpAddr::V4(gateway)) => {
            Ok(RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(to, prefix)
                .gateway(gateway)
                .table_id(table)
                .build())
        }
        (IpAddr::V6(to), IpAddr::V6(gateway)) => {
            Ok(RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(to, prefix)
                .gateway(gateway)
                .table_id(table)
                .build())
        }
        _ => Err(Error::Unexpected {
            doing: "build a route".into(),
            got: format!("a gateway of another family: {to} through {gateway}"),
        }),
    }
}
