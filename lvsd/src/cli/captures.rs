//! The options of `lvsd replay`.

use crate::replay::captures::Options;
use clap::Args;
use lvs_core::Addr;
use std::path::PathBuf;

/// Options of `lvsd replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The rules, as `ipvsadm -S -n` writes them.
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// A side of the director, and what was captured there (pcap or pcapng, Ethernet).
    ///
    /// The first side is that of the clients, and of everybody whose side does not show. What the
    /// director itself sent in the captures is left out, and shows what its network was.
    #[arg(long = "in", value_name = "SIDE=FILE", required = true, value_parser = side_and_file)]
    inputs: Vec<(String, PathBuf)>,
    /// The folder for what the director sends: SIDE.pcap for each side.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Say what became of each packet, a line each: seconds, side, number in the capture, packet,
    /// verdict, and what left by which side.
    #[arg(long)]
    explain: bool,
    /// A setting under net.ipv4.vs, such as nat_icmp_send=1.
    #[arg(long = "sysctl", value_name = "NAME=VALUE", value_parser = name_and_number)]
    sysctls: Vec<(String, u32)>,
    /// Packets with a firewall mark, in nft's words: 'ip daddr 10.5.0.0/16 tcp dport 80=7'.
    #[arg(long = "mark", value_name = "MATCH=MARK", value_parser = last_number)]
    marks: Vec<(String, u32)>,
    /// The director's Ethernet address on a side [default: whom clients, servers and VIPs show].
    #[arg(long = "mac", value_name = "SIDE=ADDRESS", value_parser = side_and_mac)]
    macs: Vec<(String, [u8; 6])>,
    /// The director's own address on a side, the source of tunnels and of errors to servers; once
    /// for each family [default: what it sent from, else 198.18.N.1 and 2001:2:0:N::1].
    #[arg(long = "address", value_name = "SIDE=ADDRESS", value_parser = side_and_addr)]
    addresses: Vec<(String, Addr)>,
    /// The MTU of a side [default: what the director told others, else 1500].
    #[arg(long = "mtu", value_name = "SIDE=BYTES", value_parser = name_and_number)]
    mtus: Vec<(String, u32)>,
    /// Where addresses are: 10.2.0.0/16=server, or behind a router: 10.2.0.0/16=server,10.9.0.2
    /// [default: where they were seen, servers on the last side, all others on the first].
    #[arg(long = "route", value_name = "PREFIX=SIDE[,ROUTER]", value_parser = route)]
    routes: Vec<(Addr, u8, String, Option<Addr>)>,
    /// The Ethernet address of a neighbour [default: as seen, else made of its address].
    #[arg(long = "neighbour", value_name = "ADDRESS=MAC", value_parser = addr_and_mac)]
    neighbours: Vec<(Addr, [u8; 6])>,
    /// Without the host around: the VIPs are not its addresses, so that the director answers for
    /// them, and what the director leaves alone ends there.
    ///
    /// Otherwise the host has the VIPs, answers for ports that no service has, and forwards what is
    /// not the director's.
    #[arg(long)]
    no_host: bool,
}

impl From<ReplayArgs> for Options {
    fn from(args: ReplayArgs) -> Self {
        Self {
            rules: args.rules,
            inputs: args.inputs,
            out: args.out,
            explain: args.explain,
            sysctls: args.sysctls,
            marks: args.marks,
            macs: args.macs,
            addresses: args.addresses,
            mtus: args.mtus,
            routes: args.routes,
            neighbours: args.neighbours,
            no_host: args.no_host,
        }
    }
}

pub(super) const EXAMPLES: &str = "\
EXAMPLES
  ipvsadm -S -n > rules
  tcpdump -i eth0 -w client.pcap & tcpdump -i eth1 -w server.pcap
  lvsd replay --rules rules --in client=client.pcap --in server=server.pcap --out replayed --explain

EXIT STATUS
  0  Replayed.
  1  Something could not be written.
  2  A file is missing or is not what it should be, a rule was refused, or an option names a side
     that is none; nothing was written.";

fn pair<'t>(text: &'t str, form: &str) -> Result<(&'t str, &'t str), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => Ok((left, right)),
        _ => Err(format!("expected {form}")),
    }
}

fn side_and_file(text: &str) -> Result<(String, PathBuf), String> {
    let (side, file) = pair(text, "SIDE=FILE, such as client=a.pcap")?;
    if side.contains(['/', ',']) || side.starts_with('.') {
        return Err("a side is a word, since it names a file".to_owned());
    }
    Ok((side.to_owned(), file.into()))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no number from 0 to 4294967295"))
}

fn name_and_number(text: &str) -> Result<(String, u32), String> {
    let (name, value) = pair(text, "NAME=NUMBER")?;
    Ok((name.to_owned(), number(value)?))
}

fn last_number(text: &str) -> Result<(String, u32), String> {
    let (expression, mark) = text.rsplit_once('=').ok_or("expected MATCH=MARK")?;
    Ok((expression.trim().to_owned(), number(mark.trim())?))
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("`{text}` is no Ethernet address, such as 02:00:0a:09:00:01");
    let mut address = [0; 6];
    let mut words = text.split(':');
    for byte in &mut address {
        let word = words.next().ok_or_else(wrong)?;
        *byte = u8::from_str_radix(word, 16).map_err(|_| wrong())?;
    }
    words.next().map_or(Ok(address), |_| Err(wrong()))
}

fn addr(text: &str) -> Result<Addr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no IP address"))
}

fn side_and_mac(text: &str) -> Result<(String, [u8; 6]), String> {
    let (side, address) = pair(text, "SIDE=ADDRESS")?;
    Ok((side.to_owned(), mac(address)?))
}

fn side_and_addr(text: &str) -> Result<(String, Addr), String> {
    let (side, address) = pair(text, "SIDE=ADDRESS")?;
    Ok((side.to_owned(), addr(address)?))
}

fn addr_and_mac(text: &str) -> Result<(Addr, [u8; 6]), String> {
    let (address, neighbour) = pair(text, "ADDRESS=MAC")?;
    Ok((addr(address)?, mac(neighbour)?))
}

fn route(text: &str) -> Result<(Addr, u8, String, Option<Addr>), String> {
    let (prefix, way) = pair(text, "PREFIX=SIDE or PREFIX=SIDE,ROUTER")?;
    let (first, bits) = match prefix.split_once('/') {
        Some((first, bits)) => {
            let length = bits.parse().map_err(|_| format!("`{bits}` is no length"))?;
            (first, length)
        }
        None => (prefix, u8::MAX),
    };
    let (side, via) = match way.split_once(',') {
        Some((side, via)) => (side, Some(addr(via)?)),
        None => (way, None),
    };
    Ok((addr(first)?, bits, side.to_owned(), via))
}
