//! `sed` (IPVS 1.4).

use super::Model;

impl Model {
    pub(super) fn sed(&self) -> Option<u32> {
        self.least(|s| i128::from(s.active) + 1, |s| s.weight.into())
    }
}
