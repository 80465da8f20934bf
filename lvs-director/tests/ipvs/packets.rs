//! What happens to a packet (IPVS 4), and what a first one begins (0.2, 2.5, 2.6, 2.12).

use super::conns::{Conn, Side};
use super::schedulers::Ask;
use super::{SECOND, World};
use lvs_core::{Addr, Endpoint, Family, ForwardMethod, Protocol, ServiceKey};

#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub protocol: Protocol,
    pub src: Endpoint,
    pub dst: Endpoint,
    /// The flags of TCP, the first chunk of SCTP.
    pub what: u8,
    /// Bytes of the IP packet.
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Left to the stack of the host.
    Accepted,
    /// To a server by NAT, with this as its destination.
    Translated(Endpoint),
    /// To this server, unchanged or in a tunnel.
    Sent(ForwardMethod, Addr),
    /// To the client, with this as its source.
    Returned(Endpoint),
    /// ICMP port unreachable to the client, because nobody can serve it.
    Refused,
    /// ICMP port unreachable to a server, because nobody wants its packet.
    Unwanted,
    /// Dropped because its destination is gone.
    Gone,
    /// Dropped by `drop_packet`.
    Unlucky,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const INIT: u8 = 1;
const ABORT: u8 = 6;
const FTP: u16 = 21;
const FTP_DATA: u16 = 20;

impl World {
    pub fn packet(&mut self, packet: Packet) -> Outcome {
        let family = packet.dst.addr.family();
        if !self
            .services
            .iter()
            .any(|service| service.key.family() == family)
        {
            return Outcome::Accepted;
        }
        self.output(packet).unwrap_or_else(|| self.input(packet))
    }

    /// 4.3; nothing if it is no reply.
    fn output(&mut self, packet: Packet) -> Option<Outcome> {
        let found = self.find(|conn| {
            let from = match conn.method {
                ForwardMethod::Masquerade => conn.server,
                _ => conn.vip,
            };
            !conn.template
                && conn.protocol == packet.protocol
                && conn.client == packet.dst
                && from == packet.src
        });
        let Some(conn) = found else {
            let unwanted = self.get("nat_icmp_send") != 0
                && !self.ends(packet)
                && self.dests.iter().any(|dest| is_real_server(dest, packet));
            return unwanted.then_some(Outcome::Unwanted);
        };
        if conn.method != ForwardMethod::Masquerade {
            // A host that has the VIP takes no packet of IPv4 that says to be from it.
            if self.vips_are_local && packet.src.addr.family() == Family::V4 {
                return Some(Outcome::Accepted);
            }
        }
        self.count(conn.dest, |counters| {
            counters.out_packets += 1;
            counters.out_bytes += packet.len;
        });
        self.advance(conn.id, Side::Output, packet.what);
        self.arm(conn.id);
        Some(match conn.method {
            ForwardMethod::Masquerade => Outcome::Returned(conn.vip),
            _ => Outcome::Accepted,
        })
    }

    fn ends(&self, packet: Packet) -> bool {
        match packet.protocol {
            Protocol::Tcp => packet.what & RST != 0,
            Protocol::Sctp => packet.what == ABORT,
            _ => false,
        }
    }

    /// 4.2.
    fn input(&mut self, packet: Packet) -> Outcome {
        let found = self.find(|conn| {
            !conn.template
                && conn.protocol == packet.protocol
                && conn.client == packet.src
                && conn.vip == packet.dst
        });
        let Some(conn) = found else {
            return self.begin(packet);
        };
        let begins = match packet.protocol {
            Protocol::Tcp => packet.what & SYN != 0,
            Protocol::Sctp => packet.what == INIT,
            _ => false,
        };
        if begins && self.is_reused(&conn) {
            self.expire(conn.id);
            return self.begin(packet);
        }
        if !self.dest(conn.dest).is_available() {
            if self.get("expire_nodest_conn") == 0 {
                return Outcome::Gone;
            }
            self.expire(conn.id);
            return self.begin(packet);
        }
        self.forward(conn.id, packet)
    }

