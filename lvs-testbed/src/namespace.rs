//! A network namespace, held by a descriptor.
//!
//! In: closures and commands. Out: their results, with everything they opened belonging to the
//! namespace. Never: a change to the namespace of a thread that is not ours.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Output, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::{Child, Error, Missing, Result, has_own_user_namespace, spawner};

/// A network of one machine: its own interfaces, addresses, routes, filters, sockets.
///
/// Interfaces, and with them the other end of each veth, vanish when the last descriptor, process
/// and socket in it is gone.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    descriptor: OwnedFd,
}

impl Namespace {
    /// Makes a namespace with `lo` up and sysctls that suit tests: IPv6 addresses are usable at
    /// once, nothing is filtered by reverse path, no redirects, no limit on ICMP errors.
    ///
    /// `name` is for messages only.
    ///
    /// # Errors
    ///
    /// [`Missing::Rights`] or [`Missing::NetworkNamespaces`].
    pub fn new(name: &str) -> Result<Self> {
        let made = in_thread(name, || -> std::io::Result<OwnedFd> {
            // SAFETY: this flag changes nothing but the network of the calling thread, which is
            // ours and ends here; descriptors, memory and the filesystem stay shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        })?;
        let descriptor = made.map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => Missing::Rights(source),
            _ => Missing::NetworkNamespaces(source),
        })?;
        let namespace = Self {
            name: name.to_owned(),
            descriptor,
        };
        namespace.quieten()?;
        namespace.set_up("lo", true)?;
        Ok(namespace)
    }

    /// The name given at birth.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Sockets opened there stay in
    /// this namespace wherever they are used afterwards.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered; [`Error::Panicked`] when `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_thread(&self.name, || self.enter().map(|()| work()))?
    }

    /// Starts a thread inside and returns at once.
    ///
    /// # Errors
    ///
    /// When no thread can be made.
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let inside = self.duplicate()?;
        thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || inside.enter().map(|()| work()))
            .map_err(Error::io("start a thread"))
    }

    /// Starts a program inside. It dies with this process at the latest, and when the returned
    /// [`Child`] is dropped.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        spawner::spawn(self, command)
    }

    /// Runs a program inside to its end and collects what it writes.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(command)?.wait_with_output()
    }

    /// A second handle on the same namespace.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn duplicate(&self) -> Result<Self> {
        let descriptor = self
            .descriptor
            .try_clone()
            .map_err(Error::io(format!("hold on to namespace {}", self.name)))?;
        Ok(Self {
            name: self.name.clone(),
            descriptor,
        })
    }

    /// What to write before a command so that it runs in here, while this process lives: the words
    /// `nsenter ... --`.
    #[must_use]
    pub fn nsenter(&self) -> String {
        let (pid, fd) = (std::process::id(), self.descriptor.as_raw_fd());
        let user = if has_own_user_namespace() {
            format!("--user=/proc/{pid}/ns/user --preserve-credentials ")
        } else {
            String::new()
        };
        format!("nsenter {user}--net=/proc/{pid}/fd/{fd} --")
    }

    /// Moves the calling thread in here, for good.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for want of rights.
    pub fn enter(&self) -> Result<()> {
        rustix::thread::move_into_link_name_space(
            self.descriptor.as_fd(),
            Some(LinkNameSpaceType::Network),
        )
        .map_err(Error::errno(format!("enter namespace {}", self.name)))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Runs `work` on a thread that may change its namespaces, and waits for it.
fn in_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)
            .map_err(Error::io("start a thread"))?
            .join()
            .map_err(|_| Error::Panicked(name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::networked;

    #[test]
    fn what_is_opened_inside_stays_inside() {
        networked(&[], || {
            let one = Namespace::new("one").unwrap();
            let two = Namespace::new("two").unwrap();
            let listener = one
                .run(|| std::net::TcpListener::bind("127.0.0.1:7"))
                .unwrap()
                .unwrap();
            let address = listener.local_addr().unwrap();
            let connect = || std::net::TcpStream::connect(address);
            assert!(one.run(connect).unwrap().is_ok());
            assert!(two.run(connect).unwrap().is_err());
            let mut cat = Command::new("cat");
            cat.arg("/proc/net/tcp");
            let output = one.output(cat).unwrap();
            assert!(String::from_utf8_lossy(&output.stdout).contains("0100007F:0007"));
        });
    }

    #[test]
    fn a_panic_inside_is_an_error_outside() {
        networked(&[], || {
            let one = Namespace::new("one").unwrap();
            assert!(matches!(
                one.run(|| panic!("on purpose")),
                Err(Error::Panicked(_))
            ));
        });
    }
}
