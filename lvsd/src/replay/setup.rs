//! What a recording says about a director before its packets: command lines of ipvsadm, sysctls.
//!
//! Words in; a director that has them, or what is wrong with them, out.

use super::nft;
use crate::control::{self, Backend};
use lvs_api::Errno;
use lvs_core::Tick;
use lvs_director::{Director, SettingError};
use serde_json::Value;

/// The exit status of ipvsadm when the kernel refuses.
const REFUSED: u8 = 255;

/// How a command line ended.
pub(crate) struct Status {
    /// Its exit status.
    pub(crate) code: u8,
    /// Why, if it is not 0.
    pub(crate) reason: String,
}

/// Does what a command line of ipvsadm, without its name, says.
pub(crate) fn command(rules: &control::Rules, line: &str) -> Status {
    let args: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
    let operation = match lvsadm::understand(&args, &lvsadm::System) {
        Ok(operation) => operation,
        Err(error) => {
            return Status {
                code: error.status,
                reason: error.message,
            };
        }
    };
    match rules.apply(&operation) {
        Ok(()) => Status {
            code: 0,
            reason: "done".to_owned(),
        },
        Err(refusal) => Status {
            code: REFUSED,
            reason: match refusal.errno {
                Errno::NotAvailable => refusal.message,
                errno => format!("{} ({errno})", refusal.message),
            },
        },
    }
}

/// The same, where anything but success is an error.
///
/// # Errors
/// The line, its exit status, and why.
pub(crate) fn run(rules: &control::Rules, line: &str) -> Result<(), String> {
    let status = command(rules, line);
    match status.code {
        0 => Ok(()),
        code => Err(format!("`{line}`: status {code}: {}", status.reason)),
    }
}

/// Gives a sysctl under `net.ipv4.vs` a value.
///
/// # Errors
/// A name that this director does not know, or a value that it cannot have.
pub(crate) fn set(director: &Director, name: &str, value: u32) -> Result<(), String> {
    let set = |setting| director.settings().set(setting, value);
    let outcome = name.parse().and_then(set);
    outcome.map_err(|error: SettingError| error.to_string())?;
    defend(director, Tick::default());
    Ok(())
}

/// Gives packets marks: expressions of nft, each with its mark.
///
/// # Errors
/// What is not understood, or is refused.
pub(crate) fn mark(director: &Director, marks: &[(String, u32)]) -> Result<(), String> {
    let rules = marks
        .iter()
        .map(|(expression, mark)| nft::rule(expression, *mark))
        .collect::<Result<Vec<_>, _>>()?;
    let outcome = director.set_marks(&rules);
    outcome.map_err(|error| error.to_string())
}

/// What a director does each second, in a replay, which does not run out of memory.
pub(crate) fn defend(director: &Director, now: Tick) {
    director.defend(u64::MAX, now);
}

/// The same with a value as it stands in JSON: a number, or one in digits.
///
/// # Errors
/// As [`set`]; a value that is none.
pub(crate) fn set_value(director: &Director, name: &str, value: &Value) -> Result<(), String> {
    let number = match value {
        Value::Number(number) => number
            .as_u64()
            .and_then(|number| u32::try_from(number).ok()),
        Value::Bool(on) => Some(u32::from(*on)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| format!("the setting `{name}`: {value} is no number"))?;
    set(director, name, number)
}
