//! The daemon's place in the file system: a Unix socket, for its owner only unless told otherwise.
//!
//! A path comes in, a bound listener goes out, or one clear sentence. It never takes the socket
//! away from a daemon that lives, and never removes a file that is no socket.

use crate::config::Control;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the socket could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another daemon answers there.
    #[error("another lvsd is already running on {}", .0.display())]
    InUse(PathBuf),
    /// The path is something else.
    #[error("{} exists and is not a socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// It cannot be given to its owner.
    #[error(
        "cannot give {} to its `owner` and `group`: {why}; only root with CAP_CHOWN can, or, to a \
         group, one of its members",
        .path.display()
    )]
    Owner {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// The kernel said no.
    #[error("cannot listen on {}: {why}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
}

/// A bound control socket. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our socket: what is removed in the end is ours.
    identity: (u64, u64),
    /// Held as long as we live; says to others that the socket is not stale.
    _lock: OwnedFd,
}

impl ControlSocket {
    /// Takes the place, for this user only: replaces the socket of a daemon that died.
    ///
    /// # Errors
    /// [`BindError::InUse`] if one lives there, see the others.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, BindError> {
        Self::bind_as(&Control::new(path))
    }

    /// The same with an owner and permissions.
    ///
    /// # Errors
    /// As [`ControlSocket::bind`], and [`BindError::Owner`].
    pub fn bind_as(control: &Control) -> Result<Self, BindError> {
        let path = control.socket.clone();
        match Self::take(&path, control) {
            Ok(socket) => Ok(socket),
            Err(Trouble::Known(error)) => Err(error),
            Err(Trouble::Io(why)) => Err(BindError::Io { path, why }),
        }
    }

    fn take(path: &Path, control: &Control) -> Result<Self, Trouble> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Trouble::Known(BindError::NotASocket(path.to_owned())));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(in_use(path)),
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why.into()),
        }
        // Of two daemons that start at once and both find a stale socket, one gets the lock.
        let lock = lock(path)?;
        // Bound under another name first, so that the public name never has looser permissions
        // than it ends with, and so that replacing a stale socket is one step.
        let fresh = with_suffix(path, &format!(".{}", std::process::id()));
        remove_if_there(&fresh)?;
        let listener = UnixListener::bind(&fresh)?;
        let placed = give(&fresh, path, control).and_then(|()| {
            let ours = fs::metadata(&fresh)?;
            fs::rename(&fresh, path)?;
            Ok(ours)
        });
        let ours = match placed {
            Ok(ours) => ours,
            Err(why) => {
                remove_if_there(&fresh)?;
                return Err(why);
            }
        };
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (ours.dev(), ours.ino()),
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener, non-blocking.
    pub(super) const fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            // Nobody is left to tell; the next daemon replaces a stale socket anyway.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(lock_path(&self.path));
        }
    }
}

/// Gives a socket its owner and mode. Until then it is its maker's alone.
fn give(fresh: &Path, path: &Path, control: &Control) -> Result<(), Trouble> {
    fs::set_permissions(fresh, fs::Permissions::from_mode(0o600))?;
    if control.owner.is_some() || control.group.is_some() {
        std::os::unix::fs::chown(fresh, control.owner, control.group).map_err(|why| {
            Trouble::Known(BindError::Owner {
                path: path.to_owned(),
                why,
            })
        })?;
    }
    Ok(fs::set_permissions(
        fresh,
        fs::Permissions::from_mode(control.mode),
    )?)
}

enum Trouble {
    Known(BindError),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

fn in_use(path: &Path) -> Trouble {
    Trouble::Known(BindError::InUse(path.to_owned()))
}

/// Takes the lock beside the socket, or finds that somebody has it.
fn lock(path: &Path) -> Result<OwnedFd, Trouble> {
    let lock_path = lock_path(path);
    loop {
        let lock = rustix::fs::open(
            &lock_path,
            OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(io::Error::from)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use(path)),
            Err(why) => return Err(io::Error::from(why).into()),
        }
        // A daemon that stopped between our two calls has removed the file whose lock we now
        // have; only the lock of the file that has the name counts.
        let held = rustix::fs::fstat(&lock).map_err(io::Error::from)?;
        if fs::metadata(&lock_path).is_ok_and(|named| named.ino() == held.st_ino) {
            return Ok(lock);
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    with_suffix(path, ".lock")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_and_the_end_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lvsd.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(socket);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_whose_and_for_whom_the_configuration_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lvsd.sock");
        let us = fs::metadata(dir.path()).unwrap();
        let control = Control {
            owner: Some(us.uid()),
            group: Some(us.gid()),
            mode: 0o664,
            ..Control::new(&path)
        };
        let socket = ControlSocket::bind_as(&control).unwrap();
        let found = fs::metadata(&path).unwrap();
        let whose = (found.uid(), found.gid(), found.permissions().mode() & 0o777);
        assert_eq!(whose, (us.uid(), us.gid(), 0o664));
        drop(socket);
        // Another's, if this user may give things away, and otherwise a clear word and no socket.
        let control = Control {
            owner: Some(us.uid() + 12345),
            ..control
        };
        match ControlSocket::bind_as(&control) {
            Ok(_socket) => {
                let found = fs::metadata(&path).unwrap();
                assert_eq!(Some(found.uid()), control.owner);
            }
            Err(error) => {
                assert!(error.to_string().contains("CAP_CHOWN"), "{error}");
                assert!(!path.exists());
            }
        }
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert!(
            left.iter().all(|file| file.path() == lock_path(&path)),
            "{left:?}"
        );
    }

    #[test]
    fn a_second_daemon_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lvsd.sock");
        let first = ControlSocket::bind(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("another lvsd is already running on {}", path.display())
        );
        assert!(UnixStream::connect(&path).is_ok());
        // Even if its socket was removed under it.
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(BindError::InUse(_))
        ));
        drop(first);
    }

    #[test]
    fn the_socket_of_a_dead_daemon_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lvsd.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let socket = ControlSocket::bind(&path).unwrap();
        assert!(UnixStream::connect(socket.path()).is_ok());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lvsd.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = ControlSocket::bind(dir.path().join("no/such/dir.sock")).unwrap_err();
        assert!(
            error.to_string().contains("No such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn a_successor_keeps_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lvsd.sock");
        let first = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::remove_file(lock_path(&path)).unwrap();
        let second = ControlSocket::bind(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(second.path()).is_ok());
    }
}
