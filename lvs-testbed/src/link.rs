//! Interfaces: veth pairs, bridges, addresses, MTU, up and down, counters.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use netlink_packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};

use crate::{Error, Namespace, Result};

/// Makes veth pairs.
#[derive(Debug)]
pub struct Veth;

impl Veth {
    /// Joins `left` and `right` by a pair whose ends get these names, and sets both up.
    ///
    /// # Errors
    ///
    /// When a name is taken or the kernel has no veth.
    pub fn connect(left: &Namespace, name: &str, right: &Namespace, peer: &str) -> Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let passing = format!("pass{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let doing = format!("join {} and {} by veth", left.name(), right.name());
        let to = right.as_fd().as_raw_fd();
        left.netlink(doing.clone(), async |handle| {
            let pair = LinkVeth::new(name, &passing).build();
            handle.link().add(pair).execute().await?;
            let moved = LinkUnspec::new_with_name(&passing).setns_by_fd(to).build();
            handle.link().set(moved).execute().await
        })?;
        let index = right.index(&passing)?;
        right.netlink(doing, async |handle| {
            let renamed = LinkUnspec::new_with_index(index).name(peer).build();
            handle.link().set(renamed).execute().await
        })?;
        left.set_up(name, true)?;
        right.set_up(peer, true)
    }
}

/// What has passed an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Octets received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Octets sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// To be sent and dropped.
    pub tx_dropped: u64,
}

