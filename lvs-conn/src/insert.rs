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

use crate::batch::prefetch_candidates;
use crate::conn::Conn;
use crate::entry::{
    Entry, HELPED, INACTIVE, LIVE, NIL, NO_OUTPUT, ONE_PACKET, QUEUED, SILENT, TELL, TEMPLATE,
    UNLINKED, WIDE_REPLY, WIDE_REQUEST,
};
use crate::handle::Local;
use crate::index::{CROWD, Full, Key, Named, Turn};
use crate::new_connection::{ConnKind, NewConnection};
use crate::raw::Common;
use crate::sync::Ordering::{AcqRel, Relaxed, Release};
use crate::table::{Inserted, Keys, Table, TableFull};
use lvs_core::ForwardMethod;

/// A connection that is about to be inserted into the table that prepared it; see
/// [`Guard::prepare`](crate::Guard::prepare).
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'a> {
    pub(crate) new: &'a NewConnection,
    pub(crate) keys: Keys,
}

impl Table {
    pub(crate) fn prepare<'a>(&self, new: &'a NewConnection) -> Prepared<'a> {
        Prepared {
            new,
            keys: self.prepare_keys(new),
        }
    }

    /// Begins to fetch the entries that may be the same connection; the index line has to be there.
    pub(crate) fn prepare_further(&self, prepared: &Prepared<'_>) {
        let Some(home) = self.index.home_at(prepared.keys.request) else {
            return;
        };
        let index = self.index.view();
        let found = index.candidates(Common, home);
        if found != 0 {
            prefetch_candidates(self, &index, home, found);
        }
    }

    /// The keys of a new connection, of which its index lines are on their way; its ports are known
    /// before it can be found.
    #[inline(always)]
    pub(crate) fn prepare_keys(&self, new: &NewConnection) -> Keys {
        let keys = if new.kind == ConnKind::Template {
            Keys {
                request: self.wide(&new.request()),
                reply: None,
            }
        } else {
            let local = new.local.filter(|_| new.method == ForwardMethod::FullNat);
            self.sides.add(new);
            self.keys_of(new.protocol, new.client, local)
        };
        self.prefetch_keys(&keys);
        keys
    }

    /// What seldom runs gets a copy of `new`: so its fields, which a caller has just put together, can
    /// stay in registers.
    #[inline(always)]
    pub(crate) fn insert(
        &self,
        local: &Local,
        new: &NewConnection,
        keys: &Keys,
    ) -> Result<Inserted<'_>, TableFull> {
        let Some(index) = self.pool.next(&self.entries, &local.stock) else {
            return self.without_room(&{ *new }, keys);
        };
        let Some(entry) = self.entries.get(index as usize) else {
            return Err(self.count_full());
        };
        let parent = Conn::adopt(self, new.control);
        prepare(entry, new, parent);
        let put_in = if new.kind == ConnKind::OnePacket {
            go_live(entry, new);
            Ok(None)
        } else {
            self.put_in(index, entry, new, keys)
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

    /// What becomes of a new connection when all entries are in use.
    #[cold]
    fn without_room(&self, new: &NewConnection, keys: &Keys) -> Result<Inserted<'_>, TableFull> {
        match self.existing(new, keys) {
            Ok(conn) if new.kind != ConnKind::OnePacket => Ok(Inserted::Existing(conn)),
            _ => Err(self.count_full()),
        }
    }

    /// Puts the keys of an entry into the index, unless another entry is the same connection: then
    /// that is what comes back.
    #[inline(always)]
    fn put_in(
        &self,
        index: u32,
        entry: &Entry,
        new: &NewConnection,
        keys: &Keys,
    ) -> Result<Option<Conn<'_>>, Full> {
        let named = |key| Named { key, entry: index };
        let Some(turn) = self.index.lock(keys.request) else {
            go_live(entry, new);
            return Err(Full);
        };
        let crowd = match self.existing(new, keys) {
            Ok(existing) => return Ok(Some(existing)),
            Err(crowd) => crowd,
        };
        if crowd >= CROWD && new.kind == ConnKind::Normal {
            return self.put_in_crowd(index, entry, &{ *new }, turn);
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
            let reply = self.wide(&new.identity().reply());
            self.index.add(reply, named(Key::Reply))?;
        }
        Ok(None)
    }

    /// The same of one whose client has a crowd, and whose turn it is.
    #[cold]
    fn put_in_crowd(
        &self,
        index: u32,
        entry: &Entry,
        new: &NewConnection,
        turn: Turn<'_>,
    ) -> Result<Option<Conn<'_>>, Full> {
        let named = |key| Named { key, entry: index };
        self.wide_count.fetch_add(1, AcqRel);
        entry.cold.fetch_or(WIDE_REQUEST | WIDE_REPLY, Relaxed);
        let keys = self.wide_keys(&new.identity(), true);
        go_live(entry, new);
        self.index.add(keys.request, named(Key::Request))?;
        drop(turn);
        if let Some(reply) = keys.reply {
            self.index.add(reply, named(Key::Reply))?;
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
        let keys = self.prepare_keys(&new);
        let put_in = self.put_in(index, entry, &new, &keys);
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
    #[inline(always)]
    fn existing(&self, new: &NewConnection, keys: &Keys) -> Result<Conn<'_>, u32> {
        // Relaxed: whoever put one in had the turn of the same bucket.
        if self.index.has_none(keys.request) && self.wide_count.load(Relaxed) == 0 {
            return Err(0);
        }
        self.existing_among(&{ *new }, keys)
    }

    /// The same where others have the key, or may have been put elsewhere.
    #[inline(never)]
    fn existing_among(&self, new: &NewConnection, keys: &Keys) -> Result<Conn<'_>, u32> {
        let mut crowd = 0;
        let found = self.index.find(keys.request, |named| {
            crowd += 1;
            self.is_twin(named, new)
        });
        if let Some(found) = found {
            return Ok(found);
        }
        if new.kind != ConnKind::Template && self.wide_count.load(Relaxed) != 0 {
            return self.existing_in_crowd(new).ok_or(crowd);
        }
        Err(crowd)
    }

    #[cold]
    fn existing_in_crowd(&self, new: &NewConnection) -> Option<Conn<'_>> {
        let place = self.wide(&new.request());
        self.index.find(place, |named| self.is_twin(named, new))
    }

    /// What a slot names, if a new connection would be the same.
    #[inline(never)]
    fn is_twin(&self, named: Named, new: &NewConnection) -> Option<Conn<'_>> {
        let template = new.kind == ConnKind::Template;
        self.recognise_request(named, &new.request(), template)
    }

    fn disown(&self, parent: u32) {
        if let Some(parent) = self.entries.get(parent as usize) {
            parent.children.fetch_sub(1, AcqRel);
        }
    }
}

/// Fills a free entry.
#[inline(always)]
fn prepare(entry: &Entry, new: &NewConnection, parent: u32) {
    let timeout = match (new.kind, new.first) {
        (ConnKind::OnePacket, _) => 0,
        (_, Some(first)) => first.timeout,
        (_, None) => new.timeout,
    };
    entry.fill(new);
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

#[inline(always)]
fn go_live(entry: &Entry, new: &NewConnection) {
    // Release: a scan that sees it live sees all of it.
    entry.word.store(first_word(new), Release);
}

/// State and flags of a connection that begins. It is on its thread's list before anybody can look.
#[inline(always)]
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
    let first = match new.first {
        Some(first) => first.word,
        None => INACTIVE,
    };
    LIVE | QUEUED | no_output | kind | first
}
