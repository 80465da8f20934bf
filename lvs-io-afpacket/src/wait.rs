//! Sleeping until there is something to do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use smallvec::SmallVec;

use crate::receiver::Receiver;
use crate::sender::Sender;

/// How long a wait lasts at most while frames could not be sent yet.
const RETRY: Duration = Duration::from_millis(1);

/// What ended a wait. All `false`: time was up, or a signal came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// A receiver has frames.
    pub frames: bool,
    /// The [`Waker`] was used.
    pub wake: bool,
    /// An interface went down or is gone: ask each [`Receiver::link`].
    pub trouble: bool,
}

/// Ends a [`wait`] from another thread.
///
/// ```
/// use lvs_io_afpacket::{Waker, wait};
/// let waker = Waker::new()?;
/// waker.wake();
/// let woken = wait(&[], &mut [], Some(&waker), None)?;
/// assert!(woken.wake && !woken.frames);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// A waker that has not been used.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Ends the current wait, or the next one if there is none.
    pub fn wake(&self) {
        // The only failure is a counter at its limit, and then it is awake already.
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    fn reset(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sleeps until one of `receivers` has a frame, `waker` is used, an interface goes down, or
/// `timeout` is over (`None`: never). Returns at once, without entering the kernel, if a frame is
/// waiting already. What `senders` still hold is flushed before.
///
/// # Errors
/// `poll` failed: the system has no memory, or more receivers were given than files may be open.
pub fn wait(
    receivers: &[Receiver],
    senders: &mut [Sender],
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Woken> {
    let mut timeout = timeout;
    for sender in senders {
        // A failure is counted by the sender and reported below by the receiver of the interface.
        let _ = sender.flush();
        if sender.waiting() != 0 {
            timeout = Some(timeout.map_or(RETRY, |timeout| timeout.min(RETRY)));
        }
    }
    if receivers.iter().any(Receiver::is_ready) {
        return Ok(Woken {
            frames: true,
            ..Woken::default()
        });
    }
    let mut fds: SmallVec<[PollFd<'_>; 16]> = receivers
        .iter()
        .map(|receiver| PollFd::from_borrowed_fd(receiver.as_fd(), PollFlags::IN))
        .collect();
    if let Some(waker) = waker {
        fds.push(PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN));
    }
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Woken::default()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut woken = Woken::default();
    let mut events = fds.iter().map(PollFd::revents);
    for (receiver, events) in receivers.iter().zip(events.by_ref()) {
        woken.frames |= events.contains(PollFlags::IN);
        if events.intersects(PollFlags::ERR | PollFlags::HUP) {
            receiver.clear_error();
            woken.trouble = true;
        }
    }
    if let (Some(waker), Some(events)) = (waker, events.next())
        && events.contains(PollFlags::IN)
    {
        waker.reset();
        woken.wake = true;
    }
    Ok(woken)
}
