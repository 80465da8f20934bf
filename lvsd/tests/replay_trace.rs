//! Every recorded case of the kernel's IPVS, played to the director: choices, translations,
//! listings, states and timers; marks, engines and settings.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use lvsd::replay;
use std::fs;
use std::path::{Path, PathBuf};

/// How many cases are recorded.
const CASES: usize = 357 + 75 + 59;

/// The schedulers' recordings, and more about marks, engines, persistence and settings.
fn recordings() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["../lvs-sched/tests/golden", "tests/golden/traces"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(folder).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.sort();
    files
}

#[test]
fn the_director_does_what_the_kernel_did() {
    let cases = replay::read_all(&recordings()).unwrap();
    assert_eq!(cases.len(), CASES);
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let difference = replay::play(case).err()?;
            Some(format!("{}: {difference}", case.name))
        })
        .collect();
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

/// What a replay must notice: each change of a recording that passes as it is.
#[test]
fn a_changed_recording_differs() {
    let recording = r#"{"case":"c","config":["-A -t 10.0.0.1:80 -s rr","-a -t 10.0.0.1:80 -r 10.2.0.1:80 -m -w 2","-a -t 10.0.0.1:80 -r 10.2.0.2:80 -g"],
        "events":[
        {"op":"connect","id":1,"proto":"tcp","src":"10.1.0.5","sport":4000,"dst":"10.0.0.1","dport":80,"chosen":"10.2.0.2:80"},
        {"op":"connect","id":2,"proto":"tcp","src":"10.1.0.6","sport":4000,"dst":"10.0.0.1","dport":80,"chosen":"10.2.0.1:80"},
        {"op":"packet","id":2,"from":"server","what":"SA","to":"client"},
        {"op":"packet","id":2,"from":"client","what":"FA","to":"10.2.0.1:80"},
        {"op":"connect","id":3,"proto":"tcp","src":"10.1.0.7","sport":4000,"dst":"10.0.0.1","dport":80,"what":"A","chosen":null,"reply":["client tcp 10.0.0.1:80>10.1.0.7:4000 R"]},
        {"op":"edit","cmd":"-d -t 10.0.0.1:80 -r 10.2.0.9:80","rc":255},
        {"op":"wait","seconds":20},
        {"op":"conns","conns":["tcp 10.1.0.5:4000 10.0.0.1:80 10.2.0.2:80 SYN_RECV 39","tcp 10.1.0.6:4000 10.0.0.1:80 10.2.0.1:80 TIME_WAIT 99"]},
        {"op":"check","table":[{"svc":"tcp 10.0.0.1:80","sched":"rr","flags":[],"dests":[{"rs":"10.2.0.2:80","fwd":"Route","w":1,"act":1,"inact":0},{"rs":"10.2.0.1:80","fwd":"Masq","w":2,"act":0,"inact":1}]}]},
        {"op":"edit","cmd":"-d -t 10.0.0.1:80 -r 10.2.0.2:80","rc":0},
        {"op":"packet","id":1,"from":"client","what":"A","to":null}]}"#;
    let play = |text: &str| replay::play(&replay::parse(text).unwrap());
    assert_eq!(play(recording), Ok(()));
    let changes = [
        (r#""chosen":"10.2.0.2:80""#, r#""chosen":"10.2.0.2:81""#, 1),
        (r#""chosen":"10.2.0.2:80""#, r#""chosen":null"#, 1),
        (r#""to":"client""#, r#""to":null"#, 3),
        (
            r#""to":"client""#,
            r#""out":["client tcp 10.2.0.1:80>10.1.0.6:4000 SA"]"#,
            3,
        ),
        (r#""to":"10.2.0.1:80""#, r#""to":"client""#, 4),
        (r#":4000 R"]"#, r#":4000 RA"]"#, 5),
        (
            r#","reply":["client tcp 10.0.0.1:80>10.1.0.7:4000 R"]"#,
            "",
            5,
        ),
        (r#""rc":255"#, r#""rc":0"#, 6),
        (r#""seconds":20"#, r#""seconds":15"#, 8),
        (r#""seconds":20"#, r#""seconds":21"#, 8),
        ("SYN_RECV 39", "ESTABLISHED 39", 8),
        (
            r#","tcp 10.1.0.6:4000 10.0.0.1:80 10.2.0.1:80 TIME_WAIT 99""#,
            "",
            8,
        ),
        (r#""sched":"rr""#, r#""sched":"wrr""#, 9),
        (r#""flags":[]"#, r#""flags":["ops"]"#, 9),
        (r#""fwd":"Masq""#, r#""fwd":"Route""#, 9),
        (r#""w":2"#, r#""w":1"#, 9),
        (r#""inact":1"#, r#""inact":0"#, 9),
        (
            r#"{"rs":"10.2.0.2:80","fwd":"Route","w":1,"act":1,"inact":0},"#,
            "",
            9,
        ),
        (r#""to":null"#, r#""to":"10.2.0.2:80""#, 11),
        (r#""what":"FA""#, r#""what":"X""#, 4),
        (
            "-a -t 10.0.0.1:80 -r 10.2.0.2:80",
            "-a -t 10.0.0.9:80 -r 10.2.0.2:80",
            0,
        ),
        ("-s rr", "-s rr -f 7", 0),
    ];
    for (from, to, event) in changes {
        assert!(recording.contains(from), "{from}");
        let changed = recording.replacen(from, to, 1);
        match play(&changed) {
            Err(difference) => assert_eq!(difference.event, event, "{from} -> {to}: {difference}"),
            Ok(()) => panic!("{from} -> {to} was not noticed"),
        }
    }
}
