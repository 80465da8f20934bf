//! Reading a table key by key, remembering what was asked for.
//!
//! A parsed TOML table comes in, typed values go out; every fault is noted with its place, and
//! reading goes on, so that one run finds all of them. What was never asked for is unknown.

use super::error::Problem;
use super::keys;
use std::cell::RefCell;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys of no table; after the first table of a file TOML takes them for that table's.
const TOP: [&str; 2] = ["socket", "log"];

/// A value and the bytes of the file that hold it.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// What is wrong with a value.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Everything that was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, span: &Range<usize>, fault: Fault) {
        self.0.borrow_mut().push(Problem {
            message: fault.message,
            span: span.clone(),
            help: fault.help,
        });
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// One table of the file.
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    /// Where it stands.
    pub(super) span: Range<usize>,
    /// As messages call it; empty for the top of the file.
    name: &'static str,
    asked: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    pub(super) const fn new(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        name: &'static str,
        problems: &'a Problems,
    ) -> Self {
        Self {
            table,
            span,
            name,
            asked: Vec::new(),
            problems,
        }
    }

    pub(super) fn fault(&self, span: &Range<usize>, fault: Fault) {
        self.problems.add(span, fault);
    }

    /// Notes that a key is known. The manual is made of the list of keys: none may be missing there.
    fn ask(&mut self, key: &'static str) {
        debug_assert!(keys::has(self.name, key), "{} {key}", self.name);
        self.asked.push(key);
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.ask(key);
        self.table.get(key)
    }

    /// The value of a key, if it is there and right.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        let found = self.get(key)?;
        let span = found.span();
        match read(found.get_ref()) {
            Ok(value) => Some(At { value, span }),
            Err(mut fault) => {
                fault.message = format!("`{key}` {}", fault.message);
                self.problems.add(&span, fault);
                None
            }
        }
    }

    /// The same for a key that must be there; `example` is what it could be.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        if self.table.get(key).is_none() {
            self.ask(key);
            let fault = Fault::new(format!("`{key}` is missing{}", self.within()));
            self.problems
                .add(&self.span, fault.help(format!("add {example}")));
            return None;
        }
        self.value(key, read)
    }

    /// A table within this one.
    pub(super) fn section(&mut self, key: &'static str, name: &'static str) -> Option<Self> {
        let problems = self.problems;
        let found = self.get(key)?;
        match found.get_ref() {
            DeValue::Table(table) => Some(Section::new(table, found.span(), name, problems)),
            other => {
                let fault = Fault::new(format!("`{key}` is {}, not a table", article(other)));
                problems.add(&found.span(), fault.help(format!("write {name}")));
                None
            }
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&mut self, key: &'static str, name: &'static str) -> Vec<Self> {
        let problems = self.problems;
        let Some(found) = self.get(key) else {
            return Vec::new();
        };
        let wrong = |value: &Spanned<DeValue<'_>>| {
            let what = article(value.get_ref());
            let fault = Fault::new(format!("`{key}` is {what}, not a list of tables"));
            problems.add(
                &value.span(),
                fault.help(format!("start each with a line of its own: {name}")),
            );
        };
        let DeValue::Array(items) = found.get_ref() else {
            wrong(found);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(table, item.span(), name, problems));
                }
                _ => wrong(item),
            }
        }
        sections
    }

    /// Reports every key that nobody asked for. `later` are keys of things that do not exist yet,
    /// each with the name of that thing.
    pub(super) fn finish(self, later: &[(&str, &str)]) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let place = self.within();
            let fault = if let Some((_, what)) = later.iter().find(|(known, _)| *known == name) {
                Fault::new(format!("`{name}`: {what} not part of this version")).help("remove it")
            } else {
                let fault = Fault::new(format!("unknown key `{name}`{place}"));
                let top = !self.name.is_empty() && TOP.contains(&name);
                match closest(name, self.asked.iter().copied()) {
                    _ if top => fault.help(format!(
                        "`{name}` belongs to the top of the file, before the first table"
                    )),
                    Some(near) => fault.help(format!("did you mean `{near}`?")),
                    None => fault.help(format!("known here: {}", self.asked.join(", "))),
                }
            };
            self.problems.add(&key.span(), fault);
        }
    }

    fn within(&self) -> String {
        if self.name.is_empty() {
            String::new()
        } else {
            format!(" in {}", self.name)
        }
    }
}

/// What a value is, for "is ..., not ...".
pub(super) fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The word of a list that was probably meant.
pub(super) fn closest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&lower, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= 1.max(candidate.len() / 3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to add, remove, change or swap with their neighbour to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (at(&row, j) + usize::from(x != y))
                .min(at(&row, j + 1) + 1)
                .min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    at(&row, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant() {
        let known = ["scheduler", "listen", "persistence", "destination"];
        assert_eq!(closest("schedular", known), Some("scheduler"));
        assert_eq!(closest("lisetn", known), Some("listen"));
        assert_eq!(closest("Destinations", known), Some("destination"));
        assert_eq!(closest("weight", known), None);
        assert_eq!(closest("wr", ["rr", "wrr"]), Some("rr"));
        assert_eq!(distance("wrr", "wlc"), 2);
        assert_eq!(distance("ab", "ba"), 1);
    }
}
