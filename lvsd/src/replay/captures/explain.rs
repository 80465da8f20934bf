//! What became of a packet, in a line.

use super::super::host::Outcome;
use super::super::machine::Became;
use super::super::scenes::fields;
use super::super::site::Site;
use lvs_director::Verdict;

/// The packet, the verdict on it, and what left.
pub(super) fn words(bytes: &[u8], became: &Became, site: &Site, no_host: bool) -> String {
    let verdict = match became.verdict {
        Verdict::Drop(reason) => format!("drop ({reason})"),
        Verdict::Answer(Some(reason)) => format!("answer ({reason})"),
        Verdict::Answer(None) => "answer".to_owned(),
        Verdict::Pass => host("pass", became, no_host),
        Verdict::ToHost => host("to host", became, no_host),
        Verdict::Held => "held until its datagram is whole".to_owned(),
        _ => "forward".to_owned(),
    };
    let mut line = format!("{}: {verdict}", fields::summary(bytes));
    for sent in &became.sent {
        let side = site.sides.get(sent.side).map_or("?", |side| &side.name);
        line += &format!(" -> {side}: {}", fields::summary(&sent.bytes));
    }
    line
}

/// What the host makes of what was left to it.
fn host(verdict: &str, became: &Became, no_host: bool) -> String {
    let what = match became.host {
        _ if no_host => "",
        Some(Outcome::Answer) => ", the host answers",
        Some(Outcome::Forward(_)) => ", the host forwards",
        _ => ", the host keeps it",
    };
    format!("{verdict}{what}")
}
