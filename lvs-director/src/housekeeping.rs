//! What is done beside the packets: ending connections, estimating rates, emptying the trash.

use crate::director::Director;
use crate::rules::Rules;
use lvs_conn::Conn;
use lvs_core::{Tick, state};

impl Director {
    /// Ends connections whose time is over, looking at no more than `budget` of them; answers how
    /// many it ended. To be called often, by one thread.
    pub fn collect(&self, now: Tick, budget: usize) -> usize {
        let rules = self.rules.load();
        self.table
            .collect(now, budget, &mut |conn| ended(&rules, conn))
    }

    /// Housekeeping of the rules, to be called about once a second.
    pub fn tick(&self, now: Tick) {
        let mut control = self.control.lock();
        control.free_retired();
        let rules = self.rules.load();
        for service in rules.services() {
            service.pool.tick(now);
        }
        let gone = control.trash.empty(now);
        if gone.is_empty() {
            return;
        }
        let mut rules = Rules::clone(&rules);
        for destination in gone {
            rules.put_destination(destination.id.index, None);
            control.free.push(destination.id.index);
        }
        self.publish(&mut control, rules);
    }

    /// Takes a sample for the rates, to be called every two seconds (IPVS 7.2).
    pub fn estimate(&self) {
        let totals = self.totals();
        self.control.lock().estimator.sample(totals);
        let rules = self.rules.load();
        for status in self.services() {
            let Some(service) = rules.service(&status.key) else {
                continue;
            };
            let mut history = service.history.lock();
            let total = status.counters + history.zero;
            history.estimator.sample(total);
            drop(history);
            for destination in rules.destinations_in(service) {
                destination
                    .history
                    .lock()
                    .estimator
                    .sample(destination.counters.sum());
            }
        }
    }
}

/// A connection has ended: its destination has one less.
fn ended(rules: &Rules, conn: &Conn<'_>) {
    if let Some(destination) = rules.destination_of(conn.dest()) {
        destination
            .backend
            .closed(state::is_active(conn.protocol(), conn.state()));
    }
}
