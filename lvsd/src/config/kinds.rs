//! The kinds of values: what each accepts, and what it says otherwise.

use super::reader::{Fault, article, closest};
use toml::de::DeValue;

pub(super) type Read<T> = Result<T, Fault>;

fn expected<T>(value: &DeValue<'_>, what: &str, example: &str) -> Read<T> {
    let message = format!("is {}, not {what}", article(value));
    Err(Fault::new(message).help(format!("write {example}")))
}

/// A string.
pub(super) fn text(value: &DeValue<'_>) -> Read<String> {
    match value {
        DeValue::String(text) if text.is_empty() => Err(Fault::new("is empty")),
        DeValue::String(text) => Ok(text.to_string()),
        other => expected(other, "a string", "it in quotation marks"),
    }
}

/// true or false.
pub(super) fn switch(value: &DeValue<'_>) -> Read<bool> {
    match value {
        DeValue::Boolean(on) => Ok(*on),
        other => expected(
            other,
            "true or false",
            "true or false, without quotation marks",
        ),
    }
}

/// A whole number within bounds.
pub(super) fn number(min: u64, max: u64) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    move |value| match value {
        DeValue::Integer(integer) => {
            let digits = integer.as_str();
            let parsed = i128::from_str_radix(digits, integer.radix()).ok();
            match parsed.and_then(|n| u64::try_from(n).ok()) {
                Some(n) if (min..=max).contains(&n) => Ok(n),
                _ => Err(Fault::new("is out of range").help(format!("it can be {min} to {max}"))),
            }
        }
        other => expected(
            other,
            "a whole number",
            &format!("a number from {min} to {max}"),
        ),
    }
}

/// [`number`] for 32 bits.
pub(super) fn number32(min: u32, max: u32) -> impl Fn(&DeValue<'_>) -> Read<u32> {
    move |value| {
        let n = number(u64::from(min), u64::from(max))(value)?;
        Ok(u32::try_from(n).unwrap_or(max))
    }
}

/// A word of a list.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let word = text(value)?;
        if let Some((_, meaning)) = words.iter().find(|(known, _)| *known == word) {
            return Ok(*meaning);
        }
        let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
        let fault = Fault::new(format!("is `{word}`, which does not exist"));
        Err(match closest(&word, known.iter().copied()) {
            Some(near) => fault.help(format!(
                "did you mean `{near}`? There are {}",
                known.join(", ")
            )),
            None => fault.help(format!("there are {}", known.join(", "))),
        })
    }
}

/// A list of strings.
pub(super) fn texts(value: &DeValue<'_>) -> Read<Vec<String>> {
    match value {
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
        other => expected(
            other,
            "a list",
            r#"a list of strings, such as ["eth0", "eth1"]"#,
        ),
    }
}

/// A time: a number of seconds, or `"15m"`, `"1h30m"`, `"2 days"`.
pub(super) fn duration(min: u32, max: u32) -> impl Fn(&DeValue<'_>) -> Read<u32> {
    const UNITS: &[(&[&str], u64)] = &[
        (&["s", "sec", "second", "seconds"], 1),
        (&["m", "min", "minute", "minutes"], 60),
        (&["h", "hour", "hours"], 3600),
        (&["d", "day", "days"], 86400),
    ];
    move |value| {
        let seconds = match value {
            DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .and_then(|n| u64::try_from(n).ok()),
            DeValue::String(words) => Some(with_units(words, UNITS).ok_or_else(|| {
                Fault::new(format!("is `{words}`, which is no length of time"))
                    .help(r#"write seconds, or "90s", "15m", "1h30m", "2d""#)
            })?),
            other => return expected(other, "a length of time", r#"seconds, or "15m""#),
        };
        match seconds.and_then(|n| u32::try_from(n).ok()) {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            _ => {
                Err(Fault::new("is out of range").help(format!("it can be {min} to {max} seconds")))
            }
        }
    }
}

/// An amount of memory: a number of bytes, or `"8MiB"`.
pub(super) fn bytes(min: u64, max: u64) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    const UNITS: &[(&[&str], u64)] = &[
        (&["KiB", "K", "k"], 1 << 10),
        (&["MiB", "M"], 1 << 20),
        (&["GiB", "G"], 1 << 30),
    ];
    move |value| {
        let amount = match value {
            DeValue::Integer(integer) => {
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            DeValue::String(words) => Some(with_units(words, UNITS).ok_or_else(|| {
                Fault::new(format!("is `{words}`, which is no amount of memory"))
                    .help(r#"write bytes, or "512KiB", "8MiB""#)
            })?),
            other => return expected(other, "an amount of memory", r#""8MiB""#),
        };
        match amount {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            _ => Err(Fault::new("is out of range").help(format!(
                "it can be {} to {} KiB",
                min >> 10,
                max >> 10
            ))),
        }
    }
}

/// The sum of numbers with units behind them.
fn with_units(text: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, factor) = units.iter().find(|(names, _)| names.contains(&unit))?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail.trim_start();
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u32> {
        duration(1, 2_678_400)(&DeValue::String(text.into())).ok()
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("2 days 1 hour"), Some(176_400));
        for wrong in [
            "",
            "15",
            "m",
            "15x",
            "1.5h",
            "-1s",
            "31d1s",
            "99999999999999999999d",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn amounts_of_memory() {
        let read = |text: &str| bytes(1 << 16, 1 << 30)(&DeValue::String(text.into())).ok();
        assert_eq!(read("8MiB"), Some(8 << 20));
        assert_eq!(read("512 KiB"), Some(512 << 10));
        assert_eq!(read("8MB"), None);
        assert_eq!(read("2GiB"), None);
    }
}
