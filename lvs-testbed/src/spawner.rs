//! The thread that starts every program.
//!
//! The kernel's death signal goes out when the *thread* that forked ends. One thread that lives as
//! long as the process does all forks, so children die with the process and not before.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{OnceLock, mpsc};
use std::{io, thread};

use rustix::process::Signal;
use rustix::thread::LinkNameSpaceType;

use crate::{Child, Error, Namespace, Result};

type Job = Box<dyn FnOnce() + Send>;

fn jobs() -> &'static mpsc::Sender<Job> {
    static JOBS: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Job>();
        // Without this thread every send fails, which `spawn` reports.
        let _ = thread::Builder::new()
            .name("spawner".into())
            .spawn(move || receiver.iter().for_each(|job| job()));
        sender
    })
}

pub(crate) fn spawn(namespace: &Namespace, mut command: Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    let doing = format!("start {program} in {}", namespace.name());
    // Ctrl-C in a terminal is for us; what becomes of the children is our decision.
    command.process_group(0);
    let inside = namespace.duplicate()?;
    let (answer, answered) = mpsc::sync_channel(1);
    let job: Job = Box::new(move || {
        let descriptor = inside.as_fd().as_raw_fd();
        // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing
        // and takes no lock. The descriptor is open in the parent until `spawn` has returned.
        unsafe {
            command.pre_exec(move || {
                enter(descriptor)?;
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                Ok(())
            });
        }
        let _ = answer.send(command.spawn());
        drop(inside);
    });
    let gone = || Error::Io {
        doing: doing.clone(),
        source: io::Error::other("the starting thread is gone"),
    };
    jobs().send(job).map_err(|_| gone())?;
    let child = answered
        .recv()
        .map_err(|_| gone())?
        .map_err(Error::io(doing))?;
    Ok(Child::new(program, child))
}

fn enter(descriptor: i32) -> io::Result<()> {
    // SAFETY: the caller keeps the descriptor open for the length of the call.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    rustix::thread::move_into_link_name_space(descriptor, Some(LinkNameSpaceType::Network))?;
    Ok(())
}
