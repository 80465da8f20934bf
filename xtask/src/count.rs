//! Counting tests: reads the lines of Rust's test harness as they pass by.

use std::collections::BTreeSet;
use std::ops::AddAssign;

/// What the test harness said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that are there and did not run.
    pub(crate) ignored: u64,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    /// What tests that count as passed left out, in their own words.
    pub(crate) skipped: BTreeSet<String>,
}

impl Count {
    /// Takes one line of output into account; most say nothing.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.trim().strip_prefix("test result: ") {
            // `ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
            let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
            for part in counts.split(';') {
                let mut words = part.split_whitespace();
                let number = words.next().and_then(|word| word.parse::<u64>().ok());
                match (number, words.next()) {
                    (Some(n), Some("passed")) => self.passed += n,
                    (Some(n), Some("failed")) => self.failed += n,
                    (Some(n), Some("ignored")) => self.ignored += n,
                    _ => {}
                }
            }
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some(name) = test.trim_end().strip_suffix(" ... FAILED")
        {
            self.failures.push(name.to_owned());
        } else if says_skipped(line) {
            self.skipped.insert(line.trim().to_owned());
        }
    }
}

/// Whether a test says by this line that it, or a part of it, did not run.
pub(crate) fn says_skipped(line: &str) -> bool {
    line.starts_with("SKIPPED") || line.starts_with("left out: ")
}

impl AddAssign<&Self> for Count {
    fn add_assign(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures.iter().cloned());
        self.skipped.extend(other.skipped.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn results_are_summed_and_failures_named() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test addr::tests::parses ... ok",
            "test addr::tests::prints ... FAILED",
            "SKIPPED: no namespaces",
            "SKIPPED: no namespaces",
            "test result: FAILED. 2 passed; 1 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.50s",
        ] {
            count.read(line);
        }
        assert_eq!((count.passed, count.failed, count.ignored), (9, 1, 4));
        assert_eq!(count.failures, ["addr::tests::prints"]);
        assert_eq!(count.skipped.len(), 1);
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut count = Count::default();
        count.read("test result: nonsense");
        count.read("   Compiling test v1.0.0");
        assert_eq!(count, Count::default());
    }
}
