//! Making a connection.
//!
//! An entry is filled while nobody else can see it. Then its first key, that of the requests, goes
//! into the index, under the turn of its home bucket, where of two workers with the same flow one
//! finds the other's. From here on it can be found, and even unlinked. Then the reply's key follows.
//! The thread's own list brings it to the collector when the batch is over: so the collector never
//! sees an entry before both keys are where it will look for them.

use crate::conn::{Conn, ConnKind, NewConnection};
use crate::entry::{
    Entry, INACTIVE, Identity, LIVE, NIL, NO_OUTPUT, ONE_PACKET, QUEUED, SILENT, TEMPLATE, UNLINKED,
};
use crate::handle::Local;
use crate::index::{Full, Key, Named};
use crate::sync::Ordering::{AcqRel, Relaxed, Release};
use crate::table::{Inserted, Keys, Table, TableFull};

/// A connection that is about to be inserted into the table that prepared it; see
/// [`Guard::prepare`](crate::Guard::prepare).
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    new: NewConnection,
    keys: Keys,
}

impl Table {
    pub(crate) fn prepare(&self, new: &NewConnection) -> Prepared {
        let mut keys = self.keys_of(&identity(new));
        if new.kind == ConnKind::Template {
            keys.reply = None;
        }
        self.prefetch_keys(&keys);
        Prepared { new: *new, keys }
    }

    pub(crate) fn insert(
        &self,
        local: &Local,
        prepared: &Prepared,
    ) -> Result<Inserted<'_>, TableFull> {
        let Prepared { new, keys } = prepared;
        let identity = identity(new);
        let request = identity.request();
        let template = new.kind == ConnKind::Template;
        let same = |named| self.recognise_request(named, &request, template);

        let Some(index) = self.pool.next(&self.entries, &local.stock) else {
            return match self.index.find(keys.request, same) {
                Some(conn) if new.kind != ConnKind::OnePacket => Ok(Inserted::Existing(conn)),
                _ => Err(self.count_full()),
            };
        };
        let Some(entry) = self.entries.get(index as usize) else {
            return Err(self.count_full());
        };
        let conn = Conn {
            table: self,
            entry,
            index,
        };
        let parent = Conn::adopt(self, new.control);
        prepare(entry, &identity, new, parent);
        let named = |key| Named { key, entry: index };
        // Release: a scan that sees it live sees all of it.
        let go_live = || entry.word.store(first_word(new), Release);
        let mut full = false;
        if new.kind == ConnKind::OnePacket {
            go_live();
        } else {
            let taken = self
                .index
                .add_unique(keys.request, named(Key::Request), same, go_live);
            match (taken, keys.reply) {
                (Ok(Some(existing)), _) => {
                    // Nobody has seen the entry: it stays what it was, free and next in turn.
                    self.disown(parent);
                    return Ok(Inserted::Existing(existing));
                }
                (Ok(None), Some(reply)) => {
                    full = self.index.add(reply, named(Key::Reply)).is_err();
                }
                (Ok(None), None) => {}
                (Err(Full), _) => full = true,
            }
        }
        local.stock.take();
        local.made(self, entry, index);
        if full {
            // Others may have seen it: the collector takes it out in order, without a report.
            entry.word.fetch_or(UNLINKED | SILENT, AcqRel);
            return Err(self.count_full());
        }
        Ok(Inserted::New(conn))
    }

    fn disown(&self, parent: u32) {
        if let Some(parent) = self.entries.get(parent as usize) {
            parent.children.fetch_sub(1, AcqRel);
        }
    }
}

const fn identity(new: &NewConnection) -> Identity {
    Identity {
        protocol: new.protocol,
        method: new.method,
        client: new.client,
        virtual_: new.virtual_endpoint,
        server: new.destination,
        local: new.local,
    }
}

/// Fills a free entry.
fn prepare(entry: &Entry, identity: &Identity, new: &NewConnection, parent: u32) {
    let timeout = match new.kind {
        ConnKind::OnePacket => 0,
        _ => new.timeout,
    };
    entry.fill(identity);
    entry.dest_index.store(new.dest.index, Relaxed);
    entry.dest_generation.store(new.dest.generation, Relaxed);
    entry.last_seen.store(new.now.0, Relaxed);
    entry.timeout.store(timeout, Relaxed);
    // The wheel does not have it yet; it will hear of it at the end of the batch.
    entry.due.store((new.now + timeout).0, Relaxed);
    entry.previous.store(NIL, Relaxed);
    entry.in_packets.store(0, Relaxed);
    entry.mark.store(new.mark, Relaxed);
    entry.children.store(0, Relaxed);
    entry.control.store(parent, Relaxed);
}

/// State and flags of a connection that begins. It is on its thread's list before anybody can look.
const fn first_word(new: &NewConnection) -> u32 {
    let kind = match new.kind {
        ConnKind::Normal => 0,
        ConnKind::Template => TEMPLATE,
        ConnKind::OnePacket => ONE_PACKET | UNLINKED,
    };
    let no_output = if new.method.rewrites_replies() {
        0
    } else {
        NO_OUTPUT
    };
    LIVE | QUEUED | INACTIVE | no_output | kind
}
