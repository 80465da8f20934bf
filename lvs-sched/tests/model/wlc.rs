//! `wlc` (IPVS 1.4).

use super::{Model, Server};

impl Model {
    pub(super) fn wlc(&self) -> Option<u32> {
        self.least(Server::over, |s| s.weight.into())
    }
}
