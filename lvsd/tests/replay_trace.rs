//! Every recorded case of the kernel's IPVS, played to the director: choices, translations,
//! listings, states and timers. What this version does not have stands in a list, with the reason
//! that it must give; a case of the list that passes is a failure too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use lvsd::replay;
use std::fs;
use std::path::{Path, PathBuf};

/// How many cases are recorded.
const CASES: usize = 357;

/// What is expected to differ: what the difference must say, and the cases.
const EXPECTED: &[(&str, &[&str])] = &[
    (
        "a firewall-mark service is not supported",
        &[
            "dh/fwmark-many-dst",
            "dh/fwmark-many-dst-established",
            "fo/fwmark-many-dst",
            "fo/fwmark-many-dst-established",
            "lblc/fwmark-many-dst",
            "lblc/fwmark-many-dst-established",
            "lblcr/fwmark-many-dst",
            "lblcr/fwmark-many-dst-established",
            "lc/fwmark-many-dst",
            "lc/fwmark-many-dst-established",
            "mh/fwmark-many-dst",
            "mh/fwmark-many-dst-established",
            "nq/fwmark-many-dst",
            "nq/fwmark-many-dst-established",
            "ovf/fwmark-many-dst",
            "ovf/fwmark-many-dst-established",
            "rr/fwmark-many-dst",
            "rr/fwmark-many-dst-established",
            "sed/fwmark-many-dst",
            "sed/fwmark-many-dst-established",
            "sh/fwmark-many-dst",
            "sh/fwmark-many-dst-established",
            "wlc/fwmark-many-dst",
            "wlc/fwmark-many-dst-established",
            "wrr/fwmark-many-dst",
            "wrr/fwmark-many-dst-established",
            "persist/fwmark",
            "misc/service-lookup",
        ],
    ),
    (
        "the setting `cache_bypass` is not supported",
        &["misc/cache-bypass"],
    ),
    ("dropped: LocalMasquerade", &["misc/localhost-rs"]),
    (
        "there is no persistence engine called `sip`",
        &["persist/sip-pe-one-client", "persist/sip-pe-many-clients"],
    ),
];

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lvs-sched/tests/golden");
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_director_does_what_the_kernel_did() {
    let cases = replay::read_all(&recordings()).unwrap();
    assert_eq!(cases.len(), CASES);
    let mut wrong = Vec::new();
    for case in &cases {
        let listed = |(_, names): &&(&str, &[&str])| names.contains(&case.name.as_str());
        let expected = EXPECTED.iter().find(listed);
        let outcome = replay::play(case);
        match (outcome, expected) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{} passes by now", case.name)),
            (Err(difference), None) => wrong.push(format!("{}: {difference}", case.name)),
            (Err(difference), Some((reason, _))) => {
                let told = difference.to_string();
                if !told.contains(reason) {
                    wrong.push(format!("{}: {told}, not for: {reason}", case.name));
                }
            }
        }
    }
    for name in EXPECTED.iter().flat_map(|(_, names)| *names) {
        if !cases.iter().any(|case| case.name == *name) {
            wrong.push(format!("there is no case {name}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn lvsd(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lvsd"));
    let output = command.arg("replay-trace").args(args).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn the_command_says_what_differs_and_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.jsonl");
    let connect = r#"{"op":"connect","id":1,"proto":"udp","src":"10.1.0.5","sport":4000,"dst":"10.0.0.1","dport":53,"chosen":"#;
    let config = r#""config":["-A -u 10.0.0.1:53 -s rr","-a -u 10.0.0.1:53 -r 10.2.0.1:53 -m"]"#;
    let case = |name: &str, chosen: &str| {
        format!(r#"{{"case":"{name}",{config},"events":[{connect}"{chosen}"}}]}}"#)
    };
    let right = case("right", "10.2.0.1:53");
    fs::write(
        &file,
        format!("{right}\n{}\n", case("wrong", "10.2.0.2:53")),
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let (status, stdout, stderr) = lvsd(&[path]);
    assert_eq!((status, stderr.as_str()), (1, ""));
    let expected = "\
ok right
FAILED wrong: event 1 (connect): expected 10.2.0.2:53, came 10.2.0.1:53
1 passed, 1 failed
";
    assert_eq!(stdout, expected);

    fs::write(&file, format!("{right}\n")).unwrap();
    let (status, stdout, _) = lvsd(&[path]);
    assert_eq!(
        (status, stdout.as_str()),
        (0, "ok right\n1 passed, 0 failed\n")
    );
}

#[test]
fn what_is_no_recording_is_named_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("torn.jsonl");
    fs::write(&file, "\n{\"case\": \"torn\"\n").unwrap();
    let path = file.to_str().unwrap();
    let (status, stdout, stderr) = lvsd(&[path]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with(&format!("lvsd: {path}, line 2: ")),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1);
    let (status, _, stderr) = lvsd(&["/nonexistent.jsonl"]);
    assert_eq!(status, 2);
    assert!(
        stderr.starts_with("lvsd: cannot read /nonexistent.jsonl: "),
        "{stderr}"
    );
    assert_eq!(lvsd(&[]).0, 2);
}
