//! A map that shares what did not change with its earlier versions.
//!
//! In come keys and values from the control plane, out comes a value for one hash and one probe. The
//! entries are spread over shards; a clone shares them all, and a change copies the one shard that
//! it meets, so that it costs the same whether there are a hundred entries or a hundred thousand.

use ahash::RandomState;
use core::hash::Hash;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::sync::Arc;

/// So many that a shard of a hundred thousand entries is a few hundred.
const SHARDS: usize = 256;

type Shard<K, V> = Arc<HashTable<(K, V)>>;

/// A map, cheap to clone and to change.
#[derive(Debug, Clone)]
pub(crate) struct Shards<K, V> {
    shards: Arc<Vec<Shard<K, V>>>,
    hasher: RandomState,
    len: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Shards<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            shards: Arc::new(vec![Arc::default(); SHARDS]),
            hasher: RandomState::new(),
            len: 0,
        }
    }

    const fn shard(hash: u64) -> usize {
        // The lowest and the highest bits are those by which a table finds its entries.
        (hash >> 32) as usize % SHARDS
    }

    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let shard = self.shards.get(Self::shard(hash))?;
        shard
            .find(hash, |(known, _)| known == key)
            .map(|(_, value)| value)
    }

    #[inline]
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.shards
            .iter()
            .flat_map(|shard| shard.iter())
            .map(|(key, _)| key)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &(K, V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards
            .iter()
            .flat_map(|shard| shard.iter())
            .map(|(_, value)| value)
    }

    /// The value of a key, which has this one if it has none yet.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.get(&key) {
            return value.clone();
        }
        let value = make();
        self.put(key, Some(value.clone()));
        value
    }

    /// Gives a key this value, or none; answers the one that it had.
    pub(crate) fn put(&mut self, key: K, value: Option<V>) -> Option<V> {
        let mut before = None;
        self.change(key, |old| {
            before = old;
            value
        });
        before
    }

    /// Makes another value of the one that a key has, or none of one.
    pub(crate) fn change(&mut self, key: K, change: impl FnOnce(Option<V>) -> Option<V>) {
        let hash = self.hasher.hash_one(&key);
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(Self::shard(hash)) {
            let shard = Arc::make_mut(shard);
            change_in(shard, &self.hasher, &mut self.len, (hash, key), change);
        }
    }

    /// Takes down a change that [`Shards::change_all`] shall make.
    pub(crate) fn note<C>(&self, notes: &mut Notes<K, C>, key: K, change: C) {
        let hash = self.hasher.hash_one(&key);
        if let Some(notes) = notes.0.get_mut(Self::shard(hash)) {
            notes.push((hash, key, change));
        }
    }

    /// Makes all changes that were taken down, in the order of each key.
    pub(crate) fn change_all<C>(
        &mut self,
        notes: Notes<K, C>,
        change: impl Fn(Option<V>, &C) -> Option<V>,
    ) {
        let shards = Arc::make_mut(&mut self.shards).iter_mut();
        for (shard, notes) in shards.zip(notes.0) {
            if notes.is_empty() {
                continue;
            }
            let shard = Arc::make_mut(shard);
            for (hash, key, what) in notes {
                let change = |there| change(there, &what);
                change_in(shard, &self.hasher, &mut self.len, (hash, key), change);
            }
        }
    }
}

/// Changes of a map that are made later: all of a shard at once, as long as it is in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Notes<K, C>(Vec<Vec<(u64, K, C)>>);

impl<K, C> Notes<K, C> {
    /// About so many.
    pub(crate) fn with_room_for(changes: usize) -> Self {
        // Chance gives some shards more than others.
        let room = changes / SHARDS + changes / SHARDS / 4;
        Self((0..SHARDS).map(|_| Vec::with_capacity(room)).collect())
    }
}

fn change_in<K: Eq + Hash, V: Clone>(
    shard: &mut HashTable<(K, V)>,
    hasher: &RandomState,
    len: &mut usize,
    (hash, key): (u64, K),
    change: impl FnOnce(Option<V>) -> Option<V>,
) {
    let entry = shard.entry(
        hash,
        |(known, _)| *known == key,
        |(known, _)| hasher.hash_one(known),
    );
    match entry {
        Entry::Occupied(mut entry) => match change(Some(entry.get().1.clone())) {
            Some(value) => entry.get_mut().1 = value,
            None => {
                entry.remove();
                *len -= 1;
            }
        },
        Entry::Vacant(entry) => {
            if let Some(value) = change(None) {
                entry.insert((key, value));
                *len += 1;
            }
        }
    }
}

impl<K: Eq + Hash + Clone> Shards<K, u32> {
    /// Counts one more of a key, or one less.
    pub(crate) fn count(&mut self, key: K, added: bool) {
        self.change(key, |count| {
            let count = count.unwrap_or(0);
            let count = if added {
                count + 1
            } else {
                count.saturating_sub(1)
            };
            (count != 0).then_some(count)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// It is a map, and an earlier version stays what it was.
        #[test]
        fn is_a_map_with_a_past(
            changes in proptest::collection::vec((0u16..600, any::<bool>()), 0..400),
            moment in 0usize..400,
        ) {
            let (mut shards, mut model) = (Shards::<u16, u32>::new(), BTreeMap::new());
            let mut past = (shards.clone(), model.clone());
            for (at, &(key, added)) in changes.iter().enumerate() {
                if at == moment {
                    past = (shards.clone(), model.clone());
                }
                shards.count(key, added);
                let count: &mut u32 = model.entry(key).or_default();
                *count = if added { *count + 1 } else { count.saturating_sub(1) };
                model.retain(|_, count| *count != 0);
            }
            // Those that are made all at once come to the same.
            let (mut noted, model_now) = (past.0.clone(), model.clone());
            let mut notes = Notes::with_room_for(400);
            for &(key, added) in changes.iter().skip(moment.min(changes.len())) {
                noted.note(&mut notes, key, added);
            }
            noted.change_all(notes, |count, added| {
                let count = count.unwrap_or(0);
                let count = if *added { count + 1 } else { count.saturating_sub(1) };
                (count != 0).then_some(count)
            });
            if moment < changes.len() {
                prop_assert!((0..600).all(|key| noted.get(&key) == model_now.get(&key)));
            }
            for (shards, model) in [(shards, model), past] {
                let mut keys: Vec<_> = shards.keys().copied().collect();
                keys.sort_unstable();
                prop_assert!(keys.iter().eq(model.keys()));
                prop_assert!(shards.is_empty() == model.is_empty());
                prop_assert!((0..600).all(|key| shards.get(&key) == model.get(&key)));
            }
        }
    }
}