    /// 2.12, the first two rows.
    fn is_reused(&mut self, conn: &Conn) -> bool {
        if self.get("expire_nodest_conn") != 0 && self.server(conn.dest).weight == 0 {
            return true;
        }
        let mode = self.get("conn_reuse_mode");
        if mode == 0 || conn.parent.is_some() {
            return false;
        }
        match (conn.protocol, conn.state) {
            (Protocol::Tcp, "TW" | "CL") | (Protocol::Sctp, "CL") => true,
            (Protocol::Tcp, "FW") => mode & 2 != 0 && conn.no_output,
            _ => false,
        }
    }

    /// Steps 6 and on of 4.2.
    fn forward(&mut self, id: u64, packet: Packet) -> Outcome {
        let conn = self.conn(id).clone();
        self.count(conn.dest, |counters| {
            counters.in_packets += 1;
            counters.in_bytes += packet.len;
        });
        self.advance(id, Side::Input, packet.what);
        self.arm(id);
        sent(conn.method, conn.server)
    }

    /// The scheduling step.
    fn begin(&mut self, packet: Packet) -> Outcome {
        let may = match packet.protocol {
            Protocol::Tcp => {
                packet.what & RST == 0 && (packet.what & SYN != 0 || self.get("sloppy_tcp") != 0)
            }
            Protocol::Sctp => {
                packet.what == INIT || (packet.what != ABORT && self.get("sloppy_sctp") != 0)
            }
            _ => true,
        };
        if !may {
            return Outcome::Accepted;
        }
        let Some((key, mark)) = self.service_of(packet) else {
            return Outcome::Accepted;
        };
        if self.drops_packet() {
            return Outcome::Unlucky;
        }
        if packet.src.port == FTP_DATA {
            return Outcome::Accepted;
        }
        let service = self.service(&key).unwrap();
        let (persistence, one_packet) = (service.persistence, service.one_packet);
        let ask = Ask {
            src: packet.src.addr,
            src_port: packet.src.port,
            dst: packet.dst.addr,
            now: u32::try_from(self.now).unwrap(),
        };
        let service_port = match key {
            ServiceKey::Endpoint { vip, .. } => Some(vip.port),
            ServiceKey::FwMark { .. } => None,
        };
        let at_port = service_port == Some(packet.dst.port);
        let (dest, template) = match persistence {
            Some(persistence) => match self.persistent(packet, &key, mark, ask, persistence) {
                Some((dest, template)) => (Some(dest), Some(template)),
                None => (None, None),
            },
            None if service_port.is_some() && !at_port => (None, None),
            None => (self.pick(&key, ask), None),
        };
        let Some(dest) = dest else {
            return if service_port == Some(FTP) && !at_port {
                Outcome::Accepted
            } else {
                Outcome::Refused
            };
        };
        let endpoint = self.dest(dest).endpoint;
        let keeps_port = endpoint.port == 0 || (persistence.is_some() && !at_port);
        let port = if keeps_port {
            packet.dst.port
        } else {
            endpoint.port
        };
        let server = Endpoint::new(endpoint.addr, port);
        if one_packet && packet.protocol == Protocol::Udp {
            self.server(dest).opened(false);
            self.count(dest, |counters| {
                counters.conns += 1;
                counters.in_packets += 1;
                counters.in_bytes += packet.len;
            });
            self.server(dest).closed(false);
            if let Some(template) = template {
                self.arm(template);
            }
            return sent(self.dest(dest).method, server);
        }
        if let Some(template) = template {
            self.arm(template);
        }
        let id = self.make(Conn {
            protocol: packet.protocol,
            client: packet.src,
            vip: packet.dst,
            server,
            parent: template,
            state: if packet.protocol == Protocol::Udp {
                "UDP"
            } else {
                "NO"
            },
            ..blank(dest)
        });
        self.count(dest, |counters| counters.conns += 1);
        self.forward(id, packet)
    }

    /// 0.2.
    fn service_of(&mut self, packet: Packet) -> Option<(ServiceKey, u32)> {
        let family = packet.dst.addr.family();
        let mark = (self.mark)(packet.protocol, packet.dst);
        let by_mark = ServiceKey::FwMark { family, mark };
        if mark != 0 && self.service(&by_mark).is_some() {
            return Some((by_mark, mark));
        }
        let at = |port| ServiceKey::Endpoint {
            protocol: packet.protocol,
            vip: Endpoint::new(packet.dst.addr, port),
        };
        let port = packet.dst.port;
        let maybe_ftp = packet.protocol == Protocol::Tcp && (port == FTP_DATA || port >= 1024);
        let candidates = [Some(port), maybe_ftp.then_some(FTP), Some(0)];
        let key = candidates
            .into_iter()
            .flatten()
            .map(at)
            .find(|key| self.service(key).is_some())?;
        Some((key, 0))
    }

