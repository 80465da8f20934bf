//! Every recorded scene and every recorded sequence of states of the kernel's IPVS, played to the
//! director. Of what this version does not have, connection synchronisation, the rest is compared.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use lvsd::replay;
use std::fs;
use std::path::{Path, PathBuf};

/// How many scenes are recorded, and how many conversations.
const SCENES: usize = 128;
const CONVERSATIONS: usize = 3668;

/// The scenes of which something is left out.
const LEFT_OUT: [&str; 2] = ["sync-master-version1", "sync-master-version0"];

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lvs-packet/tests/golden")
}

fn states() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lvs-conn/tests/golden");
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_director_sends_what_the_kernel_sent() {
    let scenes_of = replay::scenes::index::read(&scenes()).unwrap();
    assert_eq!(scenes_of.len(), SCENES);
    let mut wrong = Vec::new();
    for scene in &scenes_of {
        if let Err(told) = replay::scenes::play(&scenes(), scene) {
            wrong.push(format!("{}: {told}", scene.name));
        }
    }
    let parts = scenes_of
        .iter()
        .filter(|scene| replay::scenes::left_out(scene).is_some());
    assert!(parts.map(|scene| scene.name.as_str()).eq(LEFT_OUT));
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What differs in the scenes of a folder of this crate.
fn wrong_in(folder: &str, at_least: usize) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let scenes = replay::scenes::index::read(&folder).unwrap();
    assert!(scenes.len() >= at_least, "{}", scenes.len());
    scenes
        .iter()
        .filter_map(|scene| {
            let told = replay::scenes::play(&folder, scene).err()?;
            Some(format!("{}: {told}", scene.name))
        })
        .collect()
}

/// Pieces in any order, repeated, overlapping, with DF, TTL 1, options and marks of congestion, through all
/// methods; recorded from a kernel (6.1) for this.
#[test]
fn fragments_leave_as_the_kernels_do() {
    assert_eq!(wrong_in("fragments", 29), Vec::<String>::new());
}

/// Options and extension headers in all places, ICMP of all types with whole, cut and strange quotes, TTL 1,
/// checksums at the ends of their range, SCTP; recorded from a kernel (6.1) for this.
#[test]
fn odd_headers_leave_as_the_kernels_do() {
    assert_eq!(wrong_in("headers", 51), Vec::<String>::new());
}

/// Rules, settings and packets of all kinds by chance; recorded from a kernel (6.1) for this.
#[test]
fn random_scenes_are_the_kernels() {
    assert_eq!(wrong_in("random", 44), Vec::<String>::new());
}

/// ESP and AH before and after ISAKMP of the same hosts, by every method, too long, quoted by errors; recorded from
/// a kernel (6.1) for this.
#[test]
fn esp_and_ah_follow_isakmp() {
    assert_eq!(wrong_in("ipsec", 23), Vec::<String>::new());
}

/// Commands and answers that announce data connections, these connections, and the control connection after its
/// text grew or shrank; recorded from a kernel (6.1, `ip_vs_ftp`, `conntrack` on) for this.
#[test]
fn ftp_is_the_kernels() {
    assert_eq!(wrong_in("ftp", 16), Vec::<String>::new());
}

/// Around the MTU on either side and through every tunnel, errors longer than it, errors about tunnels, also of several
/// sorts to one server, and about
/// quotes with extension headers, errors that begin connections and whom these go to, flags that begin none, local
/// destinations; recorded from a kernel (6.1) for this.
#[test]
fn edges_are_the_kernels() {
    assert_eq!(wrong_in("edges", 85), Vec::<String>::new());
}

#[test]
fn connections_go_through_the_states_of_the_kernels() {
    let mut played = 0;
    for file in states() {
        for (name, outcome) in replay::states::read(&file).unwrap().play() {
            assert_eq!(outcome, Ok(()), "{name}");
            played += 1;
        }
    }
    assert_eq!(played, CONVERSATIONS);
}

