//! What was recorded beside what was seen: the first difference, in a line.

use super::daemon::Seen;
use super::recording::Record;

/// The first difference; `None` if there is none.
///
/// Without sorting (`--nosort`) services come in the order of the kernel's hash, whose key differs
/// from boot to boot: there they may come in any order, each with its destinations in theirs.
pub(crate) fn difference(record: &Record, seen: &Seen) -> Option<String> {
    let status = seen.status.map(i64::from);
    if status != Some(record.status) {
        let got = status.map_or_else(|| "a signal".to_owned(), |status| status.to_string());
        let said = match seen.stderr.lines().next() {
            Some(line) => format!(" ({line})"),
            None => String::new(),
        };
        return Some(format!(
            "exit status {} expected, got {got}{said}",
            record.status
        ));
    }
    let unsorted = record.argv.iter().any(|word| word == "--nosort");
    let (wanted, got) = if unsorted {
        (by_block(&record.stdout), by_block(&seen.stdout))
    } else {
        (record.stdout.clone(), seen.stdout.clone())
    };
    first("stdout", &wanted, &got).or_else(|| first("stderr", &record.stderr, &seen.stderr))
}

/// The same lines, services with their destinations in the order of their text.
fn by_block(text: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ->") => block.push_str(line),
            _ => blocks.push(line.to_owned()),
        }
    }
    blocks.sort();
    blocks.concat()
}

fn first(stream: &str, wanted: &str, got: &str) -> Option<String> {
    if wanted == got {
        return None;
    }
    let (mut expected, mut found) = (wanted.split_inclusive('\n'), got.split_inclusive('\n'));
    let mut number = 0;
    loop {
        number += 1;
        let (a, b) = (expected.next(), found.next());
        if a == b && a.is_some() {
            continue;
        }
        let show =
            |line: Option<&str>| line.map_or_else(|| "the end".to_owned(), |l| format!("{l:?}"));
        return Some(format!(
            "{stream} line {number}: {} expected, got {}",
            show(a),
            show(b)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(argv: &str, stdout: &str, status: i32) -> Option<String> {
        let record = Record {
            argv: argv.split(' ').map(str::to_owned).collect(),
            stdin: String::new(),
            status: 0,
            stdout: "title\nb\n  -> 1\na\n".to_owned(),
            stderr: String::new(),
        };
        let seen = Seen {
            status: Some(status),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        };
        difference(&record, &seen)
    }

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(compared("-L", "title\nb\n  -> 1\na\n", 0), None);
        assert_eq!(
            compared("-L", "title\nb\n  -> 2\na\n", 0).unwrap(),
            r#"stdout line 3: "  -> 1\n" expected, got "  -> 2\n""#
        );
        assert_eq!(
            compared("-L", "title\nb\n  -> 1\n", 0).unwrap(),
            r#"stdout line 4: "a\n" expected, got the end"#
        );
        assert!(compared("-L", "", 2).unwrap().starts_with("exit status 0"));
    }

    #[test]
    fn unsorted_services_may_come_in_any_order() {
        assert_eq!(compared("-L --nosort", "title\na\nb\n  -> 1\n", 0), None);
        assert!(compared("-L", "title\na\nb\n  -> 1\n", 0).is_some());
        assert!(compared("-L --nosort", "title\na\n  -> 1\nb\n", 0).is_some());
    }
}
