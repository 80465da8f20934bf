//! A director between a real client and a real server, beside the kernel in the same place.
//!
//! Everything runs in network namespaces joined by veth, three times in turn, and the median counts.
//! The kernel stands in the director's place as a router (`ip_forward`) and as a balancer
//! (nftables DNAT); then comes lvsd with NAT. Measured are small UDP packets a second, the CPU time
//! of our processes for each, and TCP streams with and without segmentation offload.
//!
//! `cargo bench -p lvs-benches --bench site`, as root or where user namespaces are allowed. The
//! environment sets `LVS_BENCH_SECONDS` (3) and `LVS_BENCH_ROUNDS` (3); `LVSD` names a binary other
//! than the one built here; `-- udp` or `-- tcp` runs one half.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lvs_testbed::iperf::{Amount, IperfServer, IperfTest};
use lvs_testbed::rate::{CpuTime, Figures, SenderConfig, measure};
use lvs_testbed::{
    Daemon, DaemonConfig, Error, Result, Rule, Site, SiteConfig, Target, Vip, VipPlace, Wiring,
    enter_user_namespace, program,
};

const PORT: u16 = 5201;

/// Who stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Director {
    /// The kernel routes; the client asks the server itself.
    Forward,
    /// The kernel translates (nftables, connection tracking).
    Nftables,
    /// lvsd translates.
    Lvsd,
}

impl Director {
    const ALL: [Self; 3] = [Self::Forward, Self::Nftables, Self::Lvsd];

    const fn name(self) -> &'static str {
        match self {
            Self::Forward => "kernel ip_forward",
            Self::Nftables => "kernel nftables DNAT",
            Self::Lvsd => "lvsd NAT",
        }
    }

    /// Starts it; what it returns ends it.
    fn start(self, site: &Site, lvsd: Option<&PathBuf>) -> Result<Option<Daemon>> {
        match self {
            Self::Forward => Ok(None),
            Self::Nftables => {
                let mut nft = program::command("nft")?;
                let (v4, v6) = (site.server_address(0, false), site.server_address(0, true));
                nft.arg(format!(
                    "table inet t {{ chain c {{ type nat hook prerouting priority -100;\n\
                     ip daddr {} dnat ip to {v4}; ip6 daddr {} dnat ip6 to {v6};\n}}\n}}",
                    Vip::Nat.address(false),
                    Vip::Nat.address(true),
                ));
                let output = site.director().output(nft)?;
                if output.status.success() {
                    return Ok(None);
                }
                Err(Error::Unexpected {
                    doing: "load nftables rules".into(),
                    got: String::from_utf8_lossy(&output.stderr).into_owned(),
                })
            }
            Self::Lvsd => {
                let missing = || Error::Unexpected {
                    doing: "look for lvsd".into(),
                    got: "it could not be built".into(),
                };
                let rule = |protocol, ipv6| Rule {
                    protocol,
                    vip: Vip::Nat.endpoint(ipv6, PORT),
                    scheduler: "rr",
                    targets: vec![Target {
                        address: SocketAddr::new(site.server_address(0, ipv6), PORT),
                        method: "nat",
                        weight: 1,
                    }],
                };
                let config = DaemonConfig {
                    interfaces: vec!["d0".into(), "d1".into()],
                    rules: [("udp", false), ("tcp", false), ("udp", true), ("tcp", true)]
                        .map(|(protocol, ipv6)| rule(protocol, ipv6))
                        .into(),
                    ..DaemonConfig::default()
                };
                Daemon::start(lvsd.ok_or_else(missing)?, site.director(), &config).map(Some)
            }
        }
    }

    /// What the client asks for.
    fn target(self, site: &Site, ipv6: bool) -> SocketAddr {
        match self {
            Self::Forward => SocketAddr::new(site.server_address(0, ipv6), PORT),
            Self::Nftables | Self::Lvsd => Vip::Nat.endpoint(ipv6, PORT),
        }
    }
}

fn site(offloads: bool) -> Result<Site> {
    Site::new(SiteConfig {
        servers: 1,
        offloads,
        director_forwards: true,
        vips: VipPlace::Front,
        wiring: Wiring::Direct,
        ..SiteConfig::default()
    })
}

/// Where the release build of lvsd is, built if need be.
fn lvsd() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("LVSD") {
        return Some(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "-p",
            "lvsd",
            "--bin",
            "lvsd",
        ])
        .stdout(Stdio::null())
        .status();
    let here = std::env::current_exe().ok()?;
    let program = here.parent()?.parent()?.join("lvsd");
    (built.is_ok_and(|status| status.success()) && program.is_file()).then_some(program)
}

