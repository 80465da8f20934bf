//! The table `[control]`: where the control socket is, and whom it belongs to.
//!
//! A table in; a path and its permissions out. Names of users and groups are looked up here, so that
//! one that does not exist is reported with its place.

use super::Control;
use super::kinds::{self, Read};
use super::reader::{At, Fault, Section};
use nix::unistd::{Group, User};
use toml::de::DeValue;

/// Reads the table; `socket` may have been given at the top of the file instead.
pub(super) fn control(
    section: Option<Section<'_>>,
    socket: Option<At<String>>,
    default: Control,
) -> Control {
    let Some(mut section) = section else {
        return Control {
            socket: socket.map_or(default.socket, |at| at.value.into()),
            ..default
        };
    };
    let own = section.value("socket", path);
    if let (Some(own), Some(_)) = (&own, &socket) {
        let fault = Fault::new("`socket` stands at the top of the file too");
        section.fault(&own.span, fault.help("remove one"));
    }
    let owner = section.value("owner", |value| {
        account(value, "user", |name| {
            Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
        })
    });
    let group = section.value("group", |value| {
        account(value, "group", |name| {
            Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
        })
    });
    let mode = section.value("mode", mode);
    section.finish(&[]);
    Control {
        socket: own.or(socket).map_or(default.socket, |at| at.value.into()),
        owner: owner.map(|at| at.value),
        group: group.map(|at| at.value),
        mode: mode.map_or(default.mode, |at| at.value),
    }
}

/// An absolute path.
pub(super) fn path(value: &DeValue<'_>) -> Read<String> {
    let path = kinds::text(value)?;
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(Fault::new("is not an absolute path").help("begin it with /"))
    }
}

/// A name that the system knows, or a number.
fn account(
    value: &DeValue<'_>,
    kind: &str,
    look_up: impl FnOnce(&str) -> Result<Option<u32>, nix::Error>,
) -> Read<u32> {
    if let DeValue::Integer(_) = value {
        return kinds::number32(0, u32::MAX - 1)(value);
    }
    let name = kinds::text(value)?;
    match look_up(&name) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(
            Fault::new(format!("is `{name}`, and there is no such {kind}"))
                .help(format!("name a {kind} of this host, or give its number")),
        ),
        Err(why) => Err(Fault::new(format!(
            "is `{name}`, which cannot be looked up: {why}"
        ))),
    }
}

/// Permissions as `chmod` takes them, in octal: `"0660"`, or TOML's `0o660`.
fn mode(value: &DeValue<'_>) -> Read<u32> {
    let octal = match value {
        DeValue::Integer(number) if number.radix() == 8 => number.as_str(),
        DeValue::String(text) => text,
        _ => "",
    };
    match u32::from_str_radix(octal, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(Fault::new("is no mode of a file").help(r#"write it in octal, such as "0660""#)),
    }
}
