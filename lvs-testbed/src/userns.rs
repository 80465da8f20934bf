//! A user namespace for those who are not root: inside, we own every network we make.
//!
//! It must be entered before the process has a second thread; the kernel refuses it afterwards.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs, io, thread};

use rustix::fs::{Mode, OFlags};
use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::{Missing, Result};

/// Whether this process may make network namespaces and configure them as it is.
#[must_use]
pub fn may_make_networks() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Whether this process lives in a user namespace other than the machine's first one.
///
/// Whoever wants to enter our networks from outside must then enter that namespace too.
#[must_use]
pub fn has_own_user_namespace() -> bool {
    // The first namespace maps the whole range, and only that one can.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        map.split_whitespace()
            .ne(["0", "0", "4294967295"].iter().copied())
    })
}

/// Makes this process root of a user namespace of its own, unless it has the rights already.
///
/// # Errors
///
/// [`Missing::Rights`] when the kernel or its configuration allows no user namespaces, and
/// [`Missing::SingleThread`] when the process already has several threads.
pub fn enter_user_namespace() -> Result<()> {
    if may_make_networks() {
        return Ok(());
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(Missing::SingleThread.into());
    }
    // SAFETY: the flag shares nothing of the process's memory or descriptors, and we have checked
    // that no other thread exists which could see its credentials change.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }
        .map_err(|errno| Missing::Rights(errno.into()))?;
    let map = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).map_err(Missing::Rights)
    };
    map("setgroups", "deny".into())?;
    map("uid_map", format!("0 {uid} 1"))?;
    map("gid_map", format!("0 {gid} 1"))?;
    if may_make_networks() {
        Ok(())
    } else {
        Err(Missing::Rights(std::io::ErrorKind::PermissionDenied.into()).into())
    }
}

/// Runs a test's body where it may make networks.
///
/// Who has the rights runs it at once. Otherwise this very test is started again, alone, as a child
/// in a user namespace of its own: a test harness has threads, so the namespace cannot be entered
/// where the test stands.
///
/// # Errors
///
/// [`Missing::Rights`] when there is no way; the body has not run then. A child that fails is
/// reported as [`crate::Error::Unexpected`].
pub fn with_networks(body: impl FnOnce()) -> Result<()> {
    const INSIDE: &str = "LVS_INSIDE_USER_NAMESPACE";
    if may_make_networks() {
        body();
        return Ok(());
    }
    let here = thread::current();
    let test = here.name().unwrap_or("main");
    if test == "main" || env::var_os(INSIDE).is_some() {
        return Err(Missing::Rights(io::ErrorKind::PermissionDenied.into()).into());
    }
    let program = env::current_exe().map_err(Missing::Rights)?;
    let mut again = Command::new(program);
    again.args(["--exact", test, "--nocapture", "--include-ignored"]);
    again.env(INSIDE, "1");
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let (uid, gid) = (format!("0 {uid} 1"), format!("0 {gid} 1"));
    // SAFETY: between fork and exec the closure makes system calls only: the texts exist already,
    // and nothing is allocated or locked. The child has one thread, as `unshare` demands.
    unsafe {
        again.pre_exec(move || {
            become_root(uid.as_bytes(), gid.as_bytes())?;
            Ok(())
        });
    }
    let output = again.output().map_err(Missing::Rights)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    eprint!("{}{said}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(());
    }
    Err(crate::Error::Unexpected {
        doing: format!("run {test} in a user namespace"),
        got: output.status.to_string(),
    })
}

fn become_root(uid: &[u8], gid: &[u8]) -> rustix::io::Result<()> {
    // SAFETY: the caller is a child between fork and exec, and has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
    for (file, text) in [
        (c"/proc/self/setgroups", b"deny".as_slice()),
        (c"/proc/self/uid_map", uid),
        (c"/proc/self/gid_map", gid),
    ] {
        let file = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, text)?;
    }
    Ok(())
}
