//! The steps of a kernel's own end-to-end test of IPVS, with `lvsd` in the director's namespace and
//! `lvsadm` first in the PATH as `ipvsadm`: a file by netcat, one-armed by direct routing, two-armed
//! by address translation. lvsd starts without a configuration and before its interfaces exist.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test needs fails by panicking"
)]

mod common;

use common::{LIMIT, LVSD, wait_until};
use lvs_testbed::test::networked;
use lvs_testbed::{Child, Namespace, TemporaryDirectory, Veth};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PORT: u16 = 8080;

/// Client, director, server; a bridge for the one-armed site; and a running lvsd.
struct Lab {
    client: Namespace,
    director: Namespace,
    server: Namespace,
    folder: TemporaryDirectory,
    lvsd: Child,
}

impl Lab {
    fn new() -> Self {
        let folder = TemporaryDirectory::new().unwrap();
        let lvsadm = lvsadm();
        symlink(&lvsadm, folder.path().join("ipvsadm")).unwrap();
        let director = Namespace::new("director").unwrap();
        let mut command = Command::new(LVSD);
        command
            .arg("run")
            .arg("--socket")
            .arg(folder.path().join("sock"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        let lab = Self {
            client: Namespace::new("client").unwrap(),
            lvsd: director.spawn(command).unwrap(),
            director,
            server: Namespace::new("server").unwrap(),
            folder,
        };
        wait_until("lvsd answers", LIMIT, || {
            let status = lab.shell(&lab.director, "ipvsadm -Ln");
            status.is_ok()
        });
        lab
    }

    /// A script in a namespace, with our `ipvsadm`; its output, or what it said.
    fn shell(&self, namespace: &Namespace, script: &str) -> Result<String, String> {
        let path = format!(
            "{}:{}",
            self.folder.path().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut command = Command::new("sh");
        command.args(["-ec", script]);
        command.env("PATH", path);
        command.env("LVSD_SOCKET", self.folder.path().join("sock"));
        let output = namespace.output(command).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!(
                "{script}\n{}{}",
                text(&output.stdout),
                text(&output.stderr)
            ))
        }
    }

    fn must(&self, namespace: &Namespace, script: &str) -> String {
        self.shell(namespace, script).unwrap_or_else(|why| {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            panic!("{why}\nlvsd said: {log:?}")
        })
    }

    /// A file goes from the client to the VIP and arrives whole at the server.
    fn file_arrives(&self, vip: &str) {
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (from, to) = (self.path("sent"), self.path("received"));
        std::fs::write(&from, &sent).unwrap();
        let mut listen = Command::new("timeout");
        listen.args(["20", "nc", "-l", &PORT.to_string()]);
        listen.stdin(Stdio::null());
        listen.stdout(std::fs::File::create(&to).unwrap());
        let mut listener = self.server.spawn(listen).unwrap();
        let listens = format!(":{PORT:04X} 00000000:0000 0A");
        wait_until("netcat listens", LIMIT, || {
            let table = || std::fs::read_to_string("/proc/thread-self/net/tcp");
            self.server.run(table).unwrap().unwrap().contains(&listens)
        });
        // Until the interfaces that have just come are in use the host refuses; then it must work.
        let send = format!("timeout 20 nc -N {vip} {PORT} < {}", from.display());
        wait_until("netcat connects", LIMIT, || {
            self.shell(&self.client, &send).is_ok()
        });
        assert!(listener.wait_timeout(LIMIT).unwrap().success());
        assert!(
            std::fs::read(&to).unwrap() == sent,
            "the file arrived otherwise"
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// `lvsadm` stands beside `lvsd` once the workspace is built.
fn lvsadm() -> PathBuf {
    let path = Path::new(LVSD).with_file_name("lvsadm");
    assert!(path.exists(), "build lvsadm first: cargo build -p lvsadm");
    path
}

const VIP: &str = "207.0.2.110";

#[test]
fn one_armed_by_direct_routing() {
    networked(&["nc"], || {
        let mut lab = Lab::new();
        // One segment: a bridge in a namespace of its own.
        let bridge = Namespace::new("bridge").unwrap();
        bridge.add_bridge("br0").unwrap();
        for (namespace, port) in [(&lab.client, "c"), (&lab.director, "d"), (&lab.server, "s")] {
            Veth::connect(namespace, "eth0", &bridge, port).unwrap();
            bridge.add_port("br0", port).unwrap();
            bridge.set_up(port, true).unwrap();
        }
        bridge.set_up("br0", true).unwrap();
        lab.must(
            &lab.director,
            &format!(
                "ip link set lo up; ip link set eth0 up; ip addr add 10.11.0.2/24 dev eth0
                 ip addr add {VIP}/32 dev lo; sysctl -qw net.ipv4.ip_forward=1"
            ),
        );
        lab.must(
            &lab.server,
            &format!(
                "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
                 ip link set lo up; ip link set eth0 up; ip addr add 10.11.0.3/24 dev eth0
                 ip addr add {VIP}/32 dev lo"
            ),
        );
        lab.must(
            &lab.client,
            &format!(
                "ip link set lo up; ip link set eth0 up; ip addr add 10.11.0.1/24 dev eth0
                 ip route add {VIP}/32 via 10.11.0.2"
            ),
        );
        lab.must(
            &lab.director,
            &format!(
                "ipvsadm -A -t {VIP}:{PORT} -s rr
                 ipvsadm -a -t {VIP}:{PORT} -r 10.11.0.3:{PORT} -g"
            ),
        );
        lab.file_arrives(VIP);
        let listed = lab.must(&lab.director, "ipvsadm -Ln --stats");
        assert!(listed.contains("10.11.0.3:8080"), "{listed}");
        assert!(lab.lvsd.stop(LIMIT).unwrap().success());
    });
}

#[test]
fn two_armed_by_translation() {
    networked(&["nc"], || {
        let mut lab = Lab::new();
        Veth::connect(&lab.client, "eth0", &lab.director, "cl").unwrap();
        Veth::connect(&lab.server, "eth0", &lab.director, "sv").unwrap();
        lab.must(
            &lab.director,
            &format!(
                "ip link set lo up; ip link set cl up; ip link set sv up
                 ip addr add 10.11.0.2/24 dev cl; ip addr add 10.12.0.2/24 dev sv
                 ip addr add {VIP}/32 dev lo; sysctl -qw net.ipv4.ip_forward=1"
            ),
        );
        lab.must(
            &lab.server,
            "ip link set lo up; ip link set eth0 up; ip addr add 10.12.0.3/24 dev eth0
             ip route add default via 10.12.0.2",
        );
        lab.must(
            &lab.client,
            "ip link set lo up; ip link set eth0 up; ip addr add 10.11.0.1/24 dev eth0
             ip route add default via 10.11.0.2",
        );
        lab.must(
            &lab.director,
            &format!(
                "ipvsadm -A -t {VIP}:{PORT} -s rr
                 ipvsadm -a -t {VIP}:{PORT} -r 10.12.0.3:{PORT} -m"
            ),
        );
        lab.file_arrives(VIP);
        let saved = lab.must(&lab.director, "ipvsadm -S -n");
        lab.must(&lab.director, "ipvsadm -C");
        assert_eq!(lab.must(&lab.director, "ipvsadm -S -n"), "");
        lab.must(&lab.director, &format!("ipvsadm -R <<'END'\n{saved}END"));
        lab.file_arrives(VIP);
        assert!(lab.lvsd.stop(LIMIT).unwrap().success());
    });
}