fn setting(name: &str, default: u32) -> u32 {
    let value = std::env::var(name).ok();
    value.and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The middle one, by `key`.
fn median<T: Clone + Default>(mut all: Vec<T>, key: impl Fn(&T) -> f64) -> T {
    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
    all.get(all.len() / 2).cloned().unwrap_or_default()
}

/// Runs `once` for each director in turn, some rounds, and prints each one's median.
fn compare<T: Clone + Default>(
    title: &str,
    key: impl Fn(&T) -> f64,
    show: impl Fn(&T) -> String,
    mut once: impl FnMut(Director) -> Result<T>,
) {
    println!("\n{title}");
    let rounds = setting("LVS_BENCH_ROUNDS", 3);
    let mut found = Director::ALL.map(|director| (director, Vec::new(), None));
    for _ in 0..rounds {
        for (director, figures, problem) in &mut found {
            match once(*director) {
                Ok(figure) => figures.push(figure),
                Err(error) => *problem = Some(error),
            }
        }
    }
    let mut medians = Vec::new();
    for (director, figures, problem) in found {
        if let Some(problem) = problem {
            println!("  {:<22} left out: {problem}", director.name());
            continue;
        }
        let middle = median(figures, &key);
        println!("  {:<22} {}", director.name(), show(&middle));
        medians.push((director, key(&middle)));
    }
    let of = |wanted| medians.iter().find(|(d, _)| *d == wanted).map(|(_, v)| *v);
    if let Some(ours) = of(Director::Lvsd) {
        for other in [Director::Forward, Director::Nftables] {
            if let Some(theirs) = of(other) {
                println!("  lvsd NAT : {} = {:.2}", other.name(), ours / theirs);
            }
        }
    }
}

fn udp(lvsd: Option<&PathBuf>, flows: u16, ipv6: bool) {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    let seconds = Duration::from_secs(setting("LVS_BENCH_SECONDS", 3).into());
    compare(
        &format!(
            "UDP over {family}, 18 octets of payload, {flows} flows, as fast as one core sends"
        ),
        Figures::rate,
        Figures::to_string,
        |director| {
            let site = site(true)?;
            let _daemon = director.start(&site, lvsd)?;
            let config = SenderConfig {
                interface: "eth0".into(),
                next_hop: site.director().mac("d0")?,
                from: SocketAddr::new(site.client_address(0, ipv6), 20_000),
                to: director.target(&site, ipv6),
                flows,
                payload: 18,
                rate: None,
            };
            let Some(server) = site.servers().first() else {
                return Ok(Figures::default());
            };
            let sink = SocketAddr::new(site.server_address(0, ipv6), PORT);
            let warm_up = Duration::from_millis(500);
            measure(site.client(), &config, server, sink, warm_up, seconds)
        },
    );
}

/// A TCP stream: gigabits a second, and CPU seconds a gigabyte.
type Stream = (f64, f64);

fn tcp(lvsd: Option<&PathBuf>, offloads: bool, reverse: bool) {
    let with = if offloads { "with" } else { "without" };
    let way = if reverse {
        "server to client"
    } else {
        "client to server"
    };
    compare::<Stream>(
        &format!("TCP over IPv4, iperf3, one stream, {way}, {with} segmentation offload"),
        |stream| stream.0,
        |(rate, cost)| format!("{rate:>7.2} Gbit/s, {cost:.2} CPU s/GB"),
        |director| {
            let site = site(offloads)?;
            let _daemon = director.start(&site, lvsd)?;
            let Some(server) = site.servers().first() else {
                return Ok(Stream::default());
            };
            let _iperf =
                IperfServer::start(server, SocketAddr::new(site.server_address(0, false), PORT))?;
            let seconds = setting("LVS_BENCH_SECONDS", 3);
            let test = IperfTest {
                reverse,
                ..IperfTest::tcp(director.target(&site, false), Amount::Seconds(seconds))
            };
            let before = CpuTime::now()?;
            let rate = test.run(site.client())?.bits_per_second;
            let cpu = CpuTime::now()? - before;
            let gigabytes = rate / 8e9 * f64::from(seconds);
            Ok((rate / 1e9, cpu.ours / gigabytes))
        },
    );
}

fn main() {
    // `cargo test --benches` runs benches too, to see that they start.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--test") || !words.iter().any(|word| word == "--bench") {
        return;
    }
    let lvsd = lvsd();
    if let Err(error) = enter_user_namespace() {
        return println!("left out: the site, because {error}");
    }
    let wants = |half: &str| {
        let mut halves = words
            .iter()
            .filter(|word| !word.starts_with("--"))
            .peekable();
        halves.peek().is_none() || halves.any(|word| word == half)
    };
    if wants("udp") {
        udp(lvsd.as_ref(), 1, false);
        udp(lvsd.as_ref(), 1000, false);
        udp(lvsd.as_ref(), 1000, true);
    }
    if wants("tcp") {
        tcp(lvsd.as_ref(), true, false);
        tcp(lvsd.as_ref(), true, true);
        tcp(lvsd.as_ref(), false, false);
    }
}
