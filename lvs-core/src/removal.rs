//! What becomes of a destination's connections when it leaves.

use core::fmt;
use core::str::FromStr;

/// What becomes of the connections of a destination that is removed, or whose weight is set to 0.
///
/// It is found out on each connection's next packet, in constant time and without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnRemoval {
    /// As IPVS: with weight 0 they go on; of a removed one the packets are dropped, or what
    /// `expire_nodest_conn` says.
    #[default]
    Drain,
    /// They go on for so many seconds, also with a removed one; then they are reset.
    DrainFor(u32),
    /// They are reset at once: TCP by RST to whoever sends next, UDP by an ICMP error.
    Reset,
    /// UDP, and TCP that begins with a SYN, goes to another destination with the very packet that
    /// finds out; other TCP is reset.
    Reschedule,
}

impl OnRemoval {
    /// The longest time to drain, in seconds.
    pub const MAX_DRAIN: u32 = 2_678_400;
}

impl fmt::Display for OnRemoval {
    /// As configuration files say it: `drain`, `drain 30`, `reset`, `reschedule`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain => f.write_str("drain"),
            Self::DrainFor(seconds) => write!(f, "drain {seconds}"),
            Self::Reset => f.write_str("reset"),
            Self::Reschedule => f.write_str("reschedule"),
        }
    }
}

/// A word that is none of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRemoval;

impl fmt::Display for UnknownRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected `drain`, `drain SECONDS` (1 to 2678400), `reset` or `reschedule`")
    }
}

impl core::error::Error for UnknownRemoval {}

impl FromStr for OnRemoval {
    type Err = UnknownRemoval;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "drain" => Ok(Self::Drain),
            "reset" => Ok(Self::Reset),
            "reschedule" => Ok(Self::Reschedule),
            _ => text
                .strip_prefix("drain ")
                .and_then(|seconds| seconds.trim().parse().ok())
                .filter(|seconds| (1..=Self::MAX_DRAIN).contains(seconds))
                .map(Self::DrainFor)
                .ok_or(UnknownRemoval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn words_and_back() {
        for text in ["drain", "drain 30", "reset", "reschedule"] {
            assert_eq!(text.parse::<OnRemoval>().unwrap().to_string(), text);
        }
        for text in ["", "drain 0", "drain 2678401", "drain x", "Reset"] {
            assert_eq!(text.parse::<OnRemoval>(), Err(UnknownRemoval));
        }
    }
}
