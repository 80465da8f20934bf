//! What bash, zsh and fish need to complete command lines.
//!
//! The words of `lvsadm` and the command line of `lvsd` in; a file for each shell out.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};
use clap_complete::{Shell, generate};
use lvsadm::manual::Entry;

/// Names and contents.
pub(crate) fn all() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for mut command in [lvsadm(), lvsd::cli::Cli::command()] {
        let program = command.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, format!("{program}.bash")),
            (Shell::Zsh, format!("_{program}")),
            (Shell::Fish, format!("{program}.fish")),
        ] {
            let mut text = Vec::new();
            generate(shell, &mut command, &program, &mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            files.push((format!("docs/completions/{file}"), text));
        }
    }
    files
}

/// The words of `lvsadm` as clap names them; it reads them by itself.
fn lvsadm() -> Command {
    let command = Command::new("lvsadm")
        .about("administer the Linux Virtual Server of lvsd")
        .disable_help_flag(true)
        .disable_version_flag(true);
    let entries = lvsadm::manual::entries();
    entries
        .iter()
        .fold(command, |command, entry| command.arg(arg(entry)))
}

fn arg(entry: &Entry) -> Arg {
    let mut arg = Arg::new(entry.long)
        .long(entry.long)
        .help(first_sentence(&entry.help));
    if let Some((first, others)) = entry.short.split_first() {
        arg = arg.short(*first).visible_short_aliases(others.to_vec());
    }
    let Some(value) = entry.value else {
        return arg.action(ArgAction::SetTrue);
    };
    arg = arg.value_name(value).action(ArgAction::Append);
    if entry.optional {
        arg = arg.num_args(0..=1);
    }
    match values(entry.long) {
        [] if entry.long == "socket" => arg.value_hint(ValueHint::FilePath),
        [] => arg.value_hint(ValueHint::Other),
        known => arg.value_parser(PossibleValuesParser::new(known)),
    }
}

/// The values that an option can have, where they are few.
fn values(long: &str) -> &'static [&'static str] {
    match long {
        "scheduler" => lvs_sched::NAMES,
        "start-daemon" | "stop-daemon" => &["master", "backup"],
        "tun-type" => &["ipip", "gue", "gre"],
        "sched-flags" => &["sh-fallback", "sh-port", "mh-fallback", "mh-port"],
        "pe" => &["sip"],
        "on-removal" => &["drain", "reset", "reschedule"],
        _ => &[],
    }
}

/// Shells show a line.
fn first_sentence(text: &str) -> String {
    let end = text.find(['.', ';', ':']).unwrap_or(text.len());
    text.get(..end).unwrap_or(text).to_owned()
}
