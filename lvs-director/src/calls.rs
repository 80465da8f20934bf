//! What persistence engines remember: the Call-IDs of templates (IPVS 2.7).
//!
//! In: a value when a template is made, its number when it has ended. Out: whether a template is
//! that of a value. All of it is allocated when the first service with an engine is added; keeping a
//! value takes no lock, and finds no place rather than search for long.

use crate::sip::MAX_CALL_ID;
use core::hash::{BuildHasher, Hash, Hasher};
use core::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use lvs_core::{Endpoint, Flow};
use std::sync::OnceLock;

/// The most values at a time.
const MOST: usize = 1 << 16;
/// Places that are looked at for a free one.
const TRIES: u32 = 64;
const WORDS: usize = (MAX_CALL_ID + 1) / 8;

/// One value: whoever has taken the place writes it, before anybody can find its template.
#[derive(Debug, Default)]
struct Place {
    taken: AtomicU32,
    /// The virtual port of the template, whose own ports are a hash.
    port: AtomicU32,
    length: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl Place {
    fn write(&self, value: &[u8], port: u16) {
        self.port.store(u32::from(port), Relaxed);
        self.length
            .store(u32::try_from(value.len()).unwrap_or(0), Relaxed);
        for (word, bytes) in self.words.iter().zip(value.chunks(8)) {
            word.store(word_of(bytes), Relaxed);
        }
    }

    fn is(&self, value: &[u8]) -> bool {
        let words = self.words.iter().zip(value.chunks(8));
        self.length.load(Relaxed) as usize == value.len()
            && words
                .into_iter()
                .all(|(word, bytes)| word.load(Relaxed) == word_of(bytes))
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// The values of all templates.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    places: OnceLock<Box<[Place]>>,
    next: AtomicU32,
    hasher: ahash::RandomState,
}

impl Calls {
    /// Makes room, once.
    pub(crate) fn open(&self, connections: usize) {
        self.places.get_or_init(|| {
            (0..connections.min(MOST))
                .map(|_| Place::default())
                .collect()
        });
    }

    /// The key of the template of a value: that of the client with a hash for its ports.
    pub(crate) fn key(&self, flow: &Flow, value: &[u8]) -> Flow {
        let mut hasher = self.hasher.build_hasher();
        flow.hash(&mut hasher);
        hasher.write(value);
        let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
        let port = |endpoint: Endpoint, bytes| Endpoint {
            port: u16::from_le_bytes(bytes),
            ..endpoint
        };
        // Never 0, which other templates have.
        Flow {
            src: port(flow.src, [a | 1, b]),
            dst: port(flow.dst, [c, d]),
            ..*flow
        }
    }

    /// Keeps a value with the virtual port of its template; its number, which is never 0.
    pub(crate) fn keep(&self, value: &[u8], port: u16) -> Option<u32> {
        let places = self.places.get()?;
        for _ in 0..TRIES {
            let at = self.next.fetch_add(1, Relaxed) as usize % places.len().max(1);
            let place = places.get(at)?;
            if place.taken.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
                place.write(value, port);
                return u32::try_from(at + 1).ok();
            }
        }
        None
    }

    fn place(&self, number: u32) -> Option<&Place> {
        let at = (number as usize).checked_sub(1)?;
        self.places.get()?.get(at)
    }

    /// Whether a number is that of a value.
    pub(crate) fn is(&self, number: u32, value: &[u8]) -> bool {
        self.place(number).is_some_and(|place| place.is(value))
    }

    /// The value of a number and the port kept with it, for a listing: if its template ends
    /// meanwhile, they may be another's.
    pub(crate) fn read(&self, number: u32) -> Option<(Vec<u8>, u16)> {
        let place = self.place(number)?;
        let words = place.words.iter();
        let mut bytes: Vec<u8> = words
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect();
        bytes.truncate(place.length.load(Relaxed) as usize);
        Some((bytes, u16::try_from(place.port.load(Relaxed)).unwrap_or(0)))
    }

    /// Gives a place back; nobody may find the template any more.
    pub(crate) fn forget(&self, number: u32) {
        if let Some(place) = self.place(number) {
            place.taken.store(0, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::Protocol;

    #[test]
    fn values_are_kept_until_they_are_forgotten() {
        let calls = Calls::default();
        assert_eq!(calls.keep(b"a@x", 5060), None);
        calls.open(2);
        let a = calls.keep(b"a@x", 5060).unwrap();
        let long = [b'q'; MAX_CALL_ID];
        let b = calls.keep(&long, 0).unwrap();
        assert!(a != 0 && b != 0 && a != b);
        assert!(calls.is(a, b"a@x") && calls.is(b, &long));
        assert!(!calls.is(a, b"a@y") && !calls.is(a, b"a@") && !calls.is(a, b"a@xx"));
        assert_eq!(calls.read(a), Some((b"a@x".to_vec(), 5060)));
        assert_eq!(calls.read(b), Some((long.to_vec(), 0)));
        assert_eq!(calls.keep(b"c", 1), None);
        calls.forget(a);
        assert_eq!(calls.keep(b"c", 1), Some(a));
        assert!(calls.is(a, b"c"));
        calls.forget(0);
        assert!(!calls.is(0, b"") && !calls.is(9, b""));
    }

    #[test]
    fn keys_differ_by_client_and_value() {
        let calls = Calls::default();
        let flow = |client: &str| {
            let (client, vip) = (client.parse().unwrap(), "10.0.0.1:5060".parse().unwrap());
            Flow::new(Protocol::Udp, client, vip)
        };
        let key = |client, value: &[u8]| calls.key(&flow(client), value);
        assert_eq!(key("10.1.0.1:0", b"a"), key("10.1.0.1:0", b"a"));
        assert_ne!(key("10.1.0.1:0", b"a"), key("10.1.0.1:0", b"b"));
        assert_ne!(key("10.1.0.1:0", b"a"), key("10.1.0.2:0", b"a"));
        assert_ne!(key("10.1.0.1:0", b"a").src.port, 0);
    }
}
