//! Defence when memory is short (IPVS 2.13): which packets and connections are not worth it.
//!
//! In: the settings `drop_entry`, `drop_packet` and `secure_tcp`, and once a second how much memory
//! there is. Out: whether a packet that would begin a connection is dropped, which TCP table is in
//! use, and connections that end early. A worker reads one word; while packets are dropped it also
//! writes one that all workers share.

use crate::director::Director;
use crate::rules::Rules;
use crate::settings::{Setting, Settings};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use lvs_conn::{Conn, ConnKind};
use lvs_core::{Protocol, Tick, state};

/// Connections with more packets than this are worth keeping.
const MOST_PACKETS: usize = 8;
/// A connection that was seen this recently is, too.
const RECENT: u32 = Tick::seconds(60);
/// The part of the table that is looked at each second: one in so many.
const PART: usize = 32;

/// What is being defended against.
#[derive(Debug, Default)]
pub(crate) struct Defence {
    /// One candidate in so many is dropped; 0: none.
    rate: AtomicU32,
    /// Candidates until the next one is dropped.
    counter: AtomicU32,
    drop_entry: AtomicBool,
    /// Where in the table the next look begins.
    place: AtomicUsize,
}

/// What a setting of three levels comes to, and what it becomes: 1 and 2 turn into each other with
/// the memory.
const fn level(value: u32, short: bool) -> (bool, u32) {
    match (value, short) {
        (1 | 2, true) => (true, 2),
        (1 | 2, false) => (false, 1),
        (0, _) => (false, 0),
        _ => (true, value),
    }
}

impl Defence {
    /// Whether the packet at hand, which would begin a connection, is dropped instead.
    #[inline]
    pub(crate) fn drops_packet(&self) -> bool {
        let rate = self.rate.load(Relaxed);
        rate != 0 && self.counts_down(rate)
    }

    /// Whether packets are being dropped.
    #[inline]
    pub(crate) fn is_dropping(&self) -> bool {
        self.rate.load(Relaxed) != 0
    }

    #[cold]
    fn counts_down(&self, rate: u32) -> bool {
        let next = |left: u32| Some(if left <= 1 { rate } else { left - 1 });
        let left = self.counter.fetch_update(Relaxed, Relaxed, next);
        left.is_ok_and(|left| left <= 1)
    }

    /// Judges the settings by the memory there is, and answers whether TCP is to be strict.
    fn judge(&self, settings: &Settings, free: u64) -> bool {
        let wanted = settings.get(Setting::AmemThresh);
        let short = free < u64::from(wanted);
        let judged = |setting| {
            let (on, value) = level(settings.get(setting), short);
            if value != settings.get(setting) {
                settings.store(setting, value);
            }
            (on, value)
        };
        let (drop_entry, _) = judged(Setting::DropEntry);
        self.drop_entry.store(drop_entry, Relaxed);
        let rate = match judged(Setting::DropPacket) {
            (false, _) => 0,
            (true, 3) => settings.get(Setting::AmDropRate),
            // Short, so that this is no division by zero.
            (true, _) => wanted / (wanted - u32::try_from(free).unwrap_or(0)),
        };
        self.rate.store(rate, Relaxed);
        judged(Setting::SecureTcp).0
    }
}

/// Which of many alike are chosen: of the connections with n packets, one in n.
#[derive(Debug, Default)]
struct Lottery([usize; MOST_PACKETS + 1]);

impl Lottery {
    fn draws(&mut self, conn: Conn<'_>, now: Tick) -> bool {
        if now.since(conn.last_seen()) < RECENT {
            return false;
        }
        let packets = usize::try_from(conn.in_packets()).unwrap_or(usize::MAX);
        match self.0.get_mut(packets) {
            Some(counter) if packets > 0 => {
                *counter = if *counter <= 1 { packets } else { *counter - 1 };
                *counter == packets
            }
            _ => false,
        }
    }
}

