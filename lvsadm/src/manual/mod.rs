//! Manuals: their parts, and how they look on a terminal.
//!
//! Texts with a little markup (`` `bold` `` for what is typed, `_italic_` for what stands for
//! something else) in; a plain text of 80 columns, or the same text in pieces for whoever writes
//! another format, out. `lvsadm --help` is this, and so are the pages in `docs/man`.
//!
//! ```
//! let manual = lvsadm::manual::lvsadm();
//! assert_eq!((manual.name, manual.section), ("lvsadm", 8));
//! assert!(manual.to_string().contains("  -s, --scheduler NAME"));
//! ```

mod page;

pub use page::{Entry, entries, lvsadm};

use std::fmt;

/// A manual page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manual {
    /// What it is about.
    pub name: &'static str,
    /// The section of the manual: 8 for daemons and their tools, 5 for files.
    pub section: u8,
    /// In half a sentence.
    pub summary: String,
    /// The chapters, `SYNOPSIS` first.
    pub chapters: Vec<Chapter>,
}

/// A part of a manual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// In capital letters.
    pub title: String,
    /// What stands there.
    pub blocks: Vec<Block>,
}

/// A piece of a chapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// The title of what follows, down to the next title.
    Title(String),
    /// A command line with its options, in the synopsis.
    Usage(String),
    /// Something and its meaning.
    Term {
        /// The thing.
        term: String,
        /// What it means, in paragraphs.
        text: String,
    },
    /// Lines as they are typed.
    Example(String),
}

impl Chapter {
    /// A chapter of these pieces.
    #[must_use]
    pub fn new(title: &str, blocks: impl IntoIterator<Item = Block>) -> Self {
        Self {
            title: title.to_owned(),
            blocks: blocks.into_iter().collect(),
        }
    }
}

impl Block {
    /// A term and its text.
    #[must_use]
    pub fn term(term: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Term {
            term: term.into(),
            text: text.into(),
        }
    }
}

/// How a piece of a text is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// As the rest.
    Roman,
    /// To be typed as it is.
    Bold,
    /// Stands for something.
    Italic,
}

/// The pieces of a text with markup.
///
/// ```
/// use lvsadm::manual::{Face, spans};
/// let all: Vec<_> = spans("`-w` _N_: a_b").collect();
/// assert_eq!(all, [(Face::Bold, "-w"), (Face::Roman, " "), (Face::Italic, "N"), (Face::Roman, ": a_b")]);
/// ```
pub fn spans(text: &str) -> impl Iterator<Item = (Face, &str)> {
    let mut rest = text;
    // What stood before `rest` ends: an underscore within a word is none of ours.
    let mut inside = false;
    std::iter::from_fn(move || {
        let (face, length, skip) = next_span(rest, inside)?;
        let (span, after) = rest.split_at(length + 2 * skip);
        rest = after;
        inside = span.ends_with(|last: char| last.is_alphanumeric());
        Some((face, &span[skip..skip + length]))
    })
}

/// The face of what comes next, its length, and that of the mark around it.
fn next_span(rest: &str, inside: bool) -> Option<(Face, usize, usize)> {
    let marks = [('`', Face::Bold), ('_', Face::Italic)];
    let begins = |at: usize, mark: char| {
        let before = match rest[..at].chars().next_back() {
            Some(before) => before.is_alphanumeric(),
            None => inside,
        };
        mark == '`' || !before
    };
    let mut found = rest.char_indices().filter_map(|(at, mark)| {
        let face = marks.iter().find(|known| known.0 == mark)?.1;
        let length = rest[at + 1..].find(mark).filter(|length| *length > 0)?;
        begins(at, mark).then_some((at, face, length))
    });
    match (found.next(), rest.len()) {
        (Some((0, face, length)), _) => Some((face, length, 1)),
        (Some((at, ..)), _) => Some((Face::Roman, at, 0)),
        (None, 0) => None,
        (None, length) => Some((Face::Roman, length, 0)),
    }
}

/// A text without its markup.
#[must_use]
pub fn plain(text: &str) -> String {
    spans(text).map(|(_, span)| span).collect()
}

const WIDTH: usize = 80;
/// Where the text of terms begins.
const COLUMN: usize = 24;

impl fmt::Display for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} - {}", self.name, plain(&self.summary))?;
        for chapter in &self.chapters {
            writeln!(f, "\n{}", chapter.title)?;
            for (i, block) in chapter.blocks.iter().enumerate() {
                let before = i.checked_sub(1).and_then(|i| chapter.blocks.get(i));
                write_block(f, block, before)?;
            }
        }
        Ok(())
    }
}

fn write_block(f: &mut fmt::Formatter<'_>, block: &Block, before: Option<&Block>) -> fmt::Result {
    let together = matches!(
        (before, block),
        (None | Some(Block::Title(_)), _)
            | (Some(Block::Term { .. }), Block::Term { .. })
            | (Some(Block::Usage(_)), Block::Usage(_))
    );
    if !together {
        writeln!(f)?;
    }
    match block {
        Block::Title(text) => writeln!(f, "  {}", plain(text)),
        Block::Text(text) => wrapped(f, &plain(text), 2, 2, 2),
        Block::Usage(text) => wrapped(f, &plain(text), 2, 9, 2),
        Block::Term { term, text } => {
            let term = plain(term);
            if term.chars().count() + 4 <= COLUMN {
                let line = format!("{term:<width$}", width = COLUMN - 2);
                write!(f, "  {line}")?;
                wrapped(f, &plain(text), COLUMN, COLUMN, 0)
            } else {
                writeln!(f, "  {term}")?;
                wrapped(f, &plain(text), COLUMN, COLUMN, COLUMN)
            }
        }
        Block::Example(text) => text.lines().try_for_each(|line| writeln!(f, "  {line}")),
    }
}

/// Writes paragraphs in lines: `column` is where the first begins and `hanging` where the others do;
/// `indent` blanks are still to be written before the first.
fn wrapped(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    column: usize,
    hanging: usize,
    indent: usize,
) -> fmt::Result {
    write!(f, "{:indent$}", "")?;
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            write!(f, "\n{:hanging$}", "")?;
        }
        let mut at = column;
        for (i, word) in paragraph.split_whitespace().enumerate() {
            let length = word.chars().count();
            if i > 0 && at + 1 + length > WIDTH {
                write!(f, "\n{:hanging$}{word}", "")?;
                at = hanging + length;
            } else {
                let blank = usize::from(i > 0);
                write!(f, "{:blank$}{word}", "")?;
                at += blank + length;
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_in_pairs_and_at_words() {
        let all = |text: &'static str| -> Vec<(Face, &str)> { spans(text).collect() };
        assert_eq!(all(""), []);
        assert_eq!(
            all("a_b_c `_x_`"),
            [(Face::Roman, "a_b_c "), (Face::Bold, "_x_")]
        );
        assert_eq!(
            all("_A_|_B_"),
            [(Face::Italic, "A"), (Face::Roman, "|"), (Face::Italic, "B")]
        );
        assert_eq!(all("an odd ` here"), [(Face::Roman, "an odd ` here")]);
        assert_eq!(plain("`-w` _N_"), "-w N");
    }

    #[test]
    fn lines_end_before_the_margin() {
        let manual = lvsadm().to_string();
        for line in manual.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}
