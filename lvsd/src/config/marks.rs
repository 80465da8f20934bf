//! The tables `[[mark]]` and `[sysctl]`.
//!
//! Tables in; rules that a director takes, and the value of every setting, out.

use super::kinds::{self, Read};
use super::reader::{Fault, Section};
use crate::control::marks;
use lvs_api::{MarkFamily, MarkRule};
use lvs_director::Setting;
use toml::de::DeValue;

const FAMILIES: &[(&str, MarkFamily)] = &[("ipv4", MarkFamily::Ipv4), ("ipv6", MarkFamily::Ipv6)];

/// The rules of firewall marks, in the order of the file.
pub(super) fn rules(top: &mut Section<'_>) -> Vec<MarkRule> {
    let sections = top.sections("mark", "[[mark]]");
    sections.into_iter().filter_map(rule).collect()
}

fn rule(mut section: Section<'_>) -> Option<MarkRule> {
    let mark = section.required("mark", "mark = 7", kinds::number32(0, u32::MAX));
    let mut rule = MarkRule {
        mark: mark?.value,
        family: section
            .value("family", kinds::one_of(FAMILIES))
            .map(|at| at.value),
        local: section
            .value("local", kinds::switch)
            .is_some_and(|at| at.value),
        ..MarkRule::default()
    };
    let mut sound = true;
    for (key, field) in [
        ("interface", &mut rule.interface),
        ("protocol", &mut rule.protocol),
        ("source", &mut rule.source),
        ("destination", &mut rule.destination),
        ("source_port", &mut rule.source_port),
        ("destination_port", &mut rule.destination_port),
    ] {
        let Some(words) = section.value(key, words) else {
            continue;
        };
        *field = words.value;
        // Alone in a rule, so that what is wrong is known to be this.
        let mut alone = MarkRule::default();
        match key {
            "interface" => alone.interface.clone_from(field),
            "protocol" => alone.protocol.clone_from(field),
            "source" | "destination" => alone.source.clone_from(field),
            _ => alone.source_port.clone_from(field),
        }
        if let Err(refusal) = marks::to_director(&alone) {
            let (_, why) = refusal.message.split_once(", ").unwrap_or_default();
            section.fault(&words.span, Fault::new(format!("`{key}`: {why}")));
            sound = false;
        }
    }
    let checked = sound.then(|| marks::to_director(&rule).ok()).flatten();
    if let Some(checked) = &checked
        && let Err(refused) = checked.check()
    {
        let span = section.span.clone();
        section.fault(&span, Fault::new(refused.to_string()));
    }
    section.finish(&[]);
    checked.as_ref().map(marks::from_director)
}

/// A word or a number, or several in a list.
fn words(value: &DeValue<'_>) -> Read<Vec<String>> {
    let word = |value: &DeValue<'_>| match value {
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        other => kinds::text(other),
    };
    match value {
        DeValue::Array(items) if items.is_empty() => Err(Fault::new("is empty")),
        DeValue::Array(items) => items.iter().map(|item| word(item.get_ref())).collect(),
        other => Ok(vec![word(other)?]),
    }
}

/// The value of every setting: what the file says, or the kernel's default.
pub(super) fn sysctl(section: Option<Section<'_>>) -> Vec<(Setting, u32)> {
    let mut values = defaults();
    if let Some(mut section) = section {
        for (setting, value) in &mut values {
            let read = |given: &DeValue<'_>| match given {
                DeValue::Boolean(on) => Ok(u32::from(*on)),
                other => kinds::number32(0, *setting.range().end())(other),
            };
            if let Some(at) = section.value(setting.name(), read) {
                *value = at.value;
            }
        }
        section.finish(&[]);
    }
    values
}

/// The kernel's defaults.
pub(super) fn defaults() -> Vec<(Setting, u32)> {
    let all = Setting::ALL.iter();
    all.map(|setting| (*setting, setting.default_value()))
        .collect()
}
