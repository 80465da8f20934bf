//! How many ICMP errors the host may send: its own settings hold for the director's errors too.
//!
//! In: `/proc/sys/net`, as the network namespace of the calling thread has it, and how many workers share
//! it. Out: an [`ErrorLimit`] for each of them. Never: an error; what cannot be read, or makes no sense, is
//! what a Linux has that nobody has told otherwise.

use lvs_director::ErrorLimit;
use std::fs;

/// The limit of each of `workers`: together they send at most what the host would to all. One receiver
/// whose packets come to several of them may get more than the host would send it.
#[must_use]
pub fn of_host(workers: usize) -> ErrorLimit {
    limit(
        |name| fs::read_to_string(format!("/proc/sys/net/{name}")).ok(),
        workers,
    )
}

fn limit(read: impl Fn(&str) -> Option<String>, workers: usize) -> ErrorLimit {
    let linux = ErrorLimit::LINUX;
    let value = |name: &str| read(name)?.trim().parse::<u32>().ok();
    let share = |all: u32| {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        // A worker that may send none would keep its clients waiting for ever.
        all.div_ceil(workers.max(1))
    };
    ErrorLimit {
        per_second: share(value("ipv4/icmp_msgs_per_sec").unwrap_or(linux.per_second)),
        burst: share(value("ipv4/icmp_msgs_burst").unwrap_or(linux.burst)),
        peer_interval: (
            value("ipv4/icmp_ratelimit").unwrap_or(linux.peer_interval.0),
            // Towards a receiver behind the default route, as most are.
            value("ipv6/icmp/ratelimit").map_or(linux.peer_interval.1, |interval| interval >> 4),
        ),
        mask: value("ipv4/icmp_ratemask").unwrap_or(linux.mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_host_are_shared_among_workers() {
        let read = |name: &str| {
            let value = match name {
                "ipv4/icmp_msgs_per_sec" => "3000\n",
                "ipv4/icmp_msgs_burst" => "100\n",
                "ipv4/icmp_ratelimit" => "500\n",
                "ipv4/icmp_ratemask" => "2048\n",
                "ipv6/icmp/ratelimit" => "160\n",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let expected = ErrorLimit {
            per_second: 1000,
            burst: 34,
            peer_interval: (500, 10),
            mask: 2048,
        };
        assert_eq!(limit(read, 3), expected);
    }

    #[test]
    fn what_cannot_be_read_is_as_linux_begins() {
        assert_eq!(limit(|_| None, 1), ErrorLimit::LINUX);
        assert_eq!(limit(|_| Some("-1\n".to_owned()), 1), ErrorLimit::LINUX);
    }
}
