//! Sends packets of one case through a director in memory, for `valgrind --tool=callgrind`: run it
//! with two numbers of batches, and divide the difference of the instructions by that of the packets.
//! With `restore` in front, the batches are made but not decided on.
//!
//! `director_instructions [restore] <case> <batches>`
#![expect(clippy::print_stderr, reason = "a program for people")]

use lvs_benches::director::{BATCH, Case, Lab};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (restore, rest) = match arguments.as_slice() {
        ["restore", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let asked = match rest {
        [case, batches] => Case::ALL
            .iter()
            .find(|(name, _)| name == case)
            .zip(batches.parse::<u32>().ok()),
        _ => None,
    };
    let Some(((name, case), batches)) = asked else {
        let names = Case::ALL.map(|(name, _)| name).join(" | ");
        eprintln!("usage: director_instructions [restore] {names} <batches>");
        return ExitCode::FAILURE;
    };
    let mut lab = Lab::new(*case, 1000);
    for _ in 0..batches {
        if restore {
            lab.restore();
        } else {
            lab.batch();
        }
    }
    lab.check();
    eprintln!("{name}: {} packets", batches as usize * BATCH);
    ExitCode::SUCCESS
}
