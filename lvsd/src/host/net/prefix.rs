//! Longest-prefix match by one binary search.
//!
//! In: prefixes with a value each. Out: the value of the longest prefix that holds an address.
//! Never: an allocation or a scan on lookup.
//!
//! Prefixes nest or are disjoint, so they cut the address space into ranges, each of which belongs
//! to one prefix: `n` prefixes make at most `2n + 1` ranges.
//!
//! ```text
//!   10.0.0.0/8  ├────────────────────────────────┤      A
//!   10.1.0.0/16           ├──────┤                      B
//!   ranges      ┊none     ┊A     ┊B     ┊A       ┊none
//! ```

/// A prefix: its first address, its last, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) value: u32,
}

/// Ranges of addresses; `K` is as wide as an address.
#[derive(Clone, Debug)]
pub(super) struct Ranges<K> {
    starts: Box<[K]>,
    values: Box<[u32]>,
}

/// The value of a range that no prefix covers.
const NONE: u32 = u32::MAX;

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self {
            starts: Box::default(),
            values: Box::default(),
        }
    }
}

impl<K: Copy + Ord + TryFrom<u128>> Ranges<K> {
    /// From prefixes in any order, no two of them equal, none with the value `u32::MAX`.
    pub(super) fn new(mut prefixes: Vec<Prefix>) -> Self {
        // Outer prefixes come before the inner ones that begin with them.
        prefixes.sort_by_key(|p| (p.first, std::cmp::Reverse(p.last)));
        let mut ranges: Vec<(u128, u32)> = Vec::with_capacity(prefixes.len() * 2 + 1);
        let mut open: Vec<Prefix> = Vec::new();
        let begin = |ranges: &mut Vec<(u128, u32)>, start: u128, value: u32| match ranges.last_mut()
        {
            Some(last) if last.0 == start => last.1 = value,
            Some(last) if last.1 == value => {}
            _ => ranges.push((start, value)),
        };
        for prefix in prefixes {
            close(&mut open, Some(prefix.first), |start, value| {
                begin(&mut ranges, start, value);
            });
            begin(&mut ranges, prefix.first, prefix.value);
            open.push(prefix);
        }
        close(&mut open, None, |start, value| {
            begin(&mut ranges, start, value);
        });
        // A range that begins behind the last address does not exist.
        let ranges = ranges
            .iter()
            .filter_map(|&(start, value)| Some((K::try_from(start).ok()?, value)));
        let (starts, values): (Vec<_>, Vec<_>) = ranges.unzip();
        Self {
            starts: starts.into(),
            values: values.into(),
        }
    }

    /// The value of the longest prefix that holds `key`.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let behind = self.starts.partition_point(|&start| start <= key);
        let value = *self.values.get(behind.checked_sub(1)?)?;
        (value != NONE).then_some(value)
    }
}

/// Ends the open prefixes that end before `next`, and says what holds behind each.
fn close(open: &mut Vec<Prefix>, next: Option<u128>, mut begin: impl FnMut(u128, u32)) {
    while let Some(inner) = open.last().copied() {
        if next.is_some_and(|next| inner.last >= next) {
            return;
        }
        open.pop();
        if let Some(behind) = inner.last.checked_add(1) {
            begin(behind, open.last().map_or(NONE, |outer| outer.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator that needs no crate: a linear congruence is random enough to nest prefixes.
    fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn agrees_with_a_scan_of_all_prefixes() {
        for seed in 0..300 {
            let mut random = numbers(seed);
            let mut list: Vec<Prefix> = Vec::new();
            for value in 0..u32::try_from(random(20)).unwrap() {
                let size = 1u128 << random(9);
                let first = u128::from(random(256)) / size * size;
                let last = first + size - 1;
                if !list.iter().any(|p| (p.first, p.last) == (first, last)) {
                    list.push(Prefix { first, last, value });
                }
            }
            let ranges = Ranges::<u8>::new(list.clone());
            for key in 0..=255u8 {
                let expected = list
                    .iter()
                    .filter(|p| (p.first..=p.last).contains(&u128::from(key)))
                    .min_by_key(|p| p.last - p.first)
                    .map(|p| p.value);
                assert_eq!(ranges.get(key), expected, "seed {seed}, key {key}");
            }
        }
    }

    #[test]
    fn the_whole_space_and_its_last_address_are_prefixes_too() {
        let all = Prefix {
            first: 0,
            last: u128::MAX,
            value: 1,
        };
        let end = Prefix {
            first: u128::MAX,
            last: u128::MAX,
            value: 2,
        };
        let ranges = Ranges::<u128>::new(vec![end, all]);
        assert_eq!(ranges.get(0), Some(1));
        assert_eq!(ranges.get(u128::MAX), Some(2));
        assert_eq!(Ranges::<u128>::default().get(0), None);
    }
}
