//! A private `lvsd run --io none`, and `lvsadm` as `ipvsadm` against it.
//!
//! A command with its input in; its exit status and both streams out. The daemon ends with the value.

use super::recording::Record;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The interfaces of the laboratory of the recordings, and a small table.
const CONFIG: &str = "\
log = \"warn\"
[dataplane]
interfaces = [\"lo\", \"d0\", \"d1\"]
[connections]
capacity = 1024
";

/// The longest that a daemon may take to answer for the first time.
const START: Duration = Duration::from_secs(20);

/// What was built.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) lvsd: PathBuf,
    pub(crate) lvsadm: PathBuf,
}

/// What was seen of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `None`: a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A daemon that runs.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    pub(crate) fn start(programs: &Programs) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|e| format!("a temporary folder: {e}"))?;
        let path = |name: &str| folder.path().join(name);
        let failed = |e: std::io::Error| format!("lvsd: {e}");
        fs::write(path("lvsd.toml"), CONFIG).map_err(failed)?;
        symlink(&programs.lvsadm, path("ipvsadm")).map_err(failed)?;
        let log = File::create(path("log")).map_err(failed)?;
        let child = Command::new(&programs.lvsd)
            .args(["run", "--io", "none", "--die-with-parent", "--socket"])
            .arg(path("socket"))
            .arg(path("lvsd.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let mut daemon = Self { child, folder };
        daemon.wait()?;
        Ok(daemon)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            if self.answers().unwrap_or(false) {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|e| format!("lvsd: {e}"))?;
            if ended.is_some() || Instant::now() >= deadline {
                let said = fs::read_to_string(self.path("log")).unwrap_or_default();
                return Err(format!("lvsd does not answer\n{said}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn answers(&self) -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(self.path("socket"))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /v1/info HTTP/1.1\r\nHost: lvsd\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    }

    /// Runs one command to its end.
    pub(crate) fn run(&self, record: &Record) -> Result<Seen, String> {
        let failed = |e: std::io::Error| format!("lvsadm: {e}");
        let mut child = Command::new(self.path("ipvsadm"))
            .args(&record.argv)
            .env("LVSD_SOCKET", self.path("socket"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take();
        let text = record.stdin.clone();
        // A command that does not read its input leaves it, which is no failure.
        let writer = thread::spawn(move || input.map(|mut pipe| pipe.write_all(text.as_bytes())));
        let output = child.wait_with_output().map_err(failed)?;
        let _ = writer.join();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Seen {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
