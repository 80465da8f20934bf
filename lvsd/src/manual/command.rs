//! The manual of the program, from the definition of its command line.

use super::{Block, Chapter, Manual};
use crate::cli::Cli;
use clap::{Arg, Command, CommandFactory};

/// The manual of `lvsd`.
#[must_use]
pub fn lvsd() -> Manual {
    let mut program = Cli::command();
    program.build();
    let commands: Vec<&Command> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    let usages = commands.iter().map(|command| Block::Usage(usage(command)));
    let about = help(program.get_long_about());
    let mut chapters = vec![
        Chapter::new("SYNOPSIS", usages),
        Chapter::new("DESCRIPTION", paragraphs(&about).skip(1)),
    ];
    let mut blocks = Vec::new();
    for command in commands {
        blocks.push(Block::Title(format!("`lvsd {}`", command.get_name())));
        let about = command.get_long_about().or_else(|| command.get_about());
        blocks.extend(paragraphs(&help(about)));
        let arguments = command.get_arguments();
        let shown = arguments.filter(|arg| !arg.is_hide_set() && arg.get_id() != "help");
        blocks.extend(shown.map(argument));
        for chapter in sections(&help(command.get_after_long_help())) {
            if chapter.title == "EXAMPLES" {
                blocks.push(Block::Text("Examples:".to_owned()));
                blocks.extend(chapter.blocks);
            } else {
                let text = "Its exit status:";
                blocks.push(Block::Text(text.to_owned()));
                blocks.extend(chapter.blocks);
            }
        }
    }
    chapters.push(Chapter::new("COMMANDS", blocks));
    chapters.extend(sections(&help(program.get_after_long_help())));
    let summary = paragraphs(&about).next();
    let summary = summary.map(|block| match block {
        Block::Text(text) => lower(text.trim_end_matches('.')),
        _ => String::new(),
    });
    Manual {
        name: "lvsd",
        section: 8,
        summary: summary.unwrap_or_default(),
        chapters,
    }
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Paragraphs stand apart by an empty line.
fn paragraphs(text: &str) -> impl Iterator<Item = Block> {
    let all = text.split("\n\n").map(str::trim);
    let all = all.filter(|paragraph| !paragraph.is_empty());
    all.map(|paragraph| Block::Text(paragraph.to_owned()))
}

/// `lvsd run [-s PATH] [FILE]`.
fn usage(command: &Command) -> String {
    let mut usage = format!("`lvsd` `{}`", command.get_name());
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help";
    let mut all: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    all.sort_by_key(|arg| arg.is_positional());
    for arg in all {
        let many = if arg.get_action().takes_values() && repeats(arg) {
            "..."
        } else {
            ""
        };
        let name = name(arg, false);
        if arg.is_required_set() {
            usage.push_str(&format!(" {name}{many}"));
        } else {
            usage.push_str(&format!(" [{name}]{many}"));
        }
    }
    usage
}

fn repeats(arg: &Arg) -> bool {
    let append = matches!(arg.get_action(), clap::ArgAction::Append);
    append && arg.get_value_delimiter().is_none()
}

/// An option with what it takes: all its names, or the shortest.
fn name(arg: &Arg, all: bool) -> String {
    let value = arg.get_value_names().and_then(|names| names.first());
    let value = value.map(|name| format!("_{name}_")).unwrap_or_default();
    if arg.is_positional() {
        return value;
    }
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg.get_long().map(|long| format!("`--{long}`"));
    let names = match (short, long) {
        (Some(short), Some(long)) if all => format!("{short}, {long}"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => String::new(),
    };
    if arg.get_action().takes_values() {
        format!("{names} {value}")
    } else {
        names
    }
}

fn argument(arg: &Arg) -> Block {
    let mut text = help(arg.get_long_help().or_else(|| arg.get_help()));
    if !text.ends_with(['.', ']']) {
        text.push('.');
    }
    let choices = arg.get_possible_values();
    if arg.get_action().takes_values() && !choices.is_empty() {
        for choice in choices {
            let help = help(choice.get_help());
            text.push_str(&format!("\n\n`{}`: {help}.", choice.get_name()));
        }
    }
    let defaults = arg.get_default_values();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let words: Vec<_> = defaults.iter().map(|word| word.to_string_lossy()).collect();
        text.push_str(&format!("\n\nUnless told otherwise `{}`.", words.join(",")));
    }
    Block::term(name(arg, true), text)
}

/// The chapters of a text such as the one that ends `--help`: a title at the margin; below it examples,
/// or terms and what they mean in two columns, or text.
fn sections(text: &str) -> Vec<Chapter> {
    let mut chapters: Vec<Chapter> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some(body) = line.strip_prefix("  ") else {
            chapters.push(Chapter::new(line.trim(), []));
            continue;
        };
        let Some(chapter) = chapters.last_mut() else {
            continue;
        };
        let block = match (chapter.title.as_str(), chapter.blocks.last_mut()) {
            ("EXAMPLES", Some(Block::Example(lines))) => {
                lines.push_str(&format!("\n{body}"));
                continue;
            }
            ("EXAMPLES", _) => Block::Example(body.to_owned()),
            (_, Some(Block::Term { text, .. })) if body.starts_with(' ') => {
                text.push_str(&format!(" {}", body.trim()));
                continue;
            }
            _ => match body.split_once("  ") {
                Some((term, text)) => Block::term(format!("`{term}`"), text.trim()),
                None => Block::Text(body.to_owned()),
            },
        };
        chapter.blocks.push(block);
    }
    chapters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_there() {
        let text = lvsd().to_string();
        let mut program = Cli::command();
        program.build();
        for command in program.get_subcommands() {
            if command.get_name() == "help" {
                continue;
            }
            assert!(text.contains(&format!("lvsd {}", command.get_name())));
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = arg.get_long().filter(|long| *long != "help") {
                    assert!(text.contains(&format!("--{long}")), "{long}");
                }
            }
        }
        for title in ["FILES", "SIGNALS", "EXIT STATUS", "SEE ALSO"] {
            assert!(text.contains(&format!("\n{title}\n")), "{title}");
        }
    }

    #[test]
    fn two_columns_are_terms() {
        let all =
            sections("SIGNALS\n  SIGTERM, SIGINT  End. The host\n                   stays.\n");
        assert_eq!(
            all,
            [Chapter::new(
                "SIGNALS",
                [Block::term("`SIGTERM, SIGINT`", "End. The host stays.")]
            )]
        );
    }
}
