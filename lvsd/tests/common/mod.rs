//! What the end-to-end tests share: a site with lvsd as its director, nginx, curl, waiting.
//!
//! Everything lives in namespaces and temporary directories that vanish with the test.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses a part of it, and what a test needs fails by panicking"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lvs_testbed::http::HttpClient;
use lvs_testbed::{
    Child, Daemon, DaemonConfig, Namespace, Rule, Site, SiteConfig, Target, TemporaryDirectory,
    Vip, program,
};

/// The daemon that this build made.
pub(crate) const LVSD: &str = env!("CARGO_BIN_EXE_lvsd");

/// For one request, connect or state to come about.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A web server, round robin.
pub(crate) const WEB: u16 = 80;
/// The same, weighted 3, 2, 1.
pub(crate) const WEIGHTED: u16 = 81;
/// TCP and UDP of iperf3, on the first server only.
pub(crate) const IPERF: u16 = 5201;

/// A site and its director.
pub(crate) struct Running {
    pub(crate) site: Site,
    pub(crate) daemon: Daemon,
    pub(crate) config: DaemonConfig,
}

impl Running {
    /// Builds a site and starts lvsd in it, with [`rules`].
    pub(crate) fn start(config: SiteConfig) -> Self {
        let site = Site::new(config).unwrap();
        let config = daemon_config(&site);
        Self::with(site, config)
    }

    pub(crate) fn with(site: Site, config: DaemonConfig) -> Self {
        let daemon = Daemon::start(Path::new(LVSD), site.director(), &config).unwrap();
        Self {
            site,
            daemon,
            config,
        }
    }

    /// The control socket's client.
    pub(crate) fn control(&self) -> lvs_api::Client {
        lvs_api::Client::connect(self.daemon.socket()).unwrap()
    }

    /// One request on a new connection: the name of the server.
    pub(crate) fn ask(&self, vip: Vip, ipv6: bool) -> Result<String, lvs_testbed::Error> {
        ask(self.site.client(), vip.endpoint(ipv6, WEB), LIMIT)
    }

    /// Asks by each method and family; whoever fails is named, with what lvsd said.
    pub(crate) fn ask_everything(&self) {
        for (vip, ipv6) in every_way() {
            if let Err(error) = self.ask(vip, ipv6) {
                panic!("{vip:?} ipv6={ipv6}: {error}\n{}", self.explain());
            }
        }
    }

    /// What lvsd can tell about a failure.
    pub(crate) fn explain(&self) -> String {
        let mut client = self.control();
        let drops = client.drops().map(|drops| {
            let seen = drops.into_iter().filter(|drop| drop.packets > 0);
            seen.map(|drop| format!("{} {}\n", drop.packets, drop.reason))
                .collect::<String>()
        });
        format!("drops: {drops:?}\nlvsd said:\n{}", self.daemon.said())
    }
}

/// Each method with each family.
pub(crate) fn every_way() -> impl Iterator<Item = (Vip, bool)> {
    Vip::ALL
        .into_iter()
        .flat_map(|vip| [(vip, false), (vip, true)])
}

pub(crate) fn ask(
    client: &Namespace,
    to: SocketAddr,
    limit: Duration,
) -> Result<String, lvs_testbed::Error> {
    let mut http = HttpClient::connect(client, to, limit)?;
    Ok(http.get("/")?.0.server)
}

/// Interfaces, and every rule that the tests use.
pub(crate) fn daemon_config(site: &Site) -> DaemonConfig {
    DaemonConfig {
        interfaces: vec!["d0".into(), "d1".into()],
        rules: rules(site),
        ..DaemonConfig::default()
    }
}

pub(crate) fn rules(site: &Site) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (vip, ipv6) in every_way() {
        let rule = |protocol, port, scheduler, servers: u16, weight: fn(u16) -> u32| Rule {
            protocol,
            vip: vip.endpoint(ipv6, port),
            scheduler,
            targets: (0..servers)
                .map(|index| Target {
                    address: SocketAddr::new(site.server_address(index, ipv6), port),
                    method: vip.word(),
                    weight: weight(index),
                })
                .collect(),
        };
        let all = site.config().servers;
        rules.push(rule("tcp", WEB, "rr", all, |_| 1));
        rules.push(rule("tcp", WEIGHTED, "wrr", all, |index| {
            3_u32.saturating_sub(index.into())
        }));
        rules.push(rule("tcp", IPERF, "rr", 1, |_| 1));
        rules.push(rule("udp", IPERF, "rr", 1, |_| 1));
    }
    rules
}

/// Polls until `condition` holds; fails the test after `limit`.
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// nginx on a server: `/name` tells who it is, other paths are files of a directory. It stays root,
/// the only user that a user namespace has.
pub(crate) struct Nginx {
    pub(crate) child: Child,
    _directory: TemporaryDirectory,
}

impl Nginx {
    pub(crate) fn start(server: &Namespace, files: &Path) -> Self {
        let directory = TemporaryDirectory::new().unwrap();
        let (own, files, name) = (directory.path().display(), files.display(), server.name());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {own}/{kind};\n"))
            .concat();
        let file = directory
            .write(
                "nginx.conf",
                format!(
                    "user root root;\ndaemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/log;\n\
                     events {{ worker_connections 4096; }}\n\
                     http {{\naccess_log off;\nkeepalive_requests 1000000;\n{temporary}\
                     server {{\nlisten {WEB};\nlisten [::]:{WEB};\n\
                     listen {WEIGHTED};\nlisten [::]:{WEIGHTED};\n\
                     location = /name {{ return 200 '{name}\\n'; }}\n\
                     location / {{ root {files}; }}\n}}\n}}\n"
                ),
            )
            .unwrap();
        let mut command = program::command("nginx").unwrap();
        command.arg("-p").arg(directory.path()).arg("-c").arg(file);
        command.arg("-e").arg(directory.path().join("log"));
        command.stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = server.spawn(command).unwrap();
        let here = SocketAddr::from(([127, 0, 0, 1], WEIGHTED));
        wait_until("nginx listens", LIMIT, || {
            let connect = || std::net::TcpStream::connect(here);
            server.run(connect).unwrap().is_ok()
        });
        Self {
            child,
            _directory: directory,
        }
    }

    /// One on every server of the site, all with the same files.
    pub(crate) fn everywhere(site: &Site, files: &Path) -> Vec<Self> {
        site.servers()
            .iter()
            .map(|server| Self::start(server, files))
            .collect()
    }
}

/// `curl` in the client's namespace; fails the test when curl fails.
pub(crate) fn curl(running: &Running, arguments: &[&str]) -> String {
    let output = try_curl(running.site.client(), arguments);
    assert!(
        output.status.success(),
        "curl {arguments:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        running.explain()
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn try_curl(client: &Namespace, arguments: &[&str]) -> Output {
    let mut command = program::command("curl").unwrap();
    command.args(["--silent", "--show-error", "--connect-timeout", "5"]);
    command.args(arguments);
    client.output(command).unwrap()
}

/// Runs a program in a namespace to its end.
pub(crate) fn output(namespace: &Namespace, name: &str, arguments: &[&str]) -> Output {
    let mut command: Command = program::command(name).unwrap();
    command.args(arguments);
    namespace.output(command).unwrap()
}