fn lvsd(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lvsd"));
    let output = command.args(args).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A folder with one scene of the recorded ones, changed on its way.
fn folder_with(
    name: &str,
    change: impl Fn(&mut Vec<u8>),
    index: impl Fn(&str) -> String,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for side in ["client", "server"] {
        let file = format!("{name}.{side}.pcap");
        let mut bytes = fs::read(scenes().join(&file)).unwrap();
        if side == "server" {
            change(&mut bytes);
        }
        fs::write(folder.path().join(&file), bytes).unwrap();
    }
    let all = fs::read_to_string(scenes().join("index.jsonl")).unwrap();
    let start = format!("{{\"name\": \"{name}\"");
    let line = all.lines().find(|line| line.starts_with(&start)).unwrap();
    fs::write(folder.path().join("index.jsonl"), index(line)).unwrap();
    folder
}

#[test]
fn a_changed_byte_is_named_and_exits_with_1() {
    // The packet's TTL in the servers' capture: behind the headers of the file (24) and of the
    // packet (16), Ethernet (14), eight bytes of IP.
    let ttl = 24 + 16 + 14 + 8;
    let same = |line: &str| line.to_owned();
    let folder = folder_with("tcp-refused-nat-v4", |bytes| bytes[ttl] += 1, same);
    let (status, stdout, stderr) = lvsd(&["replay-scenes", folder.path().to_str().unwrap()]);
    let expected = "\
FAILED tcp-refused-nat-v4: server side, packet 1: byte 22 (IPv4 TTL): expected 0x40, came 0x3f; \
expected 54 bytes that are no packet (bad_ip_checksum), came tcp 10.1.0.5:4000>10.2.0.1:80 S, 54 bytes
0 passed, 1 failed
";
    assert_eq!(
        (status, stdout.as_str(), stderr.as_str()),
        (1, expected, "")
    );

    let folder = folder_with("tcp-refused-nat-v4", |_| {}, same);
    let (status, stdout, _) = lvsd(&["replay-scenes", folder.path().to_str().unwrap()]);
    let expected = "ok tcp-refused-nat-v4\n1 passed, 0 failed\n";
    assert_eq!((status, stdout.as_str()), (0, expected));
}

/// What a replay must notice: each change of a scene that passes as it is.
#[test]
fn a_changed_scene_differs() {
    let changes = [
        ("-s rr", "-s rr -p 100", "connections at the end"),
        (
            "10.2.0.1:80 -m",
            "10.2.0.2:80 -m",
            "byte 5 (Ethernet destination)",
        ),
        (
            "10.2.0.1:80 -m",
            "10.2.0.1:81 -m",
            "byte 37 (TCP destination port)",
        ),
        (
            "10.2.0.1:80 -m",
            "10.2.0.1:80 -g",
            "byte 25 (IPv4 header checksum)",
        ),
        (
            "10.2.0.1:80 CLOSE",
            "10.2.0.1:80 ESTABLISHED",
            "connections at the end",
        ),
        (
            "\"server_frames\": 2",
            "\"server_frames\": 3",
            "2 frames, but the index says 3",
        ),
        (
            "-s rr",
            "-s nobody",
            "`-A -t 10.0.0.1:80 -s nobody`: status 255",
        ),
    ];
    for (from, to, told) in changes {
        let folder = folder_with(
            "tcp-refused-nat-v4",
            |_| {},
            |line| {
                assert!(line.contains(from), "{from}");
                line.replacen(from, to, 1)
            },
        );
        let index = replay::scenes::index::read(folder.path()).unwrap();
        let outcome = replay::scenes::play(folder.path(), &index[0]).unwrap_err();
        assert!(outcome.contains(told), "{from} -> {to}: {outcome}");
    }
}

#[test]
fn what_is_no_folder_of_scenes_is_named_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (status, stdout, stderr) = lvsd(&["replay-scenes", path]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with(&format!("lvsd: cannot read {path}/index.jsonl: ")),
        "{stderr}"
    );
    fs::write(folder.path().join("index.jsonl"), "\n{\"nam\": 1}\n").unwrap();
    let (status, _, stderr) = lvsd(&["replay-scenes", path]);
    assert_eq!(status, 2);
    assert!(
        stderr.starts_with(&format!("lvsd: {path}/index.jsonl, line 2: ")),
        "{stderr}"
    );
    fs::write(folder.path().join("index.jsonl"), "{\"name\": \"lost\"}\n").unwrap();
    let (status, stdout, _) = lvsd(&["replay-scenes", path]);
    assert_eq!(status, 1);
    assert!(
        stdout.starts_with(&format!(
            "FAILED lost: cannot read {path}/lost.client.pcap: "
        )),
        "{stdout}"
    );
    assert!(stdout.ends_with("\n0 passed, 1 failed\n"));
}

#[test]
fn a_changed_conversation_differs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("few.jsonl");
    let setup = r#"{"proto": "tcp", "config": ["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.2.0.1:80 -m"]}"#;
    let line = |states: &str, out: &str| {
        format!("{setup}\n{{\"seq\":\"c:S s:SA c:A\",\"states\":\"{states}\",\"out\":\"{out}\"}}\n")
    };
    let run = |text: String| {
        fs::write(&file, text).unwrap();
        lvsd(&["replay-states", file.to_str().unwrap()])
    };
    let right = "SYN_RECV 59|SYN_RECV 58|ESTABLISHED 899";
    let (status, stdout, _) = run(line(right, "s c s"));
    let expected = "ok few: c:S s:SA c:A\n1 passed, 0 failed\n";
    assert_eq!((status, stdout.as_str()), (0, expected));
    for (states, out, told) in [
        (
            right,
            "s - s",
            "packet 2 (s:SA): expected out `-`, came `c`",
        ),
        (
            "SYN_RECV 59|ESTABLISHED 899|ESTABLISHED 899",
            "s c s",
            "packet 2 (s:SA): expected state `ESTABLISHED 899`, came `SYN_RECV 59`",
        ),
        (
            "SYN_RECV 57|SYN_RECV 59|ESTABLISHED 899",
            "s c s",
            "packet 1 (c:S): expected state `SYN_RECV 57`, came `SYN_RECV 59`",
        ),
        (
            "SYN_RECV 59",
            "s c s",
            "3 packets, but 1 states and 3 ways out",
        ),
    ] {
        let (status, stdout, _) = run(line(states, out));
        let expected = format!("FAILED few: c:S s:SA c:A: {told}\n0 passed, 1 failed\n");
        assert_eq!((status, stdout), (1, expected));
    }
    for (text, told) in [
        (String::new(), "empty; its first line has to be the set-up"),
        (format!("{setup}\n{{}}\n"), ", line 2: missing field `seq`"),
        ("{}\n".to_owned(), ", line 1: missing field `proto`"),
    ] {
        let (status, _, stderr) = run(text);
        assert_eq!(status, 2);
        assert!(stderr.contains(told), "{stderr}");
    }
}
