//! `lvsd replay-scenes`: captures of both sides of a kernel's director, done again and compared.
//!
//! In comes a folder: an index ([`index::Scene`]) and pairs of captures. What came to the kernel's
//! director in a scene goes to one of ours, in memory, in the same network and at the same moments;
//! what ours sends has to be what the kernel sent, byte for byte, and in the end its connections
//! those that the kernel had. The fields that the kernel draws are listed in `compare`, what the
//! recorder's captures show that was never on a wire in `recorded`.

mod compare;
pub(crate) mod fields;
pub mod index;
pub(crate) mod lab;
pub(crate) mod pieces;
pub(crate) mod recorded;

use super::capture::{self, Captured};
use super::machine::{Became, Machine, Origin, Sent};
use super::setup;
use index::{Edit, Scene};
use recorded::Recorded;
use std::path::Path;
use std::time::Duration;

/// Connections that a scene may have at once.
const CONNECTIONS: usize = 4096;
/// What the payload was that captures have cut off.
const CUT_OFF: u8 = b'x';
/// How long after the last frame the connections were listed.
const LISTED_AFTER: Duration = Duration::from_millis(150);

/// What this version leaves out of a scene, if it does.
#[must_use]
pub fn left_out(scene: &Scene) -> Option<&'static str> {
    let mut lines = scene.config.iter();
    lines.any(|line| line.contains("-daemon")).then_some(
        "connection synchronisation, which this version does not have; all else is as recorded",
    )
}

/// Plays a scene of a folder; but for what is [`left_out`].
///
/// # Errors
/// The first difference.
pub fn play(folder: &Path, scene: &Scene) -> Result<(), String> {
    let captured = captures(folder, scene)?;
    let synchronises = left_out(scene).is_some();
    let captures = captured.iter().map(Vec::as_slice);
    let mut frames = recorded::frames(captures, &lab::MACS, CUT_OFF);
    if synchronises {
        let to_group = |bytes: &[u8]| bytes.first().is_some_and(|byte| byte & 1 != 0);
        frames.retain(|frame| !to_group(&frame.bytes));
    }
    let mut machine = Machine::new(CONNECTIONS, lab::site(scene, &captured))?;
    for (name, value) in &scene.sysctl {
        if synchronises && name.starts_with("sync_") {
            continue;
        }
        setup::set_value(&machine.director, name, value)?;
    }
    setup::mark(&machine.director, &scene.fwmark)?;
    for line in &scene.config {
        if synchronises && line.contains("-daemon") {
            continue;
        }
        setup::run(&machine.rules, line)?;
    }
    let mut edits = scene.edits.iter().collect::<Vec<_>>();
    edits.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut edits = edits.into_iter().peekable();
    let mut ours: Vec<(Duration, Sent)> = Vec::new();
    for frame in frames.iter().filter(|frame| !frame.by_director) {
        while let Some(edit) = edits.next_if(|edit| edit.at <= frame.time.as_secs_f64()) {
            change(&mut machine, edit)?;
        }
        machine.pass_to(frame.time);
        let Became { sent, .. } = machine.receive(frame.side, &frame.bytes);
        ours.extend(sent.into_iter().map(|sent| (frame.time, sent)));
    }
    compare_frames(&frames, &ours)?;
    for edit in edits {
        change(&mut machine, edit)?;
    }
    if let Some(expected) = scene.connections() {
        let last = frames.last().map_or(Duration::ZERO, |frame| frame.time);
        machine.pass_to(last + LISTED_AFTER);
        compare_connections(&machine, &expected)?;
    }
    Ok(())
}

/// Both captures, checked against the index.
fn captures(folder: &Path, scene: &Scene) -> Result<[Vec<Captured>; 2], String> {
    let read = |side: &str, expected: Option<usize>| {
        let file = folder.join(format!("{}.{side}.pcap", scene.name));
        let frames = capture::read(&file).map_err(|error| error.to_string())?;
        match expected {
            Some(expected) if expected != frames.len() => Err(format!(
                "{}: {} frames, but the index says {expected}",
                file.display(),
                frames.len()
            )),
            _ => Ok(frames),
        }
    };
    let [client, server] = lab::NAMES;
    Ok([
        read(client, scene.client_frames)?,
        read(server, scene.server_frames)?,
    ])
}

fn change(machine: &mut Machine, edit: &Edit) -> Result<(), String> {
    machine.pass_to(Duration::try_from_secs_f64(edit.at).unwrap_or_default());
    for (name, value) in &edit.sysctl {
        setup::set_value(&machine.director, name, value)?;
    }
    edit.cmd
        .iter()
        .try_for_each(|line| setup::run(&machine.rules, line))
}

/// The frames that left, side by side with those that should.
fn compare_frames(frames: &[Recorded], ours: &[(Duration, Sent)]) -> Result<(), String> {
    let sides = lab::NAMES.iter().enumerate();
    let differences = sides.filter_map(|(side, name)| {
        let kernel: Vec<compare::Side<'_>> = frames
            .iter()
            .filter(|frame| frame.by_director && frame.side == side)
            .map(|frame| compare::Side {
                number: frame.number,
                time: frame.time,
                bytes: &frame.bytes,
                kept: frame.kept,
                origin: Origin::Forwarded,
            })
            .collect();
        let own: Vec<compare::Side<'_>> = ours
            .iter()
            .filter(|(_, sent)| sent.side == side)
            .map(|(time, sent)| compare::Side {
                number: 0,
                time: *time,
                bytes: &sent.bytes,
                kept: sent.bytes.len(),
                origin: sent.origin,
            })
            .collect();
        let (time, told) = compare::difference(&kernel, &own)?;
        Some((time, format!("{name} side, {told}")))
    });
    match differences.min_by_key(|(time, _)| *time) {
        Some((_, told)) => Err(told),
        None => Ok(()),
    }
}

fn compare_connections(machine: &Machine, expected: &[&str]) -> Result<(), String> {
    let mut ours = Vec::new();
    machine.director.connections(machine.now(), |found| {
        let protocol = found.protocol.name().to_ascii_lowercase();
        let ends = (found.client, found.virtual_endpoint, found.destination);
        let state = found.state_name();
        ours.push(format!(
            "{protocol} {}>{} {} {state}",
            ends.0, ends.1, ends.2
        ));
    });
    ours.sort();
    let mut expected: Vec<String> = expected.iter().map(|row| (*row).to_owned()).collect();
    expected.sort();
    if ours == expected {
        return Ok(());
    }
    Err(format!(
        "connections at the end: expected [{}], came [{}]",
        expected.join("; "),
        ours.join("; ")
    ))
}
