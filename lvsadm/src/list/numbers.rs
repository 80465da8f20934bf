//! The number fields of `--stats` and `--rate`, nine columns wide with their leading blank.

const K: u64 = 1_000;
const M: u64 = 1_000_000;
const G: u64 = 1_000_000_000;
const T: u64 = 1_000_000_000_000;

/// A number, shortened with a unit if it would not fit.
pub(super) fn scaled(value: u64) -> String {
    match value {
        0..100_000_000 => format!("{value:>9}"),
        100_000_000..1_000_000_000 => format!("{:>8}K", value / K),
        1_000_000_000..100_000_000_000 => format!("{:>8}M", value / M),
        100_000_000_000..100_000_000_000_000 => format!("{:>8}G", value / G),
        _ => format!("{:>8}T", value / T),
    }
}

/// A number in full, pushing the columns apart if need be.
pub(super) fn exact(value: u64) -> String {
    format!(" {value:>8}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_begins_where_it_should() {
        for (value, text) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (123_456_789_012, "     123G"),
            (99_999_999_999_999, "   99999G"),
            (123_000_000_000_000, "     123T"),
        ] {
            assert_eq!(scaled(value), text);
        }
        assert_eq!(exact(100_000_000), " 100000000");
        assert_eq!(exact(7), "        7");
    }
}
