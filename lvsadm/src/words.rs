//! From an argument vector to words of the grammar, as the popt library reads one.
//!
//! Strings in; one [`Token`] after the other, or a [`Fault`], out; strays are kept for the end.
//! Letters cluster (`-Lnc`), a value may be attached (`-p300`, `--weight=2`) or follow; a value
//! that is required is taken whatever it looks like, one that is optional only if it does not
//! begin with `-`; after `--` everything is a stray.

use crate::vocabulary::{Argument, WORDS, Word};

/// A word of the grammar that was found, with the value it took.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) word: &'static Word,
    pub(crate) value: Option<String>,
}

/// What stopped the reading, in popt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("unknown option")]
    Unknown,
    #[error("missing argument")]
    MissingArgument,
    #[error("option does not take an argument")]
    UnwantedArgument,
}

/// The reader of one argument vector.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    args: &'a [String],
    next: usize,
    /// What is left of a cluster of letters.
    cluster: &'a str,
    only_strays: bool,
    strays: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(crate) const fn new(args: &'a [String]) -> Self {
        Self {
            args,
            next: 0,
            cluster: "",
            only_strays: false,
            strays: Vec::new(),
        }
    }

    /// The argument that was read last: the one that messages blame.
    pub(crate) fn blamed(&self) -> &'a str {
        let last = self.next.checked_sub(1);
        last.and_then(|i| self.args.get(i))
            .map_or("", String::as_str)
    }

    /// The words that are no options, once all has been read.
    pub(crate) fn strays(&self) -> &[&'a str] {
        &self.strays
    }

    /// The next word of the grammar; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Result<Token, Fault>> {
        loop {
            if let Some(letter) = self.cluster.chars().next() {
                self.cluster = &self.cluster[letter.len_utf8()..];
                return Some(self.short(letter));
            }
            let arg = self.take()?;
            if self.only_strays || arg == "-" || !arg.starts_with('-') {
                self.strays.push(arg);
            } else if arg == "--" {
                self.only_strays = true;
            } else if let Some(long) = arg.strip_prefix("--") {
                return Some(self.long(long));
            } else {
                self.cluster = &arg[1..];
            }
        }
    }

    fn take(&mut self) -> Option<&'a str> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        Some(arg)
    }

    fn long(&mut self, text: &'a str) -> Result<Token, Fault> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let mut all = WORDS.iter();
        let word = all.find(|word| word.long == name).ok_or(Fault::Unknown)?;
        self.complete(word, value)
    }

    fn short(&mut self, letter: char) -> Result<Token, Fault> {
        let mut all = WORDS.iter();
        let word = all
            .find(|word| word.short == letter && letter != '\0')
            .ok_or(Fault::Unknown)?;
        let equals = self.cluster.strip_prefix('=');
        let attached = match word.argument {
            Argument::None => equals,
            _ if self.cluster.is_empty() => None,
            _ => Some(equals.unwrap_or(self.cluster)),
        };
        if attached.is_some() {
            self.cluster = "";
        }
        self.complete(word, attached)
    }

    fn complete(&mut self, word: &'static Word, value: Option<&str>) -> Result<Token, Fault> {
        let value = match (word.argument, value) {
            (Argument::None, Some(_)) => return Err(Fault::UnwantedArgument),
            (Argument::None, None) => None,
            (_, Some(value)) => Some(value),
            (Argument::Required, None) => Some(self.take().ok_or(Fault::MissingArgument)?),
            (Argument::Optional, None) => match self.args.get(self.next) {
                Some(next) if !next.starts_with('-') => self.take(),
                _ => None,
            },
        };
        Ok(Token {
            word,
            value: value.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short forms of what was read, then the strays.
    fn read(line: &str) -> Vec<String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut words = Words::new(&args);
        let mut seen = Vec::new();
        while let Some(next) = words.next() {
            match next {
                Ok(token) => seen.push(match token.value {
                    Some(value) => format!("{}={value}", token.word.long),
                    None => token.word.long.to_owned(),
                }),
                Err(fault) => {
                    seen.push(format!("{}: {fault}", words.blamed()));
                    return seen;
                }
            }
        }
        seen.extend(words.strays().iter().map(|stray| format!("({stray})")));
        seen
    }

    #[test]
    fn letters_cluster_and_values_attach() {
        assert_eq!(read("-Lnc"), ["list", "numeric", "connection"]);
        assert_eq!(read("-At=a:1"), ["add-service", "tcp-service=a:1"]);
        assert_eq!(read("-At a:1"), ["add-service", "tcp-service=a:1"]);
        assert_eq!(read("--weight=2 -w3"), ["weight=2", "weight=3"]);
        assert_eq!(
            read("-Ln=5"),
            ["list", "-Ln=5: option does not take an argument"]
        );
    }

    #[test]
    fn an_optional_value_is_no_option() {
        assert_eq!(
            read("-p 300 -p -p"),
            ["persistent=300", "persistent", "persistent"]
        );
        assert_eq!(read("-p -1"), ["persistent", "-1: unknown option"]);
        assert_eq!(read("-w -1"), ["weight=-1"]);
        assert_eq!(read("-w"), ["-w: missing argument"]);
    }

    #[test]
    fn strays_wait_for_the_end() {
        assert_eq!(
            read("1 --set - 2 -- -3"),
            ["set", "(1)", "(-)", "(2)", "(-3)"]
        );
    }
}
