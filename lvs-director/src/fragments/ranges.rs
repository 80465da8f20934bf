//! Which bytes of a datagram have come.
//!
//! In: a piece at a time. Out: whether it is new. Never more than [`RANGES`] separate ranges: pieces
//! that come in order, or backwards, are one.

/// Ranges with gaps between them.
const RANGES: usize = 16;

/// What a piece is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    /// All of it had come before: a repetition, which is dropped.
    Again,
    /// Part of it had come before, which no sender does (RFC 5722; RFC 791's overlaps are as dead).
    Overlapping,
    TooMany,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ranges {
    /// Start and end; the first `used` of them count.
    ranges: [(u32, u32); RANGES],
    used: usize,
}

impl Ranges {
    pub(super) fn insert(&mut self, start: u32, end: u32) -> Inserted {
        let Self { ranges, used } = self;
        let known = ranges.get(..*used).unwrap_or_default();
        if known.iter().any(|known| known.0 <= start && end <= known.1) {
            return Inserted::Again;
        }
        if known.iter().any(|known| known.0 < end && start < known.1) {
            return Inserted::Overlapping;
        }
        let before = known.iter().position(|known| known.1 == start);
        let behind = known.iter().position(|known| known.0 == end);
        match (before, behind) {
            (Some(before), Some(behind)) => {
                let far = ranges.get(behind).map_or(end, |behind| behind.1);
                if let Some(before) = ranges.get_mut(before) {
                    before.1 = far;
                }
                *used -= 1;
                ranges.swap(behind, *used);
            }
            (Some(before), None) => {
                if let Some(before) = ranges.get_mut(before) {
                    before.1 = end;
                }
            }
            (None, Some(behind)) => {
                if let Some(behind) = ranges.get_mut(behind) {
                    behind.0 = start;
                }
            }
            (None, None) => {
                let Some(free) = ranges.get_mut(*used) else {
                    return Inserted::TooMany;
                };
                *free = (start, end);
                *used += 1;
            }
        }
        Inserted::New
    }

    /// Whether exactly the bytes between these have come.
    pub(super) fn are(&self, start: u32, end: u32) -> bool {
        self.used == 1 && self.ranges.first() == Some(&(start, end))
    }

    /// The end of what has come.
    pub(super) fn reach(&self) -> u32 {
        let known = self.ranges.iter().take(self.used);
        known.map(|known| known.1).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// As a set of bytes has it.
        #[test]
        fn ranges_are_a_set(pieces in proptest::collection::vec((0..40_u32, 1..6_u32), 1..60)) {
            let mut ranges = Ranges::default();
            let mut set = [false; 64];
            for (start, length) in pieces {
                let of = &mut set[start as usize..(start + length) as usize];
                let seen = of.iter().filter(|byte| **byte).count();
                match ranges.insert(start, start + length) {
                    Inserted::New => {
                        prop_assert_eq!(seen, 0);
                        of.fill(true);
                    }
                    Inserted::Again => prop_assert_eq!(seen, length as usize),
                    Inserted::Overlapping => prop_assert!(seen > 0),
                    Inserted::TooMany => prop_assert_eq!((seen, ranges.used), (0, RANGES)),
                }
                let reach = set.iter().rposition(|byte| *byte).map_or(0, |last| last + 1);
                prop_assert_eq!(ranges.reach() as usize, reach);
                let all = set[..reach].iter().all(|byte| *byte);
                prop_assert_eq!(ranges.are(0, ranges.reach()), all);
            }
        }
    }
}
