//! Argument lists of `lvsadm`: random bytes as words, and as words that it knows.
//!
//! Whatever is given, the answer is an operation or a message with one of ipvsadm's exit statuses; the
//! same list gives the same answer, and an operation goes through its JSON unchanged.

use lvs_core::{Addr, Protocol};
use lvsadm::{Names, understand};

/// Words that get an input past the first check.
const WORDS: [&str; 48] = [
    "-A",
    "-E",
    "-D",
    "-a",
    "-e",
    "-d",
    "-C",
    "-Z",
    "-L",
    "-S",
    "-R",
    "--set",
    "--start-daemon",
    "--stop-daemon",
    "master",
    "backup",
    "-t",
    "-u",
    "-f",
    "--sctp-service",
    "-6",
    "10.0.0.1:80",
    "[fd00::1]:80",
    "7",
    "-r",
    "10.2.0.1",
    "[fd02::1]:80",
    "-g",
    "-i",
    "-m",
    "-w",
    "-x",
    "-y",
    "-s",
    "rr",
    "sh",
    "-b",
    "sh-port",
    "-p",
    "-M",
    "255.255.0.0",
    "64",
    "-o",
    "--pe",
    "sip",
    "--tun-type",
    "gue",
    "--tun-port",
];

/// Nobody has a name.
struct Nameless;

impl Names for Nameless {
    fn resolve(&self, _: &str) -> Option<Addr> {
        None
    }

    fn host(&self, _: Addr) -> Option<String> {
        None
    }

    fn port(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn service(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// Words are separated by newlines; one of a single byte from 128 on is a word that is known.
pub fn command_line(data: &[u8]) {
    let words: Vec<String> = data
        .split(|&byte| byte == b'\n')
        .map(|word| match word {
            [byte] if *byte >= 128 => {
                let known = WORDS.get(usize::from(byte - 128) % WORDS.len());
                known.map_or_else(String::new, |word| (*word).to_owned())
            }
            _ => String::from_utf8_lossy(word).into_owned(),
        })
        .collect();
    let first = understand(&words, &Nameless);
    assert_eq!(first, understand(&words, &Nameless));
    match first {
        Ok(operation) => {
            let json = serde_json::to_string(&operation).expect("an operation has its JSON");
            let back: lvs_api::Operation = serde_json::from_str(&json).expect("JSON comes back");
            assert_eq!(back, operation);
        }
        Err(why) => {
            assert!(matches!(why.status, 2 | 255), "{}", why.status);
            assert!(!why.message.is_empty());
        }
    }
}
