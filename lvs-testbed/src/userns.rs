//! A user namespace for those who are not root: inside, we own every network we make.
//!
//! It must be entered before the process has a second thread; the kernel refuses it afterwards.

use std::fs;

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
