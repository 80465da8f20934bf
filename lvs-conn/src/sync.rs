//! Atomics and the collector's lock, or models of them: loom's under `--cfg lvs_loom`, shuttle's if
//! `--cfg lvs_shuttle` is given beside it.

#[cfg(not(lvs_loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(lvs_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
};

#[cfg(all(lvs_loom, not(lvs_shuttle)))]
use loom::sync as model;
#[cfg(all(lvs_loom, not(lvs_shuttle)))]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
};

#[cfg(lvs_shuttle)]
use shuttle::sync as model;
#[cfg(lvs_shuttle)]
pub(crate) use shuttle::{
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
};

/// The models' lock with the other's manners.
#[cfg(lvs_loom)]
#[derive(Debug)]
pub(crate) struct Mutex<T>(model::Mutex<T>);

#[cfg(lvs_loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(model::Mutex::new(value))
    }

    pub(crate) fn try_lock(&self) -> Option<model::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
