//! The director's tables in the words of the recordings, and what differs from these.
//!
//! Services stand in hash order in the recordings, so that their order says nothing; destinations
//! stand in the scheduler's. Seconds left ran in real time there: up to three less than here.

use super::trace::{DestinationRow, ServiceRow, shown};
use lvs_core::{Endpoint, Family, Persistence, Protocol, ServiceKey, Tick};
use lvs_director::{ConnectionStatus, Director, ServiceStatus};

/// How many seconds a recorded timer may be behind ours.
const LATE: u32 = 3;

/// The director's services.
pub(crate) fn services(director: &Director) -> Vec<ServiceRow> {
    director.services().iter().map(service).collect()
}

fn service(status: &ServiceStatus) -> ServiceRow {
    let mut flags = Vec::new();
    // The kernel's list leaves it out for an address of IPv6.
    let silent = matches!(status.key, ServiceKey::Endpoint { vip, .. } if !vip.addr.is_v4());
    if status.one_packet && !silent {
        flags.push("ops".to_owned());
    }
    if let Some(persistence) = &status.persistence {
        flags.extend(persistent(persistence, status.key.family()));
    }
    let destination = |found: &lvs_director::DestinationStatus| DestinationRow {
        rs: found.spec.endpoint.to_string(),
        fwd: found.spec.method.name().to_owned(),
        w: found.spec.weight,
        act: found.active,
        inact: found.inactive,
    };
    ServiceRow {
        svc: match status.key {
            ServiceKey::Endpoint { protocol, vip } => format!("{} {vip}", lower(protocol)),
            ServiceKey::FwMark { mark, .. } => format!("fwm:{mark}"),
        },
        sched: status.scheduler.to_owned(),
        flags,
        dests: status.destinations.iter().map(destination).collect(),
    }
}

/// The timeout in ticks; IPv4's mask as it is, IPv6's prefix length in the other order of bytes.
fn persistent(persistence: &Persistence, family: Family) -> [String; 3] {
    let mask = match family {
        Family::V4 => persistence.netmask,
        Family::V6 => persistence.netmask.swap_bytes(),
    };
    [
        "persistent".to_owned(),
        Tick::seconds(persistence.timeout).to_string(),
        format!("{mask:08X}"),
    ]
}

fn lower(protocol: Protocol) -> String {
    protocol.name().to_ascii_lowercase()
}

/// What differs between the recorded services and ours.
pub(crate) fn compare_services(recorded: &[ServiceRow], ours: &[ServiceRow]) -> Result<(), String> {
    let mut recorded = recorded.to_vec();
    let mut ours = ours.to_vec();
    recorded.sort();
    ours.sort();
    if recorded == ours {
        return Ok(());
    }
    let pairs = recorded.iter().map(Some).chain([None]);
    let different = pairs.zip(ours.iter().map(Some).chain([None]));
    let (recorded, ours) = different
        .into_iter()
        .find(|(recorded, ours)| recorded != ours)
        .unwrap_or_default();
    let words = |row: Option<&ServiceRow>| shown(row.map(line).as_deref());
    Err(format!(
        "expected {}; came {}",
        words(recorded),
        words(ours)
    ))
}

fn line(row: &ServiceRow) -> String {
    let mut line = format!("{} {} {:?}", row.svc, row.sched, row.flags);
    for dest in &row.dests {
        line += &format!(
            ", {} {} weight {} active {} inactive {}",
            dest.rs, dest.fwd, dest.w, dest.act, dest.inact
        );
    }
    line
}

/// A connection: what must be the same, and the seconds it has left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    words: String,
    seconds: u32,
}

impl Row {
    fn line(&self) -> String {
        format!("{}, {} s left", self.words, self.seconds)
    }
}

/// The director's connections.
pub(crate) fn connections(director: &Director, now: Tick) -> Vec<Row> {
    let mut rows = Vec::new();
    director.connections(now, |found| rows.push(connection(found)));
    rows.sort();
    rows
}

fn connection(found: &ConnectionStatus) -> Row {
    let state = found.state_name();
    let engine = found
        .engine
        .as_ref()
        .map_or_else(String::new, |(engine, data)| format!(" {engine} {data}"));
    Row {
        words: format!(
            "{} {} {} {} {state}{engine}",
            lower(found.protocol),
            found.client,
            found.virtual_endpoint,
            found.destination
        ),
        seconds: found.expires,
    }
}

/// `tcp CLIENT VIP SERVER STATE SECONDS`, and what an engine adds.
fn recorded_row(text: &str) -> Result<Row, String> {
    let unknown = || format!("`{text}` is no connection");
    let words: Vec<&str> = text.split(' ').collect();
    let [protocol, client, vip, server, state, seconds, engine @ ..] = words.as_slice() else {
        return Err(unknown());
    };
    let plain = |word: &str| -> Result<String, String> {
        // Addresses may be written in more than one way.
        let endpoint: Endpoint = word.parse().map_err(|_| unknown())?;
        Ok(endpoint.to_string())
    };
    let mut words = format!(
        "{protocol} {} {} {} {state}",
        plain(client)?,
        plain(vip)?,
        plain(server)?
    );
    for word in engine {
        words = words + " " + word;
    }
    Ok(Row {
        words,
        seconds: seconds.parse().map_err(|_| unknown())?,
    })
}

/// What differs between the recorded connections and ours.
pub(crate) fn compare_connections(recorded: &[String], ours: &[Row]) -> Result<(), String> {
    let mut rows = recorded
        .iter()
        .map(|text| recorded_row(text))
        .collect::<Result<Vec<_>, _>>()?;
    rows.sort();
    let theirs = rows.iter().map(Some).chain([None]);
    let pairs = theirs.zip(ours.iter().map(Some).chain([None]));
    for pair in pairs {
        let same = match pair {
            (Some(theirs), Some(ours)) => {
                theirs.words == ours.words
                    && (theirs.seconds..=theirs.seconds.saturating_add(LATE))
                        .contains(&ours.seconds)
            }
            (None, None) => true,
            _ => false,
        };
        if !same {
            let words = |row: Option<&Row>| shown(row.map(Row::line).as_deref());
            return Err(format!(
                "expected {}; came {}",
                words(pair.0),
                words(pair.1)
            ));
        }
    }
    Ok(())
}