    /// 2.13: every so manieth one.
    fn drops_packet(&mut self) -> bool {
        if self.get("drop_packet") != 3 || self.get("am_droprate") == 0 {
            return false;
        }
        self.until_drop -= 1;
        if self.until_drop > 0 {
            return false;
        }
        self.until_drop = self.get("am_droprate").into();
        true
    }

    /// 2.5: the destination, by an old template or a new one.
    fn persistent(
        &mut self,
        packet: Packet,
        key: &ServiceKey,
        mark: u32,
        ask: Ask,
        (timeout, mask): (u32, u32),
    ) -> Option<(u32, u64)> {
        let client = Endpoint::new(masked(packet.src.addr, mask), 0);
        let (protocol, vip, own_port) = match key {
            ServiceKey::FwMark { family, .. } => {
                let addr = match family {
                    Family::V4 => Addr::from_v4_bits(mark),
                    Family::V6 => format!("{:x}:{:x}::", mark >> 16, mark & 0xffff)
                        .parse()
                        .unwrap(),
                };
                (Protocol::Ip, Endpoint::new(addr, 0), false)
            }
            ServiceKey::Endpoint { vip, .. } => {
                let own = packet.dst.port == vip.port && vip.port != FTP;
                let port = if own { packet.dst.port } else { 0 };
                (packet.protocol, Endpoint::new(packet.dst.addr, port), own)
            }
        };
        let found = self.find(|conn| {
            conn.template
                && !conn.invalid
                && conn.protocol == protocol
                && conn.client == client
                && conn.vip == vip
        });
        if let Some(template) = found {
            let quiesced = self.get("expire_quiescent_template") != 0
                && self.server(template.dest).weight == 0;
            if self.dest(template.dest).is_available() && !quiesced {
                return Some((template.dest, template.id));
            }
            let invalid = self.conn(template.id);
            invalid.invalid = true;
            invalid.vip.port = 65535;
            invalid.server.port = 65535;
        }
        let dest = self.pick(key, ask)?;
        let endpoint = self.dest(dest).endpoint;
        let port = if own_port { endpoint.port } else { 0 };
        let id = self.make(Conn {
            protocol,
            client,
            vip,
            server: Endpoint::new(endpoint.addr, port),
            template: true,
            state: "NONE",
            timeout: u64::from(timeout) * SECOND,
            ..blank(dest)
        });
        Some((dest, id))
    }
}

fn blank(dest: u32) -> Conn {
    let nobody = Endpoint::new(Addr::UNSPECIFIED, 0);
    Conn {
        id: 0,
        protocol: Protocol::Ip,
        client: nobody,
        vip: nobody,
        server: nobody,
        method: ForwardMethod::Masquerade,
        dest,
        template: false,
        parent: None,
        state: "",
        assured: false,
        no_output: false,
        inactive: true,
        timeout: 3 * SECOND,
        deadline: 0,
        invalid: false,
        expired: false,
    }
}

fn sent(method: ForwardMethod, server: Endpoint) -> Outcome {
    match method {
        ForwardMethod::Masquerade => Outcome::Translated(server),
        other => Outcome::Sent(other, server.addr),
    }
}

/// 0.3 and 4.3: destinations by NAT that have a port of their own.
fn is_real_server(dest: &super::rules::Dest, packet: Packet) -> bool {
    let protocol = match dest.service {
        ServiceKey::Endpoint { protocol, .. } => protocol == packet.protocol,
        ServiceKey::FwMark { .. } => true,
    };
    dest.is_available()
        && protocol
        && dest.method == ForwardMethod::Masquerade
        && dest.endpoint.port != 0
        && dest.endpoint == packet.src
}

/// 2.5, granularity.
fn masked(addr: Addr, mask: u32) -> Addr {
    match addr.v4_bits() {
        Some(bits) => Addr::from_v4_bits(bits & mask),
        None => {
            let bits = u128::from_be_bytes(addr.v6_octets());
            let kept = u128::MAX << (128 - mask);
            Addr::from_v6_octets((bits & kept).to_be_bytes())
        }
    }
}
