//! A server and the overload flag of IPVS 0.5, with plain counters.

use lvs_core::{Endpoint, Thresholds};

#[derive(Clone, Debug)]
pub struct Server {
    pub id: u32,
    pub endpoint: Endpoint,
    pub weight: i64,
    pub last_weight: i64,
    pub active: i64,
    pub inactive: i64,
    pub overloaded: bool,
    pub thresholds: Thresholds,
}

impl Server {
    pub fn new(id: u32, endpoint: Endpoint, weight: u32, thresholds: Thresholds) -> Self {
        Self {
            id,
            endpoint,
            weight: weight.into(),
            last_weight: weight.into(),
            active: 0,
            inactive: 0,
            overloaded: false,
            thresholds,
        }
    }

    pub fn usable(&self) -> bool {
        !self.overloaded && self.weight > 0
    }

    pub(super) fn over(&self) -> i128 {
        i128::from(self.active) * 256 + i128::from(self.inactive)
    }

    /// Rule R of IPVS 0.5.
    pub fn judge(&mut self) {
        let (u, l) = (
            i64::from(self.thresholds.upper),
            i64::from(self.thresholds.lower),
        );
        let total = self.active + self.inactive;
        if u == 0 {
            self.overloaded = false;
        } else if total >= u {
            self.overloaded = true;
        } else {
            let floor = if l != 0 { l } else { u - (u >> 2) };
            if total < floor {
                self.overloaded = false;
            }
        }
    }

    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        if thresholds != self.thresholds {
            self.thresholds = thresholds;
            self.judge();
        }
    }

    pub fn opened(&mut self, active: bool) {
        if active {
            self.active += 1;
        } else {
            self.inactive += 1;
        }
        self.judge();
    }

    pub fn closed(&mut self, active: bool) {
        if active {
            self.active -= 1;
        } else {
            self.inactive -= 1;
        }
        if self.overloaded {
            self.judge();
        }
    }

    pub fn moved(&mut self, to_active: bool) {
        let step = if to_active { 1 } else { -1 };
        self.active += step;
        self.inactive -= step;
    }
}
