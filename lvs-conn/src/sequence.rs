//! How the numbers of a TCP stream are shifted, whose text was replaced by text of another length
//! (IPVS 2.7).
//!
//! In: at which number of the stream how many bytes were added or taken away. Out: the numbers that
//! the receiver sees, and back those that the sender knows. Knows no packet; one word, so that two
//! workers agree on it.
//!
//! ```
//! use lvs_conn::Shift;
//! // Three bytes more from number 1000 on.
//! let shift = Shift::default().changed(1000, 3);
//! assert_eq!((shift.forth(1000), shift.forth(1001)), (1000, 1004));
//! assert_eq!(shift.back(1004), 1001);
//! ```

/// The shift of one direction of a stream: from where on by how much, and by how much before.
///
/// Kept for the last two changes, as in the kernel: a packet that is older is one that both ends have
/// long acknowledged. Shifts add up to eight million bytes at the most, one change to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shift {
    /// The number of the packet that was changed last.
    start: u32,
    /// Behind it.
    after: i32,
    /// Before it.
    before: i32,
}

/// Whether a number comes after another one, on the circle (RFC 1982).
const fn is_after(number: u32, other: u32) -> bool {
    other.wrapping_sub(number).cast_signed() < 0
}

impl Shift {
    /// Whether nothing is shifted.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.after == 0 && self.before == 0
    }

    /// A sequence number of the sender as the receiver sees it.
    #[must_use]
    pub const fn forth(self, sequence: u32) -> u32 {
        let by = if is_after(sequence, self.start) {
            self.after
        } else {
            self.before
        };
        sequence.wrapping_add_signed(by)
    }

    /// An acknowledgement number of the receiver as the sender knows it.
    #[must_use]
    pub const fn back(self, acknowledged: u32) -> u32 {
        let by = if is_after(acknowledged, self.start.wrapping_add_signed(self.before)) {
            self.after
        } else {
            self.before
        };
        acknowledged.wrapping_sub(by.cast_unsigned())
    }

    /// The same after the packet of a number got `by` bytes more. The packet sent again changes
    /// nothing.
    #[must_use]
    pub const fn changed(self, sequence: u32, by: i8) -> Self {
        if self.after != self.before && !is_after(sequence, self.start) {
            return self;
        }
        Self {
            start: sequence,
            after: self.after.wrapping_add(by as i32),
            before: self.after,
        }
    }

    /// As one word: 32 bits of start, 24 of what is behind it, 8 of the difference.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fields of their own widths"
    )]
    pub(crate) const fn pack(self) -> u64 {
        let change = self.after.wrapping_sub(self.before) as u8;
        let after = (self.after.cast_unsigned() as u64) & 0x00ff_ffff;
        ((self.start as u64) << 32) | (after << 8) | change as u64
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "fields of their own widths"
    )]
    pub(crate) const fn unpack(word: u64) -> Self {
        // Shifted up and down again for its sign.
        let after = (word as u32).cast_signed() >> 8;
        let change = (word as u8).cast_signed();
        Self {
            start: (word >> 32) as u32,
            after,
            before: after.wrapping_sub(change as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_changes_and_a_packet_sent_again() {
        let first = Shift::default().changed(1000, 3);
        assert_eq!(first.changed(1000, 3), first);
        assert_eq!((first.forth(900), first.forth(1000)), (900, 1000));
        assert_eq!((first.forth(1050), first.back(1053)), (1053, 1050));
        let second = first.changed(1050, -2);
        assert_eq!(second.changed(1050, -2), second);
        assert_eq!(second.changed(1000, 3), second);
        assert_eq!((second.forth(1050), second.forth(1060)), (1053, 1061));
        assert_eq!((second.back(1053), second.back(1061)), (1050, 1060));
    }

    #[test]
    fn numbers_wrap() {
        let shift = Shift::default().changed(0xffff_fff0, 12);
        assert_eq!(shift.forth(0xffff_fffa), 6);
        assert_eq!(shift.back(6), 0xffff_fffa);
        assert_eq!(shift.forth(0xffff_fff0), 0xffff_fff0);
    }

    #[test]
    fn one_word_holds_it() {
        for (start, changes) in [
            (7, &[12, 12, -127][..]),
            (u32::MAX, &[-3]),
            (0, &[127; 100]),
        ] {
            let mut shift = Shift::default();
            for (number, by) in (0..).zip(changes) {
                shift = shift.changed(u32::wrapping_add(start, number), *by);
                assert_eq!(Shift::unpack(shift.pack()), shift);
            }
        }
        assert_eq!(Shift::unpack(0), Shift::default());
        assert!(Shift::default().is_none());
    }
}
