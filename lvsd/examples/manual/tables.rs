//! The tables of keys in a document: everything but their rows is written by hand.

use lvsd::config::{KEYS, Key};

/// The document with the rows of today.
pub(crate) fn filled(text: &str) -> Result<String, String> {
    let marks = |key: &&Key| key.table == "[[mark]]";
    let others: Vec<String> = KEYS
        .iter()
        .filter(|key| !marks(key))
        .map(|key| {
            let table = key.table.trim_matches(['[', ']']);
            let name = if table.is_empty() {
                key.name.to_owned()
            } else {
                format!("{table}.{}", key.name)
            };
            let Key {
                values,
                default,
                meaning,
                ..
            } = key;
            format!("| `{name}` | {values} | {default} | {meaning} |")
        })
        .collect();
    let rules: Vec<String> = KEYS
        .iter()
        .filter(marks)
        .map(|key| format!("| `{}` | {} | {} |", key.name, key.values, key.meaning))
        .collect();
    let text = replaced(text, "| key | values | default | meaning |", &others)?;
    replaced(&text, "| key | values | meaning |", &rules)
}

/// The text with other rows under a table's head.
fn replaced(text: &str, head: &str, rows: &[String]) -> Result<String, String> {
    let missing = || format!("there is no table `{head}`");
    let (before, table) = text.split_once(&format!("{head}\n")).ok_or_else(missing)?;
    let (ruler, table) = table.split_once('\n').ok_or_else(missing)?;
    let after = table.find("\n\n").and_then(|end| table.get(end..));
    let after = after.ok_or_else(missing)?;
    Ok(format!(
        "{before}{head}\n{ruler}\n{}{after}",
        rows.join("\n")
    ))
}
