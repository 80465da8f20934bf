//! `none`: nobody. A service that the kernel's interface allows and that never finds a server.
//!
//! Source: IPVS 0.1.

use crate::scheduler::{After, List, Scheduler};
use crate::{Options, Request};
use alloc::sync::Arc;
use lvs_core::SchedFlags;

#[derive(Debug)]
struct Nobody;

pub(crate) fn build(_: &List, _: &Options) -> Arc<dyn Scheduler> {
    Arc::new(Nobody)
}

impl Scheduler for Nobody {
    fn pick(&self, _: &List, _: SchedFlags, _: &Request) -> Option<usize> {
        None
    }

    fn edited(&self, _: &List, _: After) -> Option<Arc<dyn Scheduler>> {
        None
    }
}
