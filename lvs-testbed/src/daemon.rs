//! `lvsd` itself, as a program that runs in a director's namespace.
//!
//! In: a [`DaemonConfig`], which is written out as its configuration file. Out: a running daemon
//! whose control socket answers, or an error with everything it said. Nothing of lvsd is linked.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{Child, Error, Namespace, Result, TemporaryDirectory};

/// What goes into the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Interfaces; none for all.
    pub interfaces: Vec<String>,
    /// Worker threads; none for the daemon's own choice.
    pub workers: Option<u32>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Further lines before the first table, such as `log = "debug"`.
    pub top: String,
    /// The log filter.
    pub log: Option<String>,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// What clients ask for.
    pub vip: SocketAddr,
    /// The scheduler's name.
    pub scheduler: &'static str,
    /// The servers.
    pub targets: Vec<Target>,
}

/// A destination of a [`Rule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// `nat`, `dr` or `tun`.
    pub method: &'static str,
    /// Its weight.
    pub weight: u32,
}

impl DaemonConfig {
    /// The configuration file.
    ///
    /// ```
    /// let config = lvs_testbed::DaemonConfig::default();
    /// assert!(config.text("/run/x.sock".as_ref()).starts_with("socket = \"/run/x.sock\""));
    /// ```
    #[must_use]
    pub fn text(&self, socket: &Path) -> String {
        let mut text = format!(
            "socket = {:?}\n{}\n",
            socket.display().to_string(),
            self.top
        );
        if let Some(log) = &self.log {
            let _ = writeln!(text, "log = {log:?}");
        }
        let _ = writeln!(text, "[dataplane]");
        if !self.interfaces.is_empty() {
            let _ = writeln!(text, "interfaces = {:?}", self.interfaces);
        }
        if let Some(workers) = self.workers {
            let _ = writeln!(text, "workers = {workers}");
        }
        for rule in &self.rules {
            let (protocol, vip, scheduler) = (rule.protocol, rule.vip, rule.scheduler);
            let _ = write!(
                text,
                "\n[[service]]\nlisten = \"{protocol}://{vip}\"\nscheduler = \"{scheduler}\"\n"
            );
            for target in &rule.targets {
                let (address, method, weight) = (target.address, target.method, target.weight);
                let _ = write!(
                    text,
                    "[[service.destination]]\naddress = \"{address}\"\nmethod = \"{method}\"\n\
                     weight = {weight}\n"
                );
            }
        }
        text
    }
}

/// A running `lvsd`; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    directory: TemporaryDirectory,
    socket: PathBuf,
    said: PathBuf,
}

impl Daemon {
    /// Starts `program run` in `namespace` and waits until its control socket answers.
    ///
    /// # Errors
    ///
    /// When it ends or stays silent; the text has what it wrote to stderr.
    pub fn start(program: &Path, namespace: &Namespace, config: &DaemonConfig) -> Result<Self> {
        Self::start_in(TemporaryDirectory::new()?, program, namespace, config)
    }

    fn start_in(
        directory: TemporaryDirectory,
        program: &Path,
        namespace: &Namespace,
        config: &DaemonConfig,
    ) -> Result<Self> {
        let socket = directory.path().join("control.sock");
        let file = directory.write("lvsd.toml", config.text(&socket))?;
        let said = directory.path().join("stderr");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&said)
            .map_err(Error::io("make a file for the messages of lvsd"))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&file);
        let out = log.try_clone().map_err(Error::io("hold a file"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        let child = namespace.spawn(command)?;
        let mut daemon = Self {
            child,
            directory,
            socket,
            said,
        };
        daemon.wait_ready(Duration::from_secs(20))?;
        Ok(daemon)
    }

    /// Starts it again after its end, with the same directory and socket.
    ///
    /// # Errors
    ///
    /// As [`Daemon::start`].
    pub fn restart(
        self,
        program: &Path,
        namespace: &Namespace,
        config: &DaemonConfig,
    ) -> Result<Self> {
        let Self {
            mut child,
            directory,
            ..
        } = self;
        child.kill()?;
        child.wait_timeout(Duration::from_secs(10))?;
        drop(child);
        Self::start_in(directory, program, namespace, config)
    }

    fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !answers(&self.socket) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let how = ended.map_or_else(|| "did not open its socket".into(), |s| s.to_string());
                return Err(Error::Unexpected {
                    doing: "start lvsd".into(),
                    got: format!("{how}\n{}", self.said()),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("lvsd.toml")
    }

    /// Everything that it has written to stdout and stderr.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Asks it to end, and makes it after ten seconds.
    ///
    /// # Errors
    ///
    /// What the system calls say.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.child.stop(Duration::from_secs(10))
    }
}

/// Whether someone answers a question on the control socket; it is there before it is served.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(b"GET /v1/info HTTP/1.1\r\nHost: lvsd\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
