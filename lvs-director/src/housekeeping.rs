//! What is done beside the packets: ending connections, estimating rates, emptying the trash.

use crate::destination::Destination;
use crate::director::{Director, NO_SWEEP};
use crate::listing::total_of_service;
use crate::rules::Rules;
use crate::settings::Setting;
use lvs_conn::{Conn, ConnKind};
use lvs_core::{ForwardMethod, Tick, state};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

impl Director {
    /// Ends connections whose time is over, looking at no more than `budget` of them; answers how
    /// many it ended. To be called often, by one thread.
    pub fn collect(&self, now: Tick, budget: usize) -> usize {
        self.clock.store(now.0, Relaxed);
        // Asked before the rules are read: whoever asks has published them.
        self.adoption.begin_if_asked();
        let rules = self.rules.load();
        self.adopt_some(&rules, budget);
        let (mut ended, mut rest) = (0, budget);
        if let Some(from) = self.sweep_from() {
            // What a packet has ended meanwhile no longer holds its template.
            ended = self.collect_due(&rules, now, budget / 2);
            rest -= budget / 2;
            self.end_abandoned(&rules, from, now);
        }
        self.make_room(now, budget);
        ended + self.collect_due(&rules, now, rest)
    }

    fn collect_due(&self, rules: &Rules, now: Tick, budget: usize) -> usize {
        self.table
            .collect(now, budget, &mut |conn| self.ended(rules, conn))
    }

    /// Where the search for connections whose destination is gone begins or goes on, if a deletion asked
    /// for one.
    fn sweep_from(&self) -> Option<usize> {
        if self.sweep_asked.load(Relaxed) && self.sweep_asked.swap(false, Acquire) {
            return Some(0);
        }
        let from = self.sweep.load(Relaxed);
        (from != NO_SWEEP).then_some(from)
    }

    /// Ends connections whose destination is gone, some of the table at a time (`expire_nodest_conn`,
    /// IPVS 0.4).
    fn end_abandoned(&self, rules: &Rules, from: usize, now: Tick) {
        let mut handle = self.table.register();
        let next = self.table.scan_from(&mut handle, from, |conn| {
            // What its operator said becomes of them counts more than the setting.
            let available =
                |found: &Arc<Destination>| found.backend.is_available() || found.leaving.is_some();
            // One that was bypassed has none and needs none.
            let needs_none = conn.method() == ForwardMethod::Bypass;
            if needs_none
                || conn.children() > 0
                || rules.destination_of(conn.dest()).is_some_and(available)
            {
                return;
            }
            // Its template goes with its last connection, assured or not.
            if let Some(template) = conn.control() {
                template.set_state(0);
            }
            conn.expire_chain(now);
            conn.unlink(now);
        });
        self.sweep.store(next.unwrap_or(NO_SWEEP), Relaxed);
    }

    /// A connection has ended: its destination has one less.
    fn ended(&self, rules: &Rules, conn: &Conn<'_>) {
        if let Some(local) = conn.local() {
            self.locals.give_back(local, conn.destination().addr);
        }
        let destination = rules.destination_of(conn.dest());
        if conn.client().port == 0 && conn.is_helped() {
            self.waiting.fetch_sub(1, Relaxed);
        }
        if conn.kind() == ConnKind::Template {
            if conn.mark() != 0 {
                self.calls.forget(conn.mark());
            }
            if let Some(destination) = destination {
                destination.ledger.templates.fetch_sub(1, Relaxed);
            }
        } else if let Some(destination) = destination
            && conn.method() != ForwardMethod::Bypass
        {
            let active = state::is_active(conn.protocol(), conn.state());
            destination.backend.closed(active);
        }
    }

    /// Housekeeping of the rules, to be called about once a second.
    pub fn tick(&self, now: Tick) {
        let mut control = self.control.lock();
        control.free_all_retired();
        self.clock.store(now.0, Relaxed);
        self.locals.tidy();
        let rules = self.rules.load();
        for service in rules.services() {
            let expiration = match service.pool.scheduler_name() {
                "lblc" => Some(Setting::LblcExpiration),
                "lblcr" => Some(Setting::LblcrExpiration),
                _ => None,
            };
            if let Some(setting) = expiration {
                service.pool.expire_after(self.settings.get(setting));
            }
            service.pool.tick(now);
        }
        let gone = control.trash.empty(now);
        if gone.is_empty() {
            return;
        }
        let mut rules = Rules::clone(&rules);
        rules.expect(2 * gone.len());
        for destination in &gone {
            rules.count_real(destination, true);
            rules.put_destination(destination.id.index, None);
            control.free.push(destination.id.index);
        }
        self.publish(&mut control, rules, gone.len());
    }

    /// Takes a sample for the rates, to be called every two seconds (IPVS 7.2).
    /// Does nothing while `run_estimation` is off.
    pub fn estimate(&self) {
        if !self.settings.is_on(Setting::RunEstimation) {
            return;
        }
        let totals = self.totals();
        self.control.lock().estimator.sample(totals);
        let rules = self.rules.load();
        for service in rules.services() {
            let total = total_of_service(&rules, service);
            service.home.history.lock().estimator.sample(total);
            for destination in rules.destinations_in(service) {
                destination.ledger.sample(destination.counters.sum());
            }
        }
    }
}
