//! A program that runs in a namespace and does not outlive its owner.

use std::io::Read;
use std::process::{self, ExitStatus, Output};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal};

use crate::{Error, Result};

/// A started program. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Child {
    program: String,
    inner: process::Child,
}

impl Child {
    pub(crate) fn new(program: String, inner: process::Child) -> Self {
        Self { program, inner }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// The pipes and the rest.
    pub fn std(&mut self) -> &mut process::Child {
        &mut self.inner
    }

    /// The exit status if it has ended.
    ///
    /// # Errors
    ///
    /// What `waitpid` says.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.inner
            .try_wait()
            .map_err(Error::io(format!("ask after {}", self.program)))
    }

    /// Sends a signal; one to a program that has ended does nothing.
    ///
    /// # Errors
    ///
    /// What `kill` says.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let doing = format!("signal {}", self.program);
        let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::errno(doing)(errno)),
        }
    }

    /// Waits for the end, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]; the program then still runs.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout(format!("the end of {}", self.program)));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, then SIGKILL after `limit`.
    ///
    /// # Errors
    ///
    /// What the system calls say.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        match self.wait_timeout(limit) {
            Err(Error::Timeout(_)) => {
                self.kill()?;
                self.wait_timeout(limit)
            }
            other => other,
        }
    }

    /// SIGKILL, without waiting.
    ///
    /// # Errors
    ///
    /// What `kill` says.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Waits for the end and collects what was written to piped stdout and stderr.
    ///
    /// # Errors
    ///
    /// What reading says.
    pub fn wait_with_output(mut self) -> Result<Output> {
        let doing = format!("read the output of {}", self.program);
        drop(self.inner.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let errors = self.inner.stderr.take();
        thread::scope(|scope| {
            let reader = scope.spawn(|| match errors {
                Some(mut pipe) => pipe.read_to_end(&mut stderr).map(drop),
                None => Ok(()),
            });
            if let Some(mut pipe) = self.inner.stdout.take() {
                pipe.read_to_end(&mut stdout)?;
            }
            reader
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))
        })
        .map_err(Error::io(doing.clone()))?;
        let status = self.inner.wait().map_err(Error::io(doing))?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.inner.try_wait(), Ok(None)) {
            let _ = self.inner.kill();
            let _ = self.inner.wait();
        }
    }
}
