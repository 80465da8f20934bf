//! From a request to what is seen of it.

use crate::errors::{Failure, Subject, refusal_text};
use crate::grammar::{self, Parsed};
use crate::names::Names;
use crate::request::Request;
use crate::{list, restore, save, usage};
use lvs_api::{Client, ClientError, Operation};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

/// Where a run reads, writes and looks things up.
pub struct Surroundings<'a> {
    /// For `-R`.
    pub input: &'a mut dyn BufRead,
    /// Listings.
    pub output: &'a mut dyn Write,
    /// Messages.
    pub errors: &'a mut dyn Write,
    /// The daemon's socket, if the command line does not name one.
    pub socket: Option<PathBuf>,
    /// Names of hosts and services.
    pub names: &'a dyn Names,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Runs a command line, the name of the program first, and returns its exit status.
pub fn run(args: &[String], around: &mut Surroundings<'_>) -> u8 {
    let program = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .map_or_else(|| "lvsadm".into(), |name| name.to_string_lossy());
    let rest = args.get(1..).unwrap_or_default();
    let outcome = grammar::parse(&program, rest, around.names)
        .and_then(|parsed| execute(&program, parsed, around));
    let Err(failure) = outcome else {
        return 0;
    };
    report(&failure, around.errors);
    failure.status
}

/// Writes the message of a failure. Nobody can be told if that fails.
pub(crate) fn report(failure: &Failure, errors: &mut dyn Write) {
    if !failure.message.is_empty() {
        let _ = writeln!(errors, "{}", failure.message);
    }
}

fn execute(program: &str, parsed: Parsed, around: &mut Surroundings<'_>) -> Result<(), Failure> {
    let named = parsed.socket.map(PathBuf::from);
    let socket = named
        .or_else(|| around.socket.clone())
        .unwrap_or_else(|| lvs_api::DEFAULT_SOCKET.into());
    match parsed.request {
        request @ (Request::Help { .. } | Request::Version) => {
            help_or_version(program, &request, around)
        }
        Request::Change(operation) => change(&mut connect(socket)?, *operation),
        Request::List(listing) => {
            let mut client = connect(socket)?;
            list::show(&mut client, &listing, around.names, around.output)
        }
        Request::Settings { only, json } => {
            let mut client = connect(socket)?;
            list::show_settings(&mut client, only.as_deref(), json, around.output)
        }
        Request::Save { numeric } => {
            let mut client = connect(socket)?;
            save::show(&mut client, numeric, around.names, around.output)
        }
        Request::Restore { atomic } => restore::run(program, &mut connect(socket)?, atomic, around),
    }
}

/// The two requests that need no daemon.
pub(crate) fn help_or_version(
    program: &str,
    request: &Request,
    around: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    match request {
        Request::Help { long } => usage::help(program, *long, around.output),
        _ => usage::version(around.output),
    }
    .or_else(written)
}

fn connect(socket: PathBuf) -> Result<Client, Failure> {
    Client::connect(socket).map_err(|error| Failure::client(&error))
}

fn change(client: &mut Client, operation: Operation) -> Result<(), Failure> {
    let subject = Subject::of(&operation);
    client.apply(operation).map_err(|error| match &error {
        ClientError::Refused { refusal, .. } => Failure::refused(refusal_text(refusal, subject)),
        other => Failure::client(other),
    })
}

/// A reader that has seen enough is no failure; a full disk is.
pub(crate) fn written(why: io::Error) -> Result<(), Failure> {
    if why.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure {
        status: 1,
        message: format!("cannot write: {why}"),
        restore_goes_on: false,
    })
}
