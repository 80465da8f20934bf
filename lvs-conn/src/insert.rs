//! Making a connection.
//!
//! An entry is filled while nobody else can see it. Then its key, that of its client, goes into the
//! index, under the turn of its home bucket, where of two workers with the same flow one finds the
//! other's. From here on it can be found, and even unlinked. A second key, if it has one, follows.
//! The thread's own list brings it to the collector when the batch is over: so the collector never
//! sees an entry before all keys are where it will look for them.
//!
//! An endpoint that is the client of two dozen connections already has a crowd, which nobody shall
//! have to look through: the next ones get keys made of their whole flow, one for each direction,
//! and are counted, so that lookups know that there are any. Whether such a key is the only one is
//! decided in the turn of the client's home bucket all the same.

use crate::conn::Conn;
use crate::entry::{
    Entry, HELPED, INACTIVE, Identity, LIVE, NIL, NO_OUTPUT, ONE_PACKET, QUEUED, SILENT, TELL,
    TEMPLATE, UNLINKED, WIDE_REPLY, WIDE_REQUEST,
};
use crate::handle::Local;
use crate::index::{CROWD, Full, Key, Named};
use crate::new_connection::{ConnKind, NewConnection};
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
        let identity = identity(new);
        let keys = if new.kind == ConnKind::Template {
            Keys {
                request: self.wide(&identity.request()),
                reply: None,
            }
        } else {
            self.keys_of(&identity)
        };
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
        let Some(index) = self.pool.next(&self.entries, &local.stock) else {
            return match self.existing(new, &identity, keys) {
                Ok(conn) if new.kind != ConnKind::OnePacket => Ok(Inserted::Existing(conn)),
                _ => Err(self.count_full()),
            };
        };
        let Some(entry) = self.entries.get(index as usize) else {
            return Err(self.count_full());
        };
        let parent = Conn::adopt(self, new.control);
        prepare(entry, &identity, new, parent);
        let put_in = if new.kind == ConnKind::OnePacket {
            go_live(entry, new);
            Ok(None)
        } else {
            self.put_in(index, entry, new, &identity, keys)
        };
        if let Ok(Some(existing)) = put_in {
            // Nobody has seen the entry: it stays what it was, free and next in turn.
            self.disown(parent);
            return Ok(Inserted::Existing(existing));
        }
        local.stock.take();
        local.made(self, entry, index);
        if put_in.is_err() {
            // Others may have seen it: the collector takes it out in order, without a report.
            entry.cold.fetch_or(SILENT, Relaxed);
            entry.word.fetch_or(UNLINKED, AcqRel);
            return Err(self.count_full());
        }
        Ok(Inserted::New(Conn {
            table: self,
            entry,
            index,
        }))
    }

    /// Puts the keys of an entry into the index, unless another entry is the same connection: then
    /// that is what comes back.
    fn put_in(
        &self,
        index: u32,
        entry: &Entry,
        new: &NewConnection,
        identity: &Identity,
        keys: &Keys,
    ) -> Result<Option<Conn<'_>>, Full> {
        let named = |key| Named { key, entry: index };
        let Some(turn) = self.index.lock(keys.request) else {
            go_live(entry, new);
            return Err(Full);
        };
        let crowd = match self.existing(new, identity, keys) {
            Ok(existing) => return Ok(Some(existing)),
            Err(crowd) => crowd,
        };
        if crowd >= CROWD && new.kind == ConnKind::Normal {
            self.wide_count.fetch_add(1, AcqRel);
            entry.cold.fetch_or(WIDE_REQUEST | WIDE_REPLY, Relaxed);
            let keys = self.wide_keys(identity, true);
            go_live(entry, new);
            self.index.add(keys.request, named(Key::Request))?;
            drop(turn);
            if let Some(reply) = keys.reply {
                self.index.add(reply, named(Key::Reply))?;
            }
            return Ok(None);
        }
        go_live(entry, new);
        self.index.add(keys.request, named(Key::Request))?;
        drop(turn);
        let Some(reply) = keys.reply else {
            return Ok(None);
        };
        if self.index.add(reply, named(Key::Reply)).is_err() {
            // A local endpoint that is used towards many servers.
            self.wide_count.fetch_add(1, AcqRel);
            entry.cold.fetch_or(WIDE_REPLY, Relaxed);
            self.index
                .add(self.wide(&identity.reply()), named(Key::Reply))?;
        }
        Ok(None)
    }

    /// Puts an entry that survived its process into the index again, with nobody else about; false
    /// if it has a twin or no room.
    pub(crate) fn put_back(&self, index: u32, entry: &Entry, kind: ConnKind) -> bool {
        let identity = entry.identity();
        let word = entry.word.load(Relaxed);
        let new = NewConnection {
            protocol: identity.protocol,
            client: identity.client,
            virtual_endpoint: identity.virtual_,
            destination: identity.server,
            local: identity.local,
            method: identity.method,
            kind,
            ..NewConnection::default()
        };
        let keys = self.prepare(&new).keys;
        let put_in = self.put_in(index, entry, &new, &identity, &keys);
        // It was made anew; what it had become is more.
        entry.word.store(word, Relaxed);
        match put_in {
            Ok(None) => true,
            Ok(Some(_)) => false,
            Err(Full) => {
                self.remove_keys(index, &self.keys(entry));
                false
            }
        }
    }

    /// The connection that a new one would be; if there is none, how many like it have its key.
    fn existing(
        &self,
        new: &NewConnection,
        identity: &Identity,
        keys: &Keys,
    ) -> Result<Conn<'_>, u32> {
        let request = identity.request();
        let template = new.kind == ConnKind::Template;
        let same = |named| self.recognise_request(named, &request, template);
        let mut crowd = 0;
        let found = self.index.find(keys.request, |named| {
            crowd += 1;
            same(named)
        });
        if let Some(found) = found {
            return Ok(found);
        }
        // Relaxed: whoever put one in had the turn of the same bucket.
        if !template && self.wide_count.load(Relaxed) != 0 {
            return self.index.find(self.wide(&request), same).ok_or(crowd);
        }
        Err(crowd)
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
    entry.set_destination(new.dest.index, new.dest.generation);
    entry.last_seen.store(new.now.0, Relaxed);
    entry.timeout.store(timeout, Relaxed);
    // The wheel does not have it yet; it will hear of it at the end of the batch.
    entry.due.store((new.now + timeout).0, Relaxed);
    entry.previous.store(NIL, Relaxed);
    let cold = match new.kind {
        ConnKind::OnePacket => ONE_PACKET,
        _ => 0,
    };
    let tell = if new.tell { TELL } else { 0 };
    let helped = if new.helped { HELPED } else { 0 };
    entry.cold.store(cold | tell | helped, Relaxed);
    entry.mark.store(new.mark, Relaxed);
    entry.children.store(0, Relaxed);
    entry.control.store(parent, Relaxed);
}

fn go_live(entry: &Entry, new: &NewConnection) {
    // Release: a scan that sees it live sees all of it.
    entry.word.store(first_word(new), Release);
}

/// State and flags of a connection that begins. It is on its thread's list before anybody can look.
const fn first_word(new: &NewConnection) -> u16 {
    let kind = match new.kind {
        ConnKind::Normal => 0,
        ConnKind::Template => TEMPLATE,
        ConnKind::OnePacket => UNLINKED,
    };
    let no_output = if new.method.rewrites_replies() {
        0
    } else {
        NO_OUTPUT
    };
    LIVE | QUEUED | INACTIVE | no_output | kind
}