impl Namespace {
    /// The index of an interface.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`].
    pub fn index(&self, interface: &str) -> Result<u32> {
        let found = self.run(|| {
            let socket =
                socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None).ok()?;
            rustix::net::netdevice::name_to_index(&socket, interface).ok()
        })?;
        found.ok_or_else(|| Error::NoInterface {
            name: interface.to_owned(),
            namespace: self.name().to_owned(),
        })
    }

    /// The Ethernet address of an interface.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or it is no Ethernet interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        self.run(|| crate::raw::hardware_address(interface))?
            .map_err(Error::io(format!("read the address of {interface}")))
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or the kernel refuses.
    pub fn set_up(&self, interface: &str, up: bool) -> Result<()> {
        self.set_link(interface, if up { "up" } else { "down" }, |link| {
            if up { link.up() } else { link.down() }.build()
        })
    }

    /// Sets the MTU of an interface.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or the kernel refuses.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<()> {
        self.set_link(interface, &format!("to MTU {mtu}"), |link| {
            link.mtu(mtu).build()
        })
    }

    /// Removes an interface, and with a veth its peer.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or the kernel refuses.
    pub fn delete_link(&self, interface: &str) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(format!("delete {interface}"), async |handle| {
            handle.link().del(index).execute().await
        })
    }

    /// Makes a bridge without spanning tree or snooping, up.
    ///
    /// # Errors
    ///
    /// When the name is taken or the kernel has no bridges.
    pub fn add_bridge(&self, bridge: &str) -> Result<()> {
        self.netlink(format!("make bridge {bridge}"), async |handle| {
            let made = LinkBridge::new(bridge).mcast_snooping(false).up().build();
            handle.link().add(made).execute().await
        })
    }

    /// Makes `interface` a port of `bridge`.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or the kernel refuses.
    pub fn add_port(&self, bridge: &str, interface: &str) -> Result<()> {
        let bridge = self.index(bridge)?;
        self.set_link(interface, "into a bridge", |link| {
            link.controller(bridge).build()
        })
    }

    /// Adds an address; an IPv6 one is usable at once, without duplicate address detection.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or the kernel refuses.
    pub fn add_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(format!("add {address} to {interface}"), async |handle| {
            let mut request = handle.address().add(index, address, prefix);
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            message.attributes.push(flags);
            request.execute().await
        })?;
        match address {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(v6) => self.await_local_route(v6),
        }
    }

    /// The kernel installs the local route of an IPv6 address later, from a work queue; packets that
    /// come before are lost. An interface that is down gets none.
    fn await_local_route(&self, address: Ipv6Addr) -> Result<()> {
        const RTF_LOCAL: u32 = 0x8000_0000;
        let wanted = format!("{:032x} 80 ", address.to_bits());
        let deadline = Instant::now() + Duration::from_millis(500);
        self.run(|| {
            loop {
                let table = fs::read_to_string("/proc/thread-self/net/ipv6_route");
                let local = table.unwrap_or_default().lines().any(|line| {
                    let flags = line.split_whitespace().nth(8).unwrap_or_default();
                    let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
                    line.starts_with(&wanted) && flags & RTF_LOCAL != 0
                });
                if local || Instant::now() >= deadline {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    }

    /// Removes an address.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or it was not there.
    pub fn delete_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(interface)?;
        let doing = format!("remove {address} from {interface}");
        self.netlink(doing, async |handle| {
            let mut add = handle.address().add(index, address, prefix);
            let message = add.message_mut().clone();
            handle.address().del(message).execute().await
        })
    }

    /// What has passed `interface` since it was made.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`].
    pub fn counters(&self, interface: &str) -> Result<LinkCounters> {
        let table = self
            .run(|| fs::read_to_string("/proc/thread-self/net/dev"))?
            .map_err(Error::io("read the interfaces' counters"))?;
        let line = table.lines().find_map(|line| {
            let (name, values) = line.split_once(':')?;
            (name.trim() == interface).then_some(values)
        });
        let numbers: Vec<u64> = line
            .map(|line| line.split_whitespace().flat_map(str::parse).collect())
            .unwrap_or_default();
        match numbers.as_slice() {
            [rxb, rxp, _, rxd, _, _, _, _, txb, txp, _, txd, ..] => Ok(LinkCounters {
                rx_bytes: *rxb,
                rx_packets: *rxp,
                rx_dropped: *rxd,
                tx_bytes: *txb,
                tx_packets: *txp,
                tx_dropped: *txd,
            }),
            _ => Err(Error::NoInterface {
                name: interface.to_owned(),
                namespace: self.name().to_owned(),
            }),
        }
    }

    fn set_link(
        &self,
        interface: &str,
        what: &str,
        change: impl FnOnce(rtnetlink::LinkMessageBuilder<LinkUnspec>) -> LinkMessage + Send,
    ) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(format!("set {interface} {what}"), async |handle| {
            let message = change(LinkUnspec::new_with_index(index));
            handle.link().set(message).execute().await
        })
    }

    /// Runs route netlink requests in here.
    pub(crate) fn netlink<T: Send, F>(
        &self,
        doing: String,
        work: impl FnOnce(Handle) -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, rtnetlink::Error>>,
    {
        let doing = format!("{doing} in {}", self.name());
        let answer = self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                Ok::<_, io::Error>(work(handle).await)
            })
        })?;
        answer
            .map_err(Error::io(doing.clone()))?
            .map_err(Error::netlink(doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::networked;

    #[test]
    fn a_pair_carries_both_families_at_once() {
        networked(&[], || {
            let left = Namespace::new("left").unwrap();
            let right = Namespace::new("right").unwrap();
            Veth::connect(&left, "eth0", &right, "eth0").unwrap();
            for (namespace, last) in [(&left, 1), (&right, 2)] {
                let v4 = IpAddr::from([10, 0, 0, last]);
                namespace.add_address("eth0", v4, 24).unwrap();
                let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]);
                namespace.add_address("eth0", v6, 64).unwrap();
                namespace.set_mtu("eth0", 9000).unwrap();
                namespace.set_offloads("eth0", false).unwrap();
            }
            for address in ["10.0.0.2:7", "[fd00::2]:7"] {
                let bind = || std::net::TcpListener::bind(address);
                let _listener = right.run(bind).unwrap().unwrap();
                let connect = || std::net::TcpStream::connect(address);
                left.run(connect).unwrap().unwrap();
            }
            assert!(right.counters("eth0").unwrap().rx_packets >= 4);
            assert_eq!(left.mac("eth0").unwrap().len(), 6);
            left.delete_link("eth0").unwrap();
            assert!(matches!(
                right.index("eth0"),
                Err(Error::NoInterface { .. })
            ));
        });
    }
}
