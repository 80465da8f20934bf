//! `-R`: every line of the input as a command line.
//!
//! Changes are sent to the daemon in batches, and reported as if they had been sent one by one:
//! messages come in the order of the lines, a refused line does not stop the run, one that cannot
//! be understood does. With `--atomic` they go in one transaction, and the first that is wrong
//! undoes all.

use crate::errors::{Failure, Subject, refusal_text};
use crate::grammar;
use crate::request::Request;
use crate::run::{Surroundings, report};
use crate::{list, save};
use lvs_api::{Client, ClientError, Mode, Operation, Transaction};
use std::io::BufRead;

/// The changes that are sent together.
const BATCH: usize = 1000;

/// Reads all lines. The result is that of the last one.
pub(crate) fn run(
    program: &str,
    client: &mut Client,
    atomic: bool,
    around: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    let mut pending = Vec::new();
    let mut last = Ok(());
    let mut number = 0;
    while let Some(line) = next_line(around.input)? {
        number += 1;
        let mut args = split(&line);
        // ipvsadm leaves out its own name wherever it stands.
        args.retain(|word| word != "ipvsadm" && word != program);
        if args.is_empty() {
            continue;
        }
        let parsed = grammar::parse(program, &args, around.names);
        let request = match parsed.map(|parsed| parsed.request) {
            Ok(request) => request,
            Err(failure) if atomic => return Err(at_line(number, &failure)),
            Err(failure) => {
                send(client, &mut pending, &mut last, around)?;
                if !failure.restore_goes_on {
                    return Err(failure);
                }
                report(&failure, around.errors);
                last = Err(quiet(&failure));
                continue;
            }
        };
        match request {
            Request::Change(operation) => {
                pending.push((number, *operation));
                if !atomic && pending.len() >= BATCH {
                    send(client, &mut pending, &mut last, around)?;
                }
            }
            _ if atomic => {
                let failure = Failure::usage("--atomic restores rules only");
                return Err(at_line(number, &failure));
            }
            Request::Restore { .. } => {
                send(client, &mut pending, &mut last, around)?;
                return Err(Failure::try_help(program));
            }
            Request::List(listing) => {
                send(client, &mut pending, &mut last, around)?;
                let shown = list::show(client, &listing, around.names, around.output);
                shown?;
                last = Ok(());
            }
            Request::Settings { only, json } => {
                send(client, &mut pending, &mut last, around)?;
                list::show_settings(client, only.as_deref(), json, around.output)?;
                last = Ok(());
            }
            Request::Save { numeric } => {
                send(client, &mut pending, &mut last, around)?;
                save::show(client, numeric, around.names, around.output)?;
                last = Ok(());
            }
            Request::Help { .. } | Request::Version => {
                send(client, &mut pending, &mut last, around)?;
                return crate::run::help_or_version(program, &request, around);
            }
        }
    }
    if atomic {
        return all_or_nothing(client, pending);
    }
    send(client, &mut pending, &mut last, around)?;
    last
}

fn next_line(input: &mut dyn BufRead) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    match input.read_until(b'\n', &mut bytes) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(why) => Err(Failure::usage(format!("cannot read the rules: {why}"))),
    }
}

/// The longest word that ipvsadm reads, in bytes; what is longer goes on as the next word.
const LONGEST_WORD: usize = 4096;

/// The words of a line. A word ends for ipvsadm at a NUL, as every string of C.
fn split(line: &str) -> Vec<String> {
    let words = line.split([' ', '\t', '\n', '\r']);
    let words = words.filter(|word| !word.is_empty()).flat_map(|word| {
        let bytes = word.as_bytes().chunks(LONGEST_WORD);
        bytes.map(String::from_utf8_lossy)
    });
    words
        .map(|word| word.split('\0').next().unwrap_or_default().to_owned())
        .collect()
}

/// A failure that was reported already.
fn quiet(failure: &Failure) -> Failure {
    Failure {
        message: String::new(),
        ..failure.clone()
    }
}

/// Sends what waits; an answer that never comes ends the run.
fn send(
    client: &mut Client,
    pending: &mut Vec<(usize, Operation)>,
    last: &mut Result<(), Failure>,
    around: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    if pending.is_empty() {
        return Ok(());
    }
    let operations: Vec<Operation> = pending.drain(..).map(|(_, operation)| operation).collect();
    let subjects: Vec<Subject> = operations.iter().map(Subject::of).collect();
    let transaction = Transaction {
        mode: Mode::OneByOne,
        operations,
    };
    let done = client
        .transaction(&transaction)
        .map_err(|error| Failure::client(&error))?;
    for (result, subject) in done.results.into_iter().zip(subjects) {
        *last = match result {
            None => Ok(()),
            Some(refusal) => {
                let failure = Failure::refused(refusal_text(&refusal, subject));
                report(&failure, around.errors);
                Err(quiet(&failure))
            }
        };
    }
    Ok(())
}

fn all_or_nothing(client: &mut Client, pending: Vec<(usize, Operation)>) -> Result<(), Failure> {
    let (lines, operations): (Vec<usize>, Vec<Operation>) = pending.into_iter().unzip();
    let subjects: Vec<Subject> = operations.iter().map(Subject::of).collect();
    let transaction = Transaction {
        mode: Mode::AllOrNothing,
        operations,
    };
    let error = match client.transaction(&transaction) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let ClientError::Refused { refusal, operation } = &error else {
        return Err(Failure::client(&error));
    };
    let place = operation.unwrap_or_default();
    let subject = subjects.get(place).copied().unwrap_or(Subject::Service);
    let failure = Failure::refused(refusal_text(refusal, subject));
    Err(match lines.get(place) {
        Some(line) => at_line(*line, &failure),
        None => failure,
    })
}

fn at_line(number: usize, failure: &Failure) -> Failure {
    Failure {
        message: format!("line {number}: {}; nothing was changed", failure.message),
        ..failure.clone()
    }
}
