//! The program as an operator sees it, as far as that needs no rights.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use lvsd::control::ControlSocket;
use std::fs;

fn lvsd(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .args(args)
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn help_is_a_manual() {
    let (status, general, _) = lvsd(&["--help"]);
    assert_eq!(status, 0);
    insta::assert_snapshot!("help", general);
    insta::assert_snapshot!("help_run", lvsd(&["run", "--help"]).1);
    insta::assert_snapshot!("help_check", lvsd(&["check", "--help"]).1);
}

#[test]
fn check_says_what_is_wrong_and_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lvsd.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, include_str!("../lvsd.toml.example")).unwrap();
    let (status, stdout, stderr) = lvsd(&["check", path]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(
        stdout,
        format!("{path}: 2 services, 4 destinations, on all interfaces\n")
    );

    fs::write(&file, include_str!("golden/wrong.toml")).unwrap();
    let (status, stdout, stderr) = lvsd(&["check", path]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.contains(&format!("[{path}:1:1]")), "{stderr}");
    assert!(stderr.ends_with(": 13 problems\n"), "{stderr}");
    assert!(
        !stderr.contains('\u{1b}'),
        "no colours into a pipe: {stderr}"
    );
    // It only looks.
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1);

    let (status, _, stderr) = lvsd(&["check", "/nonexistent"]);
    assert_eq!(status, 1);
    assert_eq!(
        stderr,
        "lvsd: cannot read /nonexistent: No such file or directory (os error 2)\n"
    );
}

#[test]
fn run_refuses_a_bad_file_and_a_second_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lvsd.toml");
    fs::write(&file, "[[service]]\n").unwrap();
    let (status, _, stderr) = lvsd(&["run", file.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(stderr.contains("`listen` is missing"), "{stderr}");

    let socket = ControlSocket::bind(dir.path().join("lvsd.sock")).unwrap();
    let path = socket.path().to_str().unwrap();
    let (status, _, stderr) = lvsd(&["run", "--socket", path]);
    assert_eq!(status, 1);
    assert_eq!(
        stderr,
        format!("lvsd: another lvsd is already running on {path}\n")
    );
}

#[test]
fn wrong_arguments_exit_with_2() {
    assert_eq!(lvsd(&["walk"]).0, 2);
    assert_eq!(lvsd(&["check"]).0, 2);
}

/// The unit starts what exists, with rights that are enough and no more.
#[test]
fn the_unit_fits_the_program() {
    let unit = include_str!("../lvsd.service");
    for line in [
        "Type=notify",
        "ExecStart=/usr/sbin/lvsd run /etc/lvsd.toml",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "CapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN",
        "NoNewPrivileges=yes",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
