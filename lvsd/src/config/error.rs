//! What is wrong with a configuration, and how it is shown.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NamedSource, SourceSpan};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why a configuration cannot be used.
///
/// Displayed plainly, one line a problem (`lvsd.toml:3:1: ...`), as logs and editors like it;
/// [`ConfigError::render`] draws the source around each.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// Its content is wrong.
    Invalid {
        /// The name of the file.
        name: String,
        /// Its content.
        text: String,
        /// Everything that is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What, in one sentence.
    pub message: String,
    /// Where: the bytes of the file.
    pub span: Range<usize>,
    /// What would be right.
    pub help: Option<String>,
}

impl ConfigError {
    pub(super) fn invalid(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        Self::Invalid {
            name: name.to_owned(),
            text: text.to_owned(),
            problems,
        }
    }

    /// The same for a terminal, with the lines of the file.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let Self::Invalid {
            name,
            text,
            problems,
        } = self
        else {
            return format!("{self}\n");
        };
        let theme = if colour {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
        let mut out = String::new();
        for problem in problems {
            let shown = Shown {
                message: problem.message.clone(),
                text: NamedSource::new(name, text.clone()),
                span: problem.span.clone().into(),
                help: problem.help.clone(),
            };
            // Writing into a string does not fail.
            let _ = handler.render_report(&mut out, &shown);
        }
        let many = if problems.len() == 1 { "" } else { "s" };
        out.push_str(&format!("{name}: {} problem{many}\n", problems.len()));
        out
    }
}

#[derive(Debug, Diagnostic, thiserror::Error)]
#[error("{message}")]
struct Shown {
    message: String,
    #[source_code]
    text: NamedSource<String>,
    #[label("here")]
    span: SourceSpan,
    #[help]
    help: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, why } => {
                write!(f, "cannot read {}: {why}", path.display())
            }
            Self::Invalid {
                name,
                text,
                problems,
            } => {
                for (i, problem) in problems.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    let (line, column) = position(text, problem.span.start);
                    write!(f, "{name}:{line}:{column}: {}", problem.message)?;
                    if let Some(help) = &problem.help {
                        write!(f, "; {help}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { why, .. } => Some(why),
            Self::Invalid { .. } => None,
        }
    }
}

/// Line and column of a byte, both from 1, columns in characters.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before
        .get(start..)
        .map_or(1, |line| line.chars().count() + 1);
    (line, column)
}
