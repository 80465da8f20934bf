//! A daemon without a NIC, and names without a network.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod traffic;

use lvs_core::{Addr, Protocol};
use lvsadm::{Names, Surroundings, System, run};
use lvsd::control::{Backend, ControlSocket, serve};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A control server over some backend, on a socket of its own, for as long as it lives.
pub(crate) struct Daemon {
    pub(crate) socket: PathBuf,
    _dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn start(backend: Arc<dyn Backend>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(dir.path().join("lvsd.sock")).unwrap();
        let path = socket.path().to_owned();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve(&socket, backend, stopped)).unwrap();
        });
        Self {
            socket: path,
            _dir: dir,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Runs a command line as `ipvsadm`.
    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> Seen {
        let args = std::iter::once("ipvsadm").chain(args.iter().copied());
        let args: Vec<String> = args.map(str::to_owned).collect();
        self.run_all(&args, stdin)
    }

    pub(crate) fn run_all(&self, args: &[String], stdin: &str) -> Seen {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let status = run(
            args,
            &mut Surroundings {
                input: &mut stdin.as_bytes(),
                output: &mut output,
                errors: &mut errors,
                socket: Some(self.socket.clone()),
                names: &LocalNames,
            },
        );
        Seen {
            status,
            stdout: String::from_utf8(output).unwrap(),
            stderr: String::from_utf8(errors).unwrap(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What was seen of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The services of the system; of hosts only the loopback, so that no test asks a name server.
pub(crate) struct LocalNames;

impl Names for LocalNames {
    fn resolve(&self, host: &str) -> Option<Addr> {
        host.eq_ignore_ascii_case("localhost")
            .then(|| "127.0.0.1".parse().unwrap())
    }

    fn host(&self, addr: Addr) -> Option<String> {
        (addr.to_string() == "127.0.0.1").then(|| "localhost".to_owned())
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        System.port(service, protocol)
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        System.service(port, protocol)
    }
}
