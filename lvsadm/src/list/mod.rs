//! The listings, to the column (IPVS 5.5).
//!
//! A listing's description and a client in; lines on the output out.

mod connections;
mod numbers;
mod rules;
mod settings;
mod sort;
mod text;

pub(crate) use sort::sorted;
pub(crate) use text::{Text, addresses, flags, removal};

use crate::errors::Failure;
use crate::names::Names;
use crate::request::{ListMode, Listing};
use crate::run::written;
use lvs_api::{Client, ClientError, Connection};
use serde::Serialize;
use std::io::{self, Write};

/// Lists what was asked for.
pub(crate) fn show(
    client: &mut Client,
    listing: &Listing,
    names: &dyn Names,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if listing.json {
        return json(client, listing, out);
    }
    let text = Text::new(names, listing.numeric);
    match listing.mode {
        ListMode::Connections => {
            connections::title(listing.engines, out).or_else(written)?;
            each_connection(client, |connection| {
                connections::row(connection, &text, listing.engines, out)
            })
        }
        ListMode::Timeouts => {
            let timeouts = client.timeouts().map_err(silent)?;
            settings::timeouts(&timeouts, out).or_else(written)
        }
        ListMode::Daemons => {
            let daemons = client.daemons().map_err(silent)?;
            settings::daemons(&daemons, out).or_else(written)
        }
        ListMode::Drops => {
            let drops = client.drops().map_err(failed)?;
            settings::drops(&drops, out).or_else(written)
        }
        _ => {
            let services = client.services(listing.only.as_ref()).map_err(failed)?;
            let services = if listing.sorted {
                sorted(services)
            } else {
                services
            };
            // One service is listed without the line about the table.
            let table_size = match listing.only {
                Some(_) => None,
                None => Some(client.info().map_err(failed)?.table_size),
            };
            rules::show(&services, table_size, listing, &text, out).or_else(written)
        }
    }
}

/// The settings, or one of them.
pub(crate) fn show_settings(
    client: &mut Client,
    only: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut all = client.sysctl().map_err(failed)?;
    if let Some(name) = only {
        all.retain(|setting| setting.name == name);
        if all.is_empty() {
            return Err(Failure {
                status: 1,
                ..Failure::usage(format!(
                    "there is no setting {name}; `lvsadm --sysctl' lists those that there are"
                ))
            });
        }
    }
    if json {
        return line(&all, out).or_else(written);
    }
    settings::sysctl(&all, out).or_else(written)
}

/// The same for programs: what the daemon says, in the order that was asked for.
fn json(client: &mut Client, listing: &Listing, out: &mut dyn Write) -> Result<(), Failure> {
    match listing.mode {
        ListMode::Connections => each_connection(client, |connection| line(connection, out)),
        ListMode::Timeouts => {
            let timeouts = client.timeouts().map_err(failed)?;
            line(&timeouts, out).or_else(written)
        }
        ListMode::Daemons => {
            let daemons = client.daemons().map_err(failed)?;
            line(&daemons, out).or_else(written)
        }
        ListMode::Drops => {
            let drops = client.drops().map_err(failed)?;
            line(&drops, out).or_else(written)
        }
        _ => {
            let services = client.services(listing.only.as_ref()).map_err(failed)?;
            let services = if listing.sorted {
                sorted(services)
            } else {
                services
            };
            line(&services, out).or_else(written)
        }
    }
}

fn line<T: Serialize>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

fn each_connection(
    client: &mut Client,
    mut each: impl FnMut(&Connection) -> io::Result<()>,
) -> Result<(), Failure> {
    enum Ended {
        Asking(ClientError),
        Writing(io::Error),
    }
    impl From<ClientError> for Ended {
        fn from(error: ClientError) -> Self {
            Self::Asking(error)
        }
    }
    let ended = client.connections(|connection| each(&connection).map_err(Ended::Writing));
    match ended {
        Ok(()) => Ok(()),
        Err(Ended::Asking(error)) => Err(failed(error)),
        Err(Ended::Writing(why)) => written(why),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn failed(error: ClientError) -> Failure {
    Failure::listing(&error)
}

/// Listings of settings that are refused end without a word.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn silent(error: ClientError) -> Failure {
    let mut failure = Failure::listing(&error);
    if matches!(error, ClientError::Refused { .. }) {
        failure.message.clear();
    }
    failure
}
