//! From words to a request: what ipvsadm checks, in the order in which it checks it.
//!
//! An argument vector in; a [`Request`] or the [`Failure`] that ipvsadm 1.31 ends with out.
//! Values are read as their options come ([`Said`]), permissions are checked when all have come,
//! and what must fit together last.

use crate::errors::Failure;
use crate::names::Names;
use crate::options::{Command, Meaning};
use crate::request::{Listing, Request};
use crate::said::{MAX_TIMEOUT, Said};
use crate::values::number32;
use crate::words::Words;
use lvs_api::{SyncRole, Timeouts};

/// A command line that was understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) request: Request,
    /// `--socket`.
    pub(crate) socket: Option<String>,
}

/// Understands a command line, without the name of the program.
pub(crate) fn parse(program: &str, args: &[String], names: &dyn Names) -> Result<Parsed, Failure> {
    let mut words = Words::new(args);
    let mut said = Said::default();
    let Some(command) = first(&mut words, args.is_empty(), &mut said, program)? else {
        return Ok(Parsed {
            request: Request::List(Listing {
                json: said.json,
                ..Listing::default()
            }),
            socket: said.socket,
        });
    };
    if matches!(command, Command::Help | Command::Version) {
        return Ok(Parsed {
            request: if command == Command::Help {
                Request::Help {
                    long: args.iter().any(|arg| arg == "--help"),
                }
            } else {
                Request::Version
            },
            socket: None,
        });
    }
    while let Some(next) = words.next() {
        match next {
            Ok(token) => said.hear(&token, &words, names)?,
            Err(fault) => return Err(Failure::refused(format!("{}: {fault}", words.blamed()))),
        }
    }
    let mut strays = words.strays().iter().copied();
    let timeouts = if command == Command::Set {
        set(&mut strays)?
    } else {
        Timeouts::default()
    };
    if let Some(stray) = strays.next() {
        return Err(Failure::usage(format!("unexpected argument {stray}")));
    }
    said.read_flags()?;
    said.check_permissions(command)?;
    said.check_ours(command)?;
    let socket = said.socket.take();
    let request = said.conclude(command, timeouts)?;
    Ok(Parsed { request, socket })
}

/// The command, which comes before everything but our own options; `None` if there is nothing.
fn first(
    words: &mut Words<'_>,
    nothing: bool,
    said: &mut Said,
    program: &str,
) -> Result<Option<Command>, Failure> {
    loop {
        let token = match words.next() {
            Some(Ok(token)) => token,
            None if nothing => return Ok(None),
            None if words.strays().is_empty() && said.json | said.socket.is_some() => {
                said.check_ours(Command::List)?;
                return Ok(None);
            }
            Some(Err(_)) | None => return Err(Failure::try_help(program)),
        };
        if said.hear_ours(&token) {
            continue;
        }
        let Meaning::Command(command) = token.word.meaning else {
            return Err(Failure::try_help(program));
        };
        let value = token.value.as_deref();
        said.setting = token.value.clone().filter(|_| command == Command::Sysctl);
        said.role = match (command, value) {
            (Command::StartDaemon | Command::StopDaemon, Some("master")) => Some(SyncRole::Master),
            (Command::StartDaemon | Command::StopDaemon, Some("backup")) => Some(SyncRole::Backup),
            (Command::StartDaemon, _) => {
                return Err(Failure::usage("illegal start-daemon parameter specified"));
            }
            (Command::StopDaemon, _) => {
                return Err(Failure::usage("illegal start_daemon specified"));
            }
            _ => None,
        };
        return Ok(Some(command));
    }
}

/// The three words of `--set`.
fn set<'a>(strays: &mut impl Iterator<Item = &'a str>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) = (strays.next(), strays.next(), strays.next())
    else {
        return Err(Failure::usage("--set option requires 3 timeout values"));
    };
    let seconds = |word| {
        number32(word, 0, MAX_TIMEOUT)
            .ok_or_else(|| Failure::usage(format!("invalid timeout value `{word}' specified")))
    };
    Ok(Timeouts {
        tcp: seconds(tcp)?,
        tcp_fin: seconds(tcp_fin)?,
        udp: seconds(udp)?,
    })
}
