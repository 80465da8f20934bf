//! A recording of command lines: one JSON object a line, grouped into sessions.
//!
//! `{"session", "argv", "stdin", "rc", "stdout", "stderr"}` is a command and what came of it (`stdin`
//! may be missing); `{"session", "note"}` is a remark about what the recorder did besides. A session
//! begins with an empty table; a later line of another session begins that one.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// A command and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) argv: Vec<String>,
    pub(crate) stdin: String,
    pub(crate) status: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Commands that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) records: Vec<Record>,
    /// Commands after a remark: their listings depend on packets that are not sent here.
    pub(crate) left_out: usize,
    remarked: bool,
}

/// Reads a file.
pub(crate) fn read(file: &Path) -> Result<Vec<Session>, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    parse(&text).map_err(|(line, why)| format!("{}:{line}: {why}", file.display()))
}

fn parse(text: &str) -> Result<Vec<Session>, (usize, String)> {
    let mut sessions: Vec<Session> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |why: String| (i + 1, why);
        let json: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let name = text_of(&json, "session").map_err(wrong)?;
        if sessions.last().is_none_or(|session| session.name != name) {
            sessions.push(Session {
                name,
                records: Vec::new(),
                left_out: 0,
                remarked: false,
            });
        }
        let Some(session) = sessions.last_mut() else {
            continue;
        };
        if json.get("argv").is_none() {
            text_of(&json, "note").map_err(wrong)?;
            session.remarked = true;
            continue;
        }
        let record = record(&json).map_err(wrong)?;
        if session.remarked {
            session.left_out += 1;
        } else {
            session.records.push(record);
        }
    }
    Ok(sessions)
}

fn record(json: &Value) -> Result<Record, String> {
    let argv = json.get("argv").and_then(Value::as_array);
    let words = argv.ok_or("`argv` is no list")?.iter();
    let words = words.map(|word| word.as_str().map(str::to_owned));
    let status = json.get("rc").and_then(Value::as_i64);
    Ok(Record {
        argv: words.collect::<Option<_>>().ok_or("`argv` has no text")?,
        stdin: match json.get("stdin") {
            None | Some(Value::Null) => String::new(),
            Some(_) => text_of(json, "stdin")?,
        },
        status: status.ok_or("`rc` is no number")?,
        stdout: text_of(json, "stdout")?,
        stderr: text_of(json, "stderr")?,
    })
}

fn text_of(json: &Value, key: &str) -> Result<String, String> {
    let text = json.get(key).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| format!("`{key}` is missing or no text"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    const COMMAND: &str = r#"{"session":"a","argv":["-L"],"rc":0,"stdout":"","stderr":""}"#;

    #[test]
    fn lines_of_one_name_are_one_session() {
        let other = COMMAND.replace("\"a\"", "\"b\"");
        let note = r#"{"session":"b","note":"4 SYNs"}"#;
        let text = format!("{COMMAND}\n{COMMAND}\n{other}\n{note}\n{other}\n{COMMAND}\n");
        let sessions = parse(&text).unwrap();
        let shape: Vec<_> = sessions
            .iter()
            .map(|s| (s.name.as_str(), s.records.len(), s.left_out))
            .collect();
        assert_eq!(shape, [("a", 2, 0), ("b", 1, 1), ("a", 1, 0)]);
    }

    #[test]
    fn what_is_no_recording_is_named_with_its_line() {
        for (line, why) in [
            ("{", "EOF"),
            ("{}", "`session`"),
            (r#"{"session":"a"}"#, "`note`"),
            (r#"{"session":"a","argv":"-L"}"#, "`argv`"),
            (r#"{"session":"a","argv":["-L"],"stdout":""}"#, "`rc`"),
        ] {
            let (place, said) = parse(&format!("{COMMAND}\n{line}\n")).unwrap_err();
            assert_eq!(place, 2);
            assert!(said.contains(why), "{said}");
        }
    }
}