impl Director {
    /// Looks whether memory is short, and defends against what takes it; to be called about once a
    /// second with the host's free pages of 4 KiB. A table that is nearly full counts as well: as
    /// many connections as it still takes stand for pages, up to an eighth of it.
    pub fn defend(&self, free_pages: u64, now: Tick) {
        let table = &self.table;
        let room = table.capacity().saturating_sub(table.len());
        let roomy = room >= table.capacity() / 8;
        let room = if roomy { u64::MAX } else { room as u64 };
        let strict = self.defence.judge(&self.settings, free_pages.min(room));
        if self.timeouts.secure_tcp() != strict {
            self.timeouts.set_secure_tcp(strict);
        }
        if self.defence.drop_entry.load(Relaxed) {
            self.drop_entries(now);
        }
    }

    /// Ends connections that are not worth it, in a part of the table.
    fn drop_entries(&self, now: Tick) {
        let rules = self.rules.load();
        let mut handle = self.table.register();
        let mut lottery = Lottery::default();
        let from = self.defence.place.load(Relaxed);
        let end = from.saturating_add((self.table.len() / PART).max(1));
        let mut at = Some(from);
        while let Some(place) = at
            && place < end
        {
            at = self.table.scan_from(&mut handle, place, |conn| {
                if is_worthless(&rules, *conn, now, &mut lottery) {
                    conn.expire_chain(now);
                }
            });
        }
        self.defence.place.store(at.unwrap_or(0), Relaxed);
    }
}

fn is_worthless(rules: &Rules, conn: Conn<'_>, now: Tick, lottery: &mut Lottery) -> bool {
    use state::{sctp, tcp, template};
    if conn.children() > 0 {
        return false;
    }
    if conn.kind() == ConnKind::Template {
        let service = rules
            .destination_of(conn.dest())
            .and_then(|found| rules.service(&found.home.key));
        return match service {
            Some(service) if service.one_packet => lottery.draws(conn, now),
            _ => conn.state() != template::ASSURED,
        };
    }
    match (conn.protocol(), conn.state()) {
        (Protocol::Tcp, tcp::SYN_RECV | tcp::SYNACK) => true,
        (Protocol::Sctp, sctp::INIT1 | sctp::INIT) => true,
        (Protocol::Tcp, tcp::ESTABLISHED) | (Protocol::Sctp, sctp::ESTABLISHED) => {
            lottery.draws(conn, now)
        }
        (Protocol::Tcp | Protocol::Sctp, _) => false,
        _ => lottery.draws(conn, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(setting: Setting, value: u32, free: u64) -> (Defence, Settings, bool) {
        let (defence, settings) = (Defence::default(), Settings::default());
        settings.set(setting, value).unwrap();
        let strict = defence.judge(&settings, free);
        (defence, settings, strict)
    }

    #[test]
    fn levels_follow_the_memory() {
        for (value, free, on, becomes) in [
            (0, 0, false, 0),
            (1, 1023, true, 2),
            (1, 1024, false, 1),
            (2, 1024, false, 1),
            (2, 0, true, 2),
            (3, u64::MAX, true, 3),
        ] {
            let (_, settings, strict) = judged(Setting::SecureTcp, value, free);
            assert_eq!((strict, settings.get(Setting::SecureTcp)), (on, becomes));
            let (defence, settings, _) = judged(Setting::DropEntry, value, free);
            assert_eq!(defence.drop_entry.load(Relaxed), on);
            assert_eq!(settings.get(Setting::DropEntry), becomes);
        }
    }

    #[test]
    fn the_rate_is_what_the_memory_leaves() {
        for (value, free, rate) in [
            (0, 0, 0),
            (1, 0, 1),
            (1, 512, 2),
            (2, 1023, 1024),
            (1, 2000, 0),
            (3, 2000, 10),
        ] {
            let (defence, _, _) = judged(Setting::DropPacket, value, free);
            assert_eq!(defence.rate.load(Relaxed), rate, "{value} {free}");
        }
    }

    /// As the kernel was recorded to: the first one goes, then each third.
    #[test]
    fn one_in_so_many_packets_is_dropped() {
        let defence = Defence::default();
        assert!((0..10).all(|_| !defence.drops_packet()));
        defence.rate.store(3, Relaxed);
        let dropped: Vec<_> = (0..7).filter(|_| defence.drops_packet()).collect();
        assert_eq!(dropped.len(), 3);
        let defence = Defence::default();
        defence.rate.store(3, Relaxed);
        let dropped: Vec<_> = (0..7).filter(|_| defence.drops_packet()).collect();
        assert_eq!(dropped, [0, 3, 6]);
    }
}
